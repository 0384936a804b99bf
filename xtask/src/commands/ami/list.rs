//! `ami list`: lists the images of all regions, and warns about damaged ones.

use crate::cli;
use crate::cloud::{self, Cloud as _};
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::event::Event;
use crate::ids::Region;

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::List) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    if let Some(region) = args.region.as_ref().filter(|region| !cloud.regions().contains(region)) {
        let known = cloud.regions().iter().map(Region::as_str).collect::<Vec<_>>().join(", ");
        let hint = format!("use one of them, or add it to [regions] in ami.toml: {known}");
        return Err(Exit::Usage.error(format_args!("`{region}` is not a region of ami.toml"), hint));
    }
    let (mut images, bad) = cloud::all_images(&cloud)?;
    images.retain(|image| args.region.as_ref().is_none_or(|region| image.region == *region));
    images.retain(|image| args.provider.is_none() || image.agent == args.provider);
    for damaged in &bad {
        let hint = format!("remove it with `cargo xtask ami delete {}`; the other images are not affected", damaged.id);
        let message = format!("{} is damaged: {}", damaged.place, damaged.problem);
        context.events.event(Event::Warning { message, hint });
    }
    let mut text = String::new();
    for image in &images {
        let size = image.disk_bytes / 1_000_000;
        text.push_str(&format!(
            "{:24} {:10} {:44} {:12} {size:>6} MB  {}\n",
            image.id,
            image.region,
            image.name,
            image.agent.as_deref().unwrap_or("-"),
            image.base.name
        ));
    }
    let data = serde_json::json!({ "images": images, "damaged": bad.len() });
    context.document("images", data.clone(), text);
    let filtered = args.region.is_some() || args.provider.is_some();
    let summary = match images.is_empty() {
        true if filtered => "no images with this region and provider",
        true => "no images; `cargo xtask ami build` builds one",
        false => "",
    };
    Ok(Finish::new(summary, data))
}
