//! `iam-policy`: what the pipeline must be allowed to do on AWS, and who may be allowed it from a workflow.

use jiff::civil::{Date, date};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Finish, Provider, exec_aws};
use crate::cli::{self, Ids, Repository};
use crate::config::Config;
use crate::error::Result;
use crate::event::Event;
use crate::partition::Partition;
use crate::process::Cmd;
use crate::recipe::Source;
use crate::template;

/// GitHub's issuer of tokens (docs.github.com, "Configuring OpenID Connect in Amazon Web Services").
const ISSUER: &str = "token.actions.githubusercontent.com";
/// Repositories that were made or renamed since have ids in the subject of their tokens; older ones where an administrator has chosen it
/// (docs.github.com, "OpenID Connect", "Immutable subject claims").
const IDS_SINCE: Date = date(2026, 7, 15);

/// Runs the command.
pub(super) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::IamPolicy) -> Result<Finish> {
    let config = context.config()?;
    let policy = match &args.trust {
        Some(repository) => {
            let account = config.aws.accounts.first().map_or("ACCOUNT", String::as_str);
            if account == "ACCOUNT" {
                let message = "ami.toml names no account: put yours where it says ACCOUNT".to_owned();
                context.events.event(Event::Warning { message, hint: "`accounts` in [aws]".to_owned() });
            }
            let home = config.regions.aws.first().unwrap_or(&config.packer.default_region);
            trust(Partition::of(home), account, &named(context, repository), &args.environments)
        }
        None => match provider.iam_policy(&config, &args.jobs, &sources(context, provider, &config)?)? {
            Some(policy) => policy,
            None => return exec_aws::run(context),
        },
    };
    context.document("iam-policy", policy.clone(), format!("{policy:#}\n"));
    Ok(Finish::new("", policy))
}

/// The sources of all images that the provider builds: they name instance profiles and keys.
fn sources<P: Provider>(context: &Context, provider: &P, config: &Config) -> Result<Vec<Source>> {
    let built = config.images.iter().filter(|(_, image)| !image.source_aws.is_empty());
    built
        .map(|(name, image)| {
            let request = super::ami::plan::request(context, name, image, provider.source(name, image)?.to_owned());
            Ok(template::evaluate(&request)?.source)
        })
        .collect()
}

/// The names by which the repository's tokens may call it. Both forms are exact, and neither can be another repository's: names alone are
/// asked for only where a repository may still send them.
fn named(context: &Context, repository: &Repository) -> Vec<Repository> {
    if repository.ids.is_some() {
        return vec![repository.clone()];
    }
    match from_environment(context, repository).or_else(|| from_github(repository)) {
        Some(known) => known.names(),
        None => {
            let message = format!(
                "the ids of {repository} are not known: a repository made since {IDS_SINCE} has them in its tokens, and this policy refuses it"
            );
            let hint = "install `gh` and sign in, or write OWNER@ID/REPOSITORY@ID with the ids that \
                        `gh api repos/OWNER/REPOSITORY --jq '.owner.id, .id'` prints"
                .to_owned();
            context.events.event(Event::Warning { message, hint });
            vec![repository.clone()]
        }
    }
}

/// A repository that GitHub has answered for.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    repository: Repository,
    ids: Ids,
    /// When it was made, if that was answered too.
    made: Option<Date>,
}

impl Known {
    fn names(&self) -> Vec<Repository> {
        let with_ids = Repository { ids: Some(self.ids), ..self.repository.clone() };
        match self.made {
            Some(day) if day >= IDS_SINCE => vec![with_ids],
            _ => vec![self.repository.clone(), with_ids],
        }
    }
}

/// In a workflow of the repository itself (docs.github.com, "Variables reference").
fn from_environment(context: &Context, repository: &Repository) -> Option<Known> {
    let get = |name: &str| context.env.get(name);
    let here = get("GITHUB_REPOSITORY").filter(|name| name.eq_ignore_ascii_case(&repository.to_string()))?;
    let ids = Ids {
        owner: get("GITHUB_REPOSITORY_OWNER_ID")?.parse().ok()?,
        repository: get("GITHUB_REPOSITORY_ID")?.parse().ok()?,
    };
    Some(Known { repository: here.parse().ok()?, ids, made: None })
}

/// By GitHub's own command line, where it is installed and signed in.
fn from_github(repository: &Repository) -> Option<Known> {
    let answer = Cmd::new("gh").args(["api", &format!("repos/{repository}")]).output().ok()?;
    if answer.code == 0 { read(&answer.stdout) } else { None }
}

/// The answer to "Get a repository" (docs.github.com, REST API). Its names are those in the token, letter by letter.
fn read(answer: &str) -> Option<Known> {
    #[derive(Deserialize)]
    struct Owner {
        id: u64,
    }
    #[derive(Deserialize)]
    struct Answer {
        id: u64,
        full_name: String,
        owner: Owner,
        created_at: jiff::Timestamp,
    }
    let answer: Answer = serde_json::from_str(answer).ok()?;
    Some(Known {
        repository: answer.full_name.parse().ok()?,
        ids: Ids { owner: answer.owner.id, repository: answer.id },
        made: Some(answer.created_at.to_zoned(jiff::tz::TimeZone::UTC).date()),
    })
}

/// Both conditions are exact: a pattern in `sub` lets in branches of forks and pull requests, a missing `aud` tokens for others.
fn trust(partition: Partition, account: &str, names: &[Repository], environments: &[String]) -> Value {
    let subjects: Vec<String> = environments
        .iter()
        .flat_map(|environment| names.iter().map(move |name| format!("repo:{name}:environment:{environment}")))
        .collect();
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:{partition}:iam::{account}:oidc-provider/{ISSUER}") },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": {
                format!("{ISSUER}:aud"): partition.sts_audience(),
                format!("{ISSUER}:sub"): subjects,
            } },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(names: &[Repository]) -> Value {
        let policy = trust(Partition::Commercial, "123456789012", names, &["staging".to_owned()]);
        policy["Statement"][0]["Condition"]["StringEquals"][format!("{ISSUER}:sub")].clone()
    }

    #[test]
    fn who_may_is_said_exactly() {
        let names = ["you/it".parse().unwrap()];
        let policy = trust(Partition::Commercial, "123456789012", &names, &["staging".to_owned()]);
        let exact = &policy["Statement"][0]["Condition"]["StringEquals"];
        assert_eq!(exact["token.actions.githubusercontent.com:aud"], "sts.amazonaws.com");
        assert_eq!(exact["token.actions.githubusercontent.com:sub"], json!(["repo:you/it:environment:staging"]));
        assert!(
            !policy.to_string().contains('*') && policy["Statement"][0]["Condition"].as_object().unwrap().len() == 1
        );
    }

    #[test]
    fn ids_that_are_given_are_the_only_subject() {
        let names = ["you@1/it@2".parse().unwrap()];
        assert_eq!(subjects(&names), json!(["repo:you@1/it@2:environment:staging"]));
    }

    #[test]
    fn ids_that_are_looked_up_stand_beside_names_only_where_names_may_still_be_sent() {
        let answer = |made: &str| {
            let text =
                format!(r#"{{"id": 2, "full_name": "You/It", "owner": {{"id": 1}}, "created_at": "{made}", "x": 0}}"#);
            read(&text).unwrap().names()
        };
        let both = json!(["repo:You/It:environment:staging", "repo:You@1/It@2:environment:staging"]);
        assert_eq!(subjects(&answer("2026-07-14T23:59:59Z")), both);
        assert_eq!(subjects(&answer("2026-07-15T00:00:00Z")), json!(["repo:You@1/It@2:environment:staging"]));
        assert_eq!(read("{\"message\": \"Not Found\"}"), None);
    }

    #[test]
    fn the_partition_is_that_of_the_regions() {
        let names = ["you/it".parse().unwrap()];
        let cases = [
            (Partition::GovCloud, "aws-us-gov", "sts.amazonaws.com"),
            (Partition::China, "aws-cn", "sts.amazonaws.com.cn"),
        ];
        for (partition, name, audience) in cases {
            let statement = &trust(partition, "123456789012", &names, &["plan".to_owned()])["Statement"][0];
            let provider = statement["Principal"]["Federated"].as_str().unwrap();
            assert!(provider.starts_with(&format!("arn:{name}:iam::123456789012:oidc-provider/")), "{provider}");
            assert_eq!(statement["Condition"]["StringEquals"][format!("{ISSUER}:aud")], audience);
        }
    }
}
