//! Turns the body of a build request into what is queued, or refuses it by the name of the field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xtask::ids::Region;
use xtask::template_source::TemplateSource;

use crate::model::{BuildRequest, ClientBuildRequest, ClientTemplate};
use crate::problem::Problem;
use crate::settings::Allowed;

/// The agent of a `ciab` request that names none, as in its documentation.
pub const DEFAULT_AGENT: &str = "claude-code";
/// The longest value of a variable in bytes.
const LONGEST_VALUE: usize = 4096;

/// A build as it is queued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The image of ami.toml.
    pub image: String,
    /// The agent.
    pub provider: String,
    pub region: Region,
    pub instance_type: Option<String>,
    pub template: Template,
    pub variables: BTreeMap<String, String>,
}

/// The template of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Template {
    /// A template source.
    Source(String),
    /// The content of a template file.
    Inline(String),
}

impl Template {
    /// What is shown as the template of the build.
    pub fn shown(&self) -> String {
        match self {
            Self::Source(text) => {
                text.parse().map_or_else(|_| text.clone(), |source: TemplateSource| source.recorded())
            }
            Self::Inline(_) => "inline".to_owned(),
        }
    }
}

/// The body of a build request, in either form.
pub fn body(value: serde_json::Value, allowed: &Allowed) -> Result<Accepted, Problem> {
    let is_documented = value.get("provider").is_some();
    let wrong = |error: serde_json::Error| Problem::refused(format!("the body is not a build request: {error}"));
    if is_documented {
        documented(serde_json::from_value(value).map_err(wrong)?, allowed)
    } else {
        client(serde_json::from_value(value).map_err(wrong)?, allowed)
    }
}

/// The documented form.
pub fn documented(request: BuildRequest, allowed: &Allowed) -> Result<Accepted, Problem> {
    let template = request.template_source.map(Template::Source);
    let fields = Fields {
        provider: ("provider", request.provider),
        region: request.region,
        instance_type: request.instance_type,
        template: ("template_source", template),
        variables: request.variables.unwrap_or_default(),
    };
    fields.check(allowed)
}

/// The form of the `ciab` client.
fn client(request: ClientBuildRequest, allowed: &Allowed) -> Result<Accepted, Problem> {
    if let Some(tag) = request.tags.as_ref().and_then(|tags| tags.keys().next()) {
        return Err(Problem::refused(format!("`tags.{tag}`: an image has the tags of its template")));
    }
    let fields = Fields {
        provider: ("agent_provider", request.agent_provider.unwrap_or_else(|| DEFAULT_AGENT.to_owned())),
        region: None,
        instance_type: None,
        template: ("template", request.template.map(source_of).transpose()?),
        variables: request.variables.unwrap_or_default(),
    };
    fields.check(allowed)
}

/// The source of a `ciab` template.
fn source_of(template: ClientTemplate) -> Result<Template, Problem> {
    Ok(Template::Source(match template {
        ClientTemplate::Builtin { name } => format!("builtin://{name}"),
        ClientTemplate::FilePath { path } => path,
        ClientTemplate::Url { url } => url,
        ClientTemplate::Inline { content } => return Ok(Template::Inline(content)),
        ClientTemplate::Git { url, path, reference } => {
            // The client splits at the first `//`, which is the one after the scheme.
            let (url, path) = match (url.strip_suffix(':'), path) {
                (Some(scheme), Some(rest)) => (format!("{scheme}://{rest}"), None),
                (_, path) => (url, path.filter(|path| path != ".")),
            };
            if let Some(part) =
                [Some(&url), path.as_ref(), reference.as_ref()].into_iter().flatten().find(|p| p.contains('?'))
            {
                return Err(Problem::refused(format!("`template`: `{part}` contains a question mark")));
            }
            let path = path.map_or_else(String::new, |path| format!("//{path}"));
            let reference = reference.map_or_else(String::new, |reference| format!("?ref={reference}"));
            format!("git::{url}{path}{reference}")
        }
    }))
}

/// The fields of both forms. The two that have different names come with them.
struct Fields {
    provider: (&'static str, String),
    region: Option<String>,
    instance_type: Option<String>,
    template: (&'static str, Option<Template>),
    variables: BTreeMap<String, String>,
}

impl Fields {
    fn check(self, allowed: &Allowed) -> Result<Accepted, Problem> {
        let (field, provider) = self.provider;
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !provider.starts_with(|c: char| c.is_ascii_lowercase())
            || provider.len() > 64
            || !provider.chars().all(is_word)
        {
            return Err(Problem::refused(format!("`{field}`: `{provider}` is not the name of an agent")));
        }
        let region = match self.region {
            None => allowed.regions[0].clone(),
            Some(name) => {
                let known = || allowed.regions.iter().map(Region::as_str).collect::<Vec<_>>().join(", ");
                allowed.regions.iter().find(|region| **region == *name).cloned().ok_or_else(|| {
                    Problem::refused(format!("`region`: `{name}` is not allowed; the regions are: {}", known()))
                })?
            }
        };
        let instance_type = self.instance_type.map(|kind| instance_type(kind, allowed)).transpose()?;
        let (field, template) = self.template;
        let (template, image) = checked(field, template, allowed)?;
        for (name, value) in &self.variables {
            variable(name, value, allowed)?;
        }
        Ok(Accepted { image, provider, region, instance_type, template, variables: self.variables })
    }
}

fn instance_type(kind: String, allowed: &Allowed) -> Result<String, Problem> {
    if allowed.instance_types.contains(&kind) {
        return Ok(kind);
    }
    Err(Problem::refused(match allowed.instance_types.as_slice() {
        [] => "`instance_type` applies only to images on EC2".to_owned(),
        known => format!("`instance_type`: `{kind}` is not allowed; the instance types are: {}", known.join(", ")),
    }))
}

/// The template and the image of ami.toml that it builds.
fn checked(field: &str, template: Option<Template>, allowed: &Allowed) -> Result<(Template, String), Problem> {
    let other = || {
        let message = format!("`{field}`: the template belongs to no image; set `image` in [serve] of ami.toml");
        allowed.image.clone().ok_or_else(|| Problem::refused(message))
    };
    let text = match template {
        None => {
            let (source, image) = &allowed.templates[0];
            return Ok((Template::Source(source.to_string()), image.clone()));
        }
        Some(Template::Inline(_)) if !allowed.inline_sources => {
            let message =
                format!("`{field}`: inline templates are not allowed (`inline_sources` in [serve] of ami.toml)");
            return Err(Problem::refused(message));
        }
        Some(Template::Inline(content)) => return Ok((Template::Inline(content), other()?)),
        Some(Template::Source(text)) => text,
    };
    let source: TemplateSource =
        text.parse().map_err(|e: xtask::error::Error| Problem::refused(format!("`{field}`: {e}")))?;
    let listed = allowed.templates.iter().find(|(known, _)| known.is_same(&source));
    let image = match (&source, listed) {
        (TemplateSource::Http(file), _) if file.checksum.is_none() => {
            let message = format!("`{field}`: a template on a web server requires ?checksum=sha256:...");
            return Err(Problem::refused(message));
        }
        (_, Some((_, image))) => image.clone(),
        (TemplateSource::Local(path), None) if allowed.file_sources => {
            if path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
                return Err(Problem::refused(format!("`{field}`: `{}` is not a path in the project", path.display())));
            }
            other()?
        }
        (TemplateSource::Local(_), None) => {
            let message = format!("`{field}`: paths are not allowed (`file_sources` in [serve] of ami.toml)");
            return Err(Problem::refused(message));
        }
        (_, None) => {
            let known = allowed.templates.iter().map(|(known, _)| known.recorded()).collect::<Vec<_>>().join(", ");
            let message = format!("`{field}`: `{}` is not allowed; the templates are: {known}", source.recorded());
            return Err(Problem::refused(message));
        }
    };
    Ok((Template::Source(text), image))
}

fn variable(name: &str, value: &str, allowed: &Allowed) -> Result<(), Problem> {
    if !allowed.variables.contains(name) {
        let known: Vec<&str> = allowed.variables.iter().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Problem::refused(format!("`variables.{name}` is not allowed; the variables are: {known}")));
    }
    if value.len() > LONGEST_VALUE || value.contains('\0') {
        let message = format!("`variables.{name}` is longer than {LONGEST_VALUE} bytes, or contains a NUL character");
        return Err(Problem::refused(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
