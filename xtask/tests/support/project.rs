//! A copy of this project in a temporary directory, with images of a few bytes in its store. No machine is started.

#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;
use xtask::cloud::{BaseRecord, EngineKind, Identity, Image, ImageId};
use xtask::process::Cmd;
use xtask::recipe::Digest;

pub(crate) struct Project {
    dir: TempDir,
}

/// Exit code and output of a command.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Checks the exit code, and that standard error contains each of the words.
    #[track_caller]
    pub(crate) fn assert_exit(&self, code: i32, words: &[&str]) {
        // Undo the line wrapping by miette.
        let stderr: String = self.stderr.split_whitespace().filter(|w| *w != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
    }
}

impl Project {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for part in ["ami.toml", "packer", "scripts", "smoke/specs"] {
            copy(&root.join(part), &dir.path().join(part));
        }
        let project = Self { dir };
        // No machine is started, so no disk space is needed.
        project.edit("ami.toml", "build_gib = 12", "build_gib = 1");
        // Channels are only env files, unless a test configures parameters.
        project.edit("ami.toml", "ssm_prefix = \"/agent-ami\"", "ssm_prefix = \"\"");
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces text in a file; panics if the file does not contain it.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).env("CARGO_MANIFEST_DIR", self.path("xtask")).current_dir(self.dir.path());
        clean_environment(&mut command);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }

    /// Runs a command, which must succeed; returns the data of its result.
    #[track_caller]
    pub(crate) fn data(&self, args: &[&str]) -> serde_json::Value {
        let ended = self.run(&[args, &["--format", "json"]].concat());
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        let last: serde_json::Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
        last["data"].clone()
    }

    /// Adds an image with this content to the store.
    pub(crate) fn image(&self, region: &str, content: &str) -> Image {
        let image = Image {
            schema: 1,
            id: ImageId(format!("ami-local-{}", Digest::of(format!("{region}{content}").as_bytes()).short())),
            name: format!("locus-agent-v1.0.0-{content}"),
            region: region.into(),
            image: "locus-agent".to_owned(),
            arch: None,
            account: None,
            version: "1.0.0".to_owned(),
            // The last two digits of the content are the minute of creation.
            created: match content.get(content.len().saturating_sub(2)..).and_then(|n| n.parse::<u32>().ok()) {
                Some(n) if n < 60 => format!("2026-11-21T00:{n:02}:00Z").parse().ok(),
                _ => "2026-11-21T00:00:00Z".parse().ok(),
            },
            recipe_hash: Digest::of(b"recipe"),
            base: Some(BaseRecord::local("debian-13", Digest::of(b"base"))),
            content: Digest::of(content.as_bytes()),
            disk_bytes: content.len() as u64,
            copied_from: None,
            run: "run-test".into(),
            engine: EngineKind::Native,
            built_in: None,
            agent: None,
            template: None,
            builder: Identity::default(),
            tags: BTreeMap::new(),
        };
        let dir = self.path(&format!(".agent-ami/regions/{region}/{}", image.id));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("image.json"), serde_json::to_string(&image).unwrap()).unwrap();
        fs::write(dir.join("disk.qcow2"), content).unwrap();
        image
    }

    /// Writes a passed smoke report for an image.
    pub(crate) fn mark_smoke_passed(&self, image: &Image) {
        self.report(image, image.content, "pass");
    }

    /// Writes a smoke report with one check for an image.
    pub(crate) fn report(&self, image: &Image, disk: Digest, outcome: &str) {
        let check = serde_json::json!({ "name": "os", "outcome": outcome, "seconds": 0.1, "message": "" });
        let report = serde_json::json!({
            "schema": 1, "boot_id": "b", "host_keys": [], "os": "debian 13", "checks": [check],
            "wall_seconds": 0.1, "slowest_seconds": 0.1
        });
        let spec = Digest::of(&fs::read(self.path("smoke/specs/locus-agent.toml")).unwrap());
        let record = serde_json::json!({
            "schema": 1, "content": disk, "spec_sha256": spec, "passed": true, "at": "2026-11-21T00:00:00Z",
            "passes": ["first boot", "after reboot"], "reports": [report, report]
        });
        let dir = self.path(&format!(".agent-ami/regions/{}/{}", image.region, image.id));
        fs::write(dir.join("smoke.json"), record.to_string()).unwrap();
    }

    /// Writes the manifest and SBOM of an image, which a smoke test would have downloaded from the instance.
    pub(crate) fn contents(&self, image: &Image, tools: &[(&str, &str)]) {
        let tools: BTreeMap<&str, &str> = tools.iter().copied().collect();
        let manifest = serde_json::json!({ "os": { "id": "debian", "version_id": "13" }, "tools": tools });
        let dir = self.path(&format!(".agent-ami/regions/{}/{}", image.region, image.id));
        fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
        fs::write(dir.join("sbom.cdx.json"), r#"{"components":[]}"#).unwrap();
    }

    /// As [`Project::ready`], with a valid qcow2 disk.
    pub(crate) fn disk(&self, content: &str) -> Image {
        let mut image = self.image("local-1", content);
        let dir = self.path(&format!(".agent-ami/regions/local-1/{}", image.id));
        let disk = dir.join("disk.qcow2");
        fs::remove_file(&disk).unwrap();
        Cmd::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("1M").read().unwrap();
        let bytes = fs::read(&disk).unwrap();
        (image.content, image.disk_bytes) = (Digest::of(&bytes), bytes.len() as u64);
        fs::write(dir.join("image.json"), serde_json::to_string(&image).unwrap()).unwrap();
        self.mark_smoke_passed(&image);
        self.run(&["ami", "copy", &image.id.0]).assert_exit(0, &[]);
        image
    }

    /// Adds an image with a passed smoke report to all regions; returns the one in the home region.
    pub(crate) fn ready(&self, content: &str) -> Image {
        let image = self.image("local-1", content);
        self.mark_smoke_passed(&image);
        self.run(&["ami", "copy", &image.id.0]).assert_exit(0, &[]);
        image
    }
}

/// Removes variables that configure the command, which a workflow that runs the tests may have set.
pub(crate) fn clean_environment(command: &mut Command) {
    let configures = |name: &str| ["AGENT_AMI_", "PKR_VAR_", "GITHUB_"].iter().any(|start| name.starts_with(start));
    for (name, _) in std::env::vars().filter(|(name, _)| configures(name)) {
        command.env_remove(name);
    }
}

pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}
