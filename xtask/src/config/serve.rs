//! Reads `[serve]`: the images API.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;

use super::read::Section;
use crate::ids::Region;
use crate::sensitive;
use crate::template_source::TemplateSource;

/// The images API (`cargo xtask serve`).
#[derive(Clone, Debug, JsonSchema)]
pub struct Serve {
    /// Address and port of the server. Another address than a loopback one requires `tls_cert` and `tls_key`.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Database of the queue, `postgres://USER:PASSWORD@HOST/NAME`: all servers with the same database share one queue. Empty: a SQLite file in
    /// the state directory. Set it with `AGENT_AMI_SERVE_DATABASE_URL`, not in the file, if it has a password.
    pub database_url: Option<String>,
    /// File with the certificate chain of the server, PEM.
    pub tls_cert: Option<PathBuf>,
    /// File with the private key of the certificate, PEM.
    pub tls_key: Option<PathBuf>,
    /// Names by which clients reach the server, `ami.example.com` or `ami.example.com:8443`. A request with another Host or Origin header is
    /// refused. Loopback addresses and `localhost` are always accepted.
    pub hosts: Vec<String>,
    /// Regions that a request may name. Empty: all regions of the provider.
    pub regions: Vec<Region>,
    /// Instance types that a request may name. Empty: `build_instance_type` and `build_instance_types`.
    pub instance_types: Vec<String>,
    /// Template sources that a request may name. Empty: `template_source` of `[packer]`.
    #[schemars(with = "Vec<String>")]
    pub templates: Vec<TemplateSource>,
    /// Image of `[images]` from which a template that belongs to no image takes version, smoke spec and source block. Empty: the default image.
    pub image: Option<String>,
    /// Template variables that a request may set, besides `provider`.
    pub variables: Vec<String>,
    /// Allow requests to name templates by a path in the project.
    pub file_sources: bool,
    /// Allow requests to contain a template.
    pub inline_sources: bool,
    /// Builds that this server runs at the same time. On this machine (`--on local`) it is one.
    pub concurrency: u64,
    /// Builds that this server runs at the same time in one region.
    pub region_concurrency: u64,
    /// Queued builds above which a new one is refused with status 503.
    pub queue_limit: u64,
    /// Requests of one client in a minute above which they are refused with status 429.
    pub requests_per_minute: u64,
    /// Seconds without a heartbeat after which the server of a build counts as dead.
    pub lease_secs: u64,
    /// Seconds for which a server that stops waits for its builds. After this time they are interrupted, and resumed by the next server.
    pub drain_secs: u64,
    /// Seconds after which a build of a dead server is marked as failed, if no server with the same state directory has resumed it.
    pub abandon_secs: u64,
    /// Days for which ended builds and their logs are kept.
    pub build_days: u64,
}

/// Reads the section.
pub(super) fn read(root: &Section<'_>, images: &[&str], regions: [&[Region]; 2]) -> Serve {
    let s = root.table("serve", "serve").only(&[
        "listen",
        "database_url",
        "tls_cert",
        "tls_key",
        "hosts",
        "regions",
        "instance_types",
        "templates",
        "image",
        "variables",
        "file_sources",
        "inline_sources",
        "concurrency",
        "region_concurrency",
        "queue_limit",
        "requests_per_minute",
        "lease_secs",
        "drain_secs",
        "abandon_secs",
        "build_days",
    ]);
    let serve = Serve {
        listen: listen(&s),
        database_url: s.optional("database_url").inspect(|url| sensitive::hide_credentials(url)),
        tls_cert: s.optional("tls_cert").map(Into::into),
        tls_key: s.optional("tls_key").map(Into::into),
        hosts: s.any_list("hosts"),
        regions: super::regions::named(s.any_list("regions")),
        instance_types: s.any_list("instance_types"),
        templates: templates(&s),
        image: s.optional("image"),
        variables: s.any_list("variables"),
        file_sources: s.flag("file_sources", false),
        inline_sources: s.flag("inline_sources", false),
        concurrency: s.number("concurrency", 1, 1..=100),
        region_concurrency: s.number("region_concurrency", 1, 1..=100),
        queue_limit: s.number("queue_limit", 100, 1..=100_000),
        requests_per_minute: s.number("requests_per_minute", 600, 1..=10_000_000),
        lease_secs: s.number("lease_secs", 30, 1..=3600),
        drain_secs: s.number("drain_secs", 300, 0..=86_400),
        abandon_secs: s.number("abandon_secs", 900, 1..=604_800),
        build_days: s.number("build_days", 30, 1..=3650),
    };
    check(&s, &serve, images, regions);
    serve
}

fn listen(s: &Section<'_>) -> SocketAddr {
    let text = s.text("listen", Some("127.0.0.1:8470"));
    text.parse().unwrap_or_else(|_| {
        let help = "write an address and a port: 127.0.0.1:8470, [::1]:8470 or 0.0.0.0:8443";
        s.reader.wrong(s.span("listen"), format!("`listen` is not an address with a port: `{text}`"), help);
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn templates(s: &Section<'_>) -> Vec<TemplateSource> {
    let mut sources = Vec::new();
    for text in s.any_list("templates") {
        match text.parse() {
            Ok(source) => sources.push(source),
            Err(error) => {
                let error: crate::error::Error = error;
                let help = error.report().help().map(|help| help.to_string()).unwrap_or_default();
                s.reader.wrong(s.span("templates"), format!("`templates`: {error}"), help);
            }
        }
    }
    sources
}

/// Checks that keys agree with each other and with other sections.
fn check(s: &Section<'_>, serve: &Serve, images: &[&str], [local, aws]: [&[Region]; 2]) {
    if let Some(url) = &serve.database_url
        && !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
    {
        let help = "write postgres://USER:PASSWORD@HOST/NAME, or leave it empty for SQLite";
        s.reader.wrong(s.span("database_url"), "`database_url` is not the URL of a PostgreSQL database", help);
    }
    if serve.tls_cert.is_some() != serve.tls_key.is_some() {
        let (set, missing) = if serve.tls_cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
        s.reader.wrong(s.span(set), format!("`{set}` is set without `{missing}`"), "set both, or neither");
    }
    if let Some(image) = serve.image.as_deref().filter(|image| !images.contains(image)) {
        s.reader.unknown(s.span("image"), "image", image, images);
    }
    let known: Vec<&str> = local.iter().chain(aws).map(Region::as_str).collect();
    for region in serve.regions.iter().filter(|region| !known.contains(&region.as_str())) {
        s.reader.unknown(s.span("regions"), "region", region, &known);
    }
}
