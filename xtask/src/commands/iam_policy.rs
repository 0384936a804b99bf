//! `iam-policy`: the IAM policy that the pipeline requires on AWS, and the trust policy that allows GitHub workflows to assume its role.

use jiff::civil::{Date, date};
use serde::Deserialize;
use serde_json::{Value, json};

use super::locate::locate;
use super::{Context, Finish, Provider, exec};
use crate::cli::{self, Ids, Repository};
use crate::config::Config;
use crate::error::Result;
use crate::event::Event;
use crate::partition::Partition;
use crate::process::Cmd;
use crate::recipe::Source;
use crate::template;

/// The issuer of GitHub's OpenID Connect tokens (docs.github.com, "Configuring OpenID Connect in Amazon Web Services").
const ISSUER: &str = "token.actions.githubusercontent.com";
/// Tokens of repositories created or renamed since this day have ids in their subject; those of older repositories only if an administrator
/// has enabled it (docs.github.com, "OpenID Connect", "Immutable subject claims").
const IDS_SINCE: Date = date(2026, 7, 15);

pub(super) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::IamPolicy) -> Result<Finish> {
    let config = context.config()?;
    let policy = match &args.trust {
        Some(repository) => {
            let account = config.aws.accounts.first().map_or("ACCOUNT", String::as_str);
            if account == "ACCOUNT" {
                let message = "no account in ami.toml, so the policy has the placeholder ACCOUNT".to_owned();
                let hint = "replace ACCOUNT, or set `accounts` in [aws] of ami.toml".to_owned();
                context.events.event(Event::Warning { message, hint });
            }
            let home = config.regions.aws.first().unwrap_or(&config.packer.default_region);
            trust(Partition::of(home), account, &named(context, repository), &args.environments)
        }
        None => match provider.iam_policy(&config, &args.jobs, &sources(context, provider, &config)?)? {
            Some(policy) => policy,
            None => return exec::aws(context),
        },
    };
    context.document("iam-policy", policy.clone(), format!("{policy:#}\n"));
    Ok(Finish::new("", policy))
}

/// The sources of all images that the provider builds. The policy allows their instance profiles and KMS keys.
fn sources<P: Provider>(context: &Context, provider: &P, config: &Config) -> Result<Vec<Source>> {
    let built = config.images.iter().filter(|(_, image)| image.source_aws.is_some());
    built
        .map(|(name, image)| {
            let source = provider.source(name, image)?.to_owned();
            let located = locate(context, config, &image.template, None)?;
            let request = super::ami::plan::request(context, name, image, located, source);
            Ok(template::evaluate(&request)?.source)
        })
        .collect()
}

/// The forms in which the repository's tokens may name it. Both are exact and match no other repository. The form without ids is included
/// only if the repository's tokens may still have it.
fn named(context: &Context, repository: &Repository) -> Vec<Repository> {
    if repository.ids.is_some() {
        return vec![repository.clone()];
    }
    match from_environment(context, repository).or_else(|| from_github(repository)) {
        Some(known) => known.names(),
        None => {
            let message = format!(
                "the ids of {repository} are unknown: this policy rejects the tokens of a repository created since {IDS_SINCE}, which contain ids"
            );
            let hint = "install `gh` and sign in, or write OWNER@ID/REPOSITORY@ID with the ids that \
                        `gh api repos/OWNER/REPOSITORY --jq '.owner.id, .id'` prints"
                .to_owned();
            context.events.event(Event::Warning { message, hint });
            vec![repository.clone()]
        }
    }
}

/// A repository with its ids.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    repository: Repository,
    ids: Ids,
    /// The day of its creation, if known.
    created: Option<Date>,
}

impl Known {
    fn names(&self) -> Vec<Repository> {
        let with_ids = Repository { ids: Some(self.ids), ..self.repository.clone() };
        match self.created {
            Some(day) if day >= IDS_SINCE => vec![with_ids],
            _ => vec![self.repository.clone(), with_ids],
        }
    }
}

/// Reads the ids from the environment, in a workflow of the repository itself (docs.github.com, "Variables reference").
fn from_environment(context: &Context, repository: &Repository) -> Option<Known> {
    let get = |name: &str| context.env.get(name);
    let here = get("GITHUB_REPOSITORY").filter(|name| name.eq_ignore_ascii_case(&repository.to_string()))?;
    let ids = Ids {
        owner: get("GITHUB_REPOSITORY_OWNER_ID")?.parse().ok()?,
        repository: get("GITHUB_REPOSITORY_ID")?.parse().ok()?,
    };
    Some(Known { repository: here.parse().ok()?, ids, created: None })
}

/// Looks up the ids with `gh`, where it is installed and signed in.
fn from_github(repository: &Repository) -> Option<Known> {
    let answer = Cmd::new("gh").args(["api", &format!("repos/{repository}")]).output().ok()?;
    if answer.code == 0 { read(&answer.stdout) } else { None }
}

/// Parses the response to "Get a repository" (docs.github.com, REST API). Its names have the same case as those in the token.
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
        created: Some(answer.created_at.to_zoned(jiff::tz::TimeZone::UTC).date()),
    })
}

/// The trust policy. Both conditions are exact: a pattern in `sub` could also match pull requests, and without `aud` tokens that were
/// issued for another audience would be accepted.
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
    fn both_conditions_are_exact() {
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
    fn with_ids_that_were_looked_up_names_are_allowed_only_if_tokens_may_have_them() {
        let answer = |created: &str| {
            let text = format!(
                r#"{{"id": 2, "full_name": "You/It", "owner": {{"id": 1}}, "created_at": "{created}", "x": 0}}"#
            );
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
