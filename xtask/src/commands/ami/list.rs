//! `ami list`.

use crate::cloud::{self, Listed};
use crate::commands::{Context, Finish};
use crate::error::Result;
use crate::event::Event;

/// Runs the command.
pub fn run(context: &Context) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let (images, bad) = cloud::all_images(&context.local(&config, &state, None))?;
    for listed in &bad {
        if let Listed::Corrupt { path, problem } = listed {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let hint = format!("remove it with `cargo xtask ami delete {name}`; the other images are not affected");
            context.events.event(Event::Warning { message: format!("{} is damaged: {problem}", path.display()), hint });
        }
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
    let summary = if images.is_empty() { "no images yet: `cargo xtask ami build` makes one" } else { "" };
    Ok(Finish::new(summary, data))
}
