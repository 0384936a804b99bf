//! Servers that already run, as AWS Systems Manager knows them: who they are, and scripts run on them. Types, and what is read out of
//! answers; no cloud, no printing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::error::Result;

/// A managed node (Systems Manager API reference, InstanceInformation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// `i-…` on EC2, `mi-…` elsewhere (hybrid activation: Lightsail, on premises).
    pub id: String,
    /// Its region.
    pub region: String,
    /// Its name, where one is known: the activation's, or the host's.
    pub name: String,
    /// `Online`, `ConnectionLost`, `Inactive`.
    pub ping: String,
    /// When the agent was last heard of, RFC 3339.
    pub last_ping: String,
    /// The agent's version.
    pub agent: String,
    /// `Linux`, `Windows`, `MacOS`.
    pub platform: String,
    /// `Ubuntu 22.04`.
    pub system: String,
    /// What systemd does when the agent ends.
    pub policy: Policy,
}

impl Node {
    /// True if it takes commands.
    pub fn is_online(&self) -> bool {
        self.ping == "Online"
    }
}

/// What systemd does when a node's agent ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "known")]
pub enum Policy {
    /// As `systemctl show` told.
    Told {
        /// The agent's unit.
        unit: String,
        /// `Restart=`.
        restart: String,
        /// `RestartUSec`: `10s`.
        after: String,
        /// True if no number of failures makes systemd give up.
        for_ever: bool,
    },
    /// Nobody could be asked, and why.
    Unknown {
        /// Why.
        why: String,
    },
}

impl Policy {
    /// In a table's column.
    pub fn brief(&self) -> String {
        match self {
            Self::Told { restart, after, for_ever, .. } => {
                format!("{restart} after {after}{}", if *for_ever { "" } else { ", may give up" })
            }
            Self::Unknown { why } => format!("unknown: {why}"),
        }
    }
}

/// Who is meant: `i-…`, `mi-…`, `tag:KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One node.
    Id(String),
    /// All that bear a tag.
    Tag(String, String),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Some((key, value)) = text.strip_prefix("tag:").and_then(|tag| tag.split_once('=')) {
            return match key {
                "" => Err("a tag has a key: tag:KEY=VALUE".to_owned()),
                _ => Ok(Self::Tag(key.to_owned(), value.to_owned())),
            };
        }
        let digits = text.strip_prefix("mi-").or_else(|| text.strip_prefix("i-")).unwrap_or_default();
        if digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Id(text.to_owned()));
        }
        Err("name a node as i-0123456789abcdef0, mi-0123456789abcdef0 or tag:KEY=VALUE".to_owned())
    }
}

/// What came of a script on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The node.
    pub id: String,
    /// Its region.
    pub region: String,
    /// `Success`, `Failed`, `TimedOut`, `Undeliverable`… (Systems Manager user guide, "Command statuses").
    pub status: String,
    /// The script's exit code, if it ran.
    pub code: Option<i32>,
    /// What it printed, the first 24,000 characters.
    pub stdout: String,
    /// And on standard error.
    pub stderr: String,
}

#[cfg(test)]
impl Answer {
    /// Of a script that ran to a good end and printed this.
    pub(crate) fn success(stdout: &str) -> Self {
        Self {
            id: "i-1".to_owned(),
            region: "r".to_owned(),
            status: "Success".to_owned(),
            code: Some(0),
            stdout: stdout.to_owned(),
            stderr: String::new(),
        }
    }
}

impl Answer {
    /// True if the script ran to a good end.
    pub fn is_good(&self) -> bool {
        self.status == "Success" && self.code == Some(0)
    }
}

/// Systems Manager in some regions.
pub trait ManagedNodes {
    /// The nodes that are meant; all of them without a target.
    fn nodes(&self, targets: &[Target]) -> Result<Vec<Node>>;

    /// Runs a script, as root, on nodes and waits for each of them; `told` hears of each as it ends. A node that fails is an answer, not an error.
    fn run(&self, nodes: &[Node], script: &str, within: Duration, told: &dyn Fn(&Answer)) -> Result<Vec<Answer>>;
}

/// A script that tells the agent's policy as `unit=NAME restart=… after=… start-limit=…`, in the words of `scripts/agent/ssm-keepalive.sh`.
pub const ASK_POLICY: &str = "\
for unit in snap.amazon-ssm-agent.amazon-ssm-agent.service amazon-ssm-agent.service; do
  show() { systemctl show --property \"$1\" --value -- \"$unit\"; }
  test \"$(show LoadState)\" = loaded || continue
  echo \"unit=$unit restart=$(show Restart) after=$(show RestartUSec) start-limit=$(show StartLimitIntervalUSec)\"
done
";

/// A bash script as a command for whatever shell it is handed to: Run Command's is sh, and whether that heeds a first line is the
/// agent's affair.
pub fn in_bash(script: &str) -> String {
    format!("exec /bin/bash -p -s <<'END OF THE SCRIPT'\n{}\nEND OF THE SCRIPT\n", script.trim_end())
}

/// Reads the first unit that a script told of.
pub fn policy(said: &str) -> Policy {
    let fields = |line: &str| -> BTreeMap<String, String> {
        line.split_whitespace().filter_map(|w| w.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let mut told = said.lines().filter(|l| l.starts_with("unit=")).map(fields).filter(|f| f.contains_key("restart"));
    let Some(mut told) = told.next() else {
        return Policy::Unknown { why: "it has no unit of the agent's".to_owned() };
    };
    let mut take = |name: &str| told.remove(name).unwrap_or_default();
    Policy::Told {
        unit: take("unit"),
        restart: take("restart"),
        after: take("after"),
        for_ever: take("start-limit") == "0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_ids_or_tags() {
        assert_eq!("i-0123456789abcdef0".parse(), Ok(Target::Id("i-0123456789abcdef0".to_owned())));
        assert_eq!("mi-0bbd8fed3f0650ddb".parse(), Ok(Target::Id("mi-0bbd8fed3f0650ddb".to_owned())));
        assert_eq!("tag:Role=a=b".parse(), Ok(Target::Tag("Role".to_owned(), "a=b".to_owned())));
        for wrong in ["", "i-", "i-xyz", "mi-12", "tag:", "tag:=x", "tag:Role", "web-1", "i-0123456789abcdef0;reboot"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_script_runs_in_bash_whatever_shell_gets_it() {
        let script = "#!/bin/bash -p\nall=(a \"b  c\" '$HOME')\nprintf '%s|' \"${all[@]}\"\nexit 3\n";
        let ran = crate::process::Cmd::new("sh").args(["-c", &in_bash(script)]).output().unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (3, "a|b  c|$HOME|"), "{}", ran.stderr);
    }

    #[test]
    fn the_policy_is_read_from_what_the_script_says() {
        let said = "changed=no\nunit=amazon-ssm-agent.service load=loaded active=active restart=always after=10s start-limit=0 not-after=194\n";
        let told = policy(said);
        assert_eq!(told.brief(), "always after 10s");
        let shy = policy("unit=a.service restart=on-failure after=100ms start-limit=10s\n");
        assert_eq!(shy.brief(), "on-failure after 100ms, may give up");
        assert!(matches!(policy("unit=a.service load=not-found\n"), Policy::Unknown { .. }));
        assert!(matches!(policy(""), Policy::Unknown { .. }));
    }
}
