//! Inputs of a build that would stay in the image: they are refused before anything is made.

use regex_lite::Regex;

use crate::error::{Exit, Result};
use crate::recipe::{Action, Recipe};
use crate::sensitive;

/// Variables of our own scripts with the name of a package, which npm writes down in files that everybody reads.
const PACKAGES: [&str; 1] = ["LOCUS_PACKAGE"];

/// Refuses a package's URL with a user or a password in it.
pub fn refuse_credentials(recipe: &Recipe) -> Result<()> {
    for step in &recipe.steps {
        let Action::Shell(shell) = &step.action else { continue };
        let named = shell.env.iter().filter(|(name, _)| PACKAGES.contains(&name.as_str()));
        for (name, value) in named {
            if credentials(value).is_some() {
                let place = format!("{}:{}", step.place.file.display(), step.place.line);
                let message =
                    format!("{name} has a user or a password in its URL, which would stay in the image ({place})");
                let hint =
                    "upload the package with a file provisioner before this step, and name its path on the machine";
                return Err(Exit::Usage.error(message, hint));
            }
        }
    }
    Ok(())
}

/// Hides the passwords in the URLs of a command line, refused or not.
pub fn hide_credentials(word: &str) {
    if let Some(secret) = credentials(word) {
        sensitive::hide(secret);
    }
}

/// The password in a URL, or the user of one that names a user only: with HTTPS that is a token. `git@host` of SSH is neither.
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
    fn passwords_and_tokens_are_found_and_ssh_users_are_none() {
        assert_eq!(credentials("http://deploy:SECRET-PW@127.0.0.1:8765/locus.tgz"), Some("SECRET-PW"));
        assert_eq!(credentials("git+https://ghp_abc@github.com/a/b.git"), Some("ghp_abc"));
        for good in
            ["git+ssh://git@github.com/a/b.git", "@locus/cli@1.2.3", "https://host/x@2.tgz", "/tmp/locus.tgz", ""]
        {
            assert_eq!(credentials(good), None, "{good}");
        }
    }
}
