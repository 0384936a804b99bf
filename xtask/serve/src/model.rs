//! The types of the API. Their documentation is that of the OpenAPI document.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use xtask::ids::{ChannelName, Region, RunId};

/// The state of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits for a worker.
    Queued,
    /// A worker runs it.
    Building,
    /// Its image is available.
    Succeeded,
    /// It ended without an image; `error` has the cause.
    Failed,
}

impl Status {
    /// All of them, in the order of a build.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Building, Self::Succeeded, Self::Failed];

    /// Its name in the API, in the database and on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Building => "building",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// True if the state is final.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl std::str::FromStr for Status {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or_else(|| format!("unknown status `{name}`"))
    }
}

/// A request to build an image.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    /// Agent to install: `claude-code`, `codex`, `gemini`, `aider`, `grok`, `all`.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$", example = "claude-code")]
    pub provider: String,
    /// Region to build in. Default: the home region.
    pub region: Option<String>,
    /// Instance type of the builder on EC2. Default: `build_instance_type` of ami.toml.
    pub instance_type: Option<String>,
    /// Template source, one of those that ami.toml allows. Default: `template_source` of ami.toml.
    pub template_source: Option<String>,
    /// Template variables, of the names that ami.toml allows.
    pub variables: Option<BTreeMap<String, String>>,
}

/// The request of the public `ciab` client.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientBuildRequest {
    /// Default: `template_source` of ami.toml.
    pub template: Option<ClientTemplate>,
    /// Template variables, of the names that ami.toml allows.
    pub variables: Option<BTreeMap<String, String>>,
    /// Agent to install. Default: `claude-code`.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    pub agent_provider: Option<String>,
    /// Must be empty: an image has the tags of its template.
    pub tags: Option<BTreeMap<String, String>>,
}

/// A template source in the form of the `ciab` client.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientTemplate {
    /// A template that is part of agent-ami.
    Builtin { name: String },
    /// A path in the project; requires `file_sources` in ami.toml.
    FilePath { path: String },
    /// A file on a web server.
    Url { url: String },
    /// A path in a Git repository.
    Git {
        url: String,
        path: Option<String>,
        #[serde(rename = "ref")]
        reference: Option<String>,
    },
    /// The template itself; requires `inline_sources` in ami.toml.
    Inline { content: String },
}

/// Both forms of the body of a build request.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BuildBody {
    /// The documented form.
    Documented(BuildRequest),
    /// The form of the `ciab` client.
    Client(ClientBuildRequest),
}

/// A build that was queued.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Queued {
    pub build_id: Uuid,
    /// Always `queued`.
    pub status: Status,
    pub provider: String,
    #[schema(value_type = String)]
    pub region: Region,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A build.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Build {
    pub build_id: Uuid,
    pub status: Status,
    pub provider: String,
    #[schema(value_type = String)]
    pub region: Region,
    /// The image that it made.
    pub image_id: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A build with what it was started with.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BuildDetails {
    #[serde(flatten)]
    pub build: Build,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The run of agent-ami that carries it out, for `cargo xtask ami report RUN`.
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    /// The token's name, or the user of `ami build --queue`.
    pub requested_by: String,
    /// The template source.
    pub template_source: String,
}

/// Builds, newest first. The header `Link` has the URL of the next page.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Builds {
    pub builds: Vec<BuildDetails>,
}

/// An image.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Image {
    pub image_id: String,
    /// The agent in it; null for an image without the template variable `provider`.
    pub provider: Option<String>,
    #[schema(value_type = String)]
    pub region: Region,
    /// Always `available`: images that are not are not listed.
    #[schema(example = "available")]
    pub status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// The build that made it; null for an image that `cargo xtask` built.
    pub build_id: Option<Uuid>,
}

/// An image with its use.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ImageDetails {
    #[serde(flatten)]
    pub image: Image,
    pub name: String,
    pub version: String,
    /// The channels that point at it.
    #[schema(value_type = Vec<String>)]
    pub channels: Vec<ChannelName>,
    /// Whether it passed its smoke test; null if it was not tested.
    pub smoke_passed: Option<bool>,
}

/// Images, newest first. The header `Link` has the URL of the next page.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Images {
    pub images: Vec<Image>,
}

/// The result of an image's smoke test, before and after a reboot.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SmokeReport {
    pub image_id: String,
    pub passed: bool,
    /// When the test ended.
    pub at: String,
    pub checks: Vec<Check>,
}

/// The result of one check of a smoke test.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    /// `first boot` or `after reboot`, with the instance type on EC2.
    pub pass: String,
    pub name: String,
    /// `pass`, `fail`, `skipped`, `quarantined`.
    pub outcome: String,
    pub seconds: f64,
    /// What the check found.
    pub message: String,
}

/// A channel.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Channel {
    #[schema(value_type = String)]
    pub name: ChannelName,
    /// The images that it points at.
    pub images: Vec<ImageDetails>,
}

/// The channels.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Channels {
    pub channels: Vec<Channel>,
}

/// A request to point a channel at an image.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    #[schema(min_length = 1, max_length = 255)]
    pub image_id: String,
}

/// A request to point a channel back at its previous image, and to quarantine the current one.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Why the current image is bad.
    #[schema(min_length = 1, max_length = 1000)]
    pub reason: String,
    /// The image of ami.toml, if there are several.
    pub image: Option<String>,
}

/// What a promotion or a rollback did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Done {
    /// One line of text.
    pub summary: String,
}

/// The state of the server.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, or `draining` while the server stops.
    pub status: &'static str,
}

/// An event of a build, as server-sent events have it (HTML, "server-sent events").
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BuildEvent {
    /// `event`, or `end` for the last one.
    pub event: String,
    /// The number of the event, for `Last-Event-ID`; absent for `end`.
    pub id: Option<String>,
    /// An event of `cargo xtask --format json`, or for `end` the build, as JSON.
    pub data: String,
}
