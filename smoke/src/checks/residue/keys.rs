//! Every key that opens an account by SSH: what sshd itself says it reads, for each account.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Host, Verdict, sshd};

/// Only the key the instance was launched with, or none if it was launched without (an empty fixture), before the login user's account;
/// cloud-init puts it before root's account too, with a command that refuses.
pub(super) fn authorized_keys(host: &Host) -> Verdict {
    let launch = host.fixture("launch.pub").ok_or("there is no launch.pub among the fixtures")?;
    let launch = match launch.trim() {
        "" => None,
        key => Some(blob(key).ok_or("launch.pub is no key")?),
    };
    let passwd = host.database("passwd")?;
    let mut read = 0;
    let mut lacks_launch_key = launch.is_some();
    for account in passwd.lines().filter_map(Account::read) {
        let effective = sshd::effective(host, account.name)?;
        others_say_no(host, &effective, account.name)?;
        let may_have = account.name == "root" || account.name == host.user.name;
        for file in files(&effective, &account) {
            let text = match host.at_start(&file) {
                Some(text) => text.to_owned(),
                None => fs::read_to_string(&file).unwrap_or_default(),
            };
            read += 1;
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
                if !may_have || launch.is_none() || blob(line) != launch {
                    let end: String = line.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
                    return Err(format!("{} has a key beyond the launch key: …{end}", file.display()).into());
                }
                lacks_launch_key &= account.name != host.user.name;
            }
        }
    }
    if lacks_launch_key {
        return Err(format!("{} lacks the launch key", host.user.name).into());
    }
    let found = if launch.is_some() { "the launch key only" } else { "none, as launched" };
    Ok(format!("{found}, in {read} files that sshd would read"))
}

/// Keys that come from elsewhere than a file: from a program that is no package's, or by a certificate (sshd_config(5)).
fn others_say_no(host: &Host, effective: &str, user: &str) -> Result<(), String> {
    let value = |name: &str| effective.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("none");
    let authority = value("trustedusercakeys");
    if authority != "none" {
        return Err(format!("sshd lets in who has a certificate of {authority} ({user})"));
    }
    let command = value("authorizedkeyscommand");
    if command == "none" {
        return Ok(());
    }
    // EC2 Instance Connect's, which is a package of Ubuntu's images.
    let program = command.split_whitespace().next().unwrap_or_default().to_owned();
    if host.packages(host.deadline)?.foreign(host, std::slice::from_ref(&program))?.is_empty()
        && Path::new(&program).exists()
    {
        return Ok(());
    }
    Err(format!("sshd asks {command} for the keys of {user}, which is no package's"))
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

/// `authorizedkeysfile .ssh/authorized_keys /etc/keys/%u`, with the tokens that it may have (sshd_config(5), TOKENS).
fn files(effective: &str, account: &Account<'_>) -> Vec<PathBuf> {
    let names = effective.lines().find_map(|l| l.strip_prefix("authorizedkeysfile ")).unwrap_or(".ssh/authorized_keys");
    let expanded = |name: &str| {
        let name = name.replace("%h", account.home).replace("%u", account.name).replace("%U", account.uid);
        Path::new(account.home).join(name.replace("%%", "%"))
    };
    names.split_whitespace().filter(|name| *name != "none").map(expanded).collect()
}

/// The base64 part of a public key, whatever options stand before it: it begins with the length of the algorithm's name.
fn blob(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with("AAAA"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_behind_its_options() {
        let line = "no-pty,command=\"echo 'Please login as \\\"ubuntu\\\"';sleep 10\" ssh-ed25519 AAAAC3Nz user@host";
        assert_eq!(blob(line), Some("AAAAC3Nz"));
        assert_eq!(blob("# nothing"), None);
    }

    #[test]
    fn sshds_own_files_are_read_for_each_account() {
        let account = Account::read("ubuntu:x:1000:1001:Ubuntu:/home/ubuntu:/bin/bash").unwrap();
        let effective = "port 22\nauthorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2 /etc/keys/%u-%U\n";
        let found = files(effective, &account);
        let wanted =
            ["/home/ubuntu/.ssh/authorized_keys", "/home/ubuntu/.ssh/authorized_keys2", "/etc/keys/ubuntu-1000"];
        assert_eq!(found, wanted.map(PathBuf::from));
        assert!(files("authorizedkeysfile none\n", &account).is_empty());
    }
}
