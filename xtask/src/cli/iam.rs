//! `iam-policy`: its arguments.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// `iam-policy`
#[derive(Clone, Debug, Args)]
pub struct IamPolicy {
    /// What the role is used for (repeatable)
    #[arg(long = "job", value_name = "JOB", value_enum, default_values = ["all"], conflicts_with = "trust")]
    pub jobs: Vec<Job>,
    /// Print the trust policy, which allows only workflows of this GitHub repository by OpenID Connect; missing ids are looked up with
    /// `gh`
    #[arg(long, value_name = "OWNER[@ID]/REPOSITORY[@ID]")]
    pub trust: Option<Repository>,
    /// Allow only jobs of this environment (repeatable)
    #[arg(long = "environment", value_name = "NAME", default_values = ["plan", "staging", "production"], requires = "trust")]
    pub environments: Vec<String>,
}

/// What a role is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Job {
    /// Read only: `ami plan`, `ami gc` without --apply, `ami watch`, `pins`
    #[value(alias = "watch")]
    Plan,
    /// `ami build`, `ami smoke`, `ami copy`, and the cleanup after them
    Build,
    /// `ami promote` and `ami rollback`: channels, and the tags of the images in them
    Promote,
    /// `ami gc --apply` and `ami delete`
    Gc,
    /// `ssm keepalive` and `ssm install`: commands on nodes with the tag ManagedBy=agent-ami
    Fleet,
    /// All of the above
    All,
}

/// A GitHub repository, as the subject of its tokens names it: by its names, or by its names and immutable ids (docs.github.com, "OpenID
/// Connect", "Immutable subject claims").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The user or organization.
    pub owner: String,
    /// The repository.
    pub name: String,
    /// The ids of both.
    pub ids: Option<Ids>,
}

/// The ids of an owner and of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Of the user or organization.
    pub owner: u64,
    /// Of the repository.
    pub repository: u64,
}

impl FromStr for Repository {
    type Err = String;

    /// Accepts no characters, such as `*`, that could widen the condition of the trust policy.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write it as OWNER/REPOSITORY or OWNER@ID/REPOSITORY@ID".to_owned();
        let part = |part: &str| -> Option<(String, Option<u64>)> {
            let (name, id) = match part.split_once('@') {
                Some((name, id)) => (name, Some(id.parse().ok().filter(|_| id.chars().all(|c| c.is_ascii_digit()))?)),
                None => (part, None),
            };
            let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            plain.then(|| (name.to_owned(), id))
        };
        let (owner, name) = text.split_once('/').ok_or_else(wrong)?;
        let ((owner, one), (name, other)) = part(owner).zip(part(name)).ok_or_else(wrong)?;
        let ids = match (one, other) {
            (Some(owner), Some(repository)) => Some(Ids { owner, repository }),
            (None, None) => None,
            _ => return Err(wrong()),
        };
        Ok(Self { owner, name, ids })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ids {
            Some(ids) => write!(f, "{}@{}/{}@{}", self.owner, ids.owner, self.name, ids.repository),
            None => write!(f, "{}/{}", self.owner, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_parsed_with_ids_or_without_and_never_with_a_pattern() {
        for good in ["you/it", "you@1/it@2", "Your-Org/it_2.x", "you@0123/it@9"] {
            let parsed: Repository = good.parse().unwrap();
            assert_eq!(parsed.ids.is_some(), good.contains('@'));
        }
        assert_eq!("you@1/it@2".parse::<Repository>().unwrap().to_string(), "you@1/it@2");
        for bad in [
            "you",
            "you/",
            "/it",
            "you/*",
            "you/it/x",
            "you@1/it",
            "you/it@2",
            "you@/it@",
            "you@x/it@2",
            "you@+1/it@2",
            "you@*/it@*",
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }
}
