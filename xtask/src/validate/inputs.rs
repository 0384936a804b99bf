//! Refuses inputs of a build with credentials, which would stay in the image.

use regex_lite::Regex;

use crate::error::{Exit, Result};
use crate::recipe::{Action, Recipe};
use crate::sensitive;

/// Environment variables of the provisioning scripts with an npm package. npm writes its URL to world-readable files.
const PACKAGES: [&str; 1] = ["LOCUS_PACKAGE"];

/// Returns an error if the URL of a package has a user or a password.
pub fn refuse_credentials(recipe: &Recipe) -> Result<()> {
    for step in &recipe.steps {
        let Action::Shell(shell) = &step.action else { continue };
        let named = shell.env.iter().filter(|(name, _)| PACKAGES.contains(&name.as_str()));
        for (name, value) in named {
            if credentials(value).is_some() {
                let place = format!("{}:{}", step.place.file.display(), step.place.line);
                let message =
                    format!("{name} has a user or a password in its URL, which would stay in the image ({place})");
                let hint = "upload the package with a file provisioner before this step, and set the variable to its path on the machine";
                return Err(Exit::Usage.error(message, hint));
            }
        }
    }
    Ok(())
}

/// Marks the password in a URL of the command line as sensitive, so that no output shows it.
pub fn hide_credentials(word: &str) {
    if let Some(secret) = credentials(word) {
        sensitive::hide(secret);
    }
}

/// The password in a URL. In an HTTP URL with only a user, the user is a token, so it is returned; the user of an SSH URL is not.
fn credentials(text: &str) -> Option<&str> {
    let with_password = Regex::new(r"://[^/@:]*:([^/@]*)@").ok()?;
    let with_token = Regex::new(r"https?://([^/@:]+)@").ok()?;
    let found = with_password.captures(text).or_else(|| with_token.captures(text))?;
    found.get(1).map(|secret| secret.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_found_but_not_ssh_users() {
        assert_eq!(credentials("http://deploy:SECRET-PW@127.0.0.1:8765/locus.tgz"), Some("SECRET-PW"));
        assert_eq!(credentials("git+https://ghp_abc@github.com/a/b.git"), Some("ghp_abc"));
        for good in
            ["git+ssh://git@github.com/a/b.git", "@locus/cli@1.2.3", "https://host/x@2.tgz", "/tmp/locus.tgz", ""]
        {
            assert_eq!(credentials(good), None, "{good}");
        }
    }
}
