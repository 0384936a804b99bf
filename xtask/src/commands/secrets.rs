//! Sensitive variables of the command line. They are hidden before anything is recorded, and have to be given again when a run is resumed.

use std::collections::BTreeMap;
use std::path::Path;

use super::locate;
use crate::cli::{Ami, Build, Cli, Command};
use crate::config::Config;
use crate::error::{Exit, Result};
use crate::sensitive::{self, HIDDEN};
use crate::template;

/// Hides the values that the command line gives to sensitive variables, and returns its words without them.
///
/// If the configuration or a template cannot be read, or the template has yet to be downloaded, every variable may be sensitive, and the words
/// have no values at all. Other texts are not redacted then: `--var provider=all` would hide every "all". The evaluation of the template hides
/// the sensitive values.
pub(super) fn hide(cli: &Cli, words: &[String], root: &Path, config: Option<&Config>) -> Vec<String> {
    build(cli).into_iter().flat_map(|build| &build.vars).for_each(|(_, value)| sensitive::hide_credentials(value));
    let template = build(cli).and_then(|build| build.template.as_deref());
    template.into_iter().for_each(sensitive::hide_credentials);
    let redacted = |words: &[String]| words.iter().map(|word| sensitive::redacted(word).into_owned()).collect();
    let words: Vec<String> = redacted(words);
    let vars = build(cli).map(|build| build.vars.as_slice()).unwrap_or_default();
    if vars.is_empty() {
        return words;
    }
    match config.zip(build(cli)).and_then(|(config, build)| names(config, root, build)) {
        Some(known) => {
            vars.iter().filter(|(name, _)| known.contains(name)).for_each(|(_, value)| sensitive::hide(value));
            redacted(&words)
        }
        None => without_values(&words, vars),
    }
}

/// The words with `NAME=<sensitive>` in the place of each variable.
fn without_values(words: &[String], vars: &[(String, String)]) -> Vec<String> {
    let hidden = |word: &String| {
        let var =
            vars.iter().map(|(name, value)| (name, format!("{name}={value}"))).find(|(_, var)| word.ends_with(var));
        var.map_or_else(|| word.clone(), |(name, var)| word.replace(&var, &format!("{name}={HIDDEN}")))
    };
    words.iter().map(hidden).collect()
}

/// The sensitive variables of the template that is built, and of the project's templates; `None` if one of them cannot be read, or is not
/// known before it is downloaded.
fn names(config: &Config, root: &Path, build: &Build) -> Option<Vec<String>> {
    let built = match &build.template {
        Some(template) => template.parse().ok()?,
        None => config.image(build.image.as_deref()).ok()?.1.template.clone(),
    };
    let others = config.images.values().map(|image| &image.template).filter(|other| other.in_project().is_some());
    let mut names = Vec::new();
    for source in others.chain([&built]) {
        let located = locate::known(root, config, source)?;
        names.extend(template::sensitive_variables(&located.path, &located.root).ok()?);
    }
    Some(names)
}

/// The arguments of the build, if the command has any.
fn build(cli: &Cli) -> Option<&Build> {
    match &cli.command {
        Command::Ami(Ami::Plan(args)) => Some(&args.build),
        Command::Ami(Ami::Build(args)) => Some(&args.build),
        Command::Ami(Ami::Release(args)) => Some(&args.build),
        _ => None,
    }
}

/// The words of an interrupted command. Sensitive values, which were not recorded, are taken from the environment variables `PKR_VAR_name`.
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
            let message = format!(
                "the value of `{name}` is sensitive and was not recorded, or was not known not to be when the run began"
            );
            Err(Exit::Usage.error(message, format_args!("run `PKR_VAR_{name}=... cargo xtask ami resume`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_an_unreadable_template_have_no_values() {
        let words: Vec<String> =
            ["build", "--var", "token=a=b", "--var=provider=all", "--force"].map(str::to_owned).into();
        let vars = [("token".to_owned(), "a=b".to_owned()), ("provider".to_owned(), "all".to_owned())];
        let expected = ["build", "--var", "token=<sensitive>", "--var=provider=<sensitive>", "--force"];
        assert_eq!(without_values(&words, &vars), expected);
        assert_eq!(sensitive::redacted("all agents"), "all agents");
    }

    #[test]
    fn a_sensitive_value_is_taken_from_the_environment_or_required() {
        let words: Vec<String> = ["ami", "build", "--var", "token=<sensitive>", "--var=x=1"].map(str::to_owned).into();
        let error = restored(&words, &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("`token` is sensitive"), "{error}");
        let env = [("PKR_VAR_token".to_owned(), "given-again".to_owned())].into();
        assert_eq!(restored(&words, &env).unwrap()[3..], ["token=given-again", "--var=x=1"]);
        assert_eq!(restored(&["--var=token=<sensitive>".to_owned()], &env).unwrap(), ["--var=token=given-again"]);
    }
}
