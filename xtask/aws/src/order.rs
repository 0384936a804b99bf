//! The parameters of an instance to start, as types of the SDK. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, InstanceInterruptionBehavior, InstanceMarketOptionsRequest,
    InstanceMetadataEndpointState, InstanceMetadataOptionsRequest, MarketType, SpotInstanceType, SpotMarketOptions,
    VolumeType,
};

use xtask::cloud::Image;

use crate::amazon_ebs_source::{AmazonEbsSource, BlockDevice, MetadataOptions};
use crate::settings::Settings;

/// The parameters of an instance to start.
#[derive(Clone, Debug)]
pub struct Order {
    /// `builder`, `smoke-t3.micro`.
    pub purpose: String,
    /// Id of the AMI.
    pub image: String,
    /// Instance types, tried in order.
    pub types: Vec<String>,
    /// Subnet; `None` for any default one.
    pub subnet: Option<String>,
    /// Availability zone; `None` for any.
    pub zone: Option<String>,
    /// Security groups; empty for a temporary one.
    pub groups: Vec<String>,
    /// Networks that a temporary group allows; empty for the caller's own address.
    pub cidrs: Vec<String>,
    /// Instance profile.
    pub profile: Option<String>,
    /// Assign a public address; `None` for the subnet's default.
    pub public: Option<bool>,
    pub metadata: Option<MetadataOptions>,
    pub disks: Vec<BlockDevice>,
    /// Highest spot price or `auto`; `None` for on-demand.
    pub spot: Option<String>,
    /// Login user.
    pub user: String,
    /// Address for SSH; `None` for the instance's own.
    pub host: Option<String>,
    /// TCP port of sshd.
    pub port: u16,
    /// `public_ip` or `private_ip`; `None` for the public address if there is one.
    pub interface: Option<String>,
    /// Tags of the instance.
    pub tags: BTreeMap<String, String>,
    /// Tags of its volumes.
    pub volume_tags: BTreeMap<String, String>,
}

impl Order {
    /// A builder from this image, by the template's source and ami.toml.
    pub(crate) fn builder(ebs_source: &AmazonEbsSource, image: &str, settings: &Settings) -> Self {
        let mut types = vec![ebs_source.instance_type.clone()];
        types.extend(settings.more_builder_types.iter().filter(|t| **t != ebs_source.instance_type).cloned());
        Self {
            purpose: "builder".to_owned(),
            image: image.to_owned(),
            types,
            subnet: ebs_source.subnet_id.clone(),
            zone: ebs_source.availability_zone.clone(),
            groups: ebs_source.security_group_ids.clone(),
            cidrs: match ebs_source.temporary_security_group_source_cidrs.as_slice() {
                [] => settings.ssh_cidrs.clone(),
                named => named.to_vec(),
            },
            profile: ebs_source.iam_instance_profile.clone().or_else(|| settings.ssm_profile.clone()),
            public: ebs_source.associate_public_ip_address,
            metadata: ebs_source.metadata_options.first().cloned(),
            disks: ebs_source.launch_block_device_mappings.clone(),
            spot: ebs_source.spot_price.clone(),
            user: ebs_source.ssh_username.clone(),
            host: ebs_source.ssh_host.clone(),
            port: ebs_source.ssh_port,
            interface: ebs_source.ssh_interface.clone(),
            tags: ebs_source.run_tags.clone(),
            volume_tags: ebs_source.run_volume_tags.clone(),
        }
    }

    /// A smoke instance, with EC2's defaults.
    pub(crate) fn smoke(image: &Image, instance_type: &str, user: &str, settings: &Settings) -> Self {
        Self {
            purpose: format!("smoke-{instance_type}"),
            image: image.id.to_string(),
            types: vec![instance_type.to_owned()],
            subnet: settings.subnet.clone(),
            zone: None,
            groups: Vec::new(),
            cidrs: settings.ssh_cidrs.clone(),
            profile: settings.ssm_profile.clone(),
            public: None,
            metadata: None,
            disks: Vec::new(),
            spot: None,
            user: user.to_owned(),
            host: None,
            port: 22,
            interface: None,
            tags: [("Name".to_owned(), format!("smoke of {}", image.name))].into(),
            volume_tags: [].into(),
        }
    }
}

pub(crate) fn disk(disk: &BlockDevice) -> BlockDeviceMapping {
    let ebs = EbsBlockDevice::builder()
        .set_volume_size(disk.volume_size)
        .set_volume_type(disk.volume_type.as_deref().map(VolumeType::from))
        .set_iops(disk.iops)
        .set_throughput(disk.throughput)
        .set_encrypted(disk.encrypted)
        .set_kms_key_id(disk.kms_key_id.clone())
        .delete_on_termination(disk.delete_on_termination.unwrap_or(true));
    BlockDeviceMapping::builder().device_name(&disk.device_name).ebs(ebs.build()).build()
}

/// Always requires IMDSv2; endpoint and hop limit are the template's.
pub(crate) fn metadata(options: Option<&MetadataOptions>) -> InstanceMetadataOptionsRequest {
    let endpoint = options.and_then(|o| o.http_endpoint.as_deref());
    InstanceMetadataOptionsRequest::builder()
        .http_tokens(HttpTokensState::Required)
        .http_endpoint(if endpoint == Some("disabled") {
            InstanceMetadataEndpointState::Disabled
        } else {
            InstanceMetadataEndpointState::Enabled
        })
        .http_put_response_hop_limit(options.and_then(|o| o.http_put_response_hop_limit).unwrap_or(1))
        .build()
}

pub(crate) fn spot(price: Option<&str>) -> Option<InstanceMarketOptionsRequest> {
    let price = Some(price?).filter(|price| *price != "auto").map(str::to_owned);
    let options = SpotMarketOptions::builder()
        .spot_instance_type(SpotInstanceType::OneTime)
        .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate)
        .set_max_price(price);
    Some(InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).spot_options(options.build()).build())
}

/// User data that powers the instance off after its lifetime. This terminates the instance, also if its run is dead. The time starts again
/// at every boot.
///
/// A sleeping process instead of a systemd timer: `bootcmd` runs before sysinit.target, and a request to systemd to start a unit would wait
/// for the boot, which waits for `bootcmd`.
pub(crate) fn user_data(lifetime: Duration) -> String {
    let end = format!(
        "setsid sh -c 'sleep {}; systemctl poweroff' agent-ami-deadline </dev/null >/dev/null 2>&1 &",
        lifetime.as_secs()
    );
    format!("#cloud-config\n{}\n", serde_json::json!({ "bootcmd": [["sh", "-c", end]] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_is_yaml_that_powers_the_instance_off() {
        let text = user_data(Duration::from_secs(7200));
        let config: serde_json::Value = serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap();
        let end = config["bootcmd"][0][2].as_str().unwrap();
        assert!(end.contains("sleep 7200; systemctl poweroff") && end.ends_with('&'), "{end}");
        assert!(!end.contains("systemd-run"), "systemd-run would wait for the boot");
    }
}
