//! `ami report`: the page of a run, and what belongs to an image's papers, put where somebody wants them.

use std::path::Path;

use fs_err as fs;

use crate::cli;
use crate::cloud::{Cloud, find};
use crate::commands::{Context, Finish, Provider, conclude};
use crate::contents::{MANIFEST, SBOM};
use crate::error::{Exit, Result};
use crate::report::page;
use crate::stage::smoke::DOCUMENT;
use crate::story::Story;

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Report) -> Result<Finish> {
    let stories = stories(&conclude::folder(context)?)?;
    let found = match &args.what {
        Some(what) => stories.into_iter().rev().find(|story| is(story, what)),
        // A release, or a part of one: what has an image.
        None => stories.into_iter().rev().find(|story| !story.about.images.is_empty()),
    };
    let story = found.ok_or_else(|| {
        let of = args.what.as_ref().map_or("yet".to_owned(), |what| format!("of {what}"));
        Exit::Usage.error(format_args!("there is no report {of}"), "every command that makes something writes one")
    })?;
    let run = story.run.clone().unwrap_or_default();
    let mut written = Vec::new();
    if let Some(file) = &args.output {
        put(file, page::render(&story).as_bytes(), &mut written)?;
    }
    if let Some(folder) = &args.documents {
        fs::create_dir_all(folder)?;
        documents(context, provider, &story, folder, &mut written)?;
    }
    if written.is_empty() {
        let page = conclude::folder(context)?.join(format!("{run}.html"));
        context.document("report", serde_json::json!({ "run": run, "page": page }), format!("{}\n", page.display()));
        return Ok(Finish::new("", serde_json::json!({ "run": run, "page": page })));
    }
    let data = serde_json::json!({ "run": run, "written": written });
    Ok(Finish::new(format!("the report of {run}: {}", written.join(", ")), data))
}

/// The page, and what is known of the image: what is in it, and how it was judged.
fn documents<P: Provider>(
    context: &Context,
    provider: &P,
    story: &Story,
    folder: &Path,
    written: &mut Vec<String>,
) -> Result<()> {
    put(&folder.join("report.html"), page::render(story).as_bytes(), written)?;
    put(&folder.join("report.json"), &serde_json::to_vec_pretty(story).unwrap_or_default(), written)?;
    let Some(image) = story.about.images.first() else { return Ok(()) };
    let config = context.config()?;
    let cloud = provider.open(context, &config, &context.state(&config)?, None)?;
    let image = find(&cloud, &image.id.0)?;
    for name in [MANIFEST, SBOM, DOCUMENT] {
        if let Some(bytes) = cloud.document(&image, name)? {
            put(&folder.join(name), &bytes, written)?;
        }
    }
    Ok(())
}

fn put(file: &Path, bytes: &[u8], written: &mut Vec<String>) -> Result<()> {
    fs::write(file, bytes)?;
    written.push(file.display().to_string());
    Ok(())
}

/// True if the story is of this run or this image.
fn is(story: &Story, what: &str) -> bool {
    story.run.as_deref() == Some(what)
        || story.about.images.iter().any(|image| image.id.0 == what || image.name == what)
}

/// All stories, oldest first. One that an older program wrote and this one cannot read is as good as none.
fn stories(folder: &Path) -> Result<Vec<Story>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut stories = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json")
            && let Ok(story) = serde_json::from_slice::<Story>(&fs::read(&path)?)
        {
            stories.push(story);
        }
    }
    stories.sort_by(|a, b| a.began.cmp(&b.began));
    Ok(stories)
}
