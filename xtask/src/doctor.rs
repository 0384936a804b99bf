//! Host tools: which are needed for what, whether they are here, and what brings them. Tables and a look around; prints nothing.

use serde::Serialize;

use crate::process::Cmd;

/// What a tool is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Running machines.
    Machines,
    /// Building in a container; only where virtual machines are emulated, and without it they are what builds.
    Containers,
    /// Making or fetching a base image.
    Base,
    /// Compiling the smoke binary.
    SmokeBinary,
    /// Tests and `validate`; without it a check is left out and said to be.
    Checks,
    /// What few need and no package manager here brings: told, never asked for.
    Extra,
}

/// A host tool.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program that is looked for.
    pub program: &'static str,
    /// Arguments that make it answer.
    pub probe: &'static [&'static str],
    /// What it is needed for.
    pub need: Need,
    /// Packages: apt, dnf, brew.
    pub packages: [&'static str; 3],
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The program.
    pub program: String,
    /// What it is needed for.
    pub need: Need,
    /// Its first line about itself; `None` if it is missing.
    pub version: Option<String>,
    /// The packages that bring it: apt, dnf, brew.
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

/// Every tool the local pipeline calls.
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
    // The EC2 endpoint that tests use lives in a virtual environment, which Debian packs apart.
    tool("python3", &["-Im", "ensurepip", "--version"], Need::Checks, ["python3-venv", "python3", "python"]),
    tool("shellcheck", &["--version"], Need::Checks, ["shellcheck", "ShellCheck", "shellcheck"]),
    tool("bats", &["--version"], Need::Checks, ["bats", "bats", "bats-core"]),
    // The dispatch scripts write JSON with it.
    tool("jq", &["--version"], Need::Checks, ["jq", "jq", "jq"]),
];

/// What some commands can use, and what brings it.
pub const EXTRAS: &[(Tool, &str)] = &[
    (
        tool("actionlint", &["--version"], Need::Extra, NONE),
        "`validate` asks it about workflows: go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12",
    ),
    (
        tool("zizmor", &["--version"], Need::Extra, NONE),
        "`validate` asks it about workflows: pipx install zizmor==1.32.0",
    ),
    (
        tool("cargo-deny", &["--version"], Need::Extra, NONE),
        "`test` asks it about licences: cargo install --locked cargo-deny",
    ),
    (tool("npm", &["--version"], Need::Extra, NONE), "`pins` asks it for newer packages: it comes with Node.js"),
    (
        tool("gh", &["--version"], Need::Extra, NONE),
        "`pins update --propose` opens the pull request with it: cli.github.com",
    ),
];

const NONE: [&str; 3] = [""; 3];

/// Looks for every tool. `toolchain` is true when the smoke binary's target is there without further packages, `containers` when this
/// host would build in a container if it could.
pub fn look(toolchain: bool, containers: bool) -> Vec<Found> {
    let needed = |t: &&Tool| match t.need {
        Need::SmokeBinary => !toolchain,
        Need::Containers => containers,
        _ => true,
    };
    let wanted = TOOLS.iter().filter(needed);
    wanted
        .map(|tool| Found {
            program: tool.program.to_owned(),
            need: tool.need,
            version: version(tool),
            packages: tool.packages.map(str::to_owned).to_vec(),
        })
        .collect()
}

/// What is there of [`EXTRAS`]: the program, its version if it is there, and what it is for.
pub fn extras() -> Vec<(&'static str, Option<String>, &'static str)> {
    EXTRAS.iter().map(|(tool, what)| (tool.program, version(tool), *what)).collect()
}

/// The host's package manager.
pub fn manager() -> Option<Manager> {
    let answers = |program: &str| Cmd::new(program).arg("--version").output().is_ok_and(|f| f.code == 0);
    [("apt-get", Manager::Apt), ("dnf", Manager::Dnf), ("brew", Manager::Brew)]
        .into_iter()
        .find(|(p, _)| answers(p))
        .map(|(_, m)| m)
}

/// The commands that bring what is missing. `root` says whether we may install without sudo.
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
    let hint = "run the command by hand to see what the package manager wants";
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
    // The administrator's folders are not on every user's PATH, but hold mke2fs and sfdisk.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let finished = Cmd::new("env").arg(format!("PATH={path}")).arg(tool.program).args(tool.probe).output().ok()?;
    // env(1): 127 means that the program was not found. Not every tool ends a probe with 0; Python does if the module is there.
    if finished.code == 127 || tool.probe.contains(&"-Im") && finished.code != 0 {
        return None;
    }
    let said = if finished.stdout.trim().is_empty() { finished.stderr } else { finished.stdout };
    let line = said.lines().find(|l| !l.trim().is_empty()).unwrap_or("found");
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
    fn packages_are_named_once_and_sudo_is_for_those_who_need_it() {
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
    fn a_tool_that_is_not_there_is_missing() {
        assert_eq!(version(&tool("no-such-tool-7", &[], Need::Checks, ["", "", ""])), None);
        assert!(version(&tool("sh", &["-c", "echo 1.2"], Need::Checks, ["", "", ""])).unwrap().contains("1.2"));
    }
}
