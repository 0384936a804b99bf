//! Programs: on the login PATH of the user, they run, and their version meets the requirement.

use smoke::spec::{Spec, Tool};
use smoke::version;

use super::{Check, Host, Verdict, works};

pub(super) fn all(spec: &Spec) -> Vec<Check> {
    spec.tools.iter().cloned().map(|tool| Check::new(format!("tool-{}", tool.name), move |h| judge(h, &tool))).collect()
}

fn judge(host: &Host, tool: &Tool) -> Verdict {
    if !wanted(host, tool)? {
        return Ok(format!("not judged: the image was built with {} alone", works::provider(host)?));
    }
    if tool.after_boot {
        host.booted()?;
    }
    let said = answer(host, &tool.name, &tool.command)?;
    let found = version::find(&said);
    match (&tool.version, found) {
        (None, found) => Ok(found.map_or_else(|| "it runs".to_owned(), str::to_owned)),
        (Some(_), None) => Err(format!("no version in its answer: {}", first_line(&said)).into()),
        (Some(wanted), Some(found)) if version::satisfies(found, wanted) => Ok(format!("{found} meets {wanted}")),
        (Some(wanted), Some(found)) => Err(format!("{found} does not meet {wanted}").into()),
    }
}

/// False for the program of an agent that the image was not built with.
pub(super) fn wanted(host: &Host, tool: &Tool) -> Result<bool, String> {
    let Some(agent) = &tool.agent else { return Ok(true) };
    let provider = works::provider(host)?;
    Ok(provider == "all" || provider == *agent)
}

/// What a program says about itself to the login user; it is asked once a run.
pub(super) fn answer(host: &Host, name: &str, command: &[String]) -> Result<String, String> {
    host.once(&format!("answer of {name}"), || {
        let usual = [name.to_owned(), "--version".to_owned()];
        let line: Vec<&str> = if command.is_empty() { &usual } else { command }.iter().map(String::as_str).collect();
        let output = host.user(&line, None, host.deadline)?;
        match output.code {
            Some(0) if output.stdout.trim().is_empty() => Ok(output.stderr),
            Some(0) => Ok(output.stdout),
            Some(127) => {
                let path = host.login_path(host.deadline)?;
                Err(format!("`{name}` is not on the login PATH of {}: {path}", host.user.name))
            }
            _ => Err(format!("`{}` {}", line.join(" "), output.gist())),
        }
    })
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}
