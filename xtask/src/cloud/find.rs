//! Finds images in all regions of a provider.

use super::{Cloud, Corrupt, Image, Listed};
use crate::error::{Exit, Result};

/// The images of all regions, oldest first, and separately those with damaged records.
pub fn all_images<C: Cloud>(cloud: &C) -> Result<(Vec<Image>, Vec<Corrupt>)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for region in cloud.regions() {
        for listed in cloud.images(region)? {
            match listed {
                Listed::Image(image) => good.push(*image),
                Listed::Corrupt(corrupt) => bad.push(corrupt),
            }
        }
    }
    good.sort_by(|a, b| (&a.created, &a.region).cmp(&(&b.created, &b.region)));
    Ok((good, bad))
}

/// The image and its copies in other regions (the images of the same name), the home region's first.
pub fn everywhere<C: Cloud>(cloud: &C, all: &[Image], image: &Image) -> Vec<Image> {
    let copies = all.iter().filter(|i| i.name == image.name && i.region != image.region);
    let mut images: Vec<Image> = std::iter::once(image).chain(copies).cloned().collect();
    images.sort_by_key(|i| cloud.regions().iter().position(|r| *r == i.region));
    images
}

/// The image with this id, with this name (in the home region), or with this name in `ami.toml` (the newest in the home region).
pub fn find<C: Cloud>(cloud: &C, name: &str) -> Result<Image> {
    let home = cloud.home();
    // The home region first: most images are in it, and each further region costs a call.
    let at_home = cloud.images(&home)?.into_iter().find_map(|listed| match listed {
        Listed::Image(image) if image.id.0 == name => Some(*image),
        Listed::Image(_) | Listed::Corrupt(_) => None,
    });
    if let Some(image) = at_home {
        return Ok(image);
    }
    let (images, bad) = all_images(cloud)?;
    let by_id = images.iter().find(|i| i.id.0 == name);
    let by_name = || images.iter().rev().find(|i| i.region == home && (i.name == name || i.image == name));
    if let Some(image) = by_id.or_else(by_name) {
        return Ok(image.clone());
    }
    if let Some(Corrupt { place, problem, .. }) = bad.iter().find(|c| c.id.0 == name) {
        let hint = format!("remove it with `cargo xtask ami delete {name}`; the other images are not affected");
        return Err(Exit::Failed.error(format_args!("the record of {name} is damaged ({place}): {problem}"), hint));
    }
    let mut near: Vec<(f64, &Image)> = images
        .iter()
        .map(|i| (strsim::jaro_winkler(name, &i.id.0).max(strsim::jaro_winkler(name, &i.name)), i))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near.iter().take(3).map(|(_, i)| format!("{} ({}, {})", i.id, i.name, i.region)).collect();
    let hint = if near.is_empty() {
        "build an image with `cargo xtask ami build`; there is none yet".to_owned()
    } else {
        format!("list all images with `cargo xtask ami list`; similar: {}", near.join(", "))
    };
    Err(Exit::Usage.error(format_args!("no image `{name}`"), hint))
}
