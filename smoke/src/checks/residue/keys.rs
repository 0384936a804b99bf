//! Keys that sshd accepts, for each account, from the files and programs that `sshd -T` prints.

use std::fs;
use std::path::{Path, PathBuf};

use crate::check::{CheckResult, Host};
use crate::checks::sshd;

/// The login user has only the key that the instance was launched with, or none if the fixture is empty. Root may have it too: cloud-init adds
/// it there with a command that refuses the login. Other accounts have no key.
pub(super) fn authorized_keys(host: &Host) -> CheckResult {
    let launch = host.fixture("launch.pub").ok_or("the fixtures have no launch.pub")?;
    let launch = match launch.trim() {
        "" => None,
        key => Some(blob(key).ok_or("launch.pub is not a public key")?),
    };
    let passwd = host.database("passwd")?;
    let mut read = 0;
    let mut lacks_launch_key = launch.is_some();
    for account in passwd.lines().filter_map(Account::read) {
        let effective = sshd::effective(host, account.name)?;
        no_other_source(host, &effective, account.name)?;
        let may_have = account.name == "root" || account.name == host.user.name;
        for file in files(&effective, &account) {
            let text = match host.initial_content(&file) {
                Some(text) => text.to_owned(),
                None => fs::read_to_string(&file).unwrap_or_default(),
            };
            read += 1;
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
                if !may_have || launch.is_none() || blob(line) != launch {
                    let end: String = line.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
                    return Err(format!("{} has a key that is not the launch key: …{end}", file.display()).into());
                }
                lacks_launch_key &= account.name != host.user.name;
            }
        }
    }
    if lacks_launch_key {
        return Err(format!("{} does not have the launch key", host.user.name).into());
    }
    let found = if launch.is_some() { "only the launch key" } else { "no key, as at launch" };
    Ok(format!("{found}, in {read} files that sshd reads"))
}

/// sshd trusts no certificate authority, and takes keys from no program except one of a package (sshd_config(5)).
fn no_other_source(host: &Host, effective: &str, user: &str) -> Result<(), String> {
    let value = |name: &str| effective.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("none");
    let authority = value("trustedusercakeys");
    if authority != "none" {
        return Err(format!("sshd accepts certificates signed by {authority} for {user}"));
    }
    let command = value("authorizedkeyscommand");
    if command == "none" {
        return Ok(());
    }
    // Ubuntu's images on AWS have the package of EC2 Instance Connect, whose program provides keys.
    let program = command.split_whitespace().next().unwrap_or_default().to_owned();
    let unpackaged =
        host.packages(host.deadline)?.unpackaged_or_modified(std::slice::from_ref(&program), host.deadline)?;
    if unpackaged.is_empty() && Path::new(&program).exists() {
        return Ok(());
    }
    Err(format!("sshd takes the keys of {user} from {command}, which belongs to no package or is modified"))
}

struct Account<'a> {
    name: &'a str,
    uid: &'a str,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        Some(Self { name: fields.next()?, uid: fields.nth(1)?, home: fields.nth(2)? })
    }
}

/// The files of `authorizedkeysfile .ssh/authorized_keys /etc/keys/%u`, with tokens expanded (sshd_config(5), TOKENS).
fn files(effective: &str, account: &Account<'_>) -> Vec<PathBuf> {
    let names = effective.lines().find_map(|l| l.strip_prefix("authorizedkeysfile ")).unwrap_or(".ssh/authorized_keys");
    let expanded = |name: &str| {
        let name = name.replace("%h", account.home).replace("%u", account.name).replace("%U", account.uid);
        Path::new(account.home).join(name.replace("%%", "%"))
    };
    names.split_whitespace().filter(|name| *name != "none").map(expanded).collect()
}

/// The base64 part of a public key, with or without options before it. It starts with the length of the algorithm's name, so with `AAAA`.
fn blob(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with("AAAA"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_after_options() {
        let line = "no-pty,command=\"echo 'Please login as \\\"ubuntu\\\"';sleep 10\" ssh-ed25519 AAAAC3Nz user@host";
        assert_eq!(blob(line), Some("AAAAC3Nz"));
        assert_eq!(blob("# nothing"), None);
    }

    #[test]
    fn authorized_keys_files_of_an_account() {
        let account = Account::read("ubuntu:x:1000:1001:Ubuntu:/home/ubuntu:/bin/bash").unwrap();
        let effective = "port 22\nauthorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2 /etc/keys/%u-%U\n";
        let found = files(effective, &account);
        let expected =
            ["/home/ubuntu/.ssh/authorized_keys", "/home/ubuntu/.ssh/authorized_keys2", "/etc/keys/ubuntu-1000"];
        assert_eq!(found, expected.map(PathBuf::from));
        assert!(files("authorizedkeysfile none\n", &account).is_empty());
    }
}
