//! The smoke spec: TOML, strict. A section that is there is checked; one that is not is not.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A mistake in a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// Line from 1, if it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// What a good instance looks like.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Layout version; 1.
    pub schema: u32,
    /// Who uses the instance and what it is.
    pub instance: Instance,
    /// Programs that must be there, run and have the right version.
    #[serde(default, rename = "tool")]
    pub tools: Vec<Tool>,
    /// Things that must really work, not only print a version.
    #[serde(default)]
    pub works: Works,
    /// PM2.
    pub pm2: Option<Pm2>,
    /// The host firewall.
    pub ufw: Option<Ufw>,
    /// fail2ban.
    pub fail2ban: Option<Fail2ban>,
    /// sshd.
    pub sshd: Option<Sshd>,
    /// Automatic security updates.
    pub unattended_upgrades: Option<UnattendedUpgrades>,
    /// The agents' dispatch scripts.
    pub dispatch: Option<Dispatch>,
    /// The Systems Manager agent.
    pub ssm_agent: Option<SsmAgent>,
    /// Who may log in and become root.
    pub accounts: Option<Accounts>,
    /// Programs that run with more rights than who starts them.
    pub privileged: Option<Privileged>,
    /// What runs by itself.
    pub jobs: Option<Jobs>,
    /// Listening sockets, the clock, names.
    pub network: Option<Network>,
    /// How long a boot may take.
    pub boot: Option<Boot>,
    /// The root disk.
    pub disk: Option<Disk>,
    /// Nothing of the build may be left.
    #[serde(default)]
    pub residue: Residue,
    /// Exceptions by check name.
    #[serde(default, rename = "override")]
    pub overrides: Vec<Override>,
}

/// `[instance]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// The login user.
    pub user: String,
    /// `uname -m`.
    pub arch: String,
    /// Accepted systems: `ubuntu 22.04`.
    pub os: Vec<String>,
    /// Wait for systemd and judge failed units.
    #[serde(default)]
    pub systemd: bool,
    /// Judge cloud-init.
    #[serde(default)]
    pub cloud_init: bool,
}

/// `[[tool]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Program name; the check is `tool-NAME`.
    pub name: String,
    /// What to run; `NAME --version` when left out.
    #[serde(default)]
    pub command: Vec<String>,
    /// Requirement on the version: `>=24, <25`.
    pub version: Option<String>,
    /// Ask only when everything has started that starts at boot.
    #[serde(default)]
    pub after_boot: bool,
    /// The agent whose program it is: wanted only if the image's manifest says that it was built with it.
    pub agent: Option<String>,
    /// Its npm package, where that has another name: `validate` holds the requirement against the lock file.
    pub package: Option<String>,
}

/// `[works]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Works {
    /// A C program compiles and runs.
    #[serde(default)]
    pub compiler: bool,
    /// npm packs and installs a local package.
    #[serde(default)]
    pub npm: bool,
    /// Bun runs a script.
    #[serde(default)]
    pub bun: bool,
    /// Git clones the repository in the fixtures.
    #[serde(default)]
    pub git_clone: bool,
    /// `/etc/agent-ami/manifest.json` tells what is really installed.
    #[serde(default)]
    pub manifest: bool,
    /// `/etc/agent-ami/sbom.cdx.json` lists the packages.
    #[serde(default)]
    pub sbom: bool,
}

/// `[pm2]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pm2 {
    /// The boot unit.
    pub unit: String,
    /// A log longer than this, in MiB, is rotated within the hour.
    pub log_max_mib: Option<u64>,
}

/// `[ufw]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ufw {
    /// What is let in: `22/tcp`.
    pub allow: Vec<String>,
}

/// `[fail2ban]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail2ban {
    /// The jail.
    pub jail: String,
    /// Settings as `fail2ban-client get JAIL NAME` prints them.
    pub settings: BTreeMap<String, String>,
}

/// `[sshd]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sshd {
    /// Options as `sshd -T` prints them.
    pub effective: BTreeMap<String, String>,
    /// Try to log in as root and with a password.
    #[serde(default)]
    pub try_logins: bool,
}

/// `[unattended_upgrades]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnattendedUpgrades {
    /// The timers that start them.
    pub timers: Vec<String>,
}

/// `[dispatch]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// The folder of root's scripts.
    pub scripts: String,
    /// The user's folder with links to them, below the home.
    pub links: String,
    /// Whether runs with `DISPATCH_ISOLATE=1` are held in their unit: ways out of it are tried.
    #[serde(default)]
    pub isolate: bool,
}

/// `[ssm_agent]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SsmAgent {
    /// How long systemd waits before it brings the agent back.
    pub restart_secs: u64,
}

/// `[accounts]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// Accounts that have a shell.
    pub shells: Vec<String>,
    /// Accounts that may use sudo and be in a group whose members can become root; root may anyway.
    pub sudo: Vec<String>,
    /// Files of sudo's configuration beyond the packages'.
    #[serde(default)]
    pub sudoers: Vec<String>,
}

/// `[privileged]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privileged {
    /// Programs that may have the set-user-ID or set-group-ID bit.
    pub setuid: Vec<String>,
    /// Programs that may have capabilities.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// `[jobs]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Files of cron and systemd beyond the packages'; one `*` in each stands for a part of a name.
    pub files: Vec<String>,
}

/// `[network]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What listens: `22/tcp`, or with an address `127.0.0.1:25/tcp`.
    pub listen: Vec<String>,
    /// What may listen besides: it depends on the release or the provider.
    #[serde(default)]
    pub may_listen: Vec<String>,
    /// A service keeps the clock, and it is right.
    #[serde(default)]
    pub clock: bool,
    /// Names are resolved.
    #[serde(default)]
    pub names: bool,
}

/// `[boot]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// From the kernel's start until sshd accepts connections.
    pub budget_seconds: f64,
    /// How many times as long that may take where the processor is emulated.
    pub emulated_factor: f64,
}

/// `[disk]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Least size of the root file system in GiB.
    pub root_min_gib: f64,
    /// Least free space on it in GiB.
    pub free_min_gib: f64,
}

/// `[residue]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residue {
    /// Check all of it.
    #[serde(default)]
    pub check: bool,
}

/// `[[override]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The check.
    pub check: String,
    /// Another time-out, in seconds.
    pub timeout_secs: Option<u64>,
    /// Until this date (YYYY-MM-DD) a failure is `quarantined` and does not count.
    pub expires: Option<String>,
    /// Why; needed with `expires`.
    pub reason: Option<String>,
}

/// Reads a spec and checks what TOML's types cannot.
pub fn parse(text: &str) -> Result<Spec, SpecError> {
    let spec: Spec = toml::from_str(text).map_err(|e| SpecError {
        line: e.span().map(|s| line(text, s.start)),
        message: e.message().trim().to_owned(),
    })?;
    let wrong =
        |needle: &str, message: String| Err(SpecError { line: text.find(needle).map(|at| line(text, at)), message });
    if spec.schema != 1 {
        return wrong("schema", format!("schema {} is not known; this is for schema 1", spec.schema));
    }
    if spec.tools.is_empty() && spec.ufw.is_none() && spec.sshd.is_none() {
        return wrong("", "the spec checks nothing: it has neither tools nor ufw nor sshd".to_owned());
    }
    for tool in &spec.tools {
        if spec.tools.iter().filter(|t| t.name == tool.name).count() > 1 {
            return wrong(&format!("\"{}\"", tool.name), format!("tool {} stands there twice", tool.name));
        }
        if let Some(requirement) = tool.version.as_deref().filter(|r| !crate::version::is_requirement(r)) {
            return wrong(requirement, format!("`{requirement}` is no requirement; write for example \">=24, <25\""));
        }
    }
    if let Some(boot) = spec.boot {
        if !spec.instance.systemd {
            return wrong("[boot]", "[boot] asks systemd: it wants `systemd = true` below [instance]".to_owned());
        }
        if !(boot.budget_seconds > 0.0 && boot.emulated_factor >= 1.0) {
            let message = "[boot] wants budget_seconds above 0 and an emulated_factor of at least 1";
            return wrong("budget_seconds", message.to_owned());
        }
    }
    for exception in &spec.overrides {
        let dated = exception.expires.as_deref().is_none_or(is_date);
        if !dated || (exception.expires.is_some() && exception.reason.is_none()) {
            let message =
                format!("override of {}: `expires` is a date YYYY-MM-DD and needs a `reason`", exception.check);
            return wrong(&exception.check, message);
        }
    }
    Ok(spec)
}

fn is_date(text: &str) -> bool {
    let shape = |(i, b): (usize, u8)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() };
    text.len() == 10 && text.bytes().enumerate().all(shape)
}

fn line(text: &str, offset: usize) -> usize {
    text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema = 1\n[instance]\nuser = \"u\"\narch = \"x\"\nos = []\n";

    fn error(rest: &str) -> SpecError {
        parse(&format!("{HEAD}{rest}")).unwrap_err()
    }

    #[test]
    fn ours_is_good() {
        let spec = parse(include_str!("../specs/locus-agent.toml")).unwrap();
        assert!(spec.tools.iter().any(|t| t.name == "claude"));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        assert_eq!(error("[ufw]\nalow = []\n").line, Some(7));
        assert!(error("").message.contains("checks nothing"));
        let twice = "[[tool]]\nname = \"git\"\n[[tool]]\nname = \"git\"\n";
        assert_eq!(error(twice), SpecError { line: Some(7), message: "tool git stands there twice".to_owned() });
        assert!(error("[[tool]]\nname = \"git\"\nversion = \"2\"\n").message.contains("is no requirement"));
        let boot = "[[tool]]\nname = \"git\"\n[boot]\nbudget_seconds = 0\nemulated_factor = 4\n";
        assert!(error(boot).message.contains("systemd = true"));
        let with_systemd = format!("{HEAD}systemd = true\n{boot}");
        assert!(parse(&with_systemd).unwrap_err().message.contains("budget_seconds above 0"));
        let quarantine = "[[tool]]\nname = \"git\"\n[[override]]\ncheck = \"tool-git\"\nexpires = \"2026-12-31\"\n";
        assert!(error(quarantine).message.contains("needs a `reason`"));
    }
}
