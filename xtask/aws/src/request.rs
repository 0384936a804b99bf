//! The request for an instance, the same whether it is sent, or asked as a DryRun: a DryRun that lacks a tag, a subnet or a profile asks
//! for another permission than the call needs.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::describe_subnets::builders::DescribeSubnetsFluentBuilder;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    Filter, IamInstanceProfileSpecification, InstanceNetworkInterfaceSpecification, InstanceType, ResourceType,
    ShutdownBehavior, TagSpecification,
};
use aws_smithy_types::base64;

use crate::order::{self, Order};
use crate::record::{EXPIRES, OURS, PURPOSE, RUN, sdk_tags};

/// Whose a temporary resource is, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// The run.
    pub(crate) run: &'a str,
    /// What it is for: `builder`, `smoke-t3.micro`.
    pub(crate) purpose: &'a str,
    /// After this long it may be taken away.
    pub(crate) lifetime: Duration,
}

impl Owner<'_> {
    /// The tags of a resource that a call makes: its own, and the owner's. The policy demands `ManagedBy` of each.
    pub(crate) fn tags(&self, kind: ResourceType, own: &BTreeMap<String, String>) -> TagSpecification {
        let mut tags = own.clone();
        tags.retain(|_, value| !value.is_empty());
        let expires = jiff::Timestamp::now() + self.lifetime;
        tags.extend([
            (RUN.to_owned(), self.run.to_owned()),
            (PURPOSE.to_owned(), self.purpose.to_owned()),
            (EXPIRES.to_owned(), expires.to_string()),
            (OURS.0.to_owned(), OURS.1.to_owned()),
        ]);
        TagSpecification::builder().resource_type(kind).set_tags(Some(sdk_tags(&tags))).build()
    }
}

/// An instance of an order: of this type, in this subnet or in a default one, in these groups or in the VPC's default one. What belongs to
/// one attempt alone is left to the caller: client token and key pair.
pub(crate) fn instance(
    ec2: &Client,
    order: &Order,
    owner: Owner<'_>,
    kind: &str,
    subnet: Option<&str>,
    groups: &[String],
) -> RunInstancesFluentBuilder {
    let call = ec2
        .run_instances()
        .image_id(&order.image)
        .instance_type(InstanceType::from(kind))
        .min_count(1)
        .max_count(1)
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
        .metadata_options(order::metadata(order.metadata.as_ref()))
        .set_block_device_mappings(Some(order.disks.iter().map(order::disk).collect()))
        .user_data(base64::encode(order::user_data(owner.lifetime)))
        .tag_specifications(owner.tags(ResourceType::Instance, &order.tags))
        .tag_specifications(owner.tags(ResourceType::Volume, &order.volume_tags));
    let call = match subnet {
        Some(subnet) => call.network_interfaces(
            InstanceNetworkInterfaceSpecification::builder()
                .device_index(0)
                .subnet_id(subnet)
                .set_groups(Some(groups.to_vec()))
                .set_associate_public_ip_address(order.public)
                .delete_on_termination(true)
                .build(),
        ),
        None => call,
    };
    let call = match order::spot(&order.spot) {
        Some(spot) => call
            .instance_market_options(spot)
            .tag_specifications(owner.tags(ResourceType::SpotInstancesRequest, &order.tags)),
        None => call,
    };
    if order.profile.is_empty() {
        call
    } else {
        call.iam_instance_profile(IamInstanceProfileSpecification::builder().name(&order.profile).build())
    }
}

/// The subnets that an order may be carried out in: the one that it names, or the default ones of each zone.
pub(crate) fn subnets(ec2: &Client, order: &Order) -> DescribeSubnetsFluentBuilder {
    let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
    let call = ec2.describe_subnets();
    match (order.subnet.as_str(), order.zone.as_str()) {
        ("", "") => call.filters(filter("default-for-az", "true")),
        ("", zone) => call.filters(filter("default-for-az", "true")).filters(filter("availability-zone", zone)),
        (subnet, _) => call.subnet_ids(subnet),
    }
}
