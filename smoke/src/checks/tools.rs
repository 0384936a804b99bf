//! Programs: each is on the login user's PATH, runs, and has the required version.

use smoke::spec::{Spec, Tool};
use smoke::version;

use super::documents;
use crate::check::{Check, CheckResult, Host};

pub(super) fn all(spec: &Spec) -> Vec<Check> {
    let check = |tool: Tool| Check::new(check_name(&tool.name), move |host| tool_version(host, &tool));
    spec.tools.iter().cloned().map(check).collect()
}

pub(super) fn check_name(tool: &str) -> String {
    format!("tool-{tool}")
}

fn tool_version(host: &Host, tool: &Tool) -> CheckResult {
    if !is_required(host, tool)? {
        return Ok(format!("not checked: the image was built with {} only", documents::provider(host)?));
    }
    if tool.after_boot {
        host.booted()?;
    }
    let output = version_output(host, &tool.name, &tool.command)?;
    let found = version::find(&output);
    match (&tool.version, found) {
        (None, found) => Ok(found.map_or_else(|| "it runs".to_owned(), str::to_owned)),
        (Some(_), None) => Err(format!("no version in its output: {}", first_line(&output)).into()),
        (Some(required), Some(found)) if version::satisfies(found, required) => Ok(format!("{found} meets {required}")),
        (Some(required), Some(found)) => Err(format!("{found} does not meet {required}").into()),
    }
}

/// False for the program of an agent that the image was not built with.
pub(super) fn is_required(host: &Host, tool: &Tool) -> Result<bool, String> {
    let Some(agent) = &tool.agent else { return Ok(true) };
    let provider = documents::provider(host)?;
    Ok(provider == "all" || provider == *agent)
}

/// Output of the command, or of `NAME --version` if it is empty, run as the login user; run once for all checks.
pub(super) fn version_output(host: &Host, name: &str, command: &[String]) -> Result<String, String> {
    host.once(&format!("version output of {name}"), || {
        let default = [name.to_owned(), "--version".to_owned()];
        let line: Vec<&str> = if command.is_empty() { &default } else { command }.iter().map(String::as_str).collect();
        let output = host.run_as_user(&line, None, host.deadline)?;
        match output.code {
            Some(0) if output.stdout.trim().is_empty() => Ok(output.stderr),
            Some(0) => Ok(output.stdout),
            Some(127) => {
                let path = host.login_path(host.deadline)?;
                Err(format!("`{name}` is not on the login PATH of {}: {path}", host.user.name))
            }
            _ => Err(format!("`{}` {}", line.join(" "), output.summary())),
        }
    })
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}
