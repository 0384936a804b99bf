//! The RunInstances request, shared by the call and its DryRun: a DryRun that lacks a tag, a subnet or a profile would check other
//! permissions than the call requires.

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

/// The owner of temporary resources, and their lifetime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// Id of the run.
    pub(crate) run: &'a str,
    /// Purpose of the resources: `builder`, `smoke-t3.micro`.
    pub(crate) purpose: &'a str,
    /// Time after which they may be removed.
    pub(crate) lifetime: Duration,
}

impl Owner<'_> {
    /// The tags of a new resource: its own, and the owner's. The policy requires `ManagedBy` on each.
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

/// RunInstances for an order, with this type, in this subnet or a default one, in these groups or the VPC's default one. The caller adds
/// client token and key pair.
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
    let call = match order::spot(order.spot.as_deref()) {
        Some(spot) => call
            .instance_market_options(spot)
            .tag_specifications(owner.tags(ResourceType::SpotInstancesRequest, &order.tags)),
        None => call,
    };
    match &order.profile {
        Some(name) => call.iam_instance_profile(IamInstanceProfileSpecification::builder().name(name).build()),
        None => call,
    }
}

/// The subnets for an order: the one that it names, or the default subnet of each zone.
pub(crate) fn subnets(ec2: &Client, order: &Order) -> DescribeSubnetsFluentBuilder {
    let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
    let call = ec2.describe_subnets();
    match (&order.subnet, &order.zone) {
        (Some(subnet), _) => call.subnet_ids(subnet),
        (None, Some(zone)) => call.filters(filter("default-for-az", "true")).filters(filter("availability-zone", zone)),
        (None, None) => call.filters(filter("default-for-az", "true")),
    }
}
