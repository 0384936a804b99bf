//! Managed nodes of AWS Systems Manager: types, the trait that lists nodes and runs scripts on them, and parsers for the scripts' output.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::error::Result;
use crate::ids::Region;

/// A managed node (Systems Manager API reference, InstanceInformation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// `i-…` on EC2, `mi-…` for a hybrid activation (Lightsail, on premises).
    pub id: String,
    /// The node's region.
    pub region: Region,
    /// The name of the activation or of the computer; empty if there is none.
    pub name: String,
    /// The ping status: `Online`, `ConnectionLost`, `Inactive`.
    pub ping: String,
    /// The time of the agent's last ping, RFC 3339.
    pub last_ping: String,
    /// The agent's version.
    pub agent: String,
    /// The platform type: `Linux`, `Windows`, `MacOS`.
    pub platform: String,
    /// Name and version of the operating system: `Ubuntu 22.04`.
    pub system: String,
    /// The agent's restart policy.
    pub policy: Policy,
}

impl Node {
    /// True if the node accepts commands.
    pub fn is_online(&self) -> bool {
        self.ping == "Online"
    }
}

/// The restart policy of a node's agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "known")]
pub enum Policy {
    /// The output of `systemctl show`.
    Known {
        /// The agent's unit.
        unit: String,
        /// `Restart=`.
        restart: String,
        /// `RestartUSec`: `10s`.
        after: String,
        /// True if there is no start limit, so that systemd never stops restarting the agent.
        for_ever: bool,
    },
    /// The policy could not be read.
    Unknown {
        /// The reason.
        why: String,
    },
}

impl Policy {
    /// The policy as a table cell.
    pub fn brief(&self) -> String {
        match self {
            Self::Known { restart, after, for_ever, .. } => {
                format!("{restart} after {after}{}", if *for_ever { "" } else { ", may give up" })
            }
            Self::Unknown { why } => format!("unknown: {why}"),
        }
    }
}

/// A selection of nodes: `i-…`, `mi-…`, `tag:KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The node with this id.
    Id(String),
    /// All nodes with this tag: key and value.
    Tag(String, String),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Some((key, value)) = text.strip_prefix("tag:").and_then(|tag| tag.split_once('=')) {
            return match key {
                "" => Err("the tag has no key; write tag:KEY=VALUE".to_owned()),
                _ => Ok(Self::Tag(key.to_owned(), value.to_owned())),
            };
        }
        let digits = text.strip_prefix("mi-").or_else(|| text.strip_prefix("i-")).unwrap_or_default();
        if digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Id(text.to_owned()));
        }
        Err("expected i-0123456789abcdef0, mi-0123456789abcdef0 or tag:KEY=VALUE".to_owned())
    }
}

/// The result of a script on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The node's id.
    pub id: String,
    /// The node's region.
    pub region: Region,
    /// `Success`, `Failed`, `TimedOut`, `Undeliverable`… (Systems Manager user guide, "Command statuses").
    pub status: String,
    /// The script's exit code; `None` if it did not run.
    pub code: Option<i32>,
    /// The first 24,000 characters of standard output.
    pub stdout: String,
    /// The beginning of standard error.
    pub stderr: String,
}

#[cfg(test)]
impl Answer {
    /// The result of a script that succeeded with this output.
    pub(crate) fn success(stdout: &str) -> Self {
        Self {
            id: "i-1".to_owned(),
            region: "r".into(),
            status: "Success".to_owned(),
            code: Some(0),
            stdout: stdout.to_owned(),
            stderr: String::new(),
        }
    }
}

impl Answer {
    /// True if the script exited with 0.
    pub fn is_good(&self) -> bool {
        self.status == "Success" && self.code == Some(0)
    }
}

/// Systems Manager in one or more regions.
pub trait ManagedNodes {
    /// The nodes that match any of the targets; all nodes without a target.
    fn nodes(&self, targets: &[Target]) -> Result<Vec<Node>>;

    /// Runs a script on nodes, as root, and waits for all of them. `on_answer` is called for each node when its script has ended. A failed
    /// script is in the node's answer; it is not an error.
    fn run(&self, nodes: &[Node], script: &str, within: Duration, on_answer: &dyn Fn(&Answer)) -> Result<Vec<Answer>>;
}

/// A script that prints the agent's restart policy as `unit=NAME restart=… after=… start-limit=…`, the format of
/// `scripts/agent/ssm-keepalive.sh`.
pub const ASK_POLICY: &str = "\
for unit in snap.amazon-ssm-agent.amazon-ssm-agent.service amazon-ssm-agent.service; do
  show() { systemctl show --property \"$1\" --value -- \"$unit\"; }
  test \"$(show LoadState)\" = loaded || continue
  echo \"unit=$unit restart=$(show Restart) after=$(show RestartUSec) start-limit=$(show StartLimitIntervalUSec)\"
done
";

/// A bash script as a command for any POSIX shell. Run Command uses sh, and not every version of the agent honours the shebang.
pub fn in_bash(script: &str) -> String {
    format!("exec /bin/bash -p -s <<'END OF THE SCRIPT'\n{}\nEND OF THE SCRIPT\n", script.trim_end())
}

/// Parses the first unit in a script's output.
pub fn policy(output: &str) -> Policy {
    let fields = |line: &str| -> BTreeMap<String, String> {
        line.split_whitespace().filter_map(|w| w.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let mut units = output.lines().filter(|l| l.starts_with("unit=")).map(fields).filter(|f| f.contains_key("restart"));
    let Some(mut unit) = units.next() else {
        return Policy::Unknown { why: "the agent has no systemd unit".to_owned() };
    };
    let mut take = |name: &str| unit.remove(name).unwrap_or_default();
    Policy::Known {
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
    fn a_script_runs_in_bash_from_any_shell() {
        let script = "#!/bin/bash -p\nall=(a \"b  c\" '$HOME')\nprintf '%s|' \"${all[@]}\"\nexit 3\n";
        let ran = crate::process::Cmd::new("sh").args(["-c", &in_bash(script)]).output().unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (3, "a|b  c|$HOME|"), "{}", ran.stderr);
    }

    #[test]
    fn the_policy_is_parsed_from_the_output() {
        let output = "changed=no\nunit=amazon-ssm-agent.service load=loaded active=active restart=always after=10s start-limit=0 not-after=194\n";
        let forever = policy(output);
        assert_eq!(forever.brief(), "always after 10s");
        let limited = policy("unit=a.service restart=on-failure after=100ms start-limit=10s\n");
        assert_eq!(limited.brief(), "on-failure after 100ms, may give up");
        assert!(matches!(policy("unit=a.service load=not-found\n"), Policy::Unknown { .. }));
        assert!(matches!(policy(""), Policy::Unknown { .. }));
    }
}
