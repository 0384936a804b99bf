//! Host tools: what each is needed for, whether it is installed, and the packages that contain it. Prints nothing.

use serde::Serialize;

use crate::process::Cmd;

/// What a tool is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Running virtual machines.
    Machines,
    /// Building in a container. Optional: without it images are built in virtual machines.
    Containers,
    /// Downloading or building a base image.
    Base,
    /// Compiling the smoke binary.
    SmokeBinary,
    /// Tests and `validate`. Optional: without it a check is skipped with a warning.
    Checks,
    /// Optional tools without a package in the package managers. `doctor` lists them and never installs them.
    Extra,
}

/// A host tool.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's name.
    pub program: &'static str,
    /// Arguments with which it prints its version or exits.
    pub probe: &'static [&'static str],
    /// What it is needed for.
    pub need: Need,
    /// Packages: apt, dnf, brew.
    pub packages: [&'static str; 3],
}

/// The result for one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    pub program: String,
    /// What it is needed for.
    pub need: Need,
    /// The first line of the probe's output; `None` if the tool is missing.
    pub version: Option<String>,
    /// The packages that contain it: apt, dnf, brew.
    pub packages: Vec<String>,
}

/// A package manager of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// Debian, Ubuntu.
    Apt,
    /// Fedora.
    Dnf,
    /// macOS.
    Brew,
}

const fn tool(program: &'static str, probe: &'static [&'static str], need: Need, packages: [&'static str; 3]) -> Tool {
    Tool { program, probe, need, packages }
}

/// All tools that the local pipeline and the tests run.
pub const TOOLS: &[Tool] = &[
    tool("qemu-system-x86_64", &["--version"], Need::Machines, ["qemu-system-x86", "qemu-system-x86-core", "qemu"]),
    tool("qemu-img", &["--version"], Need::Machines, ["qemu-utils", "qemu-img", "qemu"]),
    tool("ssh", &["-V"], Need::Machines, ["openssh-client", "openssh-clients", "openssh"]),
    tool("scp", &[], Need::Machines, ["openssh-client", "openssh-clients", "openssh"]),
    tool("ssh-keygen", &["-?"], Need::Machines, ["openssh-client", "openssh-clients", "openssh"]),
    tool("git", &["--version"], Need::Machines, ["git", "git", "git"]),
    tool("systemd-nspawn", &["--version"], Need::Containers, ["systemd-container", "systemd-container", ""]),
    tool("slirp4netns", &["--version"], Need::Containers, ["slirp4netns", "slirp4netns", ""]),
    tool("qemu-storage-daemon", &["--version"], Need::Containers, ["qemu-system-common", "qemu-img", ""]),
    tool("curl", &["--version"], Need::Base, ["curl", "curl", "curl"]),
    tool("mmdebstrap", &["--version"], Need::Base, ["mmdebstrap debian-archive-keyring", "mmdebstrap", ""]),
    tool("mke2fs", &["-V"], Need::Base, ["e2fsprogs", "e2fsprogs", "e2fsprogs"]),
    tool("sfdisk", &["--version"], Need::Base, ["fdisk", "util-linux-core", "util-linux"]),
    tool("mformat", &["--version"], Need::Base, ["mtools", "mtools", "mtools"]),
    tool("python3", &["--version"], Need::Base, ["python3", "python3", "python"]),
    tool(
        "musl-gcc",
        &["--version"],
        Need::SmokeBinary,
        ["musl-tools rustc-web cargo-web rust-web-src gcc", "musl-gcc", ""],
    ),
    // The tests' EC2 endpoint runs in a virtual environment; on Debian the module for it is a separate package.
    tool("python3", &["-Im", "ensurepip", "--version"], Need::Checks, ["python3-venv", "python3", "python"]),
    tool("shellcheck", &["--version"], Need::Checks, ["shellcheck", "ShellCheck", "shellcheck"]),
    tool("bats", &["--version"], Need::Checks, ["bats", "bats", "bats-core"]),
    // The queue of the images API. The server's own programs are in no directory of PATH.
    tool("pg_ctlcluster", &["--help"], Need::Checks, ["postgresql", "", ""]),
    tool("chromium", &["--version"], Need::Checks, ["chromium", "chromium", ""]),
    tool("openssl", &["version"], Need::Checks, ["openssl", "openssl", "openssl"]),
    // For the dispatch scripts.
    tool("jq", &["--version"], Need::Checks, ["jq", "jq", "jq"]),
];

/// Optional tools, with their use and how to install them.
pub const EXTRAS: &[(Tool, &str)] = &[
    (
        tool("actionlint", &["--version"], Need::Extra, NONE),
        "`validate` checks workflows with it; install it with: go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12",
    ),
    (
        tool("zizmor", &["--version"], Need::Extra, NONE),
        "`validate` checks workflows with it; install it with: pipx install zizmor==1.32.0",
    ),
    (
        tool("cargo-deny", &["--version"], Need::Extra, NONE),
        "`test` checks licences with it; install it with: cargo install --locked cargo-deny",
    ),
    (tool("npm", &["--version"], Need::Extra, NONE), "`pins` looks up newer packages with it; it is part of Node.js"),
    (
        tool("gh", &["--version"], Need::Extra, NONE),
        "`pins update --propose` opens the pull request with it; see cli.github.com",
    ),
];

const NONE: [&str; 3] = [""; 3];

/// Looks for the tools. Those for the smoke binary are skipped if `toolchain` is true: its target is installed. Those for containers are
/// skipped unless `containers` is true: this host builds faster in a container.
pub fn look(toolchain: bool, containers: bool) -> Vec<Found> {
    let needed = |t: &&Tool| match t.need {
        Need::SmokeBinary => !toolchain,
        Need::Containers => containers,
        _ => true,
    };
    TOOLS
        .iter()
        .filter(needed)
        .map(|tool| Found {
            program: tool.program.to_owned(),
            need: tool.need,
            version: version(tool),
            packages: tool.packages.map(str::to_owned).to_vec(),
        })
        .collect()
}

/// Looks for [`EXTRAS`]: program, version (`None` if it is missing), and use.
pub fn extras() -> Vec<(&'static str, Option<String>, &'static str)> {
    EXTRAS.iter().map(|(tool, what)| (tool.program, version(tool), *what)).collect()
}

/// The host's package manager; `None` if it has none of [`Manager`].
pub fn manager() -> Option<Manager> {
    [("apt-get", Manager::Apt), ("dnf", Manager::Dnf), ("brew", Manager::Brew)]
        .into_iter()
        .find(|(program, _)| which::which(program).is_ok())
        .map(|(_, m)| m)
}

/// The commands that install the missing tools. They use sudo unless `root` is true.
pub fn install(missing: &[&Found], manager: Manager, root: bool) -> Vec<Cmd> {
    let index = manager as usize;
    let mut packages: Vec<&str> = missing.iter().flat_map(|f| f.packages[index].split_whitespace()).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Vec::new();
    }
    let command = |program: &str| {
        if root || manager == Manager::Brew { Cmd::new(program) } else { Cmd::new("sudo").args(["-n", program]) }
    };
    let hint = "run the command in a shell to see the package manager's output";
    match manager {
        Manager::Apt => vec![
            command("apt-get").args(["update", "-q"]).hint(hint),
            command("apt-get")
                .args(["install", "-q", "-y", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .hint(hint),
        ],
        Manager::Dnf => vec![command("dnf").args(["install", "-y"]).args(packages).hint(hint)],
        Manager::Brew => vec![command("brew").arg("install").args(packages).hint(hint)],
    }
}

fn version(tool: &Tool) -> Option<String> {
    // mke2fs and sfdisk are in the sbin directories, which are not on every user's PATH.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let program = which::which_in(tool.program, Some(&path), "/").ok()?;
    let finished = Cmd::new(program).args(tool.probe).env("PATH", path).output().ok()?;
    // The exit code of a probe has no meaning, with two exceptions: 127 means that the program is a shim (pyenv, asdf) of one that is not
    // installed, or lacks a library, and `python3 -Im` exits with 0 exactly if the module is installed.
    if finished.code == 127 || tool.probe.contains(&"-Im") && finished.code != 0 {
        return None;
    }
    let output = if finished.stdout.trim().is_empty() { finished.stderr } else { finished.stdout };
    let line = output.lines().find(|l| !l.trim().is_empty()).unwrap_or("found");
    Some(if tool.probe.is_empty() || tool.probe == ["-?"] { "found".to_owned() } else { line.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(program: &str) -> Found {
        let tool = TOOLS.iter().find(|t| t.program == program).unwrap();
        Found {
            program: program.to_owned(),
            need: tool.need,
            version: None,
            packages: tool.packages.map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn packages_are_listed_once_and_sudo_is_used_without_root() {
        let (ssh, scp, musl) = (missing("ssh"), missing("scp"), missing("musl-gcc"));
        let lines = |manager, root| -> Vec<String> {
            install(&[&ssh, &scp, &musl], manager, root).iter().map(ToString::to_string).collect()
        };
        insta::assert_snapshot!(lines(Manager::Apt, true).join("\n"), @r"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends cargo-web gcc musl-tools openssh-client rust-web-src rustc-web
        ");
        assert_eq!(lines(Manager::Dnf, false), ["sudo -n dnf install -y musl-gcc openssh-clients"]);
        assert_eq!(lines(Manager::Brew, false), ["brew install openssh"]);
    }

    #[test]
    fn a_missing_tool_has_no_version() {
        assert_eq!(version(&tool("no-such-tool-7", &[], Need::Checks, ["", "", ""])), None);
        assert!(version(&tool("sh", &["-c", "echo 1.2"], Need::Checks, ["", "", ""])).unwrap().contains("1.2"));
    }
}
