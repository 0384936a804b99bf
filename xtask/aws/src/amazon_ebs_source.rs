//! What a builder is made of: the template's `amazon-ebs` source, read strictly.
//!
//! Pure: no call is made here. The keys are Packer's (developer.hashicorp.com/packer/integrations/hashicorp/amazon, "ebs"); one
//! that the native engine does not carry out is refused by name, because a build that skips it in silence makes another image
//! than the template says.

use std::collections::BTreeMap;

use serde::Deserialize;
use xtask::error::{Exit, Result};
use xtask::recipe::{Digest, Source};

/// The source block.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmazonEbsSource {
    /// Where it is built. The pipeline's home region wins; the template gets it as a variable.
    pub region: String,
    /// Instance type of the builder.
    pub instance_type: String,
    /// Name of the image.
    pub ami_name: String,
    /// Description of the image.
    #[serde(default)]
    pub ami_description: String,
    /// The base image's id; empty to look for it by `source_ami_filter`.
    #[serde(default)]
    pub source_ami: String,
    /// How the base image is found.
    #[serde(default)]
    pub source_ami_filter: Vec<AmiFilter>,
    /// Subnet of the builder; empty for the default VPC.
    #[serde(default)]
    pub subnet_id: String,
    /// Availability zone of the builder; empty for any.
    #[serde(default)]
    pub availability_zone: String,
    /// Security groups to use instead of a temporary one.
    #[serde(default)]
    pub security_group_ids: Vec<String>,
    /// Networks that the temporary security group lets in.
    #[serde(default)]
    pub temporary_security_group_source_cidrs: Vec<String>,
    /// True: only the caller's own address is let in.
    #[serde(default)]
    pub temporary_security_group_source_public_ip: bool,
    /// Type of the temporary key pair.
    #[serde(default = "ed25519")]
    pub temporary_key_pair_type: String,
    /// Instance profile, needed for SSM.
    #[serde(default)]
    pub iam_instance_profile: String,
    /// Give the builder a public address; left to the subnet when missing.
    #[serde(default)]
    pub associate_public_ip_address: Option<bool>,
    /// Login.
    pub ssh_username: String,
    /// Address to use instead of the instance's.
    #[serde(default)]
    pub ssh_host: String,
    /// TCP port.
    #[serde(default = "ssh_port")]
    pub ssh_port: u16,
    /// `public_ip`, `private_ip`; the public address when there is one if empty.
    #[serde(default)]
    pub ssh_interface: String,
    /// Packer removes its key from the image; our cleanup step does, and smoke looks.
    #[serde(default)]
    pub ssh_clear_authorized_keys: bool,
    /// `v2.0`: instances of the image ask for IMDSv2 by default.
    #[serde(default)]
    pub imds_support: String,
    /// What the instance does when it is powered off from inside.
    #[serde(default = "terminate")]
    pub shutdown_behavior: String,
    /// Instance metadata of the builder.
    #[serde(default)]
    pub metadata_options: Vec<MetadataOptions>,
    /// Disks.
    #[serde(default)]
    pub launch_block_device_mappings: Vec<BlockDevice>,
    /// Highest price for a spot instance; `auto` for the on-demand price, empty for no spot.
    #[serde(default)]
    pub spot_price: String,
    /// Tags of the image.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Tags of its snapshots.
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
    /// The newest of all that match.
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
    #[serde(default)]
    pub http_endpoint: String,
    /// `required` for IMDSv2.
    #[serde(default)]
    pub http_tokens: String,
    /// How many hops an answer may travel.
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
    /// Gone with the instance.
    pub delete_on_termination: Option<bool>,
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
    /// Reads the source.
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
                "the native engine carries out what it knows and skips nothing in silence: fix the source, or build with `--engine packer`",
            )
        })?;
        ebs_source.checked()
    }

    fn checked(self) -> Result<Self> {
        let refuse =
            |what: &str, hint: &str| Err(Exit::Usage.error(format_args!("source \"amazon-ebs\": {what}"), hint));
        if self.source_ami.is_empty() {
            match self.source_ami_filter.as_slice() {
                [] => return refuse("it names no base image", "set source_ami or source_ami_filter"),
                // By name alone, anybody's image can be taken (Datadog, "whoAMI", 2025).
                [filter] if filter.owners.is_empty() => {
                    return refuse(
                        "source_ami_filter has no owners",
                        "name the owner's account, 099720109477 for Canonical: anybody can publish an image with the right name",
                    );
                }
                [_] => {}
                _ => return refuse("it has several source_ami_filter blocks", "keep one"),
            }
        }
        if self.shutdown_behavior != "terminate" {
            return refuse("shutdown_behavior is not terminate", "an instance whose run died must end itself");
        }
        if self.temporary_security_group_source_cidrs.iter().any(|c| c == "0.0.0.0/0" || c == "::/0") {
            return refuse(
                "temporary_security_group_source_cidrs lets the whole world in",
                "name your own network, or set temporary_security_group_source_public_ip = true",
            );
        }
        if self.metadata_options.iter().any(|m| m.http_tokens != "required") {
            return refuse("metadata_options does not require tokens", "set http_tokens = \"required\" (IMDSv2)");
        }
        Ok(self)
    }

    /// Digest over what shapes the image beside base and steps. Names, tags and the builder's size do not.
    pub fn shape(&self, base: &str) -> Digest {
        let disks = self.launch_block_device_mappings.iter().map(|d| {
            format!("{} {:?} {:?} {:?} {:?}", d.device_name, d.volume_size, d.volume_type, d.encrypted, d.kms_key_id)
        });
        let disks = disks.collect::<Vec<_>>().join("\n");
        let parts = [("base", base), ("disks", disks.as_str()), ("imds", self.imds_support.as_str())];
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
        });
        recipe.unwrap().source
    }

    #[test]
    fn our_own_source_is_understood_whole() {
        let ebs_source = AmazonEbsSource::read(&ours(&[])).unwrap();
        assert_eq!(ebs_source.ami_name, "locus-agent-v1.0.0-20261121-1000");
        assert_eq!(ebs_source.source_ami_filter[0].owners, ["099720109477"]);
        let disk = &ebs_source.launch_block_device_mappings[0];
        assert_eq!(
            (disk.volume_size, disk.iops, disk.throughput, disk.encrypted),
            (Some(20), Some(3000), Some(250), Some(true))
        );
        assert_eq!(ebs_source.metadata_options[0].http_tokens, "required");
        assert!(ebs_source.temporary_security_group_source_public_ip);
    }

    #[test]
    fn what_the_native_engine_does_not_know_is_refused_by_name() {
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
        assert!(with("temporary_security_group_source_cidrs", open).contains("the whole world"));
        assert!(with("source_ami_filter", serde_json::json!([{ "most_recent": true }])).contains("no owners"));
        assert!(with("shutdown_behavior", serde_json::json!("stop")).contains("not terminate"));
        assert!(
            with("metadata_options", serde_json::json!([{ "http_tokens": "optional" }])).contains("require tokens")
        );
    }

    #[test]
    fn names_and_the_builders_size_do_not_shape_the_image_and_base_and_disk_do() {
        let shape = |vars: &[(&str, &str)], base: &str| AmazonEbsSource::read(&ours(vars)).unwrap().shape(base);
        let one = shape(&[], "ami-1");
        assert_eq!(
            one,
            shape(&[("instance_type", "m7i.large"), ("run_id", "run-2"), ("volume_iops", "6000")], "ami-1")
        );
        assert_ne!(one, shape(&[], "ami-2"));
    }
}
