//! Who can log in and who can become root: accounts, passwords, shells, groups, sudo.

use smoke::spec::Accounts;

use super::{Check, Host, Verdict};

/// Groups whose members become root without a password, or read what only root may (Debian's base-passwd, "Users and groups"; docker and
/// lxd start containers that mount the host's root).
const POWERFUL: [&str; 10] =
    ["root", "sudo", "admin", "wheel", "docker", "lxd", "disk", "kmem", "shadow", "incus-admin"];

/// Shells that end at once. `sync` is an account of Debian's with which anybody may flush the disks.
const NO_SHELLS: [&str; 4] = ["nologin", "false", "sync", "true"];

pub(super) fn all(accounts: Option<&Accounts>) -> Vec<Check> {
    let Some(accounts) = accounts.cloned() else { return vec![] };
    let other = accounts.clone();
    vec![
        Check::new("accounts", move |host| check_accounts(host, &accounts)),
        Check::new("sudo", move |host| check_sudo(host, &other)),
    ]
}

/// One root, no password anywhere, shells only where the spec has one, and powerful groups only for those who may use sudo.
fn check_accounts(host: &Host, wanted: &Accounts) -> Verdict {
    let passwd = host.database("passwd")?;
    let shadow = host.database("shadow")?;
    let group = host.database("group")?;
    let gshadow = host.database("gshadow")?;
    let mut wrong = roots_and_shells(&passwd, &wanted.shells);
    wrong.extend(passwords(&shadow));
    wrong.extend(passwords(&gshadow).into_iter().map(|said| format!("group {said}")));
    wrong.extend(powerful(&passwd, &group, &wanted.sudo));
    if wrong.is_empty() {
        return Ok(format!(
            "{} accounts, shells for {} only, no passwords",
            passwd.lines().count(),
            wanted.shells.join(", ")
        ));
    }
    Err(wrong.join("; ").into())
}

fn roots_and_shells(passwd: &str, shells: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, password, uid, _, _, _, shell] = fields[..] else {
            wrong.push(format!("`{line}` is no account"));
            continue;
        };
        if uid.parse::<u32>() == Ok(0) && name != "root" {
            wrong.push(format!("{name} has uid 0"));
        }
        if !["x", "*", "!"].contains(&password) {
            wrong.push(format!("{name} has a password in /etc/passwd"));
        }
        // An empty field means /bin/sh (passwd(5)).
        let program = shell.rsplit('/').next().unwrap_or_default();
        if !NO_SHELLS.contains(&program) && !shells.iter().any(|s| s == name) {
            wrong.push(format!("{name} has the shell {shell:?}"));
        }
    }
    wrong
}

/// shadow(5) and gshadow(5): a field of `!` and `*` lets no password in; one that is empty lets in without; a locked hash is a hash.
fn passwords(shadow: &str) -> Vec<String> {
    let fields = shadow.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.next()?))
    });
    let bad = fields.filter_map(|(name, field)| match field {
        "" => Some(format!("{name} needs no password")),
        field if field.chars().any(|c| c != '!' && c != '*') => Some(format!("{name} has a password hash")),
        _ => None,
    });
    bad.collect()
}

/// Members of a powerful group, by list or as their main group, who may not become root by sudo either.
fn powerful(passwd: &str, group: &str, sudo: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { continue };
        if !POWERFUL.contains(&name) {
            continue;
        }
        let main =
            passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.get(3) == Some(&gid)).map(|f| f[0]);
        let listed = members.split(',').filter(|m| !m.is_empty());
        // `sync` and its like have root's or nobody's group and no rights by it.
        let foreign = listed.chain(main.filter(|m| !["sync", "games", "man"].contains(m)));
        wrong.extend(
            foreign
                .filter(|m| *m != "root" && !sudo.iter().any(|s| s == m))
                .map(|m| format!("{m} is in the group {name}")),
        );
    }
    wrong
}

/// sudo lets nobody run anything but those of the spec (sudo(8), -l -U), and every file that it reads is a package's or the spec's.
fn check_sudo(host: &Host, wanted: &Accounts) -> Verdict {
    let passwd = host.database("passwd")?;
    let mut wrong = Vec::new();
    for name in passwd.lines().filter_map(|l| l.split(':').next()) {
        let output = host.root(&["sudo", "-n", "-l", "-U", name], host.deadline)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        let may = said.contains("may run the following");
        if !may && !said.contains("is not allowed to run sudo") {
            return Err(format!("`sudo -l -U {name}` {}", output.gist()).into());
        }
        if may && name != "root" && !wanted.sudo.iter().any(|s| s == name) {
            let what = said.lines().last().unwrap_or_default().trim();
            wrong.push(format!("{name} may run {what}"));
        }
    }
    let files = sudoers(host)?;
    let foreign = host.packages(host.deadline)?.foreign(host, &files)?;
    wrong.extend(
        foreign.into_iter().filter(|f| !wanted.sudoers.contains(f)).map(|f| format!("{f} is no package's as it is")),
    );
    if wrong.is_empty() {
        return Ok(format!("{} only; {} files", wanted.sudo.join(", "), files.len()));
    }
    Err(wrong.join("; ").into())
}

/// The files that sudo reads: its main one and those of the folder (sudoers(5), "Including other files from within sudoers").
fn sudoers(host: &Host) -> Result<Vec<String>, String> {
    let mut files = vec!["/etc/sudoers".to_owned()];
    let listed = host.ask(&["find", "/etc/sudoers.d", "-mindepth", "1", "!", "-name", "*~", "!", "-name", "*.*"])?;
    files.extend(listed.lines().map(str::to_owned));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nsync:x:4:65534:sync:/bin:/bin/sync\n\
        ubuntu:x:1000:1000::/home/ubuntu:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n";

    #[test]
    fn a_second_root_a_password_and_a_shell_are_seen() {
        let shells = ["root".to_owned(), "ubuntu".to_owned()];
        assert!(roots_and_shells(PASSWD, &shells).is_empty());
        let more = format!("{PASSWD}toor:x:0:0::/root:/usr/sbin/nologin\nx:$6$a:7:7::/:/bin/false\ngames:x:5:60::/:\n");
        let wrong = roots_and_shells(&more, &shells);
        assert_eq!(wrong, ["toor has uid 0", "x has a password in /etc/passwd", "games has the shell \"\""]);
    }

    #[test]
    fn a_locked_hash_is_a_hash_and_an_empty_field_is_none() {
        assert!(passwords("root:*:1::\nubuntu:!:1::\ndaemon:!*:1::\nx:!!:1::\n").is_empty());
        assert_eq!(passwords("a:$y$j9T$x:1::\nb:!$6$x:1::\nc::1::\n").len(), 3);
    }

    #[test]
    fn members_of_powerful_groups_are_those_who_have_sudo() {
        let sudo = ["ubuntu".to_owned()];
        assert!(powerful(PASSWD, "sudo:x:27:ubuntu\nlxd:x:5:\nroot:x:0:\n", &sudo).is_empty());
        assert_eq!(
            powerful(PASSWD, "docker:x:9:daemon\ndisk:x:1:\n", &sudo),
            ["daemon is in the group docker", "daemon is in the group disk"]
        );
    }
}
