//! DryRun, which checks whether a call is permitted (EC2 API reference, "Common query parameters"). An endpoint that ignores it executes
//! the call.

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::run_instances::RunInstancesOutput;
use xtask::error::{Error, Exit};
use xtask::ids::Region;

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::clients::Clients;
use crate::{image, orphans};

/// What an executed DryRun created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// Nothing, because the call only reads.
    Nothing,
    /// A key pair, by its name.
    KeyPair(String),
    /// A security group, by its id.
    SecurityGroup(String),
    /// Instances, by their ids.
    Instances(Vec<String>),
    /// An image, by its id.
    Image(String),
}

/// A DryRun that the endpoint executed.
#[derive(Clone, Debug)]
pub(crate) struct Ignored {
    region: Region,
    action: &'static str,
    made: Made,
}

impl Made {
    pub(crate) fn instances(answer: &RunInstancesOutput) -> Self {
        Self::Instances(answer.instances().iter().filter_map(|i| i.instance_id().map(str::to_owned)).collect())
    }

    pub(crate) fn image(id: Option<&str>) -> Self {
        Self::Image(id.unwrap_or_default().to_owned())
    }

    fn name(&self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::KeyPair(name) => format!("the key pair {name}"),
            Self::SecurityGroup(id) => format!("the security group {id}"),
            Self::Instances(ids) => format!("the instance {}", ids.join(", ")),
            Self::Image(id) => format!("the image {id}"),
        }
    }
}

/// The AWS error that a DryRun returns: `DryRunOperation` if the call is permitted.
pub(crate) async fn answer<T, E>(
    region: &Region,
    call: impl Future<Output = Result<T, SdkError<E>>>,
    action: &'static str,
    made: impl FnOnce(&T) -> Made,
) -> Result<AwsError, Ignored>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match call.await.called(action) {
        Ok(answer) => Err(Ignored { region: region.clone(), action, made: made(&answer) }),
        Err(aws_error) => Ok(aws_error),
    }
}

/// The AWS error of a DryRun that the call itself would return, too. Errors about resources that do not exist yet and about placeholder
/// parameters are ignored.
pub(crate) async fn check<T, E>(
    region: &Region,
    call: impl Future<Output = Result<T, SdkError<E>>>,
    action: &'static str,
    made: impl FnOnce(&T) -> Made,
) -> Result<Option<AwsError>, Ignored>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let aws_error = answer(region, call, action, made).await?;
    Ok(match aws_error.kind {
        Kind::WouldSucceed | Kind::NotFound | Kind::Duplicate | Kind::Capacity | Kind::Other => None,
        Kind::Denied
        | Kind::NoCredentials
        | Kind::Credentials
        | Kind::Expired
        | Kind::NotEnabled
        | Kind::NotWritten
        | Kind::Quota
        | Kind::Throttled
        | Kind::Transport
        | Kind::Server => Some(aws_error),
    })
}

impl Ignored {
    /// Removes what the call created.
    pub(crate) async fn undo(&self, clients: &Clients) -> Result<(), AwsError> {
        let ec2 = clients.unrecorded().ec2(&self.region);
        match &self.made {
            Made::Nothing => Ok(()),
            Made::KeyPair(name) => {
                ec2.delete_key_pair().key_name(name).send().await.called("ec2:DeleteKeyPair").map(drop)
            }
            Made::SecurityGroup(id) => orphans::delete_group(&ec2, id).await,
            Made::Instances(ids) => {
                let call = ec2.terminate_instances().set_instance_ids(Some(ids.clone()));
                call.send().await.called("ec2:TerminateInstances").map(drop)
            }
            Made::Image(id) => match image::remove(&ec2, id).await {
                Ok(()) => Ok(()),
                Err(aws_errors) => aws_errors.into_iter().next().map_or(Ok(()), Err),
            },
        }
    }

    /// What the call created, and whether it was removed.
    fn message(&self, removed: Result<(), AwsError>) -> String {
        let Self { region, action, made } = self;
        let what = match (made, removed) {
            (Made::Nothing, _) => String::new(),
            (made, Ok(())) => format!(": it created {}, which was removed", made.name()),
            (made, Err(aws_error)) => {
                format!(": it created {}, which could not be removed ({aws_error}); remove it manually", made.name())
            }
        };
        format!("the endpoint of {region} executes {action} despite DryRun{what}")
    }
}

/// The error for an endpoint that ignores DryRun: what each such call created, and whether it was removed.
pub(crate) fn stop(undone: Vec<(&Ignored, Result<(), AwsError>)>) -> Error {
    let lines: Vec<String> = undone.into_iter().map(|(ignored, removed)| ignored.message(removed)).collect();
    Exit::Precondition.error(
        lines.join("\n"),
        "use an endpoint that supports DryRun, or unset AWS_ENDPOINT_URL: permissions are checked by DryRun before anything is created",
    )
}
