//! `ami build --queue` and `ami status` of a queued build.

use uuid::Uuid;
use xtask::cli::{self, Common};
use xtask::commands::Finish;
use xtask::config::Config;
use xtask::error::{Error, Exit, Result};
use xtask::event::Observer;

use super::document;
use crate::accept::{self, DEFAULT_AGENT};
use crate::model::{BuildDetails, BuildRequest};
use crate::queue::Queue;
use crate::server;
use crate::settings::Settings;
use crate::store::{Enqueued, NewBuild, Store};

/// Queues a build, within the limits of requests to the API.
pub(super) async fn add(
    config: &Config,
    settings: &Settings,
    common: &Common,
    args: &cli::Build,
    events: &dyn Observer,
) -> Result<Finish> {
    refuse(args)?;
    let template = args.image.as_deref().map(|name| config.image(Some(name))).transpose()?;
    let template = args.template.clone().or_else(|| template.map(|(_, image)| image.template.to_string()));
    let request = BuildRequest {
        provider: args.provider.clone().unwrap_or_else(|| DEFAULT_AGENT.to_owned()),
        region: args.region.as_ref().map(ToString::to_string),
        instance_type: args.instance_type.clone(),
        template_source: template,
        variables: Some(args.vars.iter().cloned().collect()),
    };
    let request = accept::documented(request, &settings.allowed).map_err(|problem| {
        Exit::Usage.error(problem.detail, "allow it in [serve] of ami.toml, or build without --queue")
    })?;
    if args.image.as_ref().is_some_and(|image| *image != request.image) {
        let message = format!("the template {} builds the image `{}`", request.template.shown(), request.image);
        return Err(Exit::Usage.error(message, "omit the name of the image, or --template"));
    }
    if common.dry_run {
        let text = format!("queue a build of {} with {} in {}\n", request.image, request.provider, request.region);
        document(events, "plan", serde_json::json!({ "request": request }), text);
        return Ok(Finish::default());
    }
    let database = server::database(settings);
    let store = Store::open(&database).await.map_err(|e| failed(&e))?;
    let region = request.region.to_string();
    let requested_by = format!("user {}", std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned()));
    let new = NewBuild { requested_by, idempotency_key: None, request };
    match store.enqueue(&new, settings.queue_limit).await.map_err(|e| failed(&e))? {
        Enqueued::Queued(build) | Enqueued::Before(build) => {
            let queue = Queue::open(&database).await.map_err(|e| failed(&e))?;
            // If it cannot be delivered now, a server without work finds it.
            let _ = queue.offer(build.build.build_id, &region).await;
            let id = build.build.build_id;
            document(events, "build", json(&build), format!("{id}\n"));
            let summary = format!("queued; `cargo xtask serve` runs it, and `cargo xtask ami status {id}` shows it");
            Ok(Finish { summary, data: serde_json::json!({ "build_id": id }) })
        }
        Enqueued::OtherRequest | Enqueued::Full => {
            let message = format!("{} builds are queued; the limit is `queue_limit` in [serve]", settings.queue_limit);
            Err(Exit::Precondition.error(message, "wait until some have ended, or build without --queue"))
        }
    }
}

/// Options that a queued build does not have.
fn refuse(args: &cli::Build) -> Result<()> {
    let given = [
        (!args.var_file.is_empty(), "--var-file"),
        (args.engine != cli::Engine::Auto, "--engine"),
        (args.builder.is_some(), "--builder"),
        (args.force, "--force"),
        (args.keep_on_failure, "--keep-on-failure"),
    ];
    match given.into_iter().find(|(is_given, _)| *is_given) {
        Some((_, option)) => {
            Err(Exit::Usage.error(format_args!("{option} cannot be used with --queue"), "omit one of them"))
        }
        None => Ok(()),
    }
}

/// Shows a queued build.
pub(super) async fn show(settings: &Settings, id: &str, events: &dyn Observer) -> Result<Finish> {
    let unknown = || {
        let hint = "list the builds with the API: GET /api/v1/images/builds";
        Exit::Usage.error(format_args!("no build `{id}` in the queue"), hint)
    };
    let id: Uuid = id.parse().map_err(|_| unknown())?;
    let store = Store::open(&server::database(settings)).await.map_err(|e| failed(&e))?;
    let build = store.build(id).await.map_err(|e| failed(&e))?.ok_or_else(unknown)?;
    let unknown = || "-".to_owned();
    let shown = &build.build;
    let rows = [
        ("build", id.to_string()),
        ("provider", shown.provider.clone()),
        ("region", shown.region.to_string()),
        ("status", shown.status.name().to_owned()),
        ("started", shown.started_at.map_or_else(unknown, |at| at.to_string())),
        ("completed", shown.completed_at.map_or_else(unknown, |at| at.to_string())),
        ("image", shown.image_id.clone().unwrap_or_else(unknown)),
        ("run", build.run_id.as_ref().map_or_else(unknown, ToString::to_string)),
        ("error", shown.error.clone().unwrap_or_else(unknown)),
    ];
    let text: String = rows.iter().map(|(name, value)| format!("{name:10} {value}\n")).collect();
    document(events, "status", json(&build), text);
    Ok(Finish { summary: String::new(), data: json(&build) })
}

fn json(build: &BuildDetails) -> serde_json::Value {
    serde_json::to_value(build).unwrap_or_default()
}

fn failed(error: &sqlx::Error) -> Error {
    let hint = "check `database_url` in [serve] of ami.toml, and that the database runs";
    Exit::Precondition.error(format_args!("the database of the queue failed: {error}"), hint)
}
