//! A project for the benchmark in a temporary directory, with a small template or that of this project. Its state directory links to the
//! repository's base images.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Three short steps. Variables and sources are those of this project's template, so that Packer uses the same base and builder settings.
const STEPS: &str = r#"
build {
  sources = ["source.amazon-ebs.locus", "source.qemu.locus"]

  provisioner "shell" {
    script = "${path.root}/one.sh"
  }

  provisioner "shell" {
    script = "${path.root}/two.sh"
  }

  provisioner "shell" {
    script = "${path.root}/three.sh"
  }

  post-processor "manifest" {
    output     = "packer-manifest.json"
    strip_path = true
  }
}
"#;

/// The last script removes the builder's identity, which the smoke test requires.
const CLEAN: &str = "sudo rm -f /etc/ssh/ssh_host_* ~/.ssh/authorized_keys
sudo cloud-init clean --logs --seed
sudo truncate -s 0 /etc/machine-id
sync
";

const SPEC: &str = r#"
schema = 1

[instance]
user = "ubuntu"
arch = "x86_64"
os = ["ubuntu 22.04", "ubuntu 24.04", "debian 13"]

[[tool]]
name = "python3"
version = ">=3.10"
"#;

/// The template that is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// Three short scripts without packages, so that most of the time is spent on machines.
    Small,
    /// That of this project.
    Project,
}

pub(crate) struct Place {
    dir: TempDir,
    /// The script that is changed, relative to the project.
    pub(crate) script: String,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The repository's state directory.
fn state() -> PathBuf {
    std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or(repository().join(".agent-ami"), PathBuf::from)
}

impl Place {
    /// Copies the files of the project, and links to the base images and the smoke binary.
    pub(crate) fn new(template: Template) -> Self {
        let bases = state().join("base");
        assert!(bases.exists(), "no base image in {}: run `cargo xtask ami build` first", bases.display());
        // Layers and images are created in it; set TMPDIR to a file system with enough space.
        let place = Self { dir: TempDir::new().unwrap(), script: script(template) };
        for part in ["ami.toml", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "packer", "scripts", "smoke"] {
            copy(&repository().join(part), &place.path(part));
        }
        // Cargo requires all members of the workspace; nothing in this one is compiled.
        symlink(repository().join("xtask"), place.path("xtask")).unwrap();
        for part in ["base", "bin"] {
            link_all(&state().join(part), &place.path("state").join(part));
        }
        if template == Template::Small {
            fs::write(place.path("packer/build.pkr.hcl"), STEPS).unwrap();
            fs::remove_file(place.path("packer/locus-ami.pkr.hcl")).unwrap();
            fs::write(place.path("packer/one.sh"), "true\n").unwrap();
            fs::write(place.path("packer/two.sh"), "sleep 2\n").unwrap();
            fs::write(place.path("smoke/specs/locus-agent.toml"), SPEC).unwrap();
            fs::write(place.path(&place.script), CLEAN).unwrap();
        }
        place
    }

    /// A path in the project.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Appends a line to the script; `what` must differ from earlier calls.
    pub(crate) fn change(&self, what: &str) {
        let file = self.path(&self.script);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}echo 'changed: {what}'\n")).unwrap();
    }
}

/// BENCH_SCRIPT, or the last script of the template that leaves a layer.
fn script(template: Template) -> String {
    let last = match template {
        Template::Small => "packer/three.sh",
        // Not the clean-up step after it, which runs in every build.
        Template::Project => "scripts/provision/80-manifest.sh",
    };
    std::env::var("BENCH_SCRIPT").unwrap_or_else(|_| last.to_owned())
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
        return;
    }
    for entry in fs::read_dir(from).unwrap().flatten() {
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// Creates a directory with links to all entries of another one.
fn link_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        // `target` has the intermediate files of the smoke binary, which are not used.
        if entry.file_name() != "target" {
            symlink(fs::canonicalize(entry.path()).unwrap(), to.join(entry.file_name())).unwrap();
        }
    }
}
