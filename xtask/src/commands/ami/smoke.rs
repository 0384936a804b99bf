//! `ami smoke`: runs the smoke test on a new instance of an image.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::cli;
use crate::cloud::{self, Cloud, Image};
use crate::commands::{Context, Finish, Provider, Session, smoke_binary};
use crate::config::Config;
use crate::contents::{MANIFEST, SBOM};
use crate::durable;
use crate::error::{Exit, Result};
use crate::event::{Event, Outcome, Phase};
use crate::recipe::Digest;
use crate::stage::smoke::{self as stage, Kit, Options, Record};
use crate::state::State;

/// What a smoke test is asked to do.
pub struct Request {
    /// Restart the instance and run the checks again.
    pub reboot: bool,
    /// Leave the instance running if a check fails.
    pub keep_on_failure: bool,
    /// A spec instead of the image's; then the record is not stored as the image's.
    pub spec: Option<PathBuf>,
    /// Formats and files of further reports.
    pub outputs: Vec<(String, String)>,
}

/// Runs the smoke test of an image and stores the record with the image. A failed test is not an error: see [`Record::passed`].
pub fn test<P: Provider>(session: Session<'_, P>, image: &Image, request: &Request) -> Result<Record> {
    let Session { context, config, state, run, .. } = session;
    let cloud = session.cloud()?;
    let kit = kit(context, &cloud, config, state, image, request.spec.as_deref())?;
    let options = Options { reboot: request.reboot, keep_on_failure: request.keep_on_failure };
    let keep = || run.keep();
    let record = stage::run(&cloud, image, &kit, options, context.events.as_ref(), &keep)?;
    // The result of another spec is not stored, because promotion requires the image's own spec.
    if request.spec.is_none() {
        let text = serde_json::to_vec_pretty(&record).unwrap_or_default();
        let name = if options.reboot { stage::DOCUMENT } else { stage::PARTIAL };
        cloud.put_document(image, name, &text)?;
    }
    write_outputs(&record, &request.outputs)?;
    context.about(|about| about.add_smoke(image, &record));
    Ok(record)
}

/// The stored record of the image, if it passed the current spec in all required passes.
pub fn passed_before<C: Cloud>(
    context: &Context,
    cloud: &C,
    config: &Config,
    image: &Image,
    no_reboot: bool,
) -> Result<Option<Record>> {
    let known = cloud.document(image, stage::DOCUMENT)?.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    let spec = Digest::of(&fs::read(spec_path(context, config, image)?)?);
    let passes = stage::passes(&cloud.instance_types(), !no_reboot);
    // The smoke test also downloads the manifest and the SBOM. Without them the image can be neither compared nor attested.
    let has_documents = cloud.document(image, MANIFEST)?.is_some() && cloud.document(image, SBOM)?.is_some();
    let known = known.filter(|record| has_documents && record.covers(image, spec, &passes));
    if let Some(record) = &known {
        let summary = format!("{} passed at {}", image.id, record.at);
        context.events.event(Event::PhaseFinished {
            phase: Phase::Smoke,
            outcome: Outcome::UpToDate,
            seconds: 0.0,
            summary,
        });
        context.about(|about| about.add_smoke(image, record));
    }
    Ok(known)
}

/// The input of the smoke test: the smoke binary, compiled if necessary, the spec and the CA certificates of the build.
pub fn kit<C: Cloud>(
    context: &Context,
    cloud: &C,
    config: &Config,
    state: &State,
    image: &Image,
    spec: Option<&Path>,
) -> Result<Kit> {
    let spec = match spec {
        Some(spec) => spec.to_owned(),
        None => spec_path(context, config, image)?,
    };
    let user = login_user(&spec)?;
    Ok(Kit { binary: smoke_binary::provide(context, state)?, spec, user, build_ca: cloud.build_certificates()? })
}

/// The login user in a smoke spec.
fn login_user(spec: &Path) -> Result<String> {
    let parsed = ::smoke::spec::parse(&fs::read_to_string(spec)?).map_err(|error| {
        let line = error.line.map(|line| format!(":{line}")).unwrap_or_default();
        Exit::Usage.error(
            format_args!("{}{line}: {}", spec.display(), error.message),
            "see `smoke --help` for the format of the spec",
        )
    })?;
    Ok(parsed.instance.user)
}

/// The path of an image's smoke spec.
pub fn spec_path(context: &Context, config: &Config, image: &Image) -> Result<PathBuf> {
    let (_, image) = config.image(Some(&image.image))?;
    Ok(context.root.join(&image.smoke))
}

/// Fails if the smoke test failed.
pub fn require_passed(image: &Image, record: &Record) -> Result<()> {
    if record.passed {
        return Ok(());
    }
    let failed: Vec<&str> = record.reports.iter().flat_map(|r| r.failed()).collect();
    let names = if failed.is_empty() { "see the warnings above".to_owned() } else { failed.join(", ") };
    let hint =
        format!("run `cargo xtask ami smoke {} --keep-on-failure` to keep the instance for inspection", image.id);
    Err(Exit::ImageFailed.error(format_args!("{} failed its smoke test: {names}", image.id), hint))
}

/// The image with the given id or name, or else the newest of the home region.
pub fn chosen<C: Cloud>(cloud: &C, requested: Option<&str>) -> Result<Image> {
    match requested {
        Some(requested) => cloud::find(cloud, requested),
        None => {
            let home = cloud.home();
            let (images, _) = cloud::all_images(cloud)?;
            images.into_iter().rev().find(|i| i.region == home).ok_or_else(|| {
                Exit::Usage.error(format_args!("no image in {home}"), "build one with `cargo xtask ami build`")
            })
        }
    }
}

fn write_outputs(record: &Record, outputs: &[(String, String)]) -> Result<()> {
    for (format, file) in outputs {
        let file = PathBuf::from(file);
        let text = match format.as_str() {
            "json" => serde_json::to_string_pretty(record).unwrap_or_default(),
            "junit" | "tap" => record.merged().render(format).unwrap_or_default(),
            other => {
                return Err(Exit::Usage
                    .error(format_args!("no report format `{other}`"), "write json=FILE, junit=FILE or tap=FILE"));
            }
        };
        durable::replace(&file, text.as_bytes())?;
    }
    Ok(())
}

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Smoke) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let image = chosen(&cloud, args.image.as_deref())?;
    if args.unless_passed
        && let Some(record) = passed_before(context, &cloud, &config, &image, args.no_reboot)?
    {
        return Ok(Finish::new(
            format!("{} passed at {}", image.id, record.at),
            serde_json::json!({ "image": image.id, "smoke": record }),
        ));
    }
    let run = context.begin_run(&state)?;
    let session = Session { context, provider, config: &config, state: &state, run: &run };
    let request = Request {
        reboot: !args.no_reboot,
        keep_on_failure: args.keep_on_failure,
        spec: args.spec.clone(),
        outputs: args.output.clone(),
    };
    let record = test(session, &image, &request)?;
    require_passed(&image, &record)?;
    let checks: usize = record.reports.iter().map(|r| r.checks.len()).sum();
    Ok(Finish::new(
        format!("{} passed {checks} checks in {} boots", image.id, record.reports.len()),
        serde_json::json!({ "image": image.id, "smoke": record }),
    ))
}
