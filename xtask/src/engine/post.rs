//! The post-processors of a template. They run on this host after the image was made, and use no machine.

use std::path::Path;

use fs_err as fs;
use serde_json::{Value, json};

use super::{Options, native};
use crate::cloud::{Cloud, Image};
use crate::durable;
use crate::error::{Exit, Result};
use crate::event::Observer;
use crate::process::Cmd;
use crate::recipe::{PostProcessor, Recipe};

/// Runs the recipe's post-processors in order.
pub(super) fn run<C: Cloud>(
    cloud: &C,
    image: &Image,
    recipe: &Recipe,
    options: &Options,
    events: &dyn Observer,
) -> Result<()> {
    let files = cloud.files(image);
    for post in &recipe.post {
        match post {
            PostProcessor::Manifest { output, strip_path, custom_data } => {
                let path = options.outputs.join(output);
                let before = if path.exists() { Some(fs::read_to_string(&path)?) } else { None };
                let listed = files.iter().map(|file| {
                    let name = if *strip_path { file.file_name().map(Path::new).unwrap_or(file) } else { file };
                    let size = fs::metadata(file).map(|m| m.len()).unwrap_or(0);
                    json!({ "name": name, "size": size })
                });
                let entry = json!({
                    "name": recipe.source.name,
                    "builder_type": recipe.source.kind,
                    "build_time": jiff::Timestamp::now().as_second(),
                    "files": listed.collect::<Vec<_>>(),
                    "artifact_id": format!("{}:{}", image.region, image.id),
                    "packer_run_uuid": image.run,
                    "custom_data": custom_data,
                });
                write(&path, &appended(before.as_deref(), entry, &image.run)?)?;
            }
            PostProcessor::Checksum { types, output } => {
                for kind in types {
                    let output = expanded(output, recipe, kind);
                    let mut text = String::new();
                    for file in &files {
                        let program = format!("{kind}sum");
                        let hint = format!("`{kind}` must be one of md5, sha1, sha224, sha256, sha384, sha512");
                        let sum = Cmd::new(&program).arg(file).hint(&hint).read()?;
                        let sum = sum.split_whitespace().next().unwrap_or_default();
                        let name = file.file_name().unwrap_or_default().to_string_lossy();
                        text.push_str(&format!("{sum}\t{name}\n"));
                    }
                    write(&options.outputs.join(output), &text)?;
                }
            }
            PostProcessor::ShellLocal(local) => native::run_post(local, options, events)?,
        }
    }
    Ok(())
}

/// Copies the outputs of post-processors that exist from one directory to another. Packer writes them to its working directory, which is a
/// temporary one for a template that is not part of the project, and appends to an existing manifest.
pub(super) fn copy_outputs(recipe: &Recipe, from: &Path, to: &Path) -> Result<()> {
    if from == to {
        return Ok(());
    }
    for post in &recipe.post {
        let outputs = match post {
            PostProcessor::Manifest { output, .. } => vec![output.clone()],
            PostProcessor::Checksum { types, output } => {
                types.iter().map(|kind| expanded(output, recipe, kind).into()).collect()
            }
            PostProcessor::ShellLocal(_) => Vec::new(),
        };
        for output in outputs.iter().filter(|output| from.join(output).is_file()) {
            let target = to.join(output);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(from.join(output), target)?;
        }
    }
    Ok(())
}

/// Creates the directory of an output and replaces the file.
fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    durable::replace(path, text.as_bytes())
}

/// Packer's manifest with another build appended. It has all earlier builds; `last_run_uuid` is the run of the last one
/// (developer.hashicorp.com/packer/docs/post-processors/manifest).
fn appended(before: Option<&str>, entry: Value, run: &str) -> Result<String> {
    let mut builds = match before {
        None => Vec::new(),
        Some(text) => {
            let manifest: Value = serde_json::from_str(text).map_err(|e| {
                let message = format!("the existing manifest cannot be parsed: {e}");
                Exit::Failed.error(message, "rename or delete the file; the image itself is built")
            })?;
            manifest["builds"].as_array().cloned().unwrap_or_default()
        }
    };
    builds.push(entry);
    let manifest = json!({ "builds": builds, "last_run_uuid": run });
    Ok(format!("{manifest:#}\n"))
}

/// Replaces Packer's variables in the name of a checksum file.
fn expanded(output: &str, recipe: &Recipe, kind: &str) -> String {
    let values = [
        (".BuildName", recipe.source.name.as_str()),
        (".BuilderType", recipe.source.kind.as_str()),
        (".ChecksumType", kind),
    ];
    let one = |text: String, (name, value): (&str, &str)| {
        text.replace(&format!("{{{{{name}}}}}"), value).replace(&format!("{{{{ {name} }}}}"), value)
    };
    values.into_iter().fold(output.to_owned(), one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_grows_and_names_its_last_build() {
        let first = appended(None, json!({ "artifact_id": "local-1:ami-local-1" }), "run-1").unwrap();
        let second = appended(Some(&first), json!({ "artifact_id": "local-1:ami-local-2" }), "run-2").unwrap();
        let manifest: Value = serde_json::from_str(&second).unwrap();
        assert_eq!(manifest["builds"].as_array().unwrap().len(), 2);
        assert_eq!(manifest["last_run_uuid"], "run-2");
        assert!(appended(Some("{"), json!({}), "run-3").is_err(), "a damaged manifest is not overwritten");
    }
}
