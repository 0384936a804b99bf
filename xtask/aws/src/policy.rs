//! IAM policies, one for each job of a role: what the pipeline calls, and on what.
//!
//! Pure. Resources and condition keys follow the Service Authorization Reference ("Actions, resources, and condition keys" for Amazon EC2,
//! AWS Systems Manager, AWS KMS and IAM). Four rules hold in every policy:
//!
//! - what is made bears `ManagedBy=agent-ami` in the call that makes it;
//! - what is changed, removed or tagged afterwards bears that tag already, and no call can put it on what does not;
//! - only roles of instance profiles that ami.toml or a template names are passed, and only to EC2;
//! - values of parameters are read and written below the channels' prefixes, and read below `/aws/service`.
//!
//! Tests hold the policies against the calls that are really made.

use serde_json::{Map, Value, json};
use xtask::cli::Job;
use xtask::partition::Partition;

use crate::record::OURS;

mod scope;

pub use scope::{Key, Scope};

/// What is read everywhere, by Packer too; EC2 and Auto Scaling know no narrower resource for it. No value of a parameter is among it.
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

/// What `DescribeImageReferences` reads for its caller (managed policy `AmazonEC2ImageReferencesAccessPolicy`); given to that call alone.
const READ_REFERENCES: &[&str] = &[
    "imagebuilder:GetContainerRecipe",
    "imagebuilder:ListContainerRecipes",
    "imagebuilder:ListImageRecipes",
    "ssm:GetParameters",
];

/// What makes something new.
const MAKE: &[&str] =
    &["ec2:CreateImage", "ec2:CreateKeyPair", "ec2:CreateSecurityGroup", "ec2:ImportKeyPair", "ec2:RunInstances"];
/// What is new then; each action knows only some of these.
const MADE: &[&str] =
    &["image", "instance", "key-pair", "security-group", "snapshot", "spot-instances-request", "volume"];

/// What uses what is there already. Of CopyImage it is also what is new: the copy has its source's tags from EC2, and a condition on the
/// request's tags would refuse it.
const USE: &[&str] = &["ec2:CopyImage", "ec2:RunInstances"];
/// What is used then.
const USED: &[&str] = &["image", "key-pair", "network-interface", "security-group", "snapshot", "subnet"];

/// The calls that may tag what they make.
const TAGGING: &[&str] =
    &["CopyImage", "CreateImage", "CreateKeyPair", "CreateSecurityGroup", "ImportKeyPair", "RunInstances"];
/// What they make.
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

/// What a build changes or ends of its own.
const CHANGE: &[&str] = &[
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:GetConsoleOutput",
    "ec2:ModifyImageAttribute",
    "ec2:ModifyInstanceAttribute",
    "ec2:StopInstances",
];
/// What removes things.
const REMOVE: &[&str] = &[
    "ec2:DeleteKeyPair",
    "ec2:DeleteSecurityGroup",
    "ec2:DeleteSnapshot",
    "ec2:DeleteVolume",
    "ec2:DeregisterImage",
    "ec2:TerminateInstances",
];
/// What retires an image before it is removed.
const RETIRE: &[&str] = &["ec2:DisableImage", "ec2:EnableImageDeprecation"];
/// What keeps the image of a channel from being removed, and what ends that.
const PROTECT: &[&str] = &["ec2:DisableImageDeregistrationProtection", "ec2:EnableImageDeregistrationProtection"];

/// What EBS does with a key for its caller, beside `kms:DescribeKey`, which is in [`READ`] (EBS user guide, "Requirements for Amazon EBS encryption").
const USE_KEYS: &[&str] =
    &["kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"];

/// A statement of a policy. All of them allow.
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

/// IAM takes a single text in the place of a list, and a managed policy has at most 6,144 characters.
fn one_or_more(texts: &[String]) -> Value {
    match texts {
        [one] => json!(one),
        more => json!(more),
    }
}

const EVERY: &[Job] = &[Job::Plan, Job::Build, Job::Promote, Job::Gc, Job::ManagedNodes];
const BUILD: &[Job] = &[Job::Build];
const GC: &[Job] = &[Job::Gc];
const COMMANDS: &[Job] = &[Job::Build, Job::ManagedNodes];
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

/// Resources of EC2 by kind, in any region and account: images and snapshots of other owners have no account, or another one.
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
    // CreateImage also needs the instance: of any other one it would be a copy of that instance's disks.
    statements.push(
        Statement::new("ImageOfOurs", BUILD, &["ec2:CreateImage"], of_kinds(scope, &["instance"])).when(is_ours()),
    );
    statements.push(
        Statement::new("TagWhatIsMade", BUILD, &["ec2:CreateTags"], of_kinds(scope, TAGGED))
            .when(json!({ "StringEquals": { "ec2:CreateAction": TAGGING } })),
    );
    if !scope.roles.is_empty() {
        // The service principal of EC2 has the partition's DNS suffix in China.
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

/// `--via ssm` runs one document on our instances; `ssm keepalive` on nodes that somebody has tagged as ours.
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

/// Keys are used by EC2 for us, and only looked at by ourselves (KMS developer guide, "kms:ViaService" and "kms:GrantIsForAWSResource").
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
