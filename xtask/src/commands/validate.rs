//! `validate`: checks everything that can be checked without building, and reports all findings.

use clap::Parser as _;

use super::locate::{Located, locate};
use super::{Context, Finish};
use crate::cli::{self, Cli};
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::process::Cmd;
use crate::template;
use crate::template::refusal::{Cause, Refusal};
use crate::validate::{self, Finding, Severity};

/// Reports all findings, and fails if one of them is an error.
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
                format_args!("{errors} errors and {warnings} warnings, see above"),
                "fix them and run `cargo xtask validate`",
            ));
        }
        Ok::<_, Error>(((), Outcome::Done, format!("no errors, {warnings} warnings")))
    })
}

fn findings(context: &Context, config: &Config) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, image) in &config.images {
        let sources = std::iter::once(image.source_local.clone()).chain(image.source_aws.clone());
        let errors: Vec<Error> = match locate(context, config, &image.template, None) {
            Ok(located) => {
                let request = |source| super::ami::plan::request(context, name, image, located.clone(), source);
                let refused = sources.filter_map(|source| template::evaluate(&request(source)).err());
                refused.filter(|error| !only_packer_reads(context, name, &located, error)).collect()
            }
            Err(error) => vec![error],
        };
        for error in errors {
            let message = crate::error::plain(&error);
            context.events.event(Event::Warning { message, hint: "fix the template".to_owned() });
            findings.push(Finding::error("template", image.template.to_string(), None, error.to_string(), "see above"));
        }
    }
    let today = jiff::Zoned::now().date();
    findings.extend(validate::all(&context.root, config, today, &parses)?);
    Ok(findings)
}

/// True for a template from elsewhere that Packer may accept, which is no finding. A note names what the native engine refuses.
fn only_packer_reads(context: &Context, image: &str, located: &Located, error: &Error) -> bool {
    let refusal = Refusal::of(error).filter(|refusal| located.foreign.is_some() && refusal.cause != Cause::Invalid);
    if let Some(refusal) = &refusal {
        let message = format!("{image}: only Packer reads the template: {}", refusal.text);
        context.events.event(Event::Note { message });
    }
    refusal.is_some()
}

/// Checks that a command line of a workflow can be parsed: the command exists and has these options.
fn parses(words: &[String]) -> std::result::Result<(), String> {
    let words = std::iter::once("cargo xtask").chain(words.iter().map(String::as_str));
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }
    }
}

pub(super) fn run(context: &Context, args: &cli::Validate) -> Result<Finish> {
    for linter in &args.require {
        let program = linter.program();
        Cmd::new(program)
            .arg("--version")
            .read()
            .map_err(|error| error.context(format_args!("{program} is required")))?;
    }
    ensure(context)?;
    Ok(Finish::new("valid", serde_json::json!({})))
}
