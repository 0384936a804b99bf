//! Runs the server: opens what it uses, starts the workers, serves HTTP, and stops in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use xtask::error::{Exit, Result};
use xtask::state::{Lock, State};

use crate::api::{self, App};
use crate::guard::Limits;
use crate::images::Images;
use crate::log::Log;
use crate::process::Xtask;
use crate::queue::Queue;
use crate::runner::{Drain, Runner, Running};
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::store::{Database, Store};
use crate::tokens::Tokens;

/// The lock that a server holds on its state directory.
const LOCK: &str = "serve";
/// Time within which a client must send the headers of a request.
const HEADERS: Duration = Duration::from_secs(10);
/// Time for which requests may continue once the builds have ended.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// Time between two looks for builds that no worker took.
const LOOK: Duration = Duration::from_secs(2);
/// Time between two deletions of what is no longer needed.
const TIDY: Duration = Duration::from_secs(3600);

/// Serves until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<String> {
    let settings = Arc::new(settings);
    let lock = exclusive(&settings)?;
    let log = Log::open(&settings.dir())?;
    let (tokens, first) = Tokens::open(&settings.dir())?;
    if let Some(file) = first {
        log.line(&format!(
            "the token `admin`, with all scopes, is in {}; store it elsewhere and delete the file",
            file.display()
        ));
    }
    let database = database(&settings);
    let unusable = |e: sqlx::Error| {
        let message = format!("cannot open the database: {e}");
        Exit::Precondition.error(message, "check `database_url` in [serve] of ami.toml, and that the server runs")
    };
    let store = Store::open(&database).await.map_err(unusable)?;
    let queue = Queue::open(&database).await.map_err(unusable)?;
    let home = home(&settings)?;
    store.expire(&home).await.map_err(unusable)?;
    let (stop, drain) = watch::channel(Drain::No);
    let changed = Arc::new(Notify::new());
    let xtask = Arc::new(Xtask::new(&settings));
    let images = Arc::new(Images::new(Arc::clone(&xtask)));
    let runner = Arc::new(Runner {
        settings: Arc::clone(&settings),
        store: store.clone(),
        xtask: Arc::clone(&xtask),
        images: Arc::clone(&images),
        log: log.clone(),
        home,
        slots: Arc::new(Semaphore::new(settings.concurrency.0)),
        changed: Arc::clone(&changed),
        drain: drain.clone(),
        running: Running::default(),
    });
    let metrics = PrometheusBuilder::new().install_recorder();
    let metrics = metrics
        .map_err(|e| Exit::Failed.error(format_args!("cannot start the metrics: {e}"), "report this as a bug"))?;
    let app = Arc::new(App {
        images,
        tokens,
        sessions: Sessions::default(),
        limits: Limits::new(settings.requests_per_minute),
        log: log.clone(),
        metrics,
        changed,
        drain,
        streams: api::streams(),
        settings: Arc::clone(&settings),
        store,
        queue: queue.clone(),
        xtask,
    });
    let handle = Handle::new();
    let serving = tokio::spawn(serve(Arc::clone(&app), handle.clone()));
    let Some(address) = handle.listening().await else { return Err(ended(serving.await, settings.listen)) };
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    log.line(&format!("listening on {scheme}://{address}"));
    for region in &settings.allowed.regions {
        let (queue, runner, region) = (queue.clone(), Arc::clone(&runner), region.to_string());
        let at_once = settings.concurrency.1;
        tokio::spawn(async move { queue.work(runner, region, at_once).await });
    }
    tokio::spawn(maintain(queue, Arc::clone(&runner), Arc::clone(&app)));
    tokio::select! {
        ended_early = serving => return Err(ended(ended_early, settings.listen)),
        waited = wait_for_stop() => waited?,
    }
    drained(&runner, &stop).await?;
    handle.graceful_shutdown(Some(LAST_REQUESTS));
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(lock);
    Ok("stopped".to_owned())
}

/// Why the server ended that should not have.
fn ended(
    result: std::result::Result<std::io::Result<()>, tokio::task::JoinError>,
    address: SocketAddr,
) -> xtask::error::Error {
    let why = match result {
        Ok(Ok(())) => "it ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let hint = "use another address with --listen, or stop the process that has it";
    Exit::Precondition.error(format_args!("cannot listen on {address}: {why}"), hint)
}

/// The lock on the state directory: its builds belong to one server.
fn exclusive(settings: &Settings) -> Result<Lock> {
    let state = State::open(&settings.state)?;
    state.lock(LOCK, "cargo xtask serve")
}

/// The database of these settings.
pub fn database(settings: &Settings) -> Database {
    match &settings.database_url {
        Some(url) => Database::Postgres(url.clone()),
        None => Database::Sqlite(settings.dir().join("serve.db")),
    }
}

/// The identity of the state directory: made once, stored in it.
fn home(settings: &Settings) -> Result<String> {
    let file = settings.dir().join("home");
    if !file.exists() {
        xtask::durable::replace_private(&file, uuid::Uuid::new_v4().to_string().as_bytes())?;
    }
    Ok(fs_err::read_to_string(file)?.trim().to_owned())
}

async fn serve(app: Arc<App>, handle: Handle<SocketAddr>) -> std::io::Result<()> {
    let (address, tls) = (app.settings.listen, app.settings.tls.clone());
    let service = api::router(app).into_make_service_with_connect_info::<SocketAddr>();
    match tls {
        None => {
            let mut server = axum_server::bind(address).handle(handle);
            timeouts(server.http_builder());
            server.serve(service).await
        }
        Some((cert, key)) => {
            let config = certificate(&cert, &key).await?;
            let mut server = axum_server::bind_rustls(address, config).handle(handle);
            timeouts(server.http_builder());
            server.serve(service).await
        }
    }
}

fn timeouts<E>(builder: &mut hyper_util::server::conn::auto::Builder<E>) {
    let timer = hyper_util::rt::TokioTimer::new();
    builder.http1().timer(timer.clone()).header_read_timeout(HEADERS);
    builder.http2().timer(timer).keep_alive_interval(Some(Duration::from_secs(30))).keep_alive_timeout(HEADERS);
}

async fn certificate(cert: &Path, key: &Path) -> std::io::Result<RustlsConfig> {
    // Fails if it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = RustlsConfig::from_pem_file(cert, key).await;
    config.map_err(|e| std::io::Error::other(format!("cannot use {} and {}: {e}", cert.display(), key.display())))
}

/// Finds builds that no worker took, and deletes what is no longer needed.
async fn maintain(queue: Queue, runner: Arc<Runner>, app: Arc<App>) {
    let mut tidied: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        if *runner.drain.borrow() > Drain::No {
            return;
        }
        // Also later: a lease ends if the database does not answer for its time.
        let resumed = Arc::clone(&runner).resume().await;
        let abandoned = runner.store.abandon(&runner.home, runner.settings.abandon).await;
        let offered = queue.offer_idle(&runner).await;
        for problem in
            [resumed.map_err(|e| e.to_string()), abandoned.map(drop).map_err(|e| e.to_string()), offered.map(drop)]
                .into_iter()
                .filter_map(std::result::Result::err)
        {
            runner.log.line(&format!("cannot look for waiting builds: {problem}"));
        }
        if tidied.is_none_or(|at| at.elapsed() > TIDY) {
            tidied = Some(Instant::now());
            app.limits.tidy();
            let forgotten = runner.store.forget(runner.settings.build_days).await;
            for problem in [forgotten.map(drop), queue.tidy().await].into_iter().filter_map(std::result::Result::err) {
                runner.log.line(&format!("cannot delete old builds: {problem}"));
            }
        }
    }
}

async fn wait_for_stop() -> Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// Waits for the running builds. After `drain_secs`, or at a second signal, they are interrupted.
async fn drained(runner: &Runner, stop: &watch::Sender<Drain>) -> Result<()> {
    stop.send_replace(Drain::Waiting);
    let (slots, all) = (Arc::clone(&runner.slots), runner.settings.concurrency.0);
    let all = u32::try_from(all).unwrap_or(u32::MAX);
    let idle = || slots.acquire_many(all);
    let running = runner.settings.concurrency.0 - slots.available_permits();
    if running > 0 {
        let seconds = runner.settings.drain.as_secs();
        runner.log.line(&format!(
            "stopping: waiting up to {seconds} s for {running} builds; a second signal interrupts them"
        ));
        tokio::select! {
            _ = idle() => return Ok(()),
            () = tokio::time::sleep(runner.settings.drain) => {}
            waited = wait_for_stop() => waited?,
        }
        runner.log.line("interrupting the builds; the next server resumes them");
    }
    stop.send_replace(Drain::Interrupting);
    let _ = idle().await;
    Ok(())
}
