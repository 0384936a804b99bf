//! `iam-policy`: what the pipeline must be allowed to do on AWS, and who may be allowed it from a workflow.

use serde_json::{Value, json};

use super::{Context, Finish, Provider, handover};
use crate::cli;
use crate::error::Result;
use crate::event::Event;

/// GitHub's issuer of tokens (docs.github.com, "Configuring OpenID Connect in Amazon Web Services").
const ISSUER: &str = "token.actions.githubusercontent.com";

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
            trust(account, repository, &args.environments)
        }
        None => match provider.iam_policy(&config) {
            Some(policy) => policy,
            None => return handover::run(context),
        },
    };
    context.document("iam-policy", policy.clone(), format!("{policy:#}\n"));
    Ok(Finish::new("", policy))
}

/// Both conditions are exact: a pattern in `sub` lets in branches of forks and pull requests, a missing `aud` tokens for others.
fn trust(account: &str, repository: &str, environments: &[String]) -> Value {
    let subjects: Vec<String> =
        environments.iter().map(|name| format!("repo:{repository}:environment:{name}")).collect();
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:aws:iam::{account}:oidc-provider/{ISSUER}") },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": {
                format!("{ISSUER}:aud"): "sts.amazonaws.com",
                format!("{ISSUER}:sub"): subjects,
            } },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_is_said_exactly() {
        let policy = trust("123456789012", "you/it", &["staging".to_owned()]);
        let exact = &policy["Statement"][0]["Condition"]["StringEquals"];
        assert_eq!(exact["token.actions.githubusercontent.com:aud"], "sts.amazonaws.com");
        assert_eq!(exact["token.actions.githubusercontent.com:sub"], json!(["repo:you/it:environment:staging"]));
        assert!(
            !policy.to_string().contains('*') && policy["Statement"][0]["Condition"].as_object().unwrap().len() == 1
        );
    }
}
