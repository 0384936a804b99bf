//! A project for the benchmark, with a state folder of its own whose base images are the repository's: a small template, or the
//! project's own one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Three short steps. Variables and sources are the project's own, so that Packer builds on what its users would.
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

/// The last script leaves an image without its builder's identity, as every good one does.
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

/// What is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// Three short scripts: machines take the time, not packages.
    Small,
    /// The project's own.
    Project,
}

/// See the module.
pub(crate) struct Place {
    dir: TempDir,
    /// The script that is changed, relative to the project.
    pub(crate) script: String,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The repository's state folder.
fn state() -> PathBuf {
    std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or(repository().join(".agent-ami"), PathBuf::from)
}

impl Place {
    /// Copies what the project is made of, and links bases and the smoke binary.
    pub(crate) fn new(template: Template) -> Self {
        let bases = state().join("base");
        assert!(bases.exists(), "no base image in {}: run `cargo xtask ami build` first", bases.display());
        // Layers and images lie in it: TMPDIR says where there is space for them.
        let place = Self { dir: TempDir::new().unwrap(), script: script(template) };
        for part in ["ami.toml", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "packer", "scripts", "smoke"] {
            copy(&repository().join(part), &place.path(part));
        }
        // A member of the workspace; nothing in it is compiled.
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

    /// Changes the script, to something that it has not been before.
    pub(crate) fn change(&self, what: &str) {
        let file = self.path(&self.script);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}echo 'changed: {what}'\n")).unwrap();
    }
}

/// BENCH_SCRIPT, or the last script of the template.
fn script(template: Template) -> String {
    let last = match template {
        Template::Small => "packer/three.sh",
        // The last one that leaves a layer. The step that cleans up runs in every build, changed or not.
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

/// Links everything of one folder into another, which is made.
fn link_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        // What is compiled for the smoke binary stays where it is; only the binaries are used.
        if entry.file_name() != "target" {
            symlink(fs::canonicalize(entry.path()).unwrap(), to.join(entry.file_name())).unwrap();
        }
    }
}
