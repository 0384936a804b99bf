//! Accounts that can log in or become root: passwords, shells, groups, sudo.

use smoke::spec::Accounts;

use crate::check::{Check, CheckResult, Host};

/// Groups whose members can become root without a password or read files of root (Debian's base-passwd, "Users and groups"; members of
/// docker and lxd can start containers that mount the root directory of the host).
const PRIVILEGED_GROUPS: [&str; 10] =
    ["root", "sudo", "admin", "wheel", "docker", "lxd", "disk", "kmem", "shadow", "incus-admin"];

/// Programs that exit at once when used as a login shell. Debian's account `sync` runs sync(1).
const NO_SHELLS: [&str; 4] = ["nologin", "false", "sync", "true"];

pub(super) fn all(accounts: Option<&Accounts>) -> Vec<Check> {
    let Some(accounts) = accounts.cloned() else { return vec![] };
    let other = accounts.clone();
    vec![
        Check::new("accounts", move |host| check_accounts(host, &accounts)),
        Check::new("sudo", move |host| check_sudo(host, &other)),
    ]
}

/// Only root has uid 0, no account or group has a password, and only the accounts of the spec have a shell or are in privileged groups.
fn check_accounts(host: &Host, expected: &Accounts) -> CheckResult {
    let passwd = host.database("passwd")?;
    let shadow = host.database("shadow")?;
    let group = host.database("group")?;
    let gshadow = host.database("gshadow")?;
    let mut findings = uids_and_shells(&passwd, &expected.shells);
    findings.extend(passwords(&shadow));
    findings.extend(passwords(&gshadow).into_iter().map(|finding| format!("group {finding}")));
    findings.extend(privileged_members(&passwd, &group, &expected.sudo));
    if findings.is_empty() {
        return Ok(format!(
            "{} accounts, shells for {} only, no passwords",
            passwd.lines().count(),
            expected.shells.join(", ")
        ));
    }
    Err(findings.join("; ").into())
}

fn uids_and_shells(passwd: &str, shells: &[String]) -> Vec<String> {
    let mut findings = Vec::new();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, password, uid, _, _, _, shell] = fields[..] else {
            findings.push(format!("`{line}` is not a valid entry of passwd"));
            continue;
        };
        if uid.parse::<u32>() == Ok(0) && name != "root" {
            findings.push(format!("{name} has uid 0"));
        }
        if !["x", "*", "!"].contains(&password) {
            findings.push(format!("{name} has a password in /etc/passwd"));
        }
        // An empty field stands for /bin/sh (passwd(5)).
        let program = shell.rsplit('/').next().unwrap_or_default();
        if !NO_SHELLS.contains(&program) && !shells.iter().any(|s| s == name) {
            findings.push(format!("{name} has the shell {shell:?}"));
        }
    }
    findings
}

/// Accounts with a password (shadow(5), gshadow(5)). A field of `!` and `*` accepts no password, and an empty field requires none. A locked
/// hash (`!` before it) counts as a password.
fn passwords(shadow: &str) -> Vec<String> {
    let fields = shadow.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.next()?))
    });
    let bad = fields.filter_map(|(name, field)| match field {
        "" => Some(format!("{name} requires no password")),
        field if field.chars().any(|c| c != '!' && c != '*') => Some(format!("{name} has a password hash")),
        _ => None,
    });
    bad.collect()
}

/// Members of a privileged group, by list or by primary group, that may not use sudo.
fn privileged_members(passwd: &str, group: &str, sudo: &[String]) -> Vec<String> {
    let mut findings = Vec::new();
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { continue };
        if !PRIVILEGED_GROUPS.contains(&name) {
            continue;
        }
        let primary =
            passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.get(3) == Some(&gid)).map(|f| f[0]);
        let listed = members.split(',').filter(|m| !m.is_empty());
        // `sync`, `games` and `man` are system accounts of Debian.
        let members = listed.chain(primary.filter(|m| !["sync", "games", "man"].contains(m)));
        findings.extend(
            members
                .filter(|m| *m != "root" && !sudo.iter().any(|s| s == m))
                .map(|m| format!("{m} is in the group {name}")),
        );
    }
    findings
}

/// Only root and the accounts of the spec may run commands with sudo (sudo(8), -l -U), and each file of its configuration belongs to a
/// package, unmodified, or is listed in the spec.
fn check_sudo(host: &Host, expected: &Accounts) -> CheckResult {
    let passwd = host.database("passwd")?;
    let mut findings = Vec::new();
    for name in passwd.lines().filter_map(|l| l.split(':').next()) {
        let output = host.run(&["sudo", "-n", "-l", "-U", name])?;
        let text = format!("{}{}", output.stdout, output.stderr);
        let allowed = text.contains("may run the following");
        if !allowed && !text.contains("is not allowed to run sudo") {
            return Err(format!("`sudo -l -U {name}` {}", output.summary()).into());
        }
        if allowed && name != "root" && !expected.sudo.iter().any(|s| s == name) {
            let command = text.lines().last().unwrap_or_default().trim();
            findings.push(format!("{name} may run {command}"));
        }
    }
    let files = sudoers(host)?;
    let unpackaged = host.packages(host.deadline)?.unpackaged_or_modified(&files, host.deadline)?;
    let unlisted = unpackaged.into_iter().filter(|f| !expected.sudoers.contains(f));
    findings.extend(unlisted.map(|f| format!("{f} belongs to no package or is modified")));
    if findings.is_empty() {
        return Ok(format!("{} only; {} files", expected.sudo.join(", "), files.len()));
    }
    Err(findings.join("; ").into())
}

/// The files that sudo reads: /etc/sudoers and those in /etc/sudoers.d (sudoers(5), "Including other files from within sudoers").
fn sudoers(host: &Host) -> Result<Vec<String>, String> {
    let mut files = vec!["/etc/sudoers".to_owned()];
    let listed = host.stdout(&["find", "/etc/sudoers.d", "-mindepth", "1", "!", "-name", "*~", "!", "-name", "*.*"])?;
    files.extend(listed.lines().map(str::to_owned));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nsync:x:4:65534:sync:/bin:/bin/sync\n\
        ubuntu:x:1000:1000::/home/ubuntu:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n";

    #[test]
    fn second_root_password_and_shell_are_found() {
        let shells = ["root".to_owned(), "ubuntu".to_owned()];
        assert!(uids_and_shells(PASSWD, &shells).is_empty());
        let more = format!("{PASSWD}toor:x:0:0::/root:/usr/sbin/nologin\nx:$6$a:7:7::/:/bin/false\ngames:x:5:60::/:\n");
        let findings = uids_and_shells(&more, &shells);
        assert_eq!(findings, ["toor has uid 0", "x has a password in /etc/passwd", "games has the shell \"\""]);
    }

    #[test]
    fn locked_hash_and_empty_field_are_found() {
        assert!(passwords("root:*:1::\nubuntu:!:1::\ndaemon:!*:1::\nx:!!:1::\n").is_empty());
        assert_eq!(passwords("a:$y$j9T$x:1::\nb:!$6$x:1::\nc::1::\n").len(), 3);
    }

    #[test]
    fn members_of_privileged_groups_must_have_sudo() {
        let sudo = ["ubuntu".to_owned()];
        assert!(privileged_members(PASSWD, "sudo:x:27:ubuntu\nlxd:x:5:\nroot:x:0:\n", &sudo).is_empty());
        assert_eq!(
            privileged_members(PASSWD, "docker:x:9:daemon\ndisk:x:1:\n", &sudo),
            ["daemon is in the group docker", "daemon is in the group disk"]
        );
    }
}
