//! Reads `provisioner` and `post-processor` blocks, and the files that they refer to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use hcl_edit::structure::Block;

use super::Request;
use super::files::{File, confined, normal, span_of};
use super::scope::{Attributes, Scope};
use crate::error::Result;
use crate::recipe::{Action, PostProcessor, Script, Shell, ShellLocal, Step, Upload, UploadFile};

/// Attributes of all provisioners.
const COMMON: &[&str] = &["only", "except", "pause_before", "timeout", "max_retries"];
/// Packer's default for `execute_command` (developer.hashicorp.com/packer/docs/provisioners/shell#execute_command).
const EXECUTE_COMMAND: &str = "chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }}";
/// Attributes of Packer's provisioners that are refused because the native engine does not implement them.
const UNSUPPORTED: &[&str] = &[
    "binary",
    "remote_path",
    "remote_folder",
    "remote_file",
    "skip_clean",
    "start_retry_timeout",
    "use_env_var_file",
    "pause_after",
    "override",
];

/// The types of a checksum post-processor (developer.hashicorp.com/packer/docs/post-processors/checksum).
const CHECKSUMS: &[&str] = &["md5", "sha1", "sha224", "sha256", "sha384", "sha512"];
/// Files and directories that one directory to upload may have.
const MAX_ENTRIES: usize = 100_000;
/// Files and directories, and bytes, that an upload of a template from elsewhere may have: with symbolic links to directories its few files
/// can be a large upload.
const FOREIGN_ENTRIES: usize = 10_000;
const FOREIGN_BYTES: u64 = 256 << 20;
/// How a file begins that Git LFS stores elsewhere (github.com/git-lfs/git-lfs, docs/spec.md).
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1";
/// The hint for a file that Git LFS stores elsewhere.
const NOT_LFS: &str = "commit the file itself, or remove it from .gitattributes";
/// The hint for a file that a template from elsewhere cannot read.
const NOT_ITS_OWN: &str = "copy the file into the repository or archive of the template";

/// Reads a provisioner; `None` if `only` or `except` excludes the source.
pub(super) fn step(file: &File, block: &Block, scope: &Scope, request: &Request) -> Result<Option<Step>> {
    let Some(kind) = block.labels.first().map(hcl_edit::structure::BlockLabel::as_str) else {
        return Err(file.refuse(span_of(block), "a provisioner without a type", "write provisioner \"shell\" { … }"));
    };
    let own: &[&str] = match kind {
        "shell" => &[
            "inline",
            "inline_shebang",
            "script",
            "scripts",
            "env",
            "environment_vars",
            "execute_command",
            "expect_disconnect",
            "valid_exit_codes",
        ],
        "file" => &["source", "sources", "content", "destination", "direction", "generated"],
        "shell-local" => &["inline", "script", "scripts", "env", "environment_vars"],
        "breakpoint" => &["note", "disable"],
        other => {
            return Err(file.unknown(
                span_of(block),
                "provisioner",
                other,
                &["shell", "file", "shell-local", "breakpoint"],
            ));
        }
    };
    refuse_unsupported(file, block)?;
    refuse_on_host(kind, file, block, request)?;
    let known: Vec<&str> = own.iter().chain(COMMON).copied().collect();
    let a = scope.attributes(file, block, &known, &[])?;
    if !applies(&a, &request.source)? {
        return Ok(None);
    }
    let (name, action) = match kind {
        "shell" => shell(&a, request)?,
        "file" => upload(&a, request)?,
        "shell-local" => {
            let (name, local) = shell_local(&a, request)?;
            (name, Action::ShellLocal(local))
        }
        _ => (
            "breakpoint".to_owned(),
            Action::Breakpoint { note: a.text("note")?.unwrap_or_default(), disabled: a.flag("disable")? },
        ),
    };
    Ok(Some(Step {
        name,
        place: file.place(block),
        action,
        pause_before: a.duration("pause_before")?.unwrap_or(Duration::ZERO),
        timeout: a.duration("timeout")?,
        max_retries: u32::try_from(a.whole("max_retries")?.unwrap_or(0)).unwrap_or(u32::MAX),
    }))
}

/// Reads a post-processor; `None` if `only` or `except` excludes the source.
pub(super) fn post(file: &File, block: &Block, scope: &Scope, request: &Request) -> Result<Option<PostProcessor>> {
    let kind = block.labels.first().map(hcl_edit::structure::BlockLabel::as_str).unwrap_or_default();
    let own: &[&str] = match kind {
        "manifest" => &["output", "strip_path", "strip_time", "custom_data"],
        "checksum" => &["checksum_types", "output"],
        "shell-local" => &["inline", "script", "scripts", "env", "environment_vars"],
        other => {
            return Err(file.unknown(
                span_of(block),
                "post-processor",
                other,
                &["manifest", "checksum", "shell-local"],
            ));
        }
    };
    refuse_on_host(kind, file, block, request)?;
    let known: Vec<&str> = own.iter().copied().chain(["only", "except", "name", "keep_input_artifact"]).collect();
    let a = scope.attributes(file, block, &known, &[])?;
    if !applies(&a, &request.source)? {
        return Ok(None);
    }
    if let Some(output) = a.text("output")?.filter(|_| request.foreign.is_some()) {
        let inside = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir);
        if !Path::new(&output).components().all(inside) {
            let message = format!(
                "the output `{output}` of a template that is not part of the project is not below its directory"
            );
            return Err(a.forbidden("output", message, "set a relative path without `..`"));
        }
    }
    Ok(Some(match kind {
        "manifest" => PostProcessor::Manifest {
            output: a.text("output")?.unwrap_or_else(|| "packer-manifest.json".to_owned()).into(),
            strip_path: a.flag("strip_path")?,
            custom_data: a.map("custom_data")?,
        },
        "checksum" => {
            let types = a.texts("checksum_types")?;
            // Each type is part of the name of a program, md5sum.
            if let Some(unknown) = types.iter().find(|kind| !CHECKSUMS.contains(&kind.as_str())) {
                let help = format!("use some of: {}", CHECKSUMS.join(", "));
                return Err(a.refuse("checksum_types", format!("unknown checksum type `{unknown}`"), help));
            }
            let types = if types.is_empty() { vec!["md5".to_owned()] } else { types };
            let output = a
                .text("output")?
                .unwrap_or_else(|| "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum".to_owned());
            PostProcessor::Checksum { types, output }
        }
        _ => PostProcessor::ShellLocal(shell_local(&a, request)?.1),
    }))
}

/// Appends a number to the names of steps that have the same name as an earlier one.
pub(super) fn make_unique(steps: &mut [Step]) {
    let names: Vec<String> = steps.iter().map(|s| s.name.clone()).collect();
    for (i, step) in steps.iter_mut().enumerate() {
        let same = names[..i].iter().filter(|n| **n == names[i]).count();
        if same > 0 {
            step.name = format!("{} {}", step.name, same + 1);
        }
    }
}

fn refuse_unsupported(file: &File, block: &Block) -> Result<()> {
    for attribute in block.body.attributes() {
        let name = attribute.key.as_str();
        if UNSUPPORTED.contains(&name) {
            let help = "remove it: not every engine implements it";
            return Err(file.unsupported(
                hcl_edit::Span::span(attribute),
                format!("Packer's `{name}` is not supported"),
                help,
            ));
        }
    }
    Ok(())
}

/// Refuses `shell-local` in a template from elsewhere: it would run programs of other people on this host.
fn refuse_on_host(kind: &str, file: &File, block: &Block, request: &Request) -> Result<()> {
    if kind != "shell-local" || request.foreign.is_none() {
        return Ok(());
    }
    let message = "`shell-local` in a template that is not part of the project would run on this host";
    Err(file.forbidden(
        span_of(block),
        message,
        "review the template and copy it into the project, or remove the block",
    ))
}

/// True if `only` and `except` include the source, which they name as `kind.name`.
fn applies(a: &Attributes<'_>, source: &str) -> Result<bool> {
    let (only, except) = (a.texts("only")?, a.texts("except")?);
    let names = |list: &[String]| list.iter().any(|n| n.trim_start_matches("source.") == source);
    if a.has("only") && a.has("except") {
        return Err(a.refuse("except", "`only` and `except` cannot be combined", "remove one of them"));
    }
    Ok(if a.has("only") { names(&only) } else { !names(&except) })
}

fn shell(a: &Attributes<'_>, request: &Request) -> Result<(String, Action)> {
    let shebang = a.text("inline_shebang")?.unwrap_or_else(|| "/bin/sh -e".to_owned());
    let (name, scripts) = scripts(a, request, Some(&shebang))?;
    let codes = a.get("valid_exit_codes").and_then(hcl::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let codes: Vec<i32> = codes.iter().filter_map(|v| v.as_i64().and_then(|n| i32::try_from(n).ok())).collect();
    let shell = Shell {
        scripts,
        env: environment(a)?,
        execute_command: a.text("execute_command")?.unwrap_or_else(|| EXECUTE_COMMAND.to_owned()),
        expect_disconnect: a.flag("expect_disconnect")?,
        valid_exit_codes: if codes.is_empty() { vec![0] } else { codes },
    };
    Ok((name, Action::Shell(shell)))
}

fn shell_local(a: &Attributes<'_>, request: &Request) -> Result<(String, ShellLocal)> {
    let (name, scripts) = scripts(a, request, None)?;
    Ok((name, ShellLocal { scripts, env: environment(a)? }))
}

/// The scripts, and the step's name. `shebang` is the interpreter for an `inline` list that is uploaded as a file.
fn scripts(a: &Attributes<'_>, request: &Request, shebang: Option<&str>) -> Result<(String, Vec<Script>)> {
    let mut paths = a.texts("scripts")?;
    paths.extend(a.text("script")?);
    let inline = a.texts("inline")?;
    let given = [a.has("script"), a.has("scripts"), a.has("inline")].into_iter().filter(|g| *g).count();
    if given != 1 {
        return Err(a.refuse(
            "inline",
            "not exactly one of `inline`, `script` and `scripts`",
            "set one of them; use a provisioner for each if you need several",
        ));
    }
    if !inline.is_empty() {
        let head = shebang.map_or(String::new(), |s| format!("#!{s}\n"));
        let content = format!("{head}{}\n", inline.join("\n")).into_bytes();
        return Ok(("shell".to_owned(), vec![Script { name: "inline".to_owned(), content }]));
    }
    let at = if a.has("script") { "script" } else { "scripts" };
    let mut scripts = Vec::new();
    for path in &paths {
        let full = normal(&request.root.join(path));
        confined(&full, request.tree()).map_err(|why| a.forbidden(at, why, NOT_ITS_OWN))?;
        let content = fs::read(&full).map_err(|e| {
            a.refuse(
                at,
                format!("cannot read the script: {e}"),
                "set a path relative to the project, or one that starts with ${path.root}",
            )
        })?;
        if content.starts_with(LFS) {
            return Err(a.refuse(at, format!("{path} is not a script but a pointer of Git LFS"), NOT_LFS));
        }
        scripts.push(Script { name: super::files::shown(&full, request.base()), content });
    }
    let stem = paths.first().and_then(|p| Path::new(p).file_stem()).map(|s| s.to_string_lossy().into_owned());
    Ok((stem.unwrap_or_else(|| "shell".to_owned()), scripts))
}

/// The environment of `environment_vars = ["A=1"]`, then that of `env = { A = "1" }`.
fn environment(a: &Attributes<'_>) -> Result<Vec<(String, String)>> {
    let mut env = Vec::new();
    for entry in a.texts("environment_vars")? {
        let Some((name, value)) = entry.split_once('=') else {
            return Err(a.refuse("environment_vars", format!("`{entry}` is not NAME=value"), "write NAME=value"));
        };
        env.push((name.to_owned(), value.to_owned()));
    }
    env.extend(a.map("env")?);
    Ok(env)
}

fn upload(a: &Attributes<'_>, request: &Request) -> Result<(String, Action)> {
    let Some(destination) = a.text("destination")? else {
        return Err(a.refuse("destination", "a file provisioner without `destination`", "set the path on the machine"));
    };
    if let Some(direction) = a.text("direction")?.filter(|d| d != "upload") {
        return Err(a.unsupported(
            "direction",
            format!("direction `{direction}` is not supported"),
            "remove the provisioner: only uploads change an image",
        ));
    }
    if let Some(content) = a.text("content")? {
        let name = Path::new(&destination).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let files = vec![UploadFile { path: name.clone().into(), content: content.into_bytes(), executable: false }];
        let upload = Upload { source: "content".to_owned(), destination, files, keep_dir_name: false };
        return Ok((format!("file {name}"), Action::Upload(upload)));
    }
    let mut sources = a.texts("sources")?;
    sources.extend(a.text("source")?);
    let [source] = sources.as_slice() else {
        return Err(a.unsupported(
            "sources",
            "not exactly one `source`, and no `content`",
            "set one; to upload several files, set a directory",
        ));
    };
    let full = normal(&request.root.join(source));
    let name = full.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let unreadable = |e: std::io::Error| {
        a.refuse(
            "source",
            format!("cannot read {}: {e}", full.display()),
            "set a path relative to the project, or one that starts with ${path.root}",
        )
    };
    confined(&full, request.tree()).map_err(|why| a.forbidden("source", why, NOT_ITS_OWN))?;
    let mut files = Vec::new();
    let is_dir = fs::metadata(&full).map_err(unreadable)?.is_dir();
    if is_dir {
        let mut left = match &request.foreign {
            Some(_) => Left { entries: FOREIGN_ENTRIES, bytes: Some(FOREIGN_BYTES) },
            None => Left { entries: MAX_ENTRIES, bytes: None },
        };
        collect(&full, &full, &mut Vec::new(), &mut files, &mut left).map_err(unreadable)?;
        files.sort_by(|x, y| x.path.cmp(&y.path));
    } else {
        files.push(read_file(&full, PathBuf::from(&name)).map_err(unreadable)?);
    }
    if let Some(pointer) = files.iter().find(|file| file.content.starts_with(LFS)) {
        let message = format!("{} is not the file but a pointer of Git LFS", pointer.path.display());
        return Err(a.refuse("source", message, NOT_LFS));
    }
    let keep_dir_name = is_dir && !source.ends_with('/');
    let upload = Upload { source: super::files::shown(&full, request.base()), destination, files, keep_dir_name };
    Ok((format!("file {name}"), Action::Upload(upload)))
}

/// What an upload may still contain.
struct Left {
    entries: usize,
    /// `None` for any size.
    bytes: Option<u64>,
}

impl Left {
    fn take(&mut self, root: &Path, bytes: u64) -> std::io::Result<()> {
        let Some(left) = &mut self.bytes else { return Ok(()) };
        let message = || format!("{} has more than {} MiB", root.display(), FOREIGN_BYTES >> 20);
        *left = left.checked_sub(bytes).ok_or_else(|| std::io::Error::other(message()))?;
        Ok(())
    }
}

/// Reads all files below a directory. `open` are the directories that contain it: a symbolic link to one of them has no end.
fn collect(
    root: &Path,
    dir: &Path,
    open: &mut Vec<PathBuf>,
    files: &mut Vec<UploadFile>,
    left: &mut Left,
) -> std::io::Result<()> {
    let real = fs::canonicalize(dir)?;
    if open.contains(&real) {
        return Err(std::io::Error::other(format!(
            "{} is a symbolic link to a directory that contains it",
            dir.display()
        )));
    }
    open.push(real);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        left.entries = left
            .entries
            .checked_sub(1)
            .ok_or_else(|| std::io::Error::other(format!("{} has too many files and directories", root.display())))?;
        if path.is_dir() {
            collect(root, &path, open, files, left)?;
        } else {
            left.take(root, fs::metadata(&path)?.len())?;
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            files.push(read_file(&path, relative)?);
        }
    }
    open.pop();
    Ok(())
}

fn read_file(path: &Path, name: PathBuf) -> std::io::Result<UploadFile> {
    use std::os::unix::fs::PermissionsExt as _;
    let executable = fs::metadata(path)?.permissions().mode() & 0o100 != 0;
    Ok(UploadFile { path: name, content: fs::read(path)?, executable })
}
