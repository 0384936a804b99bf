//! Builds a template that only Packer reads. Its steps are unknown, so Packer's output is not assigned to steps, and the disk is found by
//! the artifact that Packer reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;

use super::artifacts::{Artifacts, builds};
use super::output::Record;
use super::{GRACE, Request};
use crate::cloud::Made;
use crate::engine::Options;
use crate::error::{Exit, Result};
use crate::event::{Event, Observer, Phase, Stream};
use crate::process::{Cmd, Ended, Tail};
use crate::template::unread::Unread;

/// Attributes of a `qemu` source that make another image than one disk that boots with BIOS.
const ANOTHER_IMAGE: [(&str, &str); 5] = [
    ("disk_additional_size", "an image has one disk"),
    ("efi_boot", "an image boots with BIOS"),
    ("efi_firmware_code", "an image boots with BIOS"),
    ("efi_firmware_vars", "an image boots with BIOS"),
    ("vtpm", "an instance has no TPM"),
];
/// The number of backing files of a disk that are checked.
const MAX_CHAIN: usize = 8;

/// The files of a directory, each with its size and its last change.
type Files = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// What keeps a source from becoming a local image, with file and line; `None` if nothing is known that does.
pub fn obstacle(unread: &Unread) -> Option<String> {
    let source = &unread.source;
    unread.attributes.iter().find_map(|attribute| {
        let place = format!("{}:{}", attribute.place.file.display(), attribute.place.line);
        let text = attribute.literal.as_ref().and_then(|value| value.as_str());
        let is_off = [false.into(), "".into(), serde_json::json!([])].map(Some).contains(&attribute.literal);
        if let Some((name, why)) = ANOTHER_IMAGE.iter().find(|(name, _)| *name == attribute.name).filter(|_| !is_off) {
            return Some(format!("{place}: `{name}` of {source}: {why}"));
        }
        match (attribute.name.as_str(), text) {
            ("output_directory", Some(dir)) if !is_below(Path::new(dir)) => {
                Some(format!("{place}: the output directory `{dir}` of {source} is not below its own"))
            }
            ("qemu_binary", Some(binary)) if !is_of_this_host(binary) => {
                Some(format!("{place}: `{binary}` of {source} is for another architecture than this host's"))
            }
            _ => None,
        }
    })
}

fn is_below(path: &Path) -> bool {
    use std::path::Component::{CurDir, Normal};
    path.components().all(|part| matches!(part, Normal(_) | CurDir))
}

/// True unless a QEMU is named that emulates another architecture.
fn is_of_this_host(binary: &str) -> bool {
    let name = binary.rsplit('/').next().unwrap_or_default();
    name.strip_prefix("qemu-system-").is_none_or(|arch| arch == std::env::consts::ARCH)
}

impl Request {
    /// Runs `packer init`, `inspect`, `validate` and `build` for the source of a template that only Packer reads, and moves what else it
    /// made to the directory of outputs.
    ///
    /// `facts` are variables that the provider sets, if the template declares them.
    pub fn build_unread(
        &self,
        unread: &Unread,
        facts: &[(String, String)],
        options: &Options,
        events: &dyn Observer,
    ) -> Result<Made> {
        fs::create_dir_all(&self.work_dir)?;
        fs::create_dir_all(&self.scratch)?;
        let on_progress = |message: &str| {
            events.event(Event::Progress { phase: Phase::Build, message: message.to_owned(), fraction: None });
        };
        let arguments = self.unread_arguments(unread, facts)?;
        on_progress("packer init");
        self.init(options)?;
        let only = self.build_of(unread, &arguments, options)?;
        let arguments: Vec<String> = std::iter::once(format!("-only={only}")).chain(arguments).collect();
        on_progress("packer validate");
        let validate = self.unread_cmd(unread, options).arg("validate").args(&arguments).arg(&self.template);
        validate.hint("fix the template, or the variables that it is given").read()?;
        let before = files(&options.root)?;
        let artifacts = self.stream(unread, &only, &arguments, options, events)?;
        let made = artifacts.disk().map_err(|why| {
            let hint = "build a qemu source with one disk, and keep it: set keep_input_artifact = true in post-processors that replace it";
            Exit::Failed.error(why, hint)
        })?;
        let disk = self.checked(&options.root.join(made))?;
        self.keep_outputs(&before, &disk, options, events)?;
        Ok(Made::Disk(disk))
    }

    /// Packer with the settings of ami.toml as variables of the environment: there they override the template's defaults, and everything
    /// else overrides them.
    fn unread_cmd(&self, unread: &Unread, options: &Options) -> Cmd {
        let given = |name: &str| unread.variables.iter().find(|given| given.name == name);
        let settings = self.settings.iter().filter(|s| given(&s.name).is_some_and(|given| given.origin == s.origin));
        settings.fold(self.cmd(options), |cmd, s| cmd.env(format!("PKR_VAR_{}", s.name), &s.value))
    }

    /// The variables as arguments.
    fn unread_arguments(&self, unread: &Unread, facts: &[(String, String)]) -> Result<Vec<String>> {
        // The path of this file on Packer's command line identifies the run that the process belongs to.
        let file = self.scratch.join("settings.pkrvars.json");
        fs::write(&file, "{}")?;
        let mut arguments = vec![format!("-var-file={}", file.display())];
        arguments.extend(self.var_files.iter().map(|file| format!("-var-file={}", file.display())));
        let facts = facts.iter().filter(|fact| unread.declares(&fact.0));
        let vars = facts.chain(&self.vars);
        arguments.extend(vars.flat_map(|(name, value)| ["-var".to_owned(), format!("{name}={value}")]));
        Ok(arguments)
    }

    /// The build of the source, as `-only` names it. Without this check Packer would build other sources, or the source in several builds.
    fn build_of(&self, unread: &Unread, arguments: &[String], options: &Options) -> Result<String> {
        let inspect = self.unread_cmd(unread, options).arg("inspect").args(arguments).arg(&self.template);
        let inspected = inspect.hint("fix the template, or the variables that it is given").read()?;
        let (found, all) = builds(&inspected, &unread.source);
        let is_pattern = |name: &str| name.contains(['*', '?', '[', ']', '{', '}', '!', '\\', ',']);
        match found.as_slice() {
            [only] if is_pattern(only) => Err(Exit::Usage.error(
                format_args!("the build {only} has a character of a pattern in its name"),
                "name the build block with letters, digits and dashes",
            )),
            [only] => Ok(only.clone()),
            [] => Err(Exit::Usage.error(
                format_args!("Packer has no build of the source {}, only: {}", unread.source, all.join(", ")),
                "set `source_local` in ami.toml to one of them",
            )),
            several => Err(Exit::Usage.error(
                format_args!("{} is built several times: {}", unread.source, several.join(", ")),
                "an image is one build: remove the source from the other build blocks",
            )),
        }
    }

    fn stream(
        &self,
        unread: &Unread,
        only: &str,
        arguments: &[String],
        options: &Options,
        events: &dyn Observer,
    ) -> Result<Artifacts> {
        let (mut artifacts, mut output) = (Artifacts::of(only), Tail::default());
        let build = self.unread_cmd(unread, options);
        let build = build.args(["build", "-machine-readable", "-on-error=cleanup"]).args(arguments);
        let how = build.arg(&self.template).gently(GRACE).stream(Some(self.timeout), |_, line| {
            let Some(record) = Record::read(line) else { return };
            artifacts.read(&record);
            for (stream, line) in printed(&record) {
                output.push(&line);
                events.event(Event::StepOutput { name: "packer".to_owned(), stream, line });
            }
        })?;
        let how = match how {
            Ended::Code(0) => return Ok(artifacts),
            Ended::Code(code) => format!("exit code {code}"),
            Ended::TimedOut => format!("timed out after {} s (build_timeout_secs)", self.timeout.as_secs()),
        };
        Err(Exit::Failed.error(
            format_args!("packer build failed: {how}\n{output}"),
            format_args!("fix the template, or what it requires of this host, and run `{}`", options.again),
        ))
    }

    /// Checks that a disk is one of the run's own files, and that its backing files are the run's or Packer's downloads: the disk becomes the
    /// image with the content of its backing files, and its header may have been written by the guest.
    fn checked(&self, disk: &Path) -> Result<PathBuf> {
        let refuse = |why: String| {
            Exit::Failed
                .error(why, "set `output_directory` of the source to a relative path, and its `format` to qcow2")
        };
        let run = self.scratch.parent().unwrap_or(&self.scratch).canonicalize()?;
        let cache = self.work_dir.join("cache");
        let cache = cache.canonicalize().unwrap_or(cache);
        let resolved = |path: &Path| {
            path.canonicalize()
                .map_err(|e| refuse(format!("the disk {} that Packer made cannot be read: {e}", path.display())))
        };
        let disk = resolved(disk)?;
        if !disk.starts_with(&run) || !disk.is_file() {
            return Err(refuse(format!(
                "Packer made the disk {}, which is not below the directory of the run",
                disk.display()
            )));
        }
        let mut next = Some(disk.clone());
        for _ in 0..MAX_CHAIN {
            let Some(file) = next else { return Ok(disk) };
            let info = Cmd::new("qemu-img").args(["info", "--output=json"]).arg(&file);
            let info: serde_json::Value = serde_json::from_str(&info.read()?)
                .map_err(|e| refuse(format!("qemu-img info of {} cannot be parsed: {e}", file.display())))?;
            if !info["format-specific"]["data"]["data-file"].is_null() {
                return Err(refuse(format!("the disk {} has its data in another file", file.display())));
            }
            next = match info["full-backing-filename"].as_str().or(info["backing-filename"].as_str()) {
                None => None,
                Some(below) => {
                    let path = Path::new(below);
                    let path = if path.is_absolute() { resolved(path)? } else { PathBuf::new() };
                    if !path.starts_with(&run) && !path.starts_with(&cache) {
                        let message = format!(
                            "the disk {} has the backing file {below}, which Packer did not make",
                            file.display()
                        );
                        return Err(refuse(message));
                    }
                    Some(path)
                }
            };
        }
        Err(refuse(format!("the disk {} has more than {MAX_CHAIN} backing files", disk.display())))
    }

    /// Moves what Packer and post-processors wrote, except for the disk, to the directory of outputs.
    fn keep_outputs(&self, before: &Files, disk: &Path, options: &Options, events: &dyn Observer) -> Result<()> {
        let mut kept = 0;
        for (path, state) in files(&options.root)? {
            if before.get(&path) == Some(&state) || path.canonicalize()? == disk {
                continue;
            }
            let target = options.outputs.join(path.strip_prefix(&options.root).unwrap_or(&path));
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::rename(path, target)?;
            kept += 1;
        }
        if kept > 0 {
            let message = format!("{kept} files of Packer are in {}", options.outputs.display());
            events.event(Event::Note { message });
        }
        Ok(())
    }
}

/// The lines that Packer prints for a user.
fn printed(record: &Record) -> Vec<(Stream, String)> {
    if record.kind != "ui" {
        return Vec::new();
    }
    let is_error = record.data.first().is_some_and(|kind| kind == "error");
    let stream = if is_error { Stream::Stderr } else { Stream::Stdout };
    let text = record.data.get(1..).unwrap_or_default().join(",");
    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(|line| (stream, line.to_owned())).collect()
}

/// All regular files below a directory. Symbolic links are not followed.
fn files(dir: &Path) -> Result<Files> {
    let mut found = Files::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                let metadata = entry.metadata()?;
                found.insert(path, (metadata.len(), metadata.modified().ok()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Digest, Origin, Place};
    use crate::template::outline::DeclaredAttribute;

    fn unread() -> Unread {
        Unread {
            origin: Origin { source: "git::file:///r".to_owned(), commit: None, digest: Digest::of(b"files") },
            reason: "t.pkr.hcl:1: x".to_owned(),
            source: "qemu.x".to_owned(),
            attributes: Vec::new(),
            variables: Vec::new(),
            hash: Digest::of(b"hash"),
        }
    }

    #[test]
    fn what_cannot_become_an_image_is_named_with_its_line() {
        let obstacle = |name: &str, literal: Option<serde_json::Value>| {
            let place = Place { file: "t.pkr.hcl".into(), line: 7 };
            let attributes = vec![DeclaredAttribute { name: name.to_owned(), place, literal }];
            obstacle(&Unread { attributes, ..unread() }).unwrap_or_default()
        };
        let text = |text: &str| Some(text.into());
        let other = if cfg!(target_arch = "aarch64") { "x86_64" } else { "aarch64" };
        let rows = [
            obstacle("efi_boot", Some(true.into())),
            obstacle("efi_boot", None),
            obstacle("efi_boot", Some(false.into())),
            obstacle("efi_firmware_code", text("")),
            obstacle("output_directory", text("/srv/out")),
            obstacle("output_directory", text("../out")),
            obstacle("output_directory", text("./out/x")),
            obstacle("output_directory", None),
            obstacle("qemu_binary", text(&format!("/usr/bin/qemu-system-{other}"))).replace(other, "OTHER"),
            obstacle("qemu_binary", text(&format!("qemu-system-{}", std::env::consts::ARCH))),
            obstacle("qemu_binary", text("/usr/bin/kvm")),
        ];
        insta::assert_snapshot!(rows.join("\n"), @"
        t.pkr.hcl:7: `efi_boot` of qemu.x: an image boots with BIOS
        t.pkr.hcl:7: `efi_boot` of qemu.x: an image boots with BIOS


        t.pkr.hcl:7: the output directory `/srv/out` of qemu.x is not below its own
        t.pkr.hcl:7: the output directory `../out` of qemu.x is not below its own


        t.pkr.hcl:7: `/usr/bin/qemu-system-OTHER` of qemu.x is for another architecture than this host's
        ");
    }

    #[test]
    fn lines_for_the_user_have_their_stream() {
        let record = Record::read("1,,ui,error,==> qemu.x: one%!(PACKER_COMMA)\\n\\ntwo").unwrap();
        let lines = printed(&record);
        assert_eq!(lines, [(Stream::Stderr, "==> qemu.x: one,".to_owned()), (Stream::Stderr, "two".to_owned())]);
        assert_eq!(printed(&Record::read("1,qemu.x,artifact,0,end").unwrap()), []);
    }

    #[test]
    fn files_that_changed_are_outputs_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), "1").unwrap();
        let before = files(dir.path()).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("out/new"), "1").unwrap();
        fs::write(dir.path().join("old"), "12").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("etc")).unwrap();
        let after = files(dir.path()).unwrap();
        let changed = after.iter().filter(|(path, state)| before.get(*path) != Some(state)).map(|(path, _)| path);
        let names: Vec<_> = changed.map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect();
        assert_eq!(names, ["old", "out/new"]);
    }
}
