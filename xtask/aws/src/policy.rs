//! IAM policies for the jobs of a role: the actions that the pipeline calls, and their resources.
//!
//! Pure. Resources and condition keys follow the Service Authorization Reference ("Actions, resources, and condition keys" for Amazon EC2,
//! AWS Systems Manager, AWS KMS and IAM). Every policy follows four rules:
//!
//! - a call that creates a resource must tag it `ManagedBy=agent-ami`;
//! - only resources with that tag are changed, removed or tagged, and no call can add the tag to an existing resource;
//! - only the roles of instance profiles in ami.toml or a template are passed, and only to EC2;
//! - parameter values are read and written below the channels' prefixes, and read below `/aws/service`.
//!
//! Tests compare the policies with the calls that the pipeline makes.

use serde_json::{Map, Value, json};
use xtask::cli::Job;
use xtask::partition::Partition;

use crate::record::OURS;

mod scope;

pub use scope::{Key, Scope};

/// Read actions of all jobs and of Packer. EC2 and Auto Scaling have no resource-level permissions for them. None returns parameter values.
const READ: &[&str] = &[
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeLaunchConfigurations",
    "ec2:DescribeImageAttribute",
    "ec2:DescribeImageReferences",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeKeyPairs",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeRegions",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots",
    "ec2:DescribeSubnets",
    "ec2:DescribeTags",
    "ec2:DescribeVolumes",
    "ec2:DescribeVpcs",
    "ec2:ListImagesInRecycleBin",
    "kms:DescribeKey",
    "servicequotas:GetServiceQuota",
    "ssm:DescribeInstanceInformation",
    "ssm:DescribeParameters",
    "sts:GetCallerIdentity",
];

/// Actions that `DescribeImageReferences` calls for its caller (managed policy `AmazonEC2ImageReferencesAccessPolicy`); allowed only for
/// that call.
const READ_REFERENCES: &[&str] = &[
    "imagebuilder:GetContainerRecipe",
    "imagebuilder:ListContainerRecipes",
    "imagebuilder:ListImageRecipes",
    "ssm:GetParameters",
];

/// Actions that create resources.
const MAKE: &[&str] =
    &["ec2:CreateImage", "ec2:CreateKeyPair", "ec2:CreateSecurityGroup", "ec2:ImportKeyPair", "ec2:RunInstances"];
/// Resource types that they create; each action supports some of them.
const MADE: &[&str] =
    &["image", "instance", "key-pair", "security-group", "snapshot", "spot-instances-request", "volume"];

/// Actions that use existing resources. For CopyImage this includes the new image: EC2 copies the source's tags to it, so a condition on
/// request tags would deny the call.
const USE: &[&str] = &["ec2:CopyImage", "ec2:RunInstances"];
/// Resource types that they use.
const USED: &[&str] = &["image", "key-pair", "network-interface", "security-group", "snapshot", "subnet"];

/// Actions that may tag the resources that they create.
const TAGGING: &[&str] =
    &["CopyImage", "CreateImage", "CreateKeyPair", "CreateSecurityGroup", "ImportKeyPair", "RunInstances"];
/// Resource types that they create.
const TAGGED: &[&str] = &[
    "image",
    "instance",
    "key-pair",
    "network-interface",
    "security-group",
    "snapshot",
    "spot-instances-request",
    "volume",
];

/// Actions on the resources of a build.
const CHANGE: &[&str] = &[
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:GetConsoleOutput",
    "ec2:ModifyImageAttribute",
    "ec2:ModifyInstanceAttribute",
    "ec2:StopInstances",
];
/// Actions that remove resources.
const REMOVE: &[&str] = &[
    "ec2:DeleteKeyPair",
    "ec2:DeleteSecurityGroup",
    "ec2:DeleteSnapshot",
    "ec2:DeleteVolume",
    "ec2:DeregisterImage",
    "ec2:TerminateInstances",
];
/// Actions that retire an image before its removal.
const RETIRE: &[&str] = &["ec2:DisableImage", "ec2:EnableImageDeprecation"];
/// Actions that enable and disable the deregistration protection of a channel's image.
const PROTECT: &[&str] = &["ec2:DisableImageDeregistrationProtection", "ec2:EnableImageDeregistrationProtection"];

/// Actions that EBS calls on a key for its caller, in addition to `kms:DescribeKey`, which is in [`READ`] (EBS user guide, "Requirements
/// for Amazon EBS encryption").
const USE_KEYS: &[&str] =
    &["kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"];

/// A statement of a policy, with the effect `Allow`.
#[derive(Clone, Debug)]
struct Statement {
    sid: String,
    /// The jobs that need it.
    jobs: &'static [Job],
    actions: Vec<&'static str>,
    resources: Vec<String>,
    condition: Option<Value>,
}

impl Statement {
    fn new(sid: impl Into<String>, jobs: &'static [Job], actions: &[&'static str], resources: Vec<String>) -> Self {
        Self { sid: sid.into(), jobs, actions: actions.to_vec(), resources, condition: None }
    }

    fn when(mut self, condition: Value) -> Self {
        self.condition = Some(condition);
        self
    }

    fn document(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("Sid".to_owned(), json!(self.sid));
        fields.insert("Effect".to_owned(), json!("Allow"));
        let actions: Vec<String> = self.actions.iter().map(|action| (*action).to_owned()).collect();
        fields.insert("Action".to_owned(), one_or_more(&actions));
        fields.insert("Resource".to_owned(), one_or_more(&self.resources));
        fields.extend(self.condition.clone().map(|condition| ("Condition".to_owned(), condition)));
        Value::Object(fields)
    }
}

/// A list, or a single string in place of a list of one: a managed policy is limited to 6,144 characters.
fn one_or_more(texts: &[String]) -> Value {
    match texts {
        [one] => json!(one),
        more => json!(more),
    }
}

const EVERY: &[Job] = &[Job::Plan, Job::Build, Job::Promote, Job::Gc, Job::Fleet];
const BUILD: &[Job] = &[Job::Build];
const GC: &[Job] = &[Job::Gc];
const COMMANDS: &[Job] = &[Job::Build, Job::Fleet];
const CHANNELS: &[Job] = &[Job::Promote, Job::Gc];
const IMAGES: &[Job] = &[Job::Build, Job::Promote, Job::Gc];

/// The policy document of a role with these jobs.
pub fn policy(jobs: &[Job], scope: &Scope) -> Value {
    let statements: Vec<Value> = statements(scope)
        .iter()
        .filter(|statement| jobs.contains(&Job::All) || statement.jobs.iter().any(|job| jobs.contains(job)))
        .map(Statement::document)
        .collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// True if the policy of a role with all jobs allows the action on some resource.
pub fn allows(action: &str) -> bool {
    statements(&Scope::full(Partition::Commercial)).iter().any(|statement| statement.actions.contains(&action))
}

fn statements(scope: &Scope) -> Vec<Statement> {
    let mut statements = reading(scope);
    statements.extend(making(scope));
    statements.extend(changing(scope));
    statements.extend(commanding(scope));
    statements.extend(pointing(scope));
    statements.extend(keys(scope));
    statements
}

fn anything() -> Vec<String> {
    vec!["*".to_owned()]
}

/// ARNs of EC2 resources of these types, in any region and account: the ARNs of other owners' images and snapshots have no account, or
/// another one.
fn of_kinds(scope: &Scope, kinds: &[&str]) -> Vec<String> {
    kinds.iter().map(|kind| format!("arn:{}:ec2:*:*:{kind}/*", scope.partition)).collect()
}

fn is_ours() -> Value {
    json!({ "StringEquals": { format!("aws:ResourceTag/{}", OURS.0): OURS.1 } })
}

fn becomes_ours() -> Value {
    json!({ "StringEquals": { format!("aws:RequestTag/{}", OURS.0): OURS.1 } })
}

fn reading(scope: &Scope) -> Vec<Statement> {
    let parameters = scope.prefixes.iter().map(String::as_str).chain(["aws/service"]);
    let parameters = parameters.map(|prefix| parameter(scope, prefix)).collect();
    vec![
        Statement::new("Read", EVERY, READ, anything()),
        Statement::new("ReadReferences", EVERY, READ_REFERENCES, anything())
            .when(json!({ "ForAnyValue:StringEquals": { "aws:CalledVia": ["ec2-images.amazonaws.com"] } })),
        Statement::new("ReadParameters", EVERY, &["ssm:GetParameter", "ssm:GetParameters"], parameters),
    ]
}

/// The parameters below a prefix. A public parameter's ARN has no account, which `*` also matches.
fn parameter(scope: &Scope, prefix: &str) -> String {
    format!("arn:{}:ssm:*:*:parameter/{}/*", scope.partition, prefix.trim_matches('/'))
}

fn making(scope: &Scope) -> Vec<Statement> {
    let mut statements = vec![
        Statement::new("MakeTagged", BUILD, MAKE, of_kinds(scope, MADE)).when(becomes_ours()),
        Statement::new("UseImages", BUILD, USE, of_kinds(scope, USED)),
        Statement::new("UseNetworks", BUILD, &["ec2:CreateSecurityGroup"], of_kinds(scope, &["vpc"])),
    ];
    // CreateImage is also authorized on the instance. Without the condition it could copy the disks of any instance.
    statements.push(
        Statement::new("ImageOfOurs", BUILD, &["ec2:CreateImage"], of_kinds(scope, &["instance"])).when(is_ours()),
    );
    statements.push(
        Statement::new("TagWhatIsMade", BUILD, &["ec2:CreateTags"], of_kinds(scope, TAGGED))
            .when(json!({ "StringEquals": { "ec2:CreateAction": TAGGING } })),
    );
    if !scope.roles.is_empty() {
        // In China, the service principal of EC2 may have the partition's DNS suffix.
        let services: &[&str] = match scope.partition {
            Partition::China => &["ec2.amazonaws.com", "ec2.amazonaws.com.cn"],
            Partition::Commercial | Partition::GovCloud | Partition::EuropeanSovereign => &["ec2.amazonaws.com"],
        };
        statements.push(
            Statement::new("PassRole", BUILD, &["iam:PassRole"], scope.role_arns())
                .when(json!({ "StringEquals": { "iam:PassedToService": services } })),
        );
    }
    statements
}

fn changing(scope: &Scope) -> Vec<Statement> {
    let changed = |sid: &str, jobs: &'static [Job], actions: &[&'static str]| {
        Statement::new(sid, jobs, actions, anything()).when(is_ours())
    };
    vec![
        changed("ChangeOurs", BUILD, CHANGE),
        changed("RemoveOurs", &[Job::Build, Job::Gc], REMOVE),
        changed("RetireOurs", GC, RETIRE),
        changed("ProtectOurs", CHANNELS, PROTECT),
        Statement::new("TagOurs", IMAGES, &["ec2:CreateTags"], of_kinds(scope, &["image", "snapshot"])).when(json!({
            "StringEquals": { format!("aws:ResourceTag/{}", OURS.0): OURS.1 },
            "StringEqualsIfExists": { format!("aws:RequestTag/{}", OURS.0): OURS.1 },
        })),
    ]
}

/// `--via ssm` runs one document on the instances of a run, `ssm keepalive` on nodes that an administrator has tagged
/// `ManagedBy=agent-ami`.
fn commanding(scope: &Scope) -> Vec<Statement> {
    let partition = scope.partition;
    let nodes =
        vec![format!("arn:{partition}:ec2:*:*:instance/*"), format!("arn:{partition}:ssm:*:*:managed-instance/*")];
    let document = vec![format!("arn:{partition}:ssm:*::document/AWS-RunShellScript")];
    vec![
        Statement::new("CommandsAsShell", COMMANDS, &["ssm:SendCommand"], document),
        Statement::new("CommandsOnOurs", COMMANDS, &["ssm:SendCommand"], nodes)
            .when(json!({ "StringEquals": { format!("ssm:resourceTag/{}", OURS.0): OURS.1 } })),
        Statement::new("ReadCommands", COMMANDS, &["ssm:GetCommandInvocation"], anything()),
    ]
}

fn pointing(scope: &Scope) -> Option<Statement> {
    if scope.prefixes.is_empty() {
        return None;
    }
    let parameters = scope.prefixes.iter().map(|prefix| parameter(scope, prefix)).collect();
    Some(Statement::new("PointChannels", CHANNELS, &["ssm:DeleteParameter", "ssm:PutParameter"], parameters))
}

/// EC2 uses the keys for the role, which itself only describes them (KMS developer guide, "kms:ViaService" and
/// "kms:GrantIsForAWSResource").
fn keys(scope: &Scope) -> Vec<Statement> {
    let via = json!({ "kms:ViaService": format!("ec2.*.{}", scope.partition.dns_suffix()) });
    let mut statements = Vec::new();
    let (arns, aliases) = scope.keys();
    let by_alias = aliases.iter().map(|(_, alias)| alias).collect::<Vec<_>>();
    let of_aliases = aliases.iter().map(|(arn, _)| arn.clone()).collect::<Vec<_>>();
    for (suffix, resources, named) in [("", arns, None), ("ByAlias", of_aliases, Some(by_alias))] {
        if resources.is_empty() {
            continue;
        }
        let condition = |grant: bool| {
            let mut condition = json!({ "StringLike": via });
            if let Some(aliases) = &named {
                condition["ForAnyValue:StringEquals"] = json!({ "kms:ResourceAliases": aliases });
            }
            if grant {
                condition["Bool"] = json!({ "kms:GrantIsForAWSResource": "true" });
            }
            condition
        };
        statements.push(
            Statement::new(format!("UseKeys{suffix}"), BUILD, USE_KEYS, resources.clone()).when(condition(false)),
        );
        statements.push(
            Statement::new(format!("GrantKeys{suffix}"), BUILD, &["kms:CreateGrant"], resources).when(condition(true)),
        );
    }
    statements
}

#[cfg(test)]
mod tests;
