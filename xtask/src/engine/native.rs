//! The native engine: the guide's section 6, automated. Packer's provisioners over one SSH connection.
//!
//! Behaviour follows Packer's shell and file provisioners (developer.hashicorp.com/packer/docs/provisioners/shell), because
//! the template is written for Packer and must mean the same here.

use std::path::Path;
use std::time::Duration;

use super::Options;
use crate::cloud::{Identity, Machine};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Observer, Phase};
use crate::process::{Cmd, Ended, Tail, quote};
use crate::recipe::{Action, Place, Recipe, Script, Shell, ShellLocal, Step, Upload};
use crate::remote::Remote;
use crate::signals;

/// Where the engine's own words to the manifest step go.
const MANIFEST: &str = "/etc/agent-ami/manifest.json";
/// Time between two tries of a step.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Runs one step.
pub fn run<M: Machine>(
    machine: &mut M,
    step: &Step,
    recipe: &Recipe,
    options: &Options,
    events: &dyn Observer,
) -> Result<()> {
    if !step.pause_before.is_zero() {
        signals::pause(step.pause_before)?;
    }
    let mut tries_left = step.max_retries;
    loop {
        let result = match &step.action {
            Action::Shell(shell) => run_shell(machine, step, shell, recipe, options, events),
            Action::Upload(upload) => run_upload(machine.remote(), upload),
            Action::ShellLocal(local) => run_local(step, local, options, events),
            Action::Breakpoint { note, disabled } => breakpoint(machine, note, *disabled, events),
        };
        match result {
            Err(error) if tries_left > 0 && error.exit() != Exit::Interrupted => {
                tries_left -= 1;
                let message = format!("{} failed and is tried again ({tries_left} tries left): {error}", step.name);
                events.event(Event::Warning { message, hint: "max_retries in the template says how often".to_owned() });
                signals::pause(RETRY_PAUSE)?;
            }
            result => return result,
        }
    }
}

/// Writes what only the engine knows into the image's manifest.
pub fn seal(remote: &dyn Remote, build: &serde_json::Value) -> Result<()> {
    let staged = "/tmp/agent-ami-build.json";
    remote.put(build.to_string().as_bytes(), staged, 0o644)?;
    // Python, not jq: every base has it (cloud-init needs it), and the recipe may not install jq.
    let merge = format!(
        "import json, os; p = '{MANIFEST}'; os.makedirs(os.path.dirname(p), exist_ok=True); \
         m = json.load(open(p)) if os.path.exists(p) else {{}}; m['build'] = json.load(open('{staged}')); \
         json.dump(m, open(p + '.new', 'w'), indent=2); os.chmod(p + '.new', 0o644); os.replace(p + '.new', p)"
    );
    remote.read(&format!("sudo python3 -c {} && rm -f {staged}", quote(&merge))).map(drop)
}

/// Keeps apt's own jobs away until the next boot: they would take its lock in the middle of a step. The drop-ins lie in /run.
///
/// Told over SSH when the boot is through, not to cloud-init: a `daemon-reload` inside the boot runs all generators again, and
/// with them cloud-init's own, while systemd is still working off its first transaction.
pub fn hold_apt(remote: &dyn Remote) -> Result<()> {
    const HOLD: &str = "for unit in apt-daily apt-daily-upgrade; do dir=/run/systemd/system/$unit.service.d; mkdir -p $dir; \
                        printf '[Unit]\\nConditionPathExists=/run/agent-ami-idle\\n' >$dir/agent-ami.conf; done; \
                        systemctl daemon-reload; systemctl stop apt-daily.service apt-daily-upgrade.service";
    remote.read(&format!("sudo sh -euc {}", quote(HOLD))).map(drop)
}

/// Who the machine is: its SSH host keys and its machine-id.
pub fn identity(remote: &dyn Remote) -> Result<Identity> {
    let text = remote.read("for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -l -f \"$key\"; done")?;
    let mut keys: Vec<String> = text.lines().filter_map(|l| l.split_whitespace().nth(1)).map(str::to_owned).collect();
    keys.sort();
    keys.dedup();
    let machine_id = remote.read("cat /etc/machine-id")?.trim().to_owned();
    Ok(Identity { host_keys: keys, machine_id })
}

fn run_shell<M: Machine>(
    machine: &mut M,
    step: &Step,
    shell: &Shell,
    recipe: &Recipe,
    options: &Options,
    events: &dyn Observer,
) -> Result<()> {
    for (i, script) in shell.scripts.iter().enumerate() {
        let path = format!("/tmp/script_{}_{i}.sh", std::process::id());
        machine.remote().put(&script.content, &path, 0o755)?;
        let command = expand(&shell.execute_command, &variables(shell, recipe), &path);
        let mut said = Tail::default();
        let ended = machine.remote().stream(&command, step.timeout, &mut |stream, line| {
            said.push(line);
            events.event(Event::StepOutput { name: step.name.clone(), stream, line: line.to_owned() });
        })?;
        match ended {
            Some(Ended::Code(code)) if shell.valid_exit_codes.contains(&code) => {
                // A script that removed /tmp removed itself too.
                machine.remote().output(&format!("rm -f {path}"), b"")?;
            }
            None if shell.expect_disconnect => {
                let told = |message: &str| {
                    events.event(Event::Progress { phase: Phase::Build, message: message.to_owned(), fraction: None });
                };
                machine.reboot_finished(&told)?;
                hold_apt(machine.remote())?;
            }
            ended => return Err(failed(step, script, ended, &said, &options.again, &machine.console())),
        }
    }
    Ok(())
}

/// `{{ .Vars }}`: the step's environment and what Packer always sets.
fn variables(shell: &Shell, recipe: &Recipe) -> String {
    let always = [
        ("PACKER_BUILDER_TYPE".to_owned(), recipe.source.kind.clone()),
        ("PACKER_BUILD_NAME".to_owned(), recipe.source.name.clone()),
    ];
    let all = always.iter().chain(&shell.env);
    all.map(|(name, value)| format!("{name}='{}' ", value.replace('\'', r#"'"'"'"#))).collect()
}

/// Replaces `{{ .Vars }}` and `{{ .Path }}`, with or without spaces inside the braces.
fn expand(template: &str, vars: &str, path: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else {
            out.push_str("{{");
            rest = after;
            continue;
        };
        match name.trim() {
            ".Vars" => out.push_str(vars),
            ".Path" => out.push_str(path),
            _ => out.extend(["{{", name, "}}"]),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn failed(step: &Step, script: &Script, ended: Option<Ended>, said: &Tail, again: &str, console: &str) -> Error {
    let how = match ended {
        Some(Ended::Code(code)) => format!("exit code {code}"),
        Some(Ended::TimedOut) => format!("no end within {} s", step.timeout.unwrap_or_default().as_secs()),
        None => {
            let words = crate::process::tail(console, 10);
            format!(
                "the connection was lost (`expect_disconnect = true` in the template would allow that); the console ends with\n{words}"
            )
        }
    };
    let place = format!("{}:{}", step.place.file.display(), step.place.line);
    Exit::Failed.error(
        format_args!("step {} failed: {}, {how} ({place})\n{said}", step.name, script.name),
        format_args!(
            "fix {} and run `{again}`: it goes on from the layer before this step; with `--keep-on-failure` the machine stays up to look at",
            script.name
        ),
    )
}

fn run_upload(remote: &dyn Remote, upload: &Upload) -> Result<()> {
    // scp keeps modes and takes whole folders at once; the recipe's bytes are what counts, not what the disk has by now.
    let staging = tempfile::tempdir()?;
    let mut roots: Vec<std::path::PathBuf> = Vec::new();
    for file in &upload.files {
        let local = staging.path().join(&file.path);
        if let Some(parent) = local.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::write(&local, &file.content)?;
        set_mode(&local, if file.executable { 0o755 } else { 0o644 })?;
        let root = file.path.components().next().map(|c| staging.path().join(c));
        roots.extend(root.filter(|r| !roots.contains(r)));
    }
    let single = upload.files.len() == 1 && upload.files[0].path.components().count() == 1;
    if single && !upload.destination.ends_with('/') && !upload.keep_folder_name {
        return roots.iter().try_for_each(|root| remote.upload(root, &upload.destination));
    }
    let mut folder = upload.destination.trim_end_matches('/').to_owned();
    if upload.keep_folder_name
        && let Some(name) = Path::new(&upload.source).file_name()
    {
        folder = format!("{folder}/{}", name.to_string_lossy());
    }
    // Packer's file provisioner makes no folder ("the destination directory must already exist"), so neither do we: a template that
    // works here must work there.
    let there = if upload.destination == "/" { "/" } else { upload.destination.trim_end_matches('/') };
    if remote.output(&format!("test -d {}", quote(there)), b"")?.code != 0 {
        return Err(Exit::Failed.error(
            format_args!("{there} is no folder on the machine, and the file provisioner makes none"),
            format_args!("make it in a step before: inline = [\"mkdir -p {there}\"]"),
        ));
    }
    remote.read(&format!("mkdir -p {}", quote(&folder)))?;
    roots.iter().try_for_each(|root| remote.upload(root, &format!("{folder}/")))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

/// Runs a `shell-local` post-processor.
pub(super) fn run_post(local: &ShellLocal, options: &Options, events: &dyn Observer) -> Result<()> {
    let step = Step {
        name: "shell-local".to_owned(),
        place: Place { file: "post-processor".into(), line: 0 },
        action: Action::ShellLocal(local.clone()),
        pause_before: Duration::ZERO,
        timeout: None,
        max_retries: 0,
    };
    run_local(&step, local, options, events)
}

fn run_local(step: &Step, local: &ShellLocal, options: &Options, events: &dyn Observer) -> Result<()> {
    for script in &local.scripts {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut file, &script.content)?;
        let mut cmd = Cmd::new("/bin/sh").arg("-e").arg(file.path()).dir(&options.root);
        for (name, value) in &local.env {
            cmd = cmd.env(name, value);
        }
        let mut said = Tail::default();
        let ended = cmd.stream(step.timeout, |stream, line| {
            said.push(line);
            events.event(Event::StepOutput { name: step.name.clone(), stream, line: line.to_owned() });
        })?;
        if ended != Ended::Code(0) {
            return Err(failed(step, script, Some(ended), &said, &options.again, ""));
        }
    }
    Ok(())
}

/// Waits for a person, who goes on by removing a file: standard input may be no terminal.
fn breakpoint<M: Machine>(machine: &mut M, note: &str, disabled: bool, events: &dyn Observer) -> Result<()> {
    if disabled {
        events.event(Event::Note { message: format!("breakpoint passed by (disable = true): {note}") });
        return Ok(());
    }
    let flag = "/tmp/agent-ami-breakpoint";
    machine.remote().put(note.as_bytes(), flag, 0o644)?;
    let login = machine.remote().login_line();
    let message = format!("breakpoint: {note}\nlook around: {login}\ngo on:       {login} rm {flag}");
    events.event(Event::Note { message });
    while machine.remote().output(&format!("test -e {flag}"), b"")?.code == 0 {
        signals::pause(Duration::from_secs(1))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_execute_command_is_expanded_as_packer_does() {
        let template = "chmod +x {{ .Path }}; sudo env {{.Vars}}{{ .Path }} {{ .Other }}";
        let text = expand(template, "A='1' ", "/tmp/s.sh");
        assert_eq!(text, "chmod +x /tmp/s.sh; sudo env A='1' /tmp/s.sh {{ .Other }}");
        assert_eq!(expand("{{ .Path", "", "p"), "{{ .Path");
    }
}
