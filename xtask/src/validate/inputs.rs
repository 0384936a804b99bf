//! Refuses inputs of a build with credentials, which would stay in the image.

use crate::error::{Exit, Result};
use crate::recipe::{Action, Recipe};
use crate::sensitive::credentials;

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
