//! `ami report`: the page of a run, and what belongs to an image's papers, put where somebody wants them.

use std::path::Path;

use fs_err as fs;

use crate::cli;
use crate::cloud::{Cloud, find};
use crate::commands::{Context, Finish, Provider, conclude};
use crate::contents::{MANIFEST, SBOM};
use crate::error::{Exit, Result};
use crate::event::Phase;
use crate::report::page;
use crate::run_report::RunReport;
use crate::stage::smoke::DOCUMENT;

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Report) -> Result<Finish> {
    let stories = stories(&conclude::folder(context)?)?;
    let run_report = match &args.what {
        Some(run) if run.starts_with("run-") => {
            stories.into_iter().find(|run_report| run_report.run.as_ref() == Some(run))
        }
        what => of_image(stories, what.as_deref()),
    };
    let run_report = run_report.ok_or_else(|| {
        let of = args.what.as_ref().map_or("yet".to_owned(), |what| format!("of {what}"));
        Exit::Usage.error(format_args!("there is no report {of}"), "every command that makes something writes one")
    })?;
    let run = run_report.run.clone().unwrap_or_default();
    let mut written = Vec::new();
    if let Some(file) = &args.output {
        put(file, page::render(&run_report).as_bytes(), &mut written)?;
    }
    if let Some(folder) = &args.documents {
        documents(context, provider, &run_report, folder, &mut written)?;
    }
    if written.is_empty() {
        let name = args.what.as_deref().filter(|what| what.starts_with("run-")).unwrap_or(run_report.title());
        let page = conclude::folder(context)?.join(name).join(conclude::PAGE);
        put(&page, page::render(&run_report).as_bytes(), &mut written)?;
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
    run_report: &RunReport,
    folder: &Path,
    written: &mut Vec<String>,
) -> Result<()> {
    put(&folder.join(conclude::PAGE), page::render(run_report).as_bytes(), written)?;
    put(&folder.join("report.json"), &serde_json::to_vec_pretty(run_report).unwrap_or_default(), written)?;
    let Some(image) = run_report.about.images.first() else { return Ok(()) };
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
    fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
    fs::write(file, bytes)?;
    written.push(file.display().to_string());
    Ok(())
}

/// All that was done with an image, or with the newest that there is a story of, as one story: since it was built, if that is told.
fn of_image(stories: Vec<RunReport>, what: Option<&str>) -> Option<RunReport> {
    let newest = || stories.iter().rev().find_map(|run_report| Some(run_report.about.images.first()?.name.clone()));
    let wanted = what.map_or_else(newest, |what| Some(what.to_owned()))?;
    let is = |run_report: &RunReport| {
        run_report.about.images.iter().any(|image| image.id.0 == wanted || image.name == wanted)
    };
    let (mut all, idle): (Vec<RunReport>, Vec<RunReport>) = stories.into_iter().filter(is).partition(RunReport::did);
    let built = all.iter().rposition(|run_report| run_report.phases.iter().any(|phase| phase.phase == Phase::Build));
    let mut all = all.drain(built.unwrap_or(0)..);
    let Some(mut whole) = all.next() else { return idle.into_iter().next_back() };
    all.for_each(|next| whole.then(next));
    Some(whole)
}

/// All stories, oldest first. One that an older program wrote and this one cannot read is as good as none.
fn stories(folder: &Path) -> Result<Vec<RunReport>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut stories = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path().join(conclude::STORY);
        if file.exists()
            && let Ok(run_report) = serde_json::from_slice::<RunReport>(&fs::read(&file)?)
        {
            stories.push(run_report);
        }
    }
    stories.sort_by(|a, b| a.began.cmp(&b.began));
    Ok(stories)
}
