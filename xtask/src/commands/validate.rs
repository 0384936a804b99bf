//! `validate`: everything that can be judged without building; every finding, not the first.

use clap::Parser as _;

use super::{Context, Finish};
use crate::cli::Cli;
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::template;
use crate::validate::{self, Finding, Severity};

/// Validates and tells the findings; an error if one of them is an error.
pub(super) fn ensure(context: &Context) -> Result<()> {
    phase(context.events.as_ref(), Phase::Validate, "configuration, template, pins, specs, scripts", || {
        let config = context.config()?;
        let findings = findings(context, &config)?;
        for finding in &findings {
            context.events.event(finding.event());
        }
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        let warnings = findings.len() - errors;
        if errors > 0 {
            return Err(Exit::Usage.error(
                format_args!("{errors} errors and {warnings} warnings, told above"),
                "fix them and run `cargo xtask validate`",
            ));
        }
        Ok::<_, Error>(((), Outcome::Done, format!("no errors, {warnings} warnings")))
    })
}

fn findings(context: &Context, config: &Config) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let sources = |image: &'_ crate::config::Image| [image.source_local.clone(), image.source_aws.clone()];
    let all =
        config.images.iter().flat_map(|(name, i)| sources(i).map(|s| (name, i, s))).filter(|(.., s)| !s.is_empty());
    for (name, image, source) in all {
        if let Err(error) = template::evaluate(&super::ami::plan::request(context, name, image, source)) {
            context.events.event(Event::Warning {
                message: crate::error::plain(&error),
                hint: "the template cannot be evaluated".to_owned(),
            });
            findings.push(Finding::error("template", &image.template, None, error.to_string(), "see above"));
        }
    }
    let today = jiff::Zoned::now().date();
    findings.extend(validate::all(&context.root, config, today, &exists)?);
    Ok(findings)
}

/// A command line that a workflow runs: does the command exist, and has it these flags.
fn exists(words: &[String]) -> std::result::Result<(), String> {
    let words = std::iter::once("cargo xtask").chain(words.iter().map(String::as_str));
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }
    }
}

/// Runs the command.
pub(super) fn run(context: &Context) -> Result<Finish> {
    ensure(context)?;
    Ok(Finish::new("valid", serde_json::json!({})))
}
