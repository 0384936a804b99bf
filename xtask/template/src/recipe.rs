//! The recipe: an evaluated template, as data, with hashes.
//!
//! A step contains every byte that can change what the step does to an image, so its hash determines whether the step must run again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. Its text form is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// A location in a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The template file, relative to the project.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
}

/// Where a template comes from that is not part of the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The template source, as the user wrote it.
    pub source: String,
    /// The commit that a Git source named.
    pub commit: Option<String>,
    /// Digest of all files.
    pub digest: Digest,
}

/// The template evaluated for one source.
#[derive(Clone, Debug, Serialize)]
pub struct Recipe {
    /// Where the template comes from; `None` for one of the project.
    pub origin: Option<Origin>,
    /// `name` of the `build` block, if it has one.
    pub build_name: Option<String>,
    /// All input variables with their values and what set them, in the order of their declaration.
    pub variables: Vec<Variable>,
    /// The source the recipe was evaluated for.
    pub source: Source,
    /// The provisioners that apply to the source, in order.
    pub steps: Vec<Step>,
    /// The `error-cleanup-provisioner`, run when a step fails.
    pub on_error: Option<Step>,
    /// The post-processors that apply to the source, in order.
    pub post: Vec<PostProcessor>,
}

/// An input variable after evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// The variable's name.
    pub name: String,
    /// The value as JSON; `null` for a sensitive variable.
    pub value: serde_json::Value,
    /// True if the value must not be shown.
    pub sensitive: bool,
    /// What set the value: `default`, `PKR_VAR_x`, the name of a var-file, `--var`.
    pub origin: String,
}

/// A `source` block evaluated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// The builder type: `amazon-ebs`, `qemu`.
    pub kind: String,
    /// The source's name.
    pub name: String,
    /// The attributes, and the nested blocks as arrays of objects.
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// An evaluated provisioner, with every byte that it sends to the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// A name that is unique in the recipe: the script's stem, `file lib`, `shell 3`.
    pub name: String,
    /// Location of the provisioner in the template.
    pub place: Place,
    /// The action, with its arguments.
    pub action: Action,
    /// Pause before the step starts.
    #[serde(serialize_with = "seconds")]
    pub pause_before: Duration,
    /// Timeout of the step.
    #[serde(serialize_with = "opt_seconds")]
    pub timeout: Option<Duration>,
    /// How many times the step is repeated if it fails.
    pub max_retries: u32,
}

/// The action of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Action {
    /// Upload scripts and run them in order.
    Shell(Shell),
    /// Upload files.
    Upload(Upload),
    /// Run scripts on the host.
    ShellLocal(ShellLocal),
    /// Pause until the user continues, unless `disabled`.
    Breakpoint {
        /// The message for the user.
        note: String,
        /// True if the step does nothing.
        disabled: bool,
    },
}

/// A `shell` provisioner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shell {
    /// The scripts in order; an `inline` list is one script.
    pub scripts: Vec<Script>,
    /// Environment of the scripts, in the order of `environment_vars`.
    pub env: Vec<(String, String)>,
    /// Packer's `execute_command`, with the placeholders `{{ .Vars }}`, `{{ .Path }}` and `{{ .EnvVarFile }}`.
    pub execute_command: String,
    /// True if the script may close the connection, for example by a reboot.
    pub expect_disconnect: bool,
    /// Exit codes that mean success.
    pub valid_exit_codes: Vec<i32>,
}

/// A script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Script {
    /// The file's path relative to the project, or `inline`.
    pub name: String,
    /// The bytes that are uploaded or run.
    #[serde(serialize_with = "lossy")]
    pub content: Vec<u8>,
}

/// A `file` provisioner with `direction = "upload"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upload {
    /// The local path, or `content`, for display.
    pub source: String,
    /// The path on the machine. As in Packer, a trailing `/` means a directory, which must exist.
    pub destination: String,
    /// The files, sorted by path.
    pub files: Vec<UploadFile>,
    /// True if `source` is a directory given without a trailing `/`. It is then created below `destination` with its name.
    pub keep_dir_name: bool,
}

/// One file of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UploadFile {
    /// Path relative to the source directory; the file name for a single file.
    pub path: PathBuf,
    /// The file's bytes.
    #[serde(serialize_with = "lossy")]
    pub content: Vec<u8>,
    /// True if the file's owner may execute it.
    pub executable: bool,
}

/// A `shell-local` provisioner or post-processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShellLocal {
    /// The scripts in order; an `inline` list is one script.
    pub scripts: Vec<Script>,
    /// Environment of the scripts.
    pub env: Vec<(String, String)>,
}

/// A post-processor of the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum PostProcessor {
    /// Append the build to a JSON manifest.
    Manifest {
        /// The file, relative to the working directory.
        output: PathBuf,
        /// Write file names without their directories.
        strip_path: bool,
        /// Additional data for the entry.
        custom_data: BTreeMap<String, String>,
    },
    /// Write checksums of the artifact's files.
    Checksum {
        /// The algorithms: `sha256`, `sha512`, ...
        types: Vec<String>,
        /// The output file, with placeholders like `{{.BuildName}}` and `{{.ChecksumType}}`.
        output: String,
    },
    /// Run scripts on the host.
    ShellLocal(ShellLocal),
}

impl Digest {
    /// Computes the digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Computes the digest of labelled parts. Their lengths are hashed as well, so lists that differ only in the boundaries of their parts
    /// have different digests.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut hash = Sha256::new();
        for (label, bytes) in parts {
            hash.update((label.len() as u64).to_be_bytes());
            hash.update(label.as_bytes());
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        Self(hash.finalize().into())
    }

    /// The first 12 digits, for names and for display.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// The 32 bytes of the digest.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl std::str::FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a SHA-256 digest of 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Step {
    /// The inputs that the step's effect depends on, by label (`script scripts/provision/30-node.sh`, `env NODE_VERSION`). `ami plan`
    /// compares them with those of the last build to show why a step runs again.
    ///
    /// Pauses, retries and timeouts do not change the effect of a step, so they are not inputs.
    pub fn inputs(&self) -> BTreeMap<String, Digest> {
        let mut inputs = BTreeMap::new();
        match &self.action {
            Action::Shell(shell) => {
                add_scripts(&mut inputs, &shell.scripts);
                add_env(&mut inputs, &shell.env);
                inputs.insert("execute_command".to_owned(), Digest::of(shell.execute_command.as_bytes()));
            }
            Action::Upload(upload) => {
                inputs.insert("destination".to_owned(), Digest::of(upload.destination.as_bytes()));
                // The labels are part of the hash: another word would invalidate all layers and images.
                inputs.insert("folder name".to_owned(), Digest::of(&[u8::from(upload.keep_dir_name)]));
                for file in &upload.files {
                    let mode: &[u8] = if file.executable { b"755" } else { b"644" };
                    let digest = Digest::of_parts([("mode", mode), ("content", &file.content)]);
                    inputs.insert(format!("file {}", file.path.display()), digest);
                }
            }
            // A script on the host can change the machine only through the inputs of later steps. Its text is an input anyway: a user who
            // edits the script expects it to run.
            Action::ShellLocal(local) => {
                add_scripts(&mut inputs, &local.scripts);
                add_env(&mut inputs, &local.env);
            }
            Action::Breakpoint { .. } => {}
        }
        inputs
    }

    /// The digest of [`Step::inputs`] and the kind of step.
    pub fn hash(&self) -> Digest {
        let kind = match &self.action {
            Action::Shell(_) => "shell",
            Action::Upload(_) => "upload",
            Action::ShellLocal(_) => "shell-local",
            Action::Breakpoint { .. } => "breakpoint",
        };
        let inputs = self.inputs();
        let parts = inputs.iter().map(|(label, digest)| (label.as_str(), digest.bytes()));
        Digest::of_parts(std::iter::once(("kind", kind.as_bytes())).chain(parts))
    }
}

impl Recipe {
    /// The layer keys. Entry `i` identifies the state of the disk after step `i`; the parent of entry 0 is `base`.
    ///
    /// A key is hash(parent key, step), so a change of a step changes its key and all later ones, but none before it.
    pub fn layer_keys(&self, base: Digest) -> Vec<Digest> {
        let mut parent = base;
        let mut keys = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            parent = Digest::of_parts([("parent", parent.bytes()), ("step", step.hash().bytes())]);
            keys.push(parent);
        }
        keys
    }

    /// The recipe's hash. Builds with the same hash ran the same steps on the same base, of a template from the same origin.
    ///
    /// Without an origin it is the last layer key. Layers do not depend on the origin, so that templates share them.
    pub fn hash(&self, base: Digest) -> Digest {
        let steps = self.layer_keys(base).last().copied().unwrap_or(base);
        let Some(Origin { source, commit, digest }) = &self.origin else { return steps };
        Digest::of_parts([
            ("steps", steps.bytes()),
            ("source", source.as_bytes()),
            ("commit", commit.as_deref().unwrap_or_default().as_bytes()),
            ("digest", digest.bytes()),
        ])
    }
}

/// Adds each script with its own label, so that a plan can name the one that changed. The labels of several scripts contain their order.
fn add_scripts(inputs: &mut BTreeMap<String, Digest>, scripts: &[Script]) {
    for (i, script) in scripts.iter().enumerate() {
        let label = if scripts.len() == 1 {
            format!("script {}", script.name)
        } else {
            format!("script {} {}", i + 1, script.name)
        };
        inputs.insert(label, Digest::of(&script.content));
    }
}

fn add_env(inputs: &mut BTreeMap<String, Digest>, env: &[(String, String)]) {
    for (name, value) in env {
        inputs.insert(format!("env {name}"), Digest::of(value.as_bytes()));
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn opt_seconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn lossy<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}
