//! The scope of the policies: partition, accounts, parameters, roles and keys, from ami.toml and the templates.

use std::collections::{BTreeMap, BTreeSet};

use xtask::config::Config;
use xtask::error::{Exit, Result};
use xtask::ids::Region;
use xtask::partition::Partition;
use xtask::recipe::Source;

use crate::amazon_ebs_source::AmazonEbsSource;

/// What the policies apply to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The partition of all regions.
    pub partition: Partition,
    /// Allowed accounts; empty for any.
    pub accounts: Vec<String>,
    /// Prefixes of the channels' parameters, without leading and trailing slashes.
    pub prefixes: Vec<String>,
    /// Roles of the instance profiles that instances are started with, each with its path if it has one.
    pub roles: Vec<String>,
    /// Customer managed keys of images and disks.
    pub keys: Vec<Key>,
}

/// A customer managed key as ami.toml or a template names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub region: Region,
    /// A key's id or ARN, or an alias's name or ARN (KMS developer guide, "Key identifiers").
    pub id: String,
}

impl Scope {
    /// The scope of a configuration and of its images' sources on AWS.
    pub fn of(config: &Config, sources: &[Source]) -> Result<Self> {
        let aws = &config.aws;
        let home = config.regions.aws.first().unwrap_or(&config.packer.default_region);
        let mut profiles: BTreeSet<String> = aws.ssm_instance_profile.clone().into_iter().collect();
        let mut keys: BTreeSet<Key> =
            aws.kms_key_ids.iter().map(|(region, id)| Key { region: region.clone(), id: id.clone() }).collect();
        for source in sources {
            let ebs_source = AmazonEbsSource::read(source)?;
            profiles.extend(ebs_source.iam_instance_profile);
            let disks = ebs_source.launch_block_device_mappings.into_iter().filter_map(|disk| disk.kms_key_id);
            keys.extend(disks.map(|id| Key { region: home.clone(), id }));
        }
        keys.retain(|key| !key.id.is_empty());
        let prefixes: BTreeSet<String> = config
            .channels
            .values()
            .flat_map(|c| &c.ssm_prefix)
            .map(|prefix| prefix.trim_matches('/').to_owned())
            .collect();
        Ok(Self {
            partition: Partition::of(home),
            accounts: aws.accounts.clone(),
            prefixes: prefixes.into_iter().filter(|prefix| !prefix.is_empty()).collect(),
            roles: roles(profiles, &aws.instance_profile_roles)?,
            keys: keys.into_iter().collect(),
        })
    }

    /// A scope with one prefix and one role, in any account.
    pub fn full(partition: Partition) -> Self {
        Self {
            partition,
            accounts: Vec::new(),
            prefixes: vec!["agent-ami".to_owned()],
            roles: vec!["agent-ami".to_owned()],
            keys: Vec::new(),
        }
    }

    /// The account parts of ARNs: each allowed account, or `*`. IAM and KMS refuse roles and keys of accounts other than the caller's.
    fn accounts(&self) -> Vec<&str> {
        match self.accounts.as_slice() {
            [] => vec!["*"],
            some => some.iter().map(String::as_str).collect(),
        }
    }

    pub(super) fn role_arns(&self) -> Vec<String> {
        let of = |role: &String| {
            let role = role.trim_start_matches('/').to_owned();
            self.accounts().into_iter().map(move |account| (account.to_owned(), role.clone()))
        };
        let all = self.roles.iter().flat_map(of);
        all.map(|(account, role)| format!("arn:{}:iam::{account}:role/{role}", self.partition)).collect()
    }

    /// The ARNs of keys, and pairs of an ARN pattern and an alias: a policy can name a key by its alias only in a condition (KMS developer
    /// guide, "Use aliases to control access to KMS keys").
    pub(super) fn keys(&self) -> (Vec<String>, Vec<(String, String)>) {
        let (mut arns, mut aliases) = (BTreeSet::new(), BTreeSet::new());
        for Key { region, id } in &self.keys {
            let (account, name) = match id.strip_prefix("arn:").map(|arn| arn.splitn(5, ':').collect::<Vec<_>>()) {
                Some(parts) => (parts.get(3).copied(), parts.get(4).copied().unwrap_or_default()),
                None => (None, id.as_str()),
            };
            for account in account.map_or_else(|| self.accounts(), |account| vec![account]) {
                let arn = |name: &str| format!("arn:{}:kms:{region}:{account}:{name}", self.partition);
                if name.starts_with("alias/") {
                    aliases.insert((arn("key/*"), name.to_owned()));
                } else if name.starts_with("key/") {
                    arns.insert(arn(name));
                } else {
                    arns.insert(arn(&format!("key/{name}")));
                }
            }
        }
        (arns.into_iter().collect(), aliases.into_iter().collect())
    }
}

/// The role of each profile: the one in `instance_profile_roles`, else the one with the profile's name, as the console creates it.
fn roles(profiles: BTreeSet<String>, named: &BTreeMap<String, String>) -> Result<Vec<String>> {
    if let Some(unused) = named.keys().find(|profile| !profiles.contains(*profile)) {
        return Err(Exit::Usage.error(
            format_args!("`instance_profile_roles` has a role for {unused}, but no instance uses that profile"),
            "set it as `ssm_instance_profile` in ami.toml or as `iam_instance_profile` in the template, or remove the entry",
        ));
    }
    let roles: BTreeSet<String> =
        profiles.into_iter().map(|profile| named.get(&profile).cloned().unwrap_or(profile)).collect();
    Ok(roles.into_iter().collect())
}
