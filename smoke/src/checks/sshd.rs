//! sshd: the values that are in effect, and logins that must really be refused.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use smoke::spec::Sshd;

use super::{Check, Host, Verdict};
use crate::exec::Output;
use crate::instance::Scratch;

/// Marks what these checks write into files of the instance.
const MARK: &str = "agent-ami-smoke";
/// A user who exists for the moment of one check.
const GUEST: &str = "agent-ami-guest";

pub(super) fn all(sshd: Option<&Sshd>) -> Vec<Check> {
    let Some(Sshd { effective, try_logins }) = sshd.cloned() else { return vec![] };
    let option = |(name, wanted): (String, String)| {
        Check::new(format!("sshd-{name}"), move |host| effective_value(host, &name, &wanted))
    };
    let mut checks: Vec<Check> = effective.into_iter().map(option).collect();
    if try_logins {
        checks.push(Check::new("root-login-refused", root_login));
        checks.push(Check::new("password-login-refused", password_login));
    }
    checks
}

/// What sshd makes of all its files, for root and for the login user: drop-ins and Match blocks count (sshd(8), -T and -C).
fn effective_value(host: &Host, name: &str, wanted: &str) -> Verdict {
    for user in ["root", &host.user.name] {
        let said = effective(host, user)?;
        // An option may be set more than once: `port`.
        let found: Vec<&str> = said.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).collect();
        let found = if found.is_empty() { "not set".to_owned() } else { found.join(" and ") };
        if !found.eq_ignore_ascii_case(wanted) {
            return Err(format!("{name} is {found} for {user}, wanted {wanted}").into());
        }
    }
    Ok(wanted.to_owned())
}

/// What sshd does for one user.
pub(super) fn effective(host: &Host, user: &str) -> Result<String, String> {
    host.once(&format!("sshd -T for {user}"), || {
        // sshd does not start without it, and where it is started by a socket nobody has made it yet.
        fs::create_dir_all("/run/sshd").map_err(|e| format!("/run/sshd: {e}"))?;
        host.ask(&["sshd", "-T", "-C", &format!("user={user},host=stranger,addr=192.0.2.1")])
    })
}

/// A key that opens the login user's account does not open root's.
fn root_login(host: &Host) -> Verdict {
    let scratch = host.scratch()?;
    let key = scratch.join("key");
    host.ask(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", MARK, "-f", &key])?;
    let public = fs::read_to_string(format!("{key}.pub"))?;
    let user = &host.user;
    let _root = Authorized::add(Path::new("/root"), (0, 0), &public)?;
    let _user = Authorized::add(&user.home, (user.uid, user.gid), &public)?;
    let options = ["-i", &key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"];
    // Without this a refusal would prove nothing.
    let control = login(host, &scratch, &user.name, &options, &[])?;
    if !control.stdout.contains(MARK) {
        return Err(format!(
            "the control failed: {} cannot log in with the key either; ssh {}",
            user.name,
            control.gist()
        )
        .into());
    }
    let output = login(host, &scratch, "root", &options, &[])?;
    if output.stdout.contains(MARK) || !output.stderr.contains("Permission denied") {
        return Err(format!("root with an authorized key was not refused; ssh {}", output.gist()).into());
    }
    Ok(format!("the key lets {} in, but not root", user.name))
}

/// A user with a password, who gives the right one, is refused.
fn password_login(host: &Host) -> Verdict {
    let scratch = host.scratch()?;
    let password = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    let _guest = Guest::add(host, &password)?;
    // ssh asks this program for the password (ssh(1), SSH_ASKPASS).
    let ask = scratch.write("askpass", &format!("#!/bin/sh\necho {password}\n"))?;
    fs::set_permissions(&ask, fs::Permissions::from_mode(0o700))?;
    let environment = [format!("SSH_ASKPASS={ask}"), "SSH_ASKPASS_REQUIRE=force".to_owned()];
    let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
    let methods = "PreferredAuthentications=password,keyboard-interactive";
    let options = ["-o", methods, "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"];
    let output = login(host, &scratch, GUEST, &options, &environment)?;
    if output.stdout.contains(MARK) || !output.stderr.contains("Permission denied") {
        return Err(format!("the right password was not refused; ssh {}", output.gist()).into());
    }
    Ok("a user who gives the right password is refused".to_owned())
}

/// Logs in over the loopback, which fail2ban does not count, and says [`MARK`] there.
fn login(host: &Host, scratch: &Scratch, user: &str, options: &[&str], env: &[&str]) -> Result<Output, String> {
    let known = format!("UserKnownHostsFile={}", scratch.join("known_hosts"));
    let to = format!("{user}@127.0.0.1");
    let mut line = vec!["env"];
    line.extend(env);
    line.extend(["ssh", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", &known, "-o", "ConnectTimeout=60"]);
    line.extend(options);
    line.extend([to.as_str(), "echo", MARK]);
    host.root(&line, host.deadline)
}

/// A line in a home's `authorized_keys` that goes when it is dropped.
struct Authorized {
    file: PathBuf,
    made_file: bool,
}

impl Authorized {
    fn add(home: &Path, owner: (u32, u32), public: &str) -> Result<Self, String> {
        let dir = home.join(".ssh");
        let told = |e: std::io::Error| format!("{}: {e}", dir.display());
        if !dir.exists() {
            fs::create_dir(&dir).map_err(told)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(told)?;
            chown(&dir, Some(owner.0), Some(owner.1)).map_err(told)?;
        }
        let file = dir.join("authorized_keys");
        let made_file = !file.exists();
        let mut open = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&file).map_err(told)?;
        let added = Self { file, made_file };
        // Usable from the instance itself only.
        writeln!(open, "\nfrom=\"127.0.0.1\" {}", public.trim()).map_err(told)?;
        chown(&added.file, Some(owner.0), Some(owner.1)).map_err(told)?;
        Ok(added)
    }
}

impl Drop for Authorized {
    fn drop(&mut self) {
        let Ok(text) = fs::read_to_string(&self.file) else { return };
        let kept: String =
            text.lines().filter(|l| !l.ends_with(MARK) && !l.is_empty()).map(|l| format!("{l}\n")).collect();
        let _ =
            if kept.is_empty() && self.made_file { fs::remove_file(&self.file) } else { fs::write(&self.file, kept) };
    }
}

/// A user with a password, who goes when it is dropped.
struct Guest<'a> {
    host: &'a Host,
}

impl<'a> Guest<'a> {
    fn add(host: &'a Host, password: &str) -> Result<Self, String> {
        let guest = Self { host };
        guest.remove();
        host.ask(&["useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", GUEST])?;
        let line = format!("echo '{GUEST}:{password}' | chpasswd");
        host.ask(&["sh", "-c", &line])?;
        Ok(guest)
    }

    fn remove(&self) {
        // A session that should not have been: its service manager ends before its user does. Else it hangs at its end, is killed after two
        // minutes, and counts as a failed unit.
        if let Ok(uid) = self.host.ask(&["id", "-u", GUEST]) {
            let _ = self.host.root(&["systemctl", "stop", &format!("user@{}.service", uid.trim())], self.host.deadline);
        }
        let _ = self.host.root(&["userdel", "--force", GUEST], self.host.deadline);
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
