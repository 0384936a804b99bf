//! The start of an instance: key pair, subnets, security group, RunInstances where there is capacity, address.

use std::collections::BTreeMap;
use std::time::Instant;

use aws_sdk_ec2::types::{
    Filter, InstanceStateName, IpPermission, IpRange, Reservation, ResourceType, Subnet, TagSpecification,
};
use xtask::error::{Exit, Result};
use xtask::process::Cmd;
use xtask::signals;

use super::Ec2Machine;
use crate::aws_error::{AwsError, Called as _, Kind};
use crate::order::Order;
use crate::record::{PURPOSE, RUN};
use crate::request::{self, Owner};
use crate::wait::{Poll, retried, retried_not_found, until};

impl Ec2Machine {
    fn owner(&self) -> Owner<'_> {
        Owner { run: self.host.run.id(), purpose: &self.purpose, lifetime: self.host.settings.lifetime }
    }

    fn tags(&self, kind: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
        self.owner().tags(kind, tags)
    }

    /// The name of all temporary resources: `agent-ami-run-20261121-100000-abcdef-builder`.
    fn name(&self, order: &Order) -> String {
        format!("agent-ami-{}-{}", self.host.run.id(), order.purpose)
    }

    pub(super) fn import_key(&mut self, order: &Order) -> Result<()> {
        let name = self.name(order);
        let public = fs_err::read(self.target.key.with_extension("pub"))?;
        let call = self.host.ec2.import_key_pair().key_name(&name).public_key_material(public.into());
        let call = call.tag_specifications(self.tags(ResourceType::KeyPair, &order.tags));
        self.key = Some(name);
        self.host.driver.finish(call.send()).called("ec2:ImportKeyPair")?;
        Ok(())
    }

    /// The subnets to try: the one that the order names, or the default subnet of each zone.
    pub(super) fn subnets(&self, order: &Order) -> Result<Vec<Subnet>> {
        let call = request::subnets(&self.host.ec2, order);
        let found =
            self.host.driver.wait(call.into_paginator().items().send().collect::<std::result::Result<Vec<_>, _>>())?;
        let mut subnets = found.called("ec2:DescribeSubnets")?;
        subnets.sort_by(|a, b| a.availability_zone().cmp(&b.availability_zone()));
        if subnets.is_empty() {
            return Err(Exit::Precondition.error(
                "the account has no default subnet in this region",
                "set `build_subnet_id` in ami.toml, or create a default VPC (`aws ec2 create-default-vpc`)",
            ));
        }
        Ok(subnets)
    }

    pub(super) fn make_group(&mut self, order: &Order, subnets: &[Subnet]) -> Result<String> {
        let cidrs = if order.cidrs.is_empty() { vec![own_address()?] } else { order.cidrs.clone() };
        let name = self.name(order);
        let vpc = subnets.first().and_then(Subnet::vpc_id).unwrap_or_default();
        let call = self.host.ec2.create_security_group().group_name(&name).vpc_id(vpc);
        let call = call.description(format!("temporary, for {}", self.host.run.id()));
        let call = call.tag_specifications(self.tags(ResourceType::SecurityGroup, &order.tags));
        let made = self.host.driver.finish(call.send()).called("ec2:CreateSecurityGroup")?;
        let id = made.group_id().unwrap_or_default().to_owned();
        self.group = Some(id.clone());
        let ranges = cidrs.iter().map(|c| IpRange::builder().cidr_ip(c).build()).collect();
        let port = i32::from(order.port);
        let rule = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port).set_ip_ranges(Some(ranges));
        let call = self.host.ec2.authorize_security_group_ingress().group_id(&id).ip_permissions(rule.build());
        self.host.driver.finish(retried(|| call.clone().send(), "ec2:AuthorizeSecurityGroupIngress"))?;
        Ok(id)
    }

    /// Starts the instance. Tries each type in each zone, and continues with the next only after a capacity error.
    pub(super) fn run(
        &mut self,
        order: &Order,
        subnets: &[Subnet],
        groups: &[String],
        on_progress: &dyn Fn(&str),
    ) -> Result<()> {
        let mut tried = Vec::new();
        for kind in &order.types {
            for subnet in subnets {
                signals::check()?;
                let zone = subnet.availability_zone().unwrap_or_default();
                on_progress(&format!("starting a {kind} in {zone}"));
                self.ordered = true;
                match self.run_in(order, kind, subnet, groups) {
                    Ok(id) => {
                        self.began = Some(Instant::now());
                        self.id = id;
                        return Ok(());
                    }
                    Err(aws_error) if aws_error.kind == Kind::Capacity => {
                        tried.push(format!("{kind} in {zone}: {}", aws_error.message));
                    }
                    Err(aws_error) => return Err(aws_error.into()),
                }
            }
        }
        Err(Exit::Failed.error(
            format_args!("no capacity for an instance\n{}", tried.join("\n")),
            "add `build_instance_types` in ami.toml, or try again later",
        ))
    }

    fn run_in(
        &self,
        order: &Order,
        kind: &str,
        subnet: &Subnet,
        groups: &[String],
    ) -> std::result::Result<String, AwsError> {
        let subnet_id = subnet.subnet_id().unwrap_or_default();
        // A repeated call with the same token returns the same instance (EC2 developer guide, "Ensuring idempotency").
        let token = xtask::recipe::Digest::of_parts([
            ("run", self.host.run.id().as_bytes()),
            ("purpose", order.purpose.as_bytes()),
            // The instance from before an interruption was terminated, so a resumed run starts a new one.
            ("resumed", &self.host.run.resumed().to_be_bytes()),
            ("type", kind.as_bytes()),
            ("subnet", subnet_id.as_bytes()),
        ]);
        let call = request::instance(&self.host.ec2, order, self.owner(), kind, Some(subnet_id), groups)
            .client_token(token.to_string())
            .set_key_name(self.key.clone());
        let done = self.host.driver.finish(retried_not_found(|| call.clone().send(), "ec2:RunInstances"))?;
        let id = done.instances().first().and_then(|i| i.instance_id()).unwrap_or_default();
        Ok(id.to_owned())
    }

    /// Waits until the instance runs and has an address.
    pub(super) fn find_address(&mut self, order: &Order, on_progress: &dyn Fn(&str)) -> Result<()> {
        let interface = order.interface.as_deref();
        let call = self.host.ec2.describe_instances().instance_ids(&self.id);
        let result = self.host.driver.wait(until(self.host.settings.patience.instance, on_progress, async || {
            let answer = match call.clone().send().await.called("ec2:DescribeInstances") {
                Err(aws_error) if aws_error.kind == Kind::NotFound => return Ok(Poll::Missing),
                answer => answer?,
            };
            let Some(instance) = answer.reservations().iter().flat_map(Reservation::instances).next() else {
                return Ok(Poll::Missing);
            };
            let why = || instance.state_reason().and_then(|r| r.message()).unwrap_or("no reason given").to_owned();
            Ok(match instance.state().and_then(|s| s.name()) {
                Some(InstanceStateName::Running) => {
                    let public =
                        instance.public_ip_address().filter(|a| !a.is_empty() && interface != Some("private_ip"));
                    let private = instance.private_ip_address().filter(|_| interface != Some("public_ip"));
                    match public.or(private) {
                        Some(address) => Poll::Ready(address.to_owned()),
                        None => Poll::Pending("running, no address yet".to_owned()),
                    }
                }
                Some(InstanceStateName::Pending) | None => Poll::Pending("pending".to_owned()),
                Some(state) => Poll::Final(format!("{}: {}", state.as_str(), why())),
            })
        }))?;
        let address = result.map_err(|wait_error| wait_error.into_error(&format!("instance {}", self.id)))?;
        let settings = &self.host.settings;
        let host = settings.ssh_host.clone().or_else(|| order.host.clone());
        self.target.host = host.unwrap_or(address);
        self.target.port = settings.ssh_port.unwrap_or(order.port);
        Ok(())
    }

    /// The instance of this run that was started for the same purpose, if there is one.
    pub(super) async fn lost(&self) -> Option<String> {
        let call = self.host.ec2.describe_instances().filters(filter(&format!("tag:{RUN}"), self.host.run.id()));
        let call = call.filters(filter(&format!("tag:{PURPOSE}"), &self.purpose));
        let answer = call.send().await.ok()?;
        let mut instances = answer.reservations().iter().flat_map(Reservation::instances);
        let living = instances.find(|i| i.state().and_then(|s| s.name()) != Some(&InstanceStateName::Terminated))?;
        living.instance_id().map(str::to_owned)
    }
}

/// The caller's public IPv4 address as a /32 network.
fn own_address() -> Result<String> {
    const WHO: &str = "https://checkip.amazonaws.com/";
    let hint = "set `ssh_cidrs` in ami.toml to your network";
    let text = Cmd::new("curl").args(["-fsS", "--max-time", "10", WHO]).hint(hint).read()?;
    match text.trim().parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => Ok(format!("{address}/32")),
        _ => {
            Err(Exit::Failed
                .error(format_args!("{WHO} returned `{}`, which is not an IPv4 address", text.trim()), hint))
        }
    }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}
