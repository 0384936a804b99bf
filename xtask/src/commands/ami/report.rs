//! `ami report`: exports the report of a run, and the documents of its image.

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

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Report) -> Result<Finish> {
    let all = run_reports(&conclude::reports_dir(context)?)?;
    let run_report = match &args.what {
        Some(run) if run.starts_with("run-") => {
            all.into_iter().find(|run_report| run_report.run.as_deref() == Some(run))
        }
        what => of_image(all, what.as_deref()),
    };
    let run_report = run_report.ok_or_else(|| {
        let of = args.what.as_ref().map_or("yet".to_owned(), |what| format!("of {what}"));
        Exit::Usage
            .error(format_args!("no report {of}"), "build or smoke-test an image first: each run writes a report")
    })?;
    let run = run_report.run.as_deref().unwrap_or_default();
    let mut written = Vec::new();
    if let Some(file) = &args.output {
        put(file, page::render(&run_report).as_bytes(), &mut written)?;
    }
    if let Some(dir) = &args.documents {
        documents(context, provider, &run_report, dir, &mut written)?;
    }
    if written.is_empty() {
        let name = args.what.as_deref().filter(|what| what.starts_with("run-")).unwrap_or(run_report.title());
        let page = conclude::reports_dir(context)?.join(name).join(conclude::PAGE);
        put(&page, page::render(&run_report).as_bytes(), &mut written)?;
        context.document("report", serde_json::json!({ "run": run, "page": page }), format!("{}\n", page.display()));
        return Ok(Finish::new("", serde_json::json!({ "run": run, "page": page })));
    }
    let data = serde_json::json!({ "run": run, "written": written });
    Ok(Finish::new(format!("the report of {run}: {}", written.join(", ")), data))
}

/// Writes the page and its data, and the image's manifest, SBOM and smoke record as far as they exist.
fn documents<P: Provider>(
    context: &Context,
    provider: &P,
    run_report: &RunReport,
    dir: &Path,
    written: &mut Vec<String>,
) -> Result<()> {
    put(&dir.join(conclude::PAGE), page::render(run_report).as_bytes(), written)?;
    put(&dir.join("report.json"), &serde_json::to_vec_pretty(run_report).unwrap_or_default(), written)?;
    let Some(image) = run_report.about.images.first() else { return Ok(()) };
    let config = context.config()?;
    let cloud = provider.open(context, &config, &context.state(&config)?, None)?;
    let image = find(&cloud, &image.id.0)?;
    for name in [MANIFEST, SBOM, DOCUMENT] {
        if let Some(bytes) = cloud.document(&image, name)? {
            put(&dir.join(name), &bytes, written)?;
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

/// The reports of an image, by default of the newest one, merged into one report. It begins with the run that built the image, if there is
/// a report of that run.
fn of_image(reports: Vec<RunReport>, what: Option<&str>) -> Option<RunReport> {
    let newest = || reports.iter().rev().find_map(|run_report| Some(run_report.about.images.first()?.name.clone()));
    let name = what.map_or_else(newest, |what| Some(what.to_owned()))?;
    let is_about =
        |run_report: &RunReport| run_report.about.images.iter().any(|image| image.id.0 == name || image.name == name);
    let (mut all, idle): (Vec<RunReport>, Vec<RunReport>) =
        reports.into_iter().filter(is_about).partition(RunReport::did);
    let built = all.iter().rposition(|run_report| run_report.phases.iter().any(|phase| phase.phase == Phase::Build));
    let mut all = all.drain(built.unwrap_or(0)..);
    let Some(mut whole) = all.next() else { return idle.into_iter().next_back() };
    all.for_each(|next| whole.then(next));
    Some(whole)
}

/// All reports, oldest first. Reports that cannot be parsed, such as those of an older version, are skipped.
fn run_reports(dir: &Path) -> Result<Vec<RunReport>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut reports = Vec::new();
    for entry in fs::read_dir(dir)? {
        let dir = entry?.path();
        let files = [conclude::RUN_REPORT, conclude::EARLIER_RUN_REPORT].map(|name| dir.join(name));
        let Some(file) = files.iter().find(|file| file.exists()) else { continue };
        reports.extend(serde_json::from_slice::<RunReport>(&fs::read(file)?).ok());
    }
    reports.sort_by(|a, b| a.began.cmp(&b.began));
    Ok(reports)
}
