//! Tests of the endpoint (`.ci/moto`): it has the semantics of AWS that the pipeline relies on and moto does not have.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::time::{Duration, SystemTime};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    Filter, ImageState, InstanceType, RequestLaunchTemplateData, ResourceType, Tag, TagSpecification,
};
use aws_sdk_ssm::types::ParameterType;
use xtask::process::Cmd;
use xtask_aws::aws_error::{AwsError, Called as _};
use xtask_aws::drive::Driver;

mod support;
use support::{Moto, clients, owner, provided, root};

const HOME: &str = "us-east-1";
const BASE: &str = "ami-0jammynew00000002";
/// The public key of a key pair: the base point of the curve.
const PUBLIC_KEY: &[u8] = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFhmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm";
/// Delays that are longer than the time between two calls on a busy machine.
const SLOW: [(&str, &str); 4] =
    [("CONSISTENCY_SECONDS", "3"), ("SSM_ASYNC_SECONDS", "3"), ("SSM_NAME_SECONDS", "3"), ("COOLDOWN_SECONDS", "3")];
/// Longer than every delay of [`SLOW`].
const LATER: Duration = Duration::from_secs(4);

/// An endpoint, and a driver for calls to it.
struct Place {
    moto: Moto,
    driver: Driver,
}

impl Place {
    fn new(env: &[(&str, &str)]) -> Self {
        Self { moto: Moto::start_with(env), driver: Driver::new().unwrap() }
    }

    /// EC2 client of the account's owner.
    fn ec2(&self) -> Client {
        owner(&self.moto.url).ec2(HOME)
    }

    fn run<T>(&self, call: impl Future<Output = T>) -> T {
        self.driver.finish(call)
    }

    /// Creates an image of an instance, as the owner.
    fn image(&self, name: &str) -> String {
        let ec2 = self.ec2();
        self.run(async {
            let made = builder(&ec2).send().await.unwrap();
            let id = made.instances()[0].instance_id().unwrap();
            ec2.create_image().instance_id(id).name(name).send().await.unwrap().image_id().unwrap().to_owned()
        })
    }
}

fn builder(ec2: &Client) -> RunInstancesFluentBuilder {
    ec2.run_instances().image_id(BASE).min_count(1).max_count(1)
}

fn code<T: std::fmt::Debug>(result: Result<T, AwsError>) -> String {
    result.unwrap_err().code.unwrap()
}

fn ours(kind: ResourceType) -> TagSpecification {
    let tag = Tag::builder().key("ManagedBy").value("agent-ami").build();
    TagSpecification::builder().resource_type(kind).tags(tag).build()
}

#[test]
fn the_evaluator_passes_its_own_tests() {
    let python = provided("moto").join("python");
    let tests = Cmd::new(python).args(["-m", "unittest", "discover", "-s"]).arg(root().join(".ci/moto"));
    let ended = tests.output().unwrap();
    assert!(ended.code == 0 && ended.stderr.contains("OK"), "{}", ended.stderr);
}

#[test]
fn a_call_and_its_dry_run_are_evaluated_before_anything_else() {
    let place = Place::new(&[]);
    let pipeline = clients(&place.moto.url, Vec::new());
    let (ec2, ssm) = (pipeline.ec2(HOME), pipeline.ssm(HOME));
    let image = place.image("of-the-owner");
    place.run(async {
        for dry in [true, false] {
            let error = builder(&ec2).dry_run(dry).send().await.called("ec2:RunInstances").unwrap_err();
            assert_eq!(error.code.as_deref(), Some("UnauthorizedOperation"));
            assert!(
                error
                    .message
                    .contains("ec2:RunInstances on resource: arn:aws:ec2:us-east-1:123456789012:instance/* because no"),
                "{error}"
            );
        }
        let call = builder(&ec2).tag_specifications(ours(ResourceType::Instance));
        let call = call.tag_specifications(ours(ResourceType::Volume));
        assert_eq!(code(call.clone().dry_run(true).send().await.called("ec2:RunInstances")), "DryRunOperation");
        call.send().await.unwrap();
        let dry = builder(&place.ec2()).dry_run(true).send().await;
        assert_eq!(code(dry.called("ec2:RunInstances")), "DryRunOperation", "no policy applies to the owner");

        let call = ec2.deregister_image().image_id(&image).send().await;
        assert_eq!(code(call.called("ec2:DeregisterImage")), "UnauthorizedOperation");
        let call = ssm.get_parameter().name("/prod/database/password").send().await;
        assert_eq!(code(call.called("ssm:GetParameter")), "AccessDeniedException");
        // An action that is not in the evaluator's tables is an error.
        let error = ec2.create_vpc().cidr_block("10.0.0.0/16").send().await.called("ec2:CreateVpc").unwrap_err();
        assert!(error.message.contains("has no IAM requests for ec2:CreateVpc"), "{error}");
        let identity = pipeline.sts().get_caller_identity().send().await.unwrap();
        assert_eq!(identity.account(), Some("123456789012"));
    });
    assert_eq!(place.run(place.ec2().describe_images().image_ids(&image).send()).unwrap().images().len(), 1);
}

#[test]
fn a_client_token_returns_the_same_id_after_the_resource_was_removed() {
    let place = Place::new(&[]);
    let (ec2, west) = (place.ec2(), owner(&place.moto.url).ec2("us-west-2"));
    let image = place.image("source");
    place.run(async {
        let call = builder(&ec2).client_token("one");
        let first = call.clone().send().await.unwrap().instances()[0].instance_id().unwrap().to_owned();
        ec2.terminate_instances().instance_ids(&first).send().await.unwrap();
        let again = call.clone().send().await.unwrap();
        assert_eq!(again.instances()[0].instance_id(), Some(first.as_str()));
        let other = call.clone().instance_type(InstanceType::T3Nano).send().await;
        assert_eq!(code(other.called("ec2:RunInstances")), "IdempotentParameterMismatch");
        let other = call.client_token("two").send().await.unwrap();
        assert_ne!(other.instances()[0].instance_id(), Some(first.as_str()));
        // A request for another Availability Zone is another request, also with the same token.
        let zone = |zone: &str| {
            let placement = aws_sdk_ec2::types::Placement::builder().availability_zone(zone).build();
            builder(&ec2).client_token("one").placement(placement)
        };
        let there = zone("us-east-1b").send().await.unwrap();
        assert_ne!(there.instances()[0].instance_id(), Some(first.as_str()));

        let call = west.copy_image().name("copy").source_region(HOME).source_image_id(&image).client_token("one");
        let copy = call.clone().send().await.unwrap().image_id().unwrap().to_owned();
        west.deregister_image().image_id(&copy).send().await.unwrap();
        assert_eq!(call.clone().send().await.unwrap().image_id(), Some(copy.as_str()));
        let other = call.clone().description("other").send().await;
        assert_eq!(code(other.called("ec2:CopyImage")), "IdempotentParameterMismatch");
        assert_ne!(call.client_token("two").send().await.unwrap().image_id(), Some(copy.as_str()));
    });
}

#[test]
fn a_parameter_with_an_image_id_is_written_after_the_response_if_it_is_valid() {
    let place = Place::new(&SLOW);
    let ssm = owner(&place.moto.url).ssm(HOME);
    place.run(async {
        let put = |value: &str| {
            let call = ssm.put_parameter().name("/agent-ami/staging").value(value).data_type("aws:ec2:image");
            call.r#type(ParameterType::String)
        };
        let value = async || {
            let got = ssm.get_parameter().name("/agent-ami/staging").send().await.called("ssm:GetParameter");
            got.map(|got| got.parameter().unwrap().value().unwrap().to_owned())
        };
        assert_eq!(put(BASE).send().await.unwrap().version(), 1);
        assert_eq!(code(value().await), "ParameterNotFound");
        tokio::time::sleep(LATER).await;
        assert_eq!(value().await.unwrap(), BASE);
        let old = "ami-0jammyold00000001";
        assert_eq!(put(old).overwrite(true).send().await.unwrap().version(), 2);
        assert_eq!(value().await.unwrap(), BASE);
        tokio::time::sleep(LATER).await;
        assert_eq!(value().await.unwrap(), old);
        // An id of no image in this region: the response is the same, and the parameter keeps the old value.
        put("ami-00000000000000000").overwrite(true).send().await.unwrap();
        tokio::time::sleep(LATER).await;
        assert_eq!(value().await.unwrap(), old);
    });
}

#[test]
fn the_name_of_a_deleted_parameter_cannot_be_used_again_at_once() {
    let place = Place::new(&SLOW);
    let ssm = owner(&place.moto.url).ssm(HOME);
    place.run(async {
        let put = || ssm.put_parameter().name("/agent-ami/claim").value("run-1").r#type(ParameterType::String);
        put().send().await.unwrap();
        ssm.delete_parameter().name("/agent-ami/claim").send().await.unwrap();
        let got = ssm.get_parameter().name("/agent-ami/claim").send().await;
        assert_eq!(code(got.called("ssm:GetParameter")), "ParameterNotFound");
        assert_eq!(code(put().send().await.called("ssm:PutParameter")), "ParameterAlreadyExists");
        let over = put().overwrite(true).send().await;
        assert_eq!(code(over.called("ssm:PutParameter")), "TooManyUpdates");
        put().name("/agent-ami/other").send().await.unwrap();
        tokio::time::sleep(LATER).await;
        put().send().await.unwrap();
    });
}

#[test]
fn images_and_tags_become_visible_after_a_delay() {
    let place = Place::new(&SLOW);
    let ec2 = place.ec2();
    let image = place.image("new");
    place.run(async {
        let by_id = || ec2.describe_images().image_ids(&image);
        let of = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
        let seen = async |filter: Filter| ec2.describe_images().filters(filter).send().await.unwrap().images().len();
        assert_eq!(code(by_id().send().await.called("ec2:DescribeImages")), "InvalidAMIID.NotFound");
        assert_eq!(seen(of("image-id", &image)).await, 0);
        tokio::time::sleep(LATER).await;
        assert_eq!(seen(of("image-id", &image)).await, 1);

        let tag = |value: &str| ec2.create_tags().resources(&image).tags(Tag::builder().key("a").value(value).build());
        tag("1").send().await.unwrap();
        assert_eq!(by_id().send().await.unwrap().images()[0].tags(), []);
        assert_eq!(seen(of("tag:a", "1")).await, 0);
        tokio::time::sleep(LATER).await;
        assert_eq!(seen(of("tag:a", "1")).await, 1);
        tag("2").send().await.unwrap();
        assert_eq!(by_id().send().await.unwrap().images()[0].tags()[0].value(), Some("1"), "the old value");
        tokio::time::sleep(LATER).await;
        assert_eq!(by_id().send().await.unwrap().images()[0].tags()[0].value(), Some("2"));
    });
}

#[test]
fn every_call_supports_dry_run_unless_it_is_disabled() {
    for (env, ignored) in [(&[][..], false), (&[("IGNORE_DRY_RUN", "1")][..], true)] {
        let place = Place::new(env);
        let ec2 = place.ec2();
        let image = place.image("of-the-owner");
        place.run(async {
            let key = ec2.import_key_pair().key_name("k").public_key_material(PUBLIC_KEY.to_vec().into());
            let answers = [
                builder(&ec2).dry_run(true).send().await.called("ec2:RunInstances").err(),
                key.dry_run(true).send().await.called("ec2:ImportKeyPair").err(),
                ec2.modify_image_attribute()
                    .image_id(&image)
                    .dry_run(true)
                    .send()
                    .await
                    .called("ec2:ModifyImageAttribute")
                    .err(),
                ec2.disable_image().image_id(&image).dry_run(true).send().await.called("ec2:DisableImage").err(),
                ec2.describe_images().dry_run(true).send().await.called("ec2:DescribeImages").err(),
            ];
            for error in answers {
                let code = error.as_ref().and_then(|error| error.code.as_deref());
                assert_eq!(code == Some("DryRunOperation"), !ignored, "{error:?}");
            }
            let keys = ec2.describe_key_pairs().send().await.unwrap().key_pairs().len();
            assert_eq!(keys, usize::from(ignored));
        });
    }
}

#[test]
fn an_image_can_be_deprecated_protected_disabled_and_deregistered() {
    let place = Place::new(&SLOW);
    let ec2 = place.ec2();
    let image = place.image("old");
    place.run(async {
        tokio::time::sleep(LATER).await;
        let described = async |disabled: bool| {
            let found = ec2.describe_images().image_ids(&image).include_disabled(disabled).send().await.unwrap();
            found.images().first().cloned()
        };
        let past = ec2.enable_image_deprecation().image_id(&image).deprecate_at(SystemTime::UNIX_EPOCH.into());
        assert_eq!(code(past.send().await.called("ec2:EnableImageDeprecation")), "InvalidParameterValue");
        let at = SystemTime::now() + Duration::from_secs(120);
        ec2.enable_image_deprecation().image_id(&image).deprecate_at(at.into()).send().await.unwrap();
        let found = described(false).await.unwrap();
        assert!(found.deprecation_time().unwrap().ends_with(":00.000Z"), "{found:?}");

        let protect = ec2.enable_image_deregistration_protection().image_id(&image).with_cooldown(true);
        protect.send().await.unwrap();
        assert_eq!(described(false).await.unwrap().deregistration_protection(), Some("enabled-with-cooldown"));
        let remove = ec2.deregister_image().image_id(&image).delete_associated_snapshots(true);
        let refused = remove.clone().send().await;
        assert_eq!(code(refused.called("ec2:DeregisterImage")), "OperationNotPermitted");
        let disable = ec2.disable_image_deregistration_protection().image_id(&image).send();
        disable.await.unwrap();
        let refused = remove.clone().send().await;
        assert_eq!(code(refused.called("ec2:DeregisterImage")), "OperationNotPermitted", "the cooldown");

        ec2.disable_image().image_id(&image).send().await.unwrap();
        assert!(described(false).await.is_none());
        assert_eq!(described(true).await.unwrap().state(), Some(&ImageState::from("disabled")));
        let call = ec2.run_instances().image_id(&image).min_count(1).max_count(1).send().await;
        assert_eq!(code(call.called("ec2:RunInstances")), "InvalidAMIID.Unavailable");
        tokio::time::sleep(LATER).await;
        let removed = remove.send().await.unwrap();
        let results = removed.delete_snapshot_results();
        assert_eq!(results[0].return_code().unwrap().as_str(), "success");
        let left = ec2.describe_snapshots().snapshot_ids(results[0].snapshot_id().unwrap()).send().await;
        assert_eq!(code(left.called("ec2:DescribeSnapshots")), "InvalidSnapshot.NotFound");
    });
}

#[test]
fn references_to_an_image_can_be_listed() {
    let place = Place::new(&[]);
    let clients = owner(&place.moto.url);
    let (ec2, ssm) = (clients.ec2(HOME), clients.ssm(HOME));
    let (pinned, latest) = (place.image("pinned"), place.image("latest"));
    place.run(async {
        let data = |image: &str| RequestLaunchTemplateData::builder().image_id(image).build();
        let call = ec2.create_launch_template().launch_template_name("agents").launch_template_data(data(&pinned));
        let id = call.send().await.unwrap().launch_template().unwrap().launch_template_id().unwrap().to_owned();
        for _ in 0..20 {
            let call = ec2.create_launch_template_version().launch_template_id(&id).launch_template_data(data(&latest));
            call.send().await.unwrap();
        }
        let call = ec2.modify_launch_template().launch_template_id(&id).default_version("21");
        call.send().await.unwrap();
        let versions = || ec2.describe_launch_template_versions();
        let of = |image: &str| Filter::builder().name("image-id").values(image).build();
        let all = versions().versions("1").send().await;
        assert_eq!(code(all.called("ec2:DescribeLaunchTemplateVersions")), "InvalidParameterValue");
        let found = async |image: &str| {
            let call = versions().versions("$Latest").versions("$Default").filters(of(image));
            call.send().await.unwrap().launch_template_versions().len()
        };
        assert_eq!((found(&latest).await, found(&pinned).await), (1, 0), "version 1 is neither latest nor default");
        let one = versions().launch_template_id(&id).filters(of(&pinned)).send().await.unwrap();
        assert_eq!(one.launch_template_versions()[0].version_number(), Some(1));
        let first = versions().launch_template_id(&id).max_results(5).send().await.unwrap();
        assert!(first.launch_template_versions().len() == 5 && first.next_token().is_some(), "pages");

        let put =
            ssm.put_parameter().name("/x").value(&latest).data_type("aws:ec2:image").r#type(ParameterType::String);
        put.send().await.unwrap();
        ec2.run_instances().image_id(&latest).min_count(1).max_count(1).send().await.unwrap();
        let call =
            ec2.describe_image_references().image_ids(&latest).image_ids(&pinned).include_all_resource_types(true);
        let answer = call.send().await.unwrap();
        let references: Vec<_> = answer
            .image_references()
            .iter()
            .map(|r| (r.image_id().unwrap(), r.resource_type().unwrap().as_str()))
            .collect();
        // DescribeImageReferences considers only the newest twenty versions of a template.
        let kinds = ["ec2:Instance", "ec2:LaunchTemplate", "ssm:Parameter"];
        assert_eq!(references, kinds.map(|kind| (latest.as_str(), kind)));
        let found = ec2.describe_images().image_ids(&latest).send().await.unwrap();
        assert!(found.images()[0].last_launched_time().is_some());
    });
}

#[test]
fn the_pipeline_may_not_delete_snapshots_without_the_tag() {
    let place = Place::new(&[]);
    let image = place.image("shared");
    place.run(async {
        let tag = Tag::builder().key("ManagedBy").value("agent-ami").build();
        place.ec2().create_tags().resources(&image).tags(tag).send().await.unwrap();
        let ec2 = clients(&place.moto.url, Vec::new()).ec2(HOME);
        let removed = ec2.deregister_image().image_id(&image).delete_associated_snapshots(true).send().await.unwrap();
        assert_eq!(removed.delete_snapshot_results()[0].return_code().unwrap().as_str(), "missing-permissions");
    });
}
