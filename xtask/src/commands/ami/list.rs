//! `ami list`: lists the images of all regions, and warns about damaged ones.

use crate::cloud;
use crate::commands::{Context, Finish, Provider};
use crate::error::Result;
use crate::event::Event;

pub(crate) fn run<P: Provider>(context: &Context, provider: &P) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let (images, bad) = cloud::all_images(&provider.open(context, &config, &state, None)?)?;
    for damaged in &bad {
        let hint = format!("remove it with `cargo xtask ami delete {}`; the other images are not affected", damaged.id);
        let message = format!("{} is damaged: {}", damaged.place, damaged.problem);
        context.events.event(Event::Warning { message, hint });
    }
    let mut text = String::new();
    for image in &images {
        let size = image.disk_bytes / 1_000_000;
        text.push_str(&format!(
            "{:24} {:10} {:44} {size:>6} MB  {}\n",
            image.id, image.region, image.name, image.base.name
        ));
    }
    let data = serde_json::json!({ "images": images, "damaged": bad.len() });
    context.document("images", data.clone(), text);
    let summary = if images.is_empty() { "no images; `cargo xtask ami build` builds one" } else { "" };
    Ok(Finish::new(summary, data))
}
