//! The native engine: runs Packer's provisioners over one SSH connection.
//!
//! It behaves as Packer's shell and file provisioners do (developer.hashicorp.com/packer/docs/provisioners/shell), so that a
//! template has the same effect with both engines.

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

/// The image's manifest, to which [`seal`] adds facts about the build.
const MANIFEST: &str = "/etc/agent-ami/manifest.json";
/// Time before a failed step is run again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Runs one step, and up to `max_retries` more times if it fails.
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
    let mut retries_left = step.max_retries;
    loop {
        let result = match &step.action {
            Action::Shell(shell) => run_shell(machine, step, shell, recipe, options, events),
            Action::Upload(upload) => run_upload(machine.remote(), upload),
            Action::ShellLocal(local) => run_local(step, local, options, events),
            Action::Breakpoint { note, disabled } => breakpoint(machine, (note, *disabled), options, events),
        };
        match result {
            Err(error)
                if retries_left > 0 && error.exit() != Exit::Interrupted && !options.deadline.limit(None).is_zero() =>
            {
                retries_left -= 1;
                let message = format!("{} failed and is run again ({retries_left} retries left): {error}", step.name);
                let hint = "set `max_retries` in the template to change the number of retries".to_owned();
                events.event(Event::Warning { message, hint });
                signals::pause(RETRY_PAUSE)?;
            }
            result => return result,
        }
    }
}

/// Writes facts about the build, which the template does not have, into the image's manifest.
pub fn seal(remote: &dyn Remote, build: &serde_json::Value) -> Result<()> {
    let staged = "/tmp/agent-ami-build.json";
    remote.put(build.to_string().as_bytes(), staged, 0o644)?;
    // Python, because cloud-init requires it and so every base has it. A recipe need not install jq.
    let merge = format!(
        "import json, os; p = '{MANIFEST}'; os.makedirs(os.path.dirname(p), exist_ok=True); \
         m = json.load(open(p)) if os.path.exists(p) else {{}}; m['build'] = json.load(open('{staged}')); \
         json.dump(m, open(p + '.new', 'w'), indent=2); os.chmod(p + '.new', 0o644); os.replace(p + '.new', p)"
    );
    remote.read(&format!("sudo python3 -c {} && rm -f {staged}", quote(&merge))).map(drop)
}

/// Prevents apt's scheduled services from running until the next boot, by drop-ins below /run: they would hold apt's lock during a step.
///
/// This is done over SSH after the boot and not by cloud-init: a `daemon-reload` during the boot runs all generators again, including
/// cloud-init's, while systemd still processes its first transaction.
pub fn hold_apt(remote: &dyn Remote) -> Result<()> {
    const HOLD: &str = "for unit in apt-daily apt-daily-upgrade; do dir=/run/systemd/system/$unit.service.d; mkdir -p $dir; \
                        printf '[Unit]\\nConditionPathExists=/run/agent-ami-idle\\n' >$dir/agent-ami.conf; done; \
                        systemctl daemon-reload; systemctl stop apt-daily.service apt-daily-upgrade.service";
    remote.read(&format!("sudo sh -euc {}", quote(HOLD))).map(drop)
}

/// Removes what the provider put on the builder: the key of the run, and the CA certificates of this host. The project's own template does this
/// in its last step; a template that is not part of the project does not know of it. Without certificates and key it changes nothing.
pub fn remove_traces(remote: &dyn Remote, run: &str) -> Result<()> {
    // A key's comment ends with the run's id, on EC2 as part of the key pair's name.
    const REMOVE: &str = "for keys in /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys; do \
                          if [ -f \"$keys\" ]; then sed -i \"/$0/d\" \"$keys\"; fi; done; \
                          if ls /usr/local/share/ca-certificates/cloud-init-ca-cert-*.crt >/dev/null 2>&1; then \
                          rm -f /usr/local/share/ca-certificates/cloud-init-ca-cert-*.crt; update-ca-certificates --fresh >/dev/null; fi";
    remote.read(&format!("sudo sh -euc {} {}", quote(REMOVE), quote(run))).map(drop)
}

/// Reads the fingerprints of the machine's SSH host keys, and its machine-id.
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
        let mut output = Tail::default();
        let ended =
            machine.remote().stream(&command, Some(options.deadline.limit(step.timeout)), &mut |stream, line| {
                output.push(line);
                events.event(Event::StepOutput { name: step.name.clone(), stream, line: line.to_owned() });
            })?;
        match ended {
            Some(Ended::Code(code)) if shell.valid_exit_codes.contains(&code) => {
                // The exit code is ignored: a script that empties /tmp deletes its own file, too.
                machine.remote().output(&format!("rm -f {path}"), b"")?;
            }
            None if shell.expect_disconnect => {
                let on_progress = |message: &str| {
                    events.event(Event::Progress { phase: Phase::Build, message: message.to_owned(), fraction: None });
                };
                machine.reboot_finished(&on_progress)?;
                hold_apt(machine.remote())?;
            }
            ended => return Err(failed(step, script, ended, &output, options, &machine.console())),
        }
    }
    Ok(())
}

/// The value of `{{ .Vars }}`: the variables that Packer always sets, then those of the step.
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

fn failed(
    step: &Step,
    script: &Script,
    ended: Option<Ended>,
    output: &Tail,
    options: &Options,
    console: &str,
) -> Error {
    let how = match ended {
        Some(Ended::Code(code)) => format!("exit code {code}"),
        Some(Ended::TimedOut) => options.deadline.timed_out(step.timeout),
        None => {
            let lines = crate::process::tail(console, 10);
            format!(
                "the connection was lost (`expect_disconnect = true` in the template allows that); the last lines of the console:\n{lines}"
            )
        }
    };
    let place = format!("{}:{}", step.place.file.display(), step.place.line);
    let error = Exit::Failed.error(
        format_args!("step {} failed: {}, {how} ({place})\n{output}", step.name, script.name),
        format_args!(
            "fix {} and run `{}`, which starts from the last cached layer, if there is one; pass `--keep-on-failure` to keep the machine for inspection",
            script.name, options.again
        ),
    );
    match ended {
        Some(Ended::Code(code)) => error.of_command(code),
        _ => error,
    }
}

fn run_upload(remote: &dyn Remote, upload: &Upload) -> Result<()> {
    // The files are written to a temporary directory first: scp uploads whole directories with their modes, and the files of the recipe may
    // have changed on the disk since they were read.
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
    if single && !upload.destination.ends_with('/') && !upload.keep_dir_name {
        return roots.iter().try_for_each(|root| remote.upload(root, &upload.destination));
    }
    let mut dir = upload.destination.trim_end_matches('/').to_owned();
    if upload.keep_dir_name
        && let Some(name) = Path::new(&upload.source).file_name()
    {
        dir = format!("{dir}/{}", name.to_string_lossy());
    }
    // Packer's file provisioner does not create the destination ("the destination directory must already exist"). Neither does this engine,
    // so that a template that works with it works with Packer as well.
    let destination = if upload.destination == "/" { "/" } else { upload.destination.trim_end_matches('/') };
    if remote.output(&format!("test -d {}", quote(destination)), b"")?.code != 0 {
        return Err(Exit::Failed.error(
            format_args!(
                "{destination} is not a directory on the machine, and the file provisioner does not create it"
            ),
            format_args!("create it in an earlier step: inline = [\"mkdir -p {destination}\"]"),
        ));
    }
    remote.read(&format!("mkdir -p {}", quote(&dir)))?;
    roots.iter().try_for_each(|root| remote.upload(root, &format!("{dir}/")))
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
        let mut output = Tail::default();
        let ended = cmd.stream(Some(options.deadline.limit(step.timeout)), |stream, line| {
            output.push(line);
            events.event(Event::StepOutput { name: step.name.clone(), stream, line: line.to_owned() });
        })?;
        if ended != Ended::Code(0) {
            return Err(failed(step, script, Some(ended), &output, options, ""));
        }
    }
    Ok(())
}

/// Waits until the user deletes a file on the machine. Standard input is not used, because it may not be a terminal.
fn breakpoint<M: Machine>(
    machine: &mut M,
    (note, disabled): (&str, bool),
    options: &Options,
    events: &dyn Observer,
) -> Result<()> {
    if disabled {
        events.event(Event::Note { message: format!("breakpoint skipped (disable = true): {note}") });
        return Ok(());
    }
    let flag = "/tmp/agent-ami-breakpoint";
    machine.remote().put(note.as_bytes(), flag, 0o644)?;
    let login = machine.remote().login_line();
    let message = format!("breakpoint: {note}\nconnect:  {login}\ncontinue: {login} rm {flag}");
    events.event(Event::Note { message });
    while machine.remote().output(&format!("test -e {flag}"), b"")?.code == 0 {
        if options.deadline.limit(None).is_zero() {
            let hint = "raise `build_timeout_secs` in ami.toml to have more time at a breakpoint";
            return Err(Exit::Failed.error(format_args!("breakpoint: {}", options.deadline.timed_out(None)), hint));
        }
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
