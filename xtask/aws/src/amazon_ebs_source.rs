//! The template's `amazon-ebs` source, which describes the builder and the image.
//!
//! Pure: makes no calls. The keys are Packer's (developer.hashicorp.com/packer/integrations/hashicorp/amazon, "ebs"). A key that the native
//! engine does not implement is an error, because a build that ignores the key would make another image than the template describes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use xtask::error::{Exit, Result};
use xtask::ids::Region;
use xtask::recipe::{Digest, Source};

/// An `amazon-ebs` source block.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmazonEbsSource {
    /// Region of the build. It must be the home region of ami.toml, which the template gets as a variable.
    pub region: Region,
    /// Instance type of the builder.
    pub instance_type: String,
    /// Name of the image.
    pub ami_name: String,
    /// Description of the image.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub ami_description: Option<String>,
    /// Id of the base image; `None` to find it with `source_ami_filter`.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub source_ami: Option<String>,
    /// Filter that finds the base image.
    #[serde(default)]
    pub source_ami_filter: Vec<AmiFilter>,
    /// Subnet of the builder; `None` for the default VPC.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub subnet_id: Option<String>,
    /// Availability zone of the builder; `None` for any.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub availability_zone: Option<String>,
    /// Security groups to use instead of a temporary one.
    #[serde(default)]
    pub security_group_ids: Vec<String>,
    /// Networks that the temporary security group allows.
    #[serde(default)]
    pub temporary_security_group_source_cidrs: Vec<String>,
    /// Allow only the caller's own public address. Without it and without the networks above Packer would allow every address.
    #[serde(default)]
    pub temporary_security_group_source_public_ip: bool,
    /// Type of the temporary key pair: `ed25519`.
    #[serde(default = "ed25519")]
    pub temporary_key_pair_type: String,
    /// Instance profile, needed for SSM.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub iam_instance_profile: Option<String>,
    /// Assign a public address to the builder; the subnet's default when missing.
    #[serde(default)]
    pub associate_public_ip_address: Option<bool>,
    /// Login user.
    pub ssh_username: String,
    /// Address for SSH; `None` for the instance's own.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub ssh_host: Option<String>,
    /// TCP port of sshd.
    #[serde(default = "ssh_port")]
    pub ssh_port: u16,
    /// `public_ip` or `private_ip`; `None` for the public address if there is one.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub ssh_interface: Option<String>,
    /// Remove Packer's key from the image. Accepted and unused: the cleanup step removes the key, and a smoke check verifies it.
    #[serde(default)]
    pub ssh_clear_authorized_keys: bool,
    /// `v2.0`: instances of the image require IMDSv2 by default.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub imds_support: Option<String>,
    /// What the instance does when it is powered off from inside.
    #[serde(default = "terminate")]
    pub shutdown_behavior: String,
    /// Instance metadata of the builder.
    #[serde(default)]
    pub metadata_options: Vec<MetadataOptions>,
    /// Disks.
    #[serde(default)]
    pub launch_block_device_mappings: Vec<BlockDevice>,
    /// Highest price for a spot instance; `auto` for the on-demand price, `None` for no spot.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub spot_price: Option<String>,
    /// Tags of the image.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Tags of its snapshots; the same as those of the image.
    #[serde(default)]
    pub snapshot_tags: BTreeMap<String, String>,
    /// Tags of the builder.
    #[serde(default)]
    pub run_tags: BTreeMap<String, String>,
    /// Tags of the builder's volumes.
    #[serde(default)]
    pub run_volume_tags: BTreeMap<String, String>,
}

/// `source_ami_filter`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmiFilter {
    /// Account ids, `self`, `amazon`.
    #[serde(default)]
    pub owners: Vec<String>,
    /// Use the newest image that matches.
    #[serde(default)]
    pub most_recent: bool,
    /// DescribeImages filters.
    #[serde(default)]
    pub filters: BTreeMap<String, String>,
}

/// `metadata_options`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataOptions {
    /// `enabled` or `disabled`.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub http_endpoint: Option<String>,
    /// `required` for IMDSv2.
    #[serde(default, deserialize_with = "unset_if_empty")]
    pub http_tokens: Option<String>,
    /// Hop limit of responses.
    pub http_put_response_hop_limit: Option<i32>,
}

/// `launch_block_device_mappings`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockDevice {
    /// `/dev/sda1`.
    pub device_name: String,
    /// GiB.
    pub volume_size: Option<i32>,
    /// `gp3`.
    pub volume_type: Option<String>,
    /// IOPS of gp3, io1, io2.
    pub iops: Option<i32>,
    /// MiB/s of gp3.
    pub throughput: Option<i32>,
    /// Encrypted with the account's key, or `kms_key_id`.
    pub encrypted: Option<bool>,
    /// KMS key.
    pub kms_key_id: Option<String>,
    /// Delete the volume with the instance.
    pub delete_on_termination: Option<bool>,
}

/// A key whose value is "" is not set, as in Packer: templates use a variable with the default "" for an optional key.
fn unset_if_empty<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(value)?).filter(|text| !text.is_empty()))
}

fn ed25519() -> String {
    "ed25519".to_owned()
}

fn ssh_port() -> u16 {
    22
}

fn terminate() -> String {
    "terminate".to_owned()
}

impl AmazonEbsSource {
    /// The source as a typed value. An unknown key, or a value that the native engine refuses, is a usage error.
    pub fn read(source: &Source) -> Result<Self> {
        if source.kind != "amazon-ebs" {
            return Err(Exit::Usage.error(
                format_args!("the source {}.{} cannot be built on EC2", source.kind, source.name),
                "name an amazon-ebs source as `source_aws` of the image in ami.toml",
            ));
        }
        let settings = serde_json::to_value(&source.settings).unwrap_or_default();
        let ebs_source: Self = serde_json::from_value(settings).map_err(|e| {
            Exit::Usage.error(
                format_args!("source \"amazon-ebs\" \"{}\": {e}", source.name),
                "fix the source: a key that is not implemented is refused, with both engines",
            )
        })?;
        ebs_source.checked()
    }

    fn checked(self) -> Result<Self> {
        let refuse =
            |what: &str, hint: &str| Err(Exit::Usage.error(format_args!("source \"amazon-ebs\": {what}"), hint));
        if self.source_ami.is_none() {
            match self.source_ami_filter.as_slice() {
                [] => return refuse("no base image", "set source_ami or source_ami_filter"),
                // A filter by name alone matches images of any account (Datadog, "whoAMI", 2025).
                [filter] if filter.owners.is_empty() => {
                    return refuse(
                        "source_ami_filter has no owners",
                        "set owners, for example to Canonical's account 099720109477: any account can publish an image with the same name",
                    );
                }
                [_] => {}
                _ => return refuse("several source_ami_filter blocks", "keep one"),
            }
        }
        if self.shutdown_behavior != "terminate" {
            return refuse(
                "shutdown_behavior is not terminate",
                "set it to terminate: an instance whose run died powers itself off",
            );
        }
        if self.temporary_security_group_source_cidrs.iter().any(|c| c == "0.0.0.0/0" || c == "::/0") {
            return refuse(
                "temporary_security_group_source_cidrs allows every address",
                "name your own network, or set temporary_security_group_source_public_ip = true",
            );
        }
        let temporary_group = self.security_group_ids.is_empty();
        if temporary_group
            && self.temporary_security_group_source_cidrs.is_empty()
            && !self.temporary_security_group_source_public_ip
        {
            return refuse(
                "neither temporary_security_group_source_cidrs nor temporary_security_group_source_public_ip is set, so Packer would allow every address",
                "set temporary_security_group_source_public_ip = true, or name your own network",
            );
        }
        if self.temporary_key_pair_type != ed25519() {
            return refuse(
                "temporary_key_pair_type is not ed25519",
                "set it to ed25519: the native engine creates no other key pair",
            );
        }
        if !self.snapshot_tags.is_empty() && self.snapshot_tags != self.tags {
            return refuse("snapshot_tags differ from tags", "make them equal: the snapshots get the image's tags");
        }
        if self.metadata_options.iter().any(|m| m.http_tokens.as_deref() != Some("required")) {
            return refuse("metadata_options does not require tokens", "set http_tokens = \"required\" (IMDSv2)");
        }
        for (key, value, known) in [
            ("ssh_interface", &self.ssh_interface, ["public_ip", "private_ip"].as_slice()),
            ("imds_support", &self.imds_support, &["v2.0"]),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !known.contains(&value.as_str())) {
                let what = format!("{key} is `{value}`, which is not implemented");
                return refuse(&what, &format!("set it to {}, or remove it", known.join(" or ")));
            }
        }
        Ok(self)
    }

    /// Digest of the base image and of the settings that affect the image: disks and IMDS support. Names, tags and instance types do not.
    pub fn shape(&self, base: &str) -> Digest {
        let disks = self.launch_block_device_mappings.iter().map(|d| {
            format!("{} {:?} {:?} {:?} {:?}", d.device_name, d.volume_size, d.volume_type, d.encrypted, d.kms_key_id)
        });
        let disks = disks.collect::<Vec<_>>().join("\n");
        let parts =
            [("base", base), ("disks", disks.as_str()), ("imds", self.imds_support.as_deref().unwrap_or_default())];
        Digest::of_parts(parts.map(|(label, text)| (label, text.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use xtask::template::{Request, evaluate};

    /// The project's own source with some variables set.
    fn ours(vars: &[(&str, &str)]) -> Source {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let recipe = evaluate(&Request {
            path: root.join("packer"),
            source: "amazon-ebs.locus".to_owned(),
            settings: Vec::new(),
            vars: vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            var_files: Vec::new(),
            env: BTreeMap::new(),
            now: "2026-11-21T10:00:00Z".parse().unwrap(),
            root: root.clone(),
            foreign: None,
        });
        recipe.unwrap().source
    }

    #[test]
    fn every_key_of_the_projects_own_source_is_known() {
        let ebs_source = AmazonEbsSource::read(&ours(&[])).unwrap();
        assert_eq!(ebs_source.ami_name, "locus-agent-v1.0.0-20261121-1000");
        assert_eq!(ebs_source.source_ami_filter[0].owners, ["099720109477"]);
        let disk = &ebs_source.launch_block_device_mappings[0];
        assert_eq!(
            (disk.volume_size, disk.iops, disk.throughput, disk.encrypted),
            (Some(20), Some(3000), Some(250), Some(true))
        );
        assert_eq!(ebs_source.metadata_options[0].http_tokens.as_deref(), Some("required"));
        assert!(ebs_source.temporary_security_group_source_public_ip);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let mut source = ours(&[]);
        source.settings.insert("ami_regions".to_owned(), serde_json::json!(["eu-west-1"]));
        let error = AmazonEbsSource::read(&source).unwrap_err();
        assert!(error.to_string().contains("unknown field `ami_regions`"), "{error}");
    }

    #[test]
    fn an_open_or_anonymous_builder_is_refused() {
        let with = |key: &str, value: serde_json::Value| {
            let mut source = ours(&[]);
            source.settings.insert(key.to_owned(), value);
            AmazonEbsSource::read(&source).unwrap_err().to_string()
        };
        let open = serde_json::json!(["0.0.0.0/0"]);
        assert!(with("temporary_security_group_source_cidrs", open).contains("allows every address"));
        assert!(with("source_ami_filter", serde_json::json!([{ "most_recent": true }])).contains("no owners"));
        assert!(with("temporary_key_pair_type", serde_json::json!("rsa")).contains("not ed25519"));
        assert!(with("snapshot_tags", serde_json::json!({ "team": "a" })).contains("differ from tags"));
        let closed = with("temporary_security_group_source_public_ip", serde_json::json!(false));
        assert!(closed.contains("Packer would allow every address"), "{closed}");
        assert!(with("ssh_interface", serde_json::json!("session_manager")).contains("`session_manager`"));
        assert!(with("imds_support", serde_json::json!("v1.0")).contains("`v1.0`"));
        assert!(with("shutdown_behavior", serde_json::json!("stop")).contains("not terminate"));
        assert!(
            with("metadata_options", serde_json::json!([{ "http_tokens": "optional" }])).contains("require tokens")
        );
    }

    #[test]
    fn the_digest_depends_on_the_base_and_not_on_names_or_instance_types() {
        let shape = |vars: &[(&str, &str)], base: &str| AmazonEbsSource::read(&ours(vars)).unwrap().shape(base);
        let one = shape(&[], "ami-1");
        assert_eq!(
            one,
            shape(&[("instance_type", "m7i.large"), ("run_id", "run-2"), ("volume_iops", "6000")], "ami-1")
        );
        assert_ne!(one, shape(&[], "ami-2"));
    }
}
