//! The smoke spec: a TOML file that states what an instance must have. Unknown keys are errors. A section that is absent is not checked.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An error in a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// Line number, starting at 1, if known.
    pub line: Option<usize>,
    /// Cause of the error.
    pub message: String,
}

/// A smoke spec.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Version of the format: 1.
    pub schema: u32,
    /// Login user, architecture and operating system.
    pub instance: Instance,
    /// Programs that must be installed, run, and have the required version.
    #[serde(default, rename = "tool")]
    pub tools: Vec<Tool>,
    /// Functional tests beyond printing a version.
    #[serde(default)]
    pub works: Works,
    /// PM2, the process manager.
    pub pm2: Option<Pm2>,
    /// The host firewall, UFW.
    pub ufw: Option<Ufw>,
    /// fail2ban, which bans addresses after failed logins.
    pub fail2ban: Option<Fail2ban>,
    /// Effective options of sshd, and logins that must be refused.
    pub sshd: Option<Sshd>,
    /// Automatic security updates.
    pub unattended_upgrades: Option<UnattendedUpgrades>,
    /// The agents' dispatch scripts.
    pub dispatch: Option<Dispatch>,
    /// The Systems Manager agent.
    pub ssm_agent: Option<SsmAgent>,
    /// Accounts that may log in and become root.
    pub accounts: Option<Accounts>,
    /// Programs with a set-ID bit or capabilities.
    pub privileged: Option<Privileged>,
    /// Files of cron, systemd and others that start programs.
    pub jobs: Option<Jobs>,
    /// Listening sockets, clock and name resolution.
    pub network: Option<Network>,
    /// Limit for the boot time.
    pub boot: Option<Boot>,
    /// Size and free space of the root file system.
    pub disk: Option<Disk>,
    /// Data of the build that an image must not contain.
    #[serde(default)]
    pub residue: Residue,
    /// Timeouts and quarantines of single checks.
    #[serde(default, rename = "override")]
    pub overrides: Vec<Override>,
}

/// `[instance]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Name of the login user.
    pub user: String,
    /// Architecture, as `uname -m` prints it.
    pub arch: String,
    /// Accepted operating systems, `ID VERSION_ID` of /etc/os-release: `ubuntu 22.04`.
    pub os: Vec<String>,
    /// Wait until systemd has finished booting, and check that no unit failed.
    #[serde(default)]
    pub systemd: bool,
    /// Check that cloud-init finished without errors.
    #[serde(default)]
    pub cloud_init: bool,
}

/// `[[tool]]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Program name; the check is `tool-NAME`.
    pub name: String,
    /// Command line that prints the version; empty: `NAME --version`.
    #[serde(default)]
    pub command: Vec<String>,
    /// Version requirement: `>=24, <25`.
    pub version: Option<String>,
    /// Run the command only after systemd has finished booting.
    #[serde(default)]
    pub after_boot: bool,
    /// Agent that the program belongs to. The program is required only if the image's manifest names this agent, or `all`, as `provider`.
    pub agent: Option<String>,
    /// npm package of the program, if its name differs. `validate` compares the version requirement with the lock file.
    pub package: Option<String>,
}

/// `[works]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Works {
    /// Compile and run a C program.
    #[serde(default)]
    pub compiler: bool,
    /// Install a local package with npm.
    #[serde(default)]
    pub npm: bool,
    /// Run a TypeScript file with Bun.
    #[serde(default)]
    pub bun: bool,
    /// Clone the git bundle of the fixtures.
    #[serde(default)]
    pub git_clone: bool,
    /// Compare `/etc/agent-ami/manifest.json` with what is installed.
    #[serde(default)]
    pub manifest: bool,
    /// Compare `/etc/agent-ami/sbom.cdx.json` with the installed packages.
    #[serde(default)]
    pub sbom: bool,
}

/// `[pm2]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pm2 {
    /// systemd unit that starts PM2 at boot.
    pub unit: String,
    /// Size in MiB above which logrotate must rotate a log of PM2.
    pub log_max_mib: Option<u64>,
}

/// `[ufw]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ufw {
    /// Ports that incoming connections may use: `22/tcp`.
    pub allow: Vec<String>,
}

/// `[fail2ban]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Fail2ban {
    /// Name of the jail.
    pub jail: String,
    /// Settings of the jail, as `fail2ban-client get JAIL NAME` prints them.
    pub settings: BTreeMap<String, String>,
}

/// `[sshd]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sshd {
    /// Options and values, as `sshd -T` prints them.
    pub effective: BTreeMap<String, String>,
    /// Test that logins as root and with a password are refused.
    #[serde(default)]
    pub try_logins: bool,
}

/// `[unattended_upgrades]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UnattendedUpgrades {
    /// Timers that start the updates.
    pub timers: Vec<String>,
}

/// `[dispatch]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// Directory with the dispatch scripts, which root owns.
    pub scripts: String,
    /// Directory with links to the scripts, relative to the home of the login user.
    pub links: String,
    /// Test the isolation of runs with `DISPATCH_ISOLATE=1`.
    #[serde(default)]
    pub isolate: bool,
}

/// `[ssm_agent]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SsmAgent {
    /// Seconds that systemd waits before it restarts the agent (`RestartSec=`).
    pub restart_secs: u64,
}

/// `[accounts]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// Accounts that may have a login shell.
    pub shells: Vec<String>,
    /// Accounts besides root that may use sudo or be in a group whose members can become root.
    pub sudo: Vec<String>,
    /// Files of the sudo configuration that belong to no package.
    #[serde(default)]
    pub sudoers: Vec<String>,
}

/// `[privileged]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Privileged {
    /// Programs that may have the set-user-ID or set-group-ID bit.
    pub setuid: Vec<String>,
    /// Programs that may have file capabilities.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// `[jobs]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Files that belong to no package. Each may have one `*`, which matches any part of a file name.
    pub files: Vec<String>,
}

/// `[network]`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Sockets that must listen: `22/tcp`, or with an address `127.0.0.1:25/tcp`.
    pub listen: Vec<String>,
    /// Sockets that may listen as well, depending on the operating system or the cloud.
    #[serde(default)]
    pub may_listen: Vec<String>,
    /// Check that a service synchronises the clock.
    #[serde(default)]
    pub clock: bool,
    /// Check that names are resolved.
    #[serde(default)]
    pub names: bool,
}

/// `[boot]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Limit for the seconds from the kernel's start until the unit of sshd is active.
    pub budget_seconds: f64,
    /// Factor for the limit where the processor is emulated; at least 1.
    pub emulated_factor: f64,
}

/// `[disk]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Minimum size of the root file system in GiB.
    pub root_min_gib: f64,
    /// Minimum free space of the root file system in GiB.
    pub free_min_gib: f64,
}

/// `[residue]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Residue {
    /// Run all checks whose names begin with `residue-`.
    #[serde(default)]
    pub check: bool,
}

/// `[[override]]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Name of the check.
    pub check: String,
    /// Timeout in seconds instead of the default.
    pub timeout_secs: Option<u64>,
    /// Last day (YYYY-MM-DD) on which a failure is `quarantined` and does not fail the smoke test.
    pub expires: Option<String>,
    /// Reason of the quarantine; required with `expires`.
    pub reason: Option<String>,
}

/// Parses and validates a spec.
pub fn parse(text: &str) -> Result<Spec, SpecError> {
    let spec: Spec = toml::from_str(text).map_err(|e| SpecError {
        line: e.span().map(|s| line(text, s.start)),
        message: e.message().trim().to_owned(),
    })?;
    let error =
        |needle: &str, message: String| Err(SpecError { line: text.find(needle).map(|at| line(text, at)), message });
    if spec.schema != 1 {
        return error("schema", format!("unsupported schema {}; expected 1", spec.schema));
    }
    if spec.tools.is_empty() && spec.ufw.is_none() && spec.sshd.is_none() {
        return error("", "the spec has no [[tool]], [ufw] or [sshd] section".to_owned());
    }
    for tool in &spec.tools {
        if spec.tools.iter().filter(|t| t.name == tool.name).count() > 1 {
            return error(&format!("\"{}\"", tool.name), format!("duplicate tool {}", tool.name));
        }
        if let Some(requirement) = tool.version.as_deref().filter(|r| !crate::version::is_requirement(r)) {
            return error(
                requirement,
                format!("invalid version requirement `{requirement}`; an example is \">=24, <25\""),
            );
        }
    }
    if let Some(boot) = spec.boot {
        if !spec.instance.systemd {
            return error("[boot]", "[boot] requires `systemd = true` in [instance]".to_owned());
        }
        if !(boot.budget_seconds > 0.0 && boot.emulated_factor >= 1.0) {
            let message = "[boot] requires budget_seconds above 0 and emulated_factor of at least 1";
            return error("budget_seconds", message.to_owned());
        }
    }
    for entry in &spec.overrides {
        let dated = entry.expires.as_deref().is_none_or(is_date);
        if !dated || (entry.expires.is_some() && entry.reason.is_none()) {
            let message =
                format!("override of {}: `expires` must be a date YYYY-MM-DD and requires a `reason`", entry.check);
            return error(&entry.check, message);
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
    fn the_projects_specs_are_valid() {
        for text in [include_str!("../specs/locus-agent.toml"), include_str!("../specs/default-ec2.toml")] {
            let spec = parse(text).unwrap();
            assert!(spec.tools.iter().any(|t| t.name == "claude"));
        }
    }

    #[test]
    fn errors_with_their_lines() {
        assert_eq!(error("[ufw]\nalow = []\n").line, Some(7));
        assert!(error("").message.contains("no [[tool]]"));
        let twice = "[[tool]]\nname = \"git\"\n[[tool]]\nname = \"git\"\n";
        assert_eq!(error(twice), SpecError { line: Some(7), message: "duplicate tool git".to_owned() });
        assert!(error("[[tool]]\nname = \"git\"\nversion = \"2\"\n").message.contains("invalid version requirement"));
        let boot = "[[tool]]\nname = \"git\"\n[boot]\nbudget_seconds = 0\nemulated_factor = 4\n";
        assert!(error(boot).message.contains("systemd = true"));
        let with_systemd = format!("{HEAD}systemd = true\n{boot}");
        assert!(parse(&with_systemd).unwrap_err().message.contains("budget_seconds above 0"));
        let quarantine = "[[tool]]\nname = \"git\"\n[[override]]\ncheck = \"tool-git\"\nexpires = \"2026-12-31\"\n";
        assert!(error(quarantine).message.contains("requires a `reason`"));
    }
}
