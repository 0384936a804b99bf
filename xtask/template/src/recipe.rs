//! The recipe: a template evaluated. Pure data and the hashes over it; reads no file, knows no engine.
//!
//! `template` makes it, `plan` compares it with what was built before, an engine carries it out. Every byte that can
//! change what a step does to an image is in the step, so that its hash says whether the step must run again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, shown and stored as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Where in the template something was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The template file, relative to the template's folder.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
}

/// The template evaluated for one source.
#[derive(Clone, Debug, Serialize)]
pub struct Recipe {
    /// `name` of the `build` block, if it has one.
    pub build_name: Option<String>,
    /// Every input variable with the value that won and where it came from, in order of declaration.
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
    /// Its name.
    pub name: String,
    /// Its value as JSON; `null` and `sensitive` true for a sensitive variable, whose value is never shown.
    pub value: serde_json::Value,
    /// True if the value must not be shown.
    pub sensitive: bool,
    /// What set it, for a person: `default`, `PKR_VAR_x`, a var-file's name, `-var`.
    pub origin: String,
}

/// A `source` block evaluated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// The builder type: `amazon-ebs`, `qemu`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its attributes, and its nested blocks as arrays of objects.
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// One provisioner, evaluated: every byte it will send to the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// A name for people, unique in the recipe: the script's stem, `file lib`, `shell 3`.
    pub name: String,
    /// Where it stands in the template.
    pub place: Place,
    /// What it does.
    pub action: Action,
    /// Wait this long before it starts.
    #[serde(serialize_with = "seconds")]
    pub pause_before: Duration,
    /// Give up after this long.
    #[serde(serialize_with = "opt_seconds")]
    pub timeout: Option<Duration>,
    /// Run it again this many times when it fails.
    pub max_retries: u32,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Action {
    /// Upload scripts and run them one after the other.
    Shell(Shell),
    /// Upload files.
    Upload(Upload),
    /// Run a command on the building host.
    ShellLocal(ShellLocal),
    /// Stop and wait for a person, unless `disabled`.
    Breakpoint {
        /// What to tell the person.
        note: String,
        /// True if it is to be passed by.
        disabled: bool,
    },
}

/// A `shell` provisioner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shell {
    /// The scripts in order; an `inline` list is one script.
    pub scripts: Vec<Script>,
    /// Environment for the scripts, in order of `environment_vars`.
    pub env: Vec<(String, String)>,
    /// Packer's `execute_command` with `{{ .Vars }}`, `{{ .Path }}` and `{{ .EnvVarFile }}` still in it.
    pub execute_command: String,
    /// True if the script may end the connection (a reboot).
    pub expect_disconnect: bool,
    /// Exit codes that mean success.
    pub valid_exit_codes: Vec<i32>,
}

/// One script's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Script {
    /// The file's path as a person would name it, or `inline`.
    pub name: String,
    /// What is uploaded, byte for byte.
    #[serde(serialize_with = "lossy")]
    pub content: Vec<u8>,
}

/// A `file` provisioner with `direction = "upload"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upload {
    /// The local path or `content`, for people.
    pub source: String,
    /// Where it goes on the machine, Packer's rules: a trailing `/` means a folder that must exist.
    pub destination: String,
    /// The files, sorted by path.
    pub files: Vec<UploadFile>,
    /// True when `source` is a folder given without a trailing `/`: its own name is made below `destination`.
    pub keep_folder_name: bool,
}

/// One file of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UploadFile {
    /// Path relative to the source folder; the file name for a single file.
    pub path: PathBuf,
    /// Its bytes.
    #[serde(serialize_with = "lossy")]
    pub content: Vec<u8>,
    /// True if its owner may execute it.
    pub executable: bool,
}

/// A `shell-local` provisioner or post-processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShellLocal {
    /// The scripts in order; an `inline` list is one script.
    pub scripts: Vec<Script>,
    /// Environment for them.
    pub env: Vec<(String, String)>,
}

/// A post-processor of the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum PostProcessor {
    /// Append the build to a JSON manifest.
    Manifest {
        /// The file, relative to the working folder.
        output: PathBuf,
        /// Write file names without their folders.
        strip_path: bool,
        /// Free-form data put into the entry.
        custom_data: BTreeMap<String, String>,
    },
    /// Write checksums of the artifact's files.
    Checksum {
        /// `sha256`, `sha512`, ...
        types: Vec<String>,
        /// Output file, a Packer template with `{{.BuildName}}`, `{{.ChecksumType}}`.
        output: String,
    },
    /// Run a command on the building host.
    ShellLocal(ShellLocal),
}

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of labelled parts. Lengths are hashed too, so that no two lists of parts collide by moving a boundary.
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

    /// The first 12 digits, for names and for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// The raw bytes.
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
        if text.len() != 64 || !text.is_ascii() {
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

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Step {
    /// What the step's effect depends on, each input under a label a person can act on (`script scripts/provision/30-node.sh`,
    /// `env NODE_VERSION`). `ami plan` compares these with the last build's to say why a step runs again.
    ///
    /// Waiting, retrying and time-outs change when a step ends, not what it leaves behind, so they are not inputs.
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
                inputs.insert("folder name".to_owned(), Digest::of(&[u8::from(upload.keep_folder_name)]));
                for file in &upload.files {
                    let mode: &[u8] = if file.executable { b"755" } else { b"644" };
                    let digest = Digest::of_parts([("mode", mode), ("content", &file.content)]);
                    inputs.insert(format!("file {}", file.path.display()), digest);
                }
            }
            // What runs on the host cannot change the machine except through later steps' own inputs; its text still
            // counts, because a person who edits it expects it to run.
            Action::ShellLocal(local) => {
                add_scripts(&mut inputs, &local.scripts);
                add_env(&mut inputs, &local.env);
            }
            Action::Breakpoint { .. } => {}
        }
        inputs
    }

    /// One digest over [`Step::inputs`] and the kind of step.
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
    /// The layer keys: entry `i` is the state of the disk after step `i`, entry 0's parent is `base`.
    ///
    /// A key is hash(parent key, step), so a change in one step changes its own key and every later one, and nothing before.
    pub fn layer_keys(&self, base: Digest) -> Vec<Digest> {
        let mut parent = base;
        let mut keys = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            parent = Digest::of_parts([("parent", parent.bytes()), ("step", step.hash().bytes())]);
            keys.push(parent);
        }
        keys
    }

    /// The recipe hash: the last layer key. Two builds with the same recipe hash did the same to the same base.
    pub fn hash(&self, base: Digest) -> Digest {
        self.layer_keys(base).last().copied().unwrap_or(base)
    }
}

/// A list is hashed with its order, but each script under a label of its own, so that the plan can name the one that changed.
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
