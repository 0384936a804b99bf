//! Checks that DryRun does not make: quotas of the account, and the KMS keys of disks. Each returns the problem as text, or `None`.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{Filter, InstanceLifecycleType, InstanceType, Reservation, VCpuInfo};
use aws_sdk_kms::types::{KeyMetadata, KeyState, KeyUsageType};
use aws_sdk_servicequotas::types::ServiceQuota;

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::clients::Clients;

use xtask::ids::Region;

/// A quota of EC2: its code and its name in Service Quotas.
#[derive(Clone, Copy)]
struct Quota {
    code: &'static str,
    name: &'static str,
}

/// Images of a region: available, pending and disabled ones (EC2 user guide, "AMI quotas").
const AMIS: Quota = Quota { code: "L-B665C33B", name: "AMIs" };
/// Virtual processors of on-demand instances (EC2 user guide, "On-Demand Instance limits").
const VCPUS: Quota =
    Quota { code: "L-1216C47A", name: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances" };

/// The problem if the quota of a region does not allow another image.
pub(crate) async fn image_quota(clients: &Clients, region: &Region) -> Result<Option<String>, AwsError> {
    let Some(most) = quota(clients, region, AMIS).await? else { return Ok(None) };
    let call = clients.ec2(region).describe_images().owners("self").include_disabled(true).max_results(1000);
    let images: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    let there = images.called("ec2:DescribeImages")?.len();
    Ok(used_up(AMIS, most, there as f64, 1.0))
}

/// The problem if the quota of a region does not allow another on-demand instance of a type. Only standard families are checked; others
/// have other quotas.
pub(crate) async fn vcpu_quota(clients: &Clients, region: &Region, kind: &str) -> Result<Option<String>, AwsError> {
    if !is_standard(kind) {
        return Ok(None);
    }
    let Some(most) = quota(clients, region, VCPUS).await? else { return Ok(None) };
    let ec2 = clients.ec2(region);
    let living = Filter::builder().name("instance-state-name").values("pending").values("running").build();
    let pages: Result<Vec<_>, _> =
        ec2.describe_instances().filters(living).into_paginator().items().send().collect().await;
    let pages = pages.called("ec2:DescribeInstances")?;
    let running: Vec<&str> = pages
        .iter()
        .flat_map(Reservation::instances)
        .filter(|i| i.instance_lifecycle() != Some(&InstanceLifecycleType::Spot))
        .filter_map(|i| i.instance_type().map(InstanceType::as_str))
        .filter(|kind| is_standard(kind))
        .collect();
    let kinds: BTreeSet<&str> = running.iter().copied().chain([kind]).collect();
    let call = ec2.describe_instance_types();
    let call = call.set_instance_types(Some(kinds.into_iter().map(InstanceType::from).collect()));
    let types: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    let types = types.called("ec2:DescribeInstanceTypes")?;
    let of_type = types.iter().filter_map(|t| {
        let count = t.v_cpu_info().and_then(VCpuInfo::default_v_cpus)?;
        Some((t.instance_type().map(InstanceType::as_str)?, f64::from(count)))
    });
    let of_type: BTreeMap<&str, f64> = of_type.collect();
    let count = |kind: &str| of_type.get(kind).copied().unwrap_or(0.0);
    Ok(used_up(VCPUS, most, running.iter().fold(0.0, |sum, kind| sum + count(kind)), count(kind)))
}

/// The problem if a key cannot encrypt disks. EC2 would report it only when the image is created or copied.
pub(crate) async fn kms_key(clients: &Clients, region: &Region, key: &str) -> Result<Option<String>, AwsError> {
    match clients.kms(region).describe_key().key_id(key).send().await.called("kms:DescribeKey") {
        Err(aws_error) if aws_error.kind == Kind::NotFound => {
            Ok(Some(format!("KMS key {key} does not exist: correct `kms_key_ids` in ami.toml, or the template")))
        }
        Err(aws_error) => Err(aws_error),
        Ok(answer) => Ok(answer.key_metadata().and_then(|known| unusable(key, known))),
    }
}

/// EBS requires enabled keys for symmetric encryption (EBS user guide, "Requirements for Amazon EBS encryption").
fn unusable(key: &str, known: &KeyMetadata) -> Option<String> {
    if known.key_usage() != Some(&KeyUsageType::EncryptDecrypt) {
        return Some(format!("KMS key {key} is not for encryption: use another one"));
    }
    match known.key_state() {
        None | Some(KeyState::Enabled) => None,
        Some(state) => Some(format!("KMS key {key} is {}: enable it, or use another one", state.as_str())),
    }
}

/// The value of a quota in a region; `None` if Service Quotas does not have it.
async fn quota(clients: &Clients, region: &Region, quota: Quota) -> Result<Option<f64>, AwsError> {
    let call = clients.service_quotas(region).get_service_quota().service_code("ec2").quota_code(quota.code);
    match call.send().await.called("servicequotas:GetServiceQuota") {
        Err(aws_error) if aws_error.kind == Kind::NotFound => Ok(None),
        answer => Ok(answer?.quota().and_then(ServiceQuota::value)),
    }
}

fn used_up(quota: Quota, most: f64, used: f64, needed: f64) -> Option<String> {
    (used + needed > most).then(|| {
        format!(
            "the quota \"{}\" is {most}, {used} are used, and {needed} more are needed: remove resources, or request a higher quota in Service \
             Quotas ({})",
            quota.name, quota.code
        )
    })
}

/// True for a type of a standard family, by its first letter. Some other families begin with the same letter (`inf`, `trn`, `dl`, `hpc`,
/// `mac`).
fn is_standard(kind: &str) -> bool {
    let family: String = kind.chars().take_while(char::is_ascii_alphabetic).collect();
    let others = ["inf", "trn", "dl", "hpc", "mac"];
    kind.chars().next().is_some_and(|first| "acdhimrtz".contains(first))
        && !others.iter().any(|o| family.starts_with(o))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_families_share_a_quota() {
        for kind in ["t3.medium", "m6i.large", "c7g.xlarge", "r5.large", "a1.large", "i3.large", "im4gn.large"] {
            assert!(is_standard(kind), "{kind}");
        }
        for kind in
            ["g5.xlarge", "p4d.24xlarge", "inf2.xlarge", "trn1.2xlarge", "dl1.24xlarge", "x2gd.large", "mac2.metal"]
        {
            assert!(!is_standard(kind), "{kind}");
        }
    }
}
