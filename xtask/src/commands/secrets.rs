//! Sensitive variables of the command line: hidden before anything is written down, and asked for again when a run is taken up.

use std::collections::BTreeMap;
use std::path::Path;

use crate::check::inputs;
use crate::cli::{Ami, Build, Cli, Command};
use crate::config::{Config, Overrides};
use crate::error::{Exit, Result};
use crate::sensitive::{self, HIDDEN};
use crate::template;

/// Hides the values that the command line gives to sensitive variables. Where a template cannot be read, every variable may be one.
pub(super) fn hide(cli: &Cli, root: &Path, env: &BTreeMap<String, String>) {
    build(cli).into_iter().flat_map(|build| &build.vars).for_each(|(_, value)| inputs::hide_credentials(value));
    let Some(build) = build(cli).filter(|build| !build.vars.is_empty()) else { return };
    let known = names(cli, root, env);
    for (name, value) in &build.vars {
        if known.as_ref().map_or(true, |known| known.contains(name)) {
            sensitive::hide(value);
        }
    }
}

/// The sensitive variables of all images of `ami.toml`.
fn names(cli: &Cli, root: &Path, env: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let overrides = Overrides { state_dir: cli.common.state.clone(), builder: None };
    let config = Config::load(root, &overrides, env)?;
    let mut names = Vec::new();
    for image in config.images.values() {
        names.extend(template::sensitive_variables(&root.join(&image.template), root)?);
    }
    Ok(names)
}

/// What the command line says of a build, if it is about one.
fn build(cli: &Cli) -> Option<&Build> {
    match &cli.command {
        Command::Ami(Ami::Plan(args)) => Some(&args.build),
        Command::Ami(Ami::Build(args)) => Some(args),
        Command::Ami(Ami::Release(args)) => Some(&args.build),
        _ => None,
    }
}

/// The words of a command that was cut off, with the sensitive values that were not written down: Packer's `PKR_VAR_name` gives them.
pub(super) fn restored(words: &[String], env: &BTreeMap<String, String>) -> Result<Vec<String>> {
    words.iter().map(|word| restored_word(word, env)).collect()
}

fn restored_word(word: &str, env: &BTreeMap<String, String>) -> Result<String> {
    let Some(before) = word.strip_suffix(HIDDEN).and_then(|before| before.strip_suffix('=')) else {
        return Ok(word.to_owned());
    };
    let name = before.rsplit('=').next().unwrap_or_default();
    match env.get(&format!("PKR_VAR_{name}")) {
        Some(value) => {
            sensitive::hide(value);
            Ok(format!("{before}={value}"))
        }
        None => {
            let message = format!("the value of `{name}` is sensitive and was not written down");
            Err(Exit::Usage.error(message, format_args!("give it again: PKR_VAR_{name}=... cargo xtask ami resume")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensitive_value_is_taken_from_the_environment_or_asked_for() {
        let words: Vec<String> = ["ami", "build", "--var", "token=<sensitive>", "--var=x=1"].map(str::to_owned).into();
        let error = restored(&words, &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("`token` is sensitive"), "{error}");
        let env = [("PKR_VAR_token".to_owned(), "given-again".to_owned())].into();
        assert_eq!(restored(&words, &env).unwrap()[3..], ["token=given-again", "--var=x=1"]);
        assert_eq!(restored(&["--var=token=<sensitive>".to_owned()], &env).unwrap(), ["--var=token=given-again"]);
    }
}
