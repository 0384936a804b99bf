//! sshd: the effective options, and logins that must be refused.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use smoke::spec::Sshd;

use crate::check::{Check, CheckResult, Host};
use crate::exec::Output;
use crate::instance::Scratch;

/// Comment of the key that these checks add, and output of a successful login.
const MARK: &str = "agent-ami-smoke";
/// A user that exists during one check.
const GUEST: &str = "agent-ami-guest";

pub(super) fn all(sshd: Option<&Sshd>) -> Vec<Check> {
    let Some(Sshd { effective, try_logins }) = sshd.cloned() else { return vec![] };
    let option = |(name, expected): (String, String)| {
        Check::new(format!("sshd-{name}"), move |host| effective_value(host, &name, &expected))
    };
    let mut checks: Vec<Check> = effective.into_iter().map(option).collect();
    if try_logins {
        checks.push(Check::new("root-login-refused", root_login));
        checks.push(Check::new("password-login-refused", password_login));
    }
    checks
}

/// The effective value of an option, with drop-ins and Match blocks, for root and for the login user (sshd(8), -T and -C).
fn effective_value(host: &Host, name: &str, expected: &str) -> CheckResult {
    for user in ["root", &host.user.name] {
        let options = effective(host, user)?;
        // An option may have more than one value: `port`.
        let found: Vec<&str> = options.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).collect();
        let found = if found.is_empty() { "not set".to_owned() } else { found.join(" and ") };
        if !found.eq_ignore_ascii_case(expected) {
            return Err(format!("{name} is {found} for {user}, expected {expected}").into());
        }
    }
    Ok(expected.to_owned())
}

/// Output of `sshd -T` for a user who connects from another host.
pub(super) fn effective(host: &Host, user: &str) -> Result<String, String> {
    host.once(&format!("sshd -T for {user}"), || {
        // sshd requires this directory. With ssh.socket, systemd creates it at the first connection.
        fs::create_dir_all("/run/sshd").map_err(|e| format!("/run/sshd: {e}"))?;
        host.stdout(&["sshd", "-T", "-C", &format!("user={user},host=unknown,addr=192.0.2.1")])
    })
}

/// sshd refuses root with a key that it accepts for the login user.
fn root_login(host: &Host) -> CheckResult {
    let scratch = host.scratch()?;
    let key = scratch.join("key");
    host.stdout(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", MARK, "-f", &key])?;
    let public = fs::read_to_string(format!("{key}.pub"))?;
    let user = &host.user;
    let _root = Authorized::add(Path::new("/root"), (0, 0), &public)?;
    let _user = Authorized::add(&user.home, (user.uid, user.gid), &public)?;
    let options = ["-i", &key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"];
    // The control: if sshd refused everyone, the refusal of root would prove nothing.
    let control = login(host, &scratch, &user.name, &options, &[])?;
    if !control.stdout.contains(MARK) {
        return Err(format!(
            "the control failed: {} cannot log in with the key either: ssh {}",
            user.name,
            control.summary()
        )
        .into());
    }
    let output = login(host, &scratch, "root", &options, &[])?;
    if output.stdout.contains(MARK) || !output.stderr.contains("Permission denied") {
        return Err(format!("root with an authorized key was not refused: ssh {}", output.summary()).into());
    }
    Ok(format!("the key is accepted for {} and refused for root", user.name))
}

/// sshd refuses a user with the correct password.
fn password_login(host: &Host) -> CheckResult {
    let scratch = host.scratch()?;
    let password = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    let _guest = Guest::add(host, &password)?;
    // ssh reads the password from the output of this program (ssh(1), SSH_ASKPASS).
    let askpass = scratch.write("askpass", &format!("#!/bin/sh\necho {password}\n"))?;
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700))?;
    let environment = [format!("SSH_ASKPASS={askpass}"), "SSH_ASKPASS_REQUIRE=force".to_owned()];
    let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
    let methods = "PreferredAuthentications=password,keyboard-interactive";
    let options = ["-o", methods, "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"];
    let output = login(host, &scratch, GUEST, &options, &environment)?;
    if output.stdout.contains(MARK) || !output.stderr.contains("Permission denied") {
        return Err(format!("the correct password was not refused: ssh {}", output.summary()).into());
    }
    Ok("the correct password is refused".to_owned())
}

/// Logs in over the loopback interface, which fail2ban ignores, and runs `echo MARK`.
fn login(host: &Host, scratch: &Scratch, user: &str, options: &[&str], env: &[&str]) -> Result<Output, String> {
    let known = format!("UserKnownHostsFile={}", scratch.join("known_hosts"));
    let to = format!("{user}@127.0.0.1");
    let mut line = vec!["env"];
    line.extend(env);
    line.extend(["ssh", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", &known, "-o", "ConnectTimeout=60"]);
    line.extend(options);
    line.extend([to.as_str(), "echo", MARK]);
    host.run(&line)
}

/// A key in the `authorized_keys` of a home; dropping this removes it.
struct Authorized {
    file: PathBuf,
    created_file: bool,
}

impl Authorized {
    fn add(home: &Path, owner: (u32, u32), public: &str) -> Result<Self, String> {
        let dir = home.join(".ssh");
        let failure = |e: std::io::Error| format!("{}: {e}", dir.display());
        if !dir.exists() {
            fs::create_dir(&dir).map_err(failure)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(failure)?;
            chown(&dir, Some(owner.0), Some(owner.1)).map_err(failure)?;
        }
        let file = dir.join("authorized_keys");
        let created_file = !file.exists();
        let mut open = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&file).map_err(failure)?;
        let added = Self { file, created_file };
        // sshd accepts the key only for connections from the instance itself.
        writeln!(open, "\nfrom=\"127.0.0.1\" {}", public.trim()).map_err(failure)?;
        chown(&added.file, Some(owner.0), Some(owner.1)).map_err(failure)?;
        Ok(added)
    }
}

impl Drop for Authorized {
    fn drop(&mut self) {
        let Ok(text) = fs::read_to_string(&self.file) else { return };
        let kept: String =
            text.lines().filter(|l| !l.ends_with(MARK) && !l.is_empty()).map(|l| format!("{l}\n")).collect();
        let _ = if kept.is_empty() && self.created_file {
            fs::remove_file(&self.file)
        } else {
            fs::write(&self.file, kept)
        };
    }
}

/// A user with a password; dropping this removes it.
struct Guest<'a> {
    host: &'a Host,
}

impl<'a> Guest<'a> {
    fn add(host: &'a Host, password: &str) -> Result<Self, String> {
        let guest = Self { host };
        guest.remove();
        host.stdout(&["useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", GUEST])?;
        let line = format!("echo '{GUEST}:{password}' | chpasswd");
        host.stdout(&["sh", "-c", &line])?;
        Ok(guest)
    }

    fn remove(&self) {
        // If the login succeeded, the user has a service manager. It must stop before the user is removed: otherwise it hangs, is killed
        // after two minutes, and is a failed unit.
        if let Ok(uid) = self.host.stdout(&["id", "-u", GUEST]) {
            let _ = self.host.run(&["systemctl", "stop", &format!("user@{}.service", uid.trim())]);
        }
        let _ = self.host.run(&["userdel", "--force", GUEST]);
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
