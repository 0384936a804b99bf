//! Nothing of the build may be left on an instance: identity, access, histories, secrets, trust, files.

use std::fs;
use std::path::{Path, PathBuf};

use smoke::spec::Residue;

use super::{Check, Host, Plain, Verdict};

pub(super) fn all(residue: Residue) -> Vec<Check> {
    if !residue.check {
        return vec![];
    }
    let table: [(&str, Plain); 7] = [
        ("residue-host-keys", host_keys),
        ("residue-authorized-keys", authorized_keys),
        ("residue-machine-id", machine_id),
        ("residue-histories", histories),
        ("residue-credentials", credentials),
        ("residue-build-ca", build_ca),
        ("residue-build-files", build_files),
    ];
    table.into_iter().map(|(name, run)| Check::new(name, run)).collect()
}

fn homes(host: &Host) -> [PathBuf; 2] {
    [PathBuf::from("/root"), host.user.home.clone()]
}

fn host_keys(host: &Host) -> Verdict {
    let builder = host.fixture("builder_host_keys").ok_or("there are no builder_host_keys among the fixtures")?;
    let keys = host.host_keys();
    if keys.is_empty() {
        return Err("the instance has no SSH host keys".into());
    }
    if let Some(shared) = keys.iter().find(|key| builder.lines().any(|l| l.trim() == key.as_str())) {
        return Err(format!("{shared} is the builder's").into());
    }
    Ok(format!("{} keys, none of them the builder's", keys.len()))
}

/// Only the key the instance was launched with, or none if it was launched without (an empty fixture); cloud-init puts it before
/// root's account too, with a command that refuses.
fn authorized_keys(host: &Host) -> Verdict {
    let launch = host.fixture("launch.pub").ok_or("there is no launch.pub among the fixtures")?;
    let launch = match launch.trim() {
        "" => None,
        key => Some(blob(key).ok_or("launch.pub is no key")?),
    };
    for home in homes(host) {
        let file = home.join(".ssh/authorized_keys");
        let text = host.at_start(&file).unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        if let Some(foreign) = lines.into_iter().find(|l| launch.is_none() || blob(l) != launch) {
            let end: String = foreign.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
            return Err(format!("{} has a key beyond the launch key: …{end}", file.display()).into());
        }
        if launch.is_some() && home == host.user.home && text.is_empty() {
            return Err(format!("{} lacks the launch key", file.display()).into());
        }
    }
    Ok(if launch.is_some() { "the launch key only" } else { "none, as launched" }.to_owned())
}

/// The base64 part of a public key, whatever options stand before it: it begins with the length of the algorithm's name.
fn blob(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with("AAAA"))
}

fn machine_id(host: &Host) -> Verdict {
    let builder = host.fixture("builder_machine_id").ok_or("there is no builder_machine_id among the fixtures")?;
    let id = fs::read_to_string("/etc/machine-id")?;
    let (id, builder) = (id.trim(), builder.trim());
    if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("/etc/machine-id is {id:?}").into());
    }
    if id == builder { Err("/etc/machine-id is the builder's".into()) } else { Ok("its own".to_owned()) }
}

fn histories(host: &Host) -> Verdict {
    none_of(homes(host).iter().flat_map(|home| {
        let names = fs::read_dir(home).into_iter().flatten().flatten().map(|e| e.path());
        names.filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with('.') && (name.ends_with("_history") || name == ".lesshst" || name == ".wget-hsts")
        })
    }))
}

/// Where the tools of the image, and those of a builder, keep secrets.
const SECRETS: [&str; 11] = [
    ".netrc",
    ".git-credentials",
    ".aws/credentials",
    ".docker/config.json",
    ".config/gh/hosts.yml",
    ".claude/.credentials.json",
    ".codex/auth.json",
    ".ssh/id_rsa",
    ".ssh/id_ecdsa",
    ".ssh/id_ed25519",
    ".gnupg/private-keys-v1.d",
];

fn credentials(host: &Host) -> Verdict {
    let mut found: Vec<PathBuf> =
        homes(host).iter().flat_map(|home| SECRETS.map(|name| home.join(name))).filter(|p| p.exists()).collect();
    let npmrc = homes(host).map(|home| home.join(".npmrc"));
    let texts = npmrc.into_iter().chain(["/etc/npmrc", "/usr/local/etc/npmrc", "/etc/environment"].map(PathBuf::from));
    found.extend(texts.filter(|file| fs::read_to_string(file).is_ok_and(|text| has_secret(&text))));
    none_of(found.into_iter())
}

/// True if a line sets something that is named like a secret.
fn has_secret(text: &str) -> bool {
    const WORDS: [&str; 5] = ["_authtoken", "_password", "api_key", "secret", "token"];
    let name = |line: &str| line.split_once('=').map(|(name, _)| name.trim().to_lowercase());
    text.lines()
        .filter(|l| !l.trim_start().starts_with('#'))
        .filter_map(name)
        .any(|n| WORDS.iter().any(|w| n.contains(w)))
}

/// The certificates the builder's host trusted are trusted no more.
fn build_ca(host: &Host) -> Verdict {
    let dir = host.fixture_path("build-ca").ok_or("there is no build-ca among the fixtures")?;
    let squeeze = |text: &str| text.lines().map(str::trim).collect::<String>();
    let bundle = squeeze(&fs::read_to_string("/etc/ssl/certs/ca-certificates.crt")?);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)?.flatten().map(|e| e.path()).collect();
    files.sort();
    for file in &files {
        let certificate = squeeze(&fs::read_to_string(file)?);
        if certificate.is_empty() || bundle.contains(&certificate) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(format!("the build host's certificate {name} is trusted").into());
        }
    }
    Ok(format!("none of the build host's {} certificates is trusted", files.len()))
}

fn build_files(_: &Host) -> Verdict {
    let places = ["/var/tmp/agent-ami", "/etc/dpkg/dpkg.cfg.d/agent-ami-build", "/root/.npm", "/root/.pm2"];
    let scripts = fs::read_dir("/tmp").into_iter().flatten().flatten().map(|e| e.path());
    let scripts = scripts.filter(|p| p.to_string_lossy().starts_with("/tmp/script_"));
    none_of(places.into_iter().map(PathBuf::from).filter(|p| p.exists()).chain(scripts))
}

fn none_of(found: impl Iterator<Item = PathBuf>) -> Verdict {
    let found: Vec<String> = found.map(|p: PathBuf| Path::display(&p).to_string()).collect();
    if found.is_empty() { Ok("none".to_owned()) } else { Err(format!("there is {}", found.join(", ")).into()) }
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
    fn secrets_are_known_by_their_names() {
        assert!(has_secret("//registry.example/:_authToken=abc\n"));
        assert!(has_secret("export ANTHROPIC_API_KEY=x"));
        assert!(!has_secret("PATH=\"/usr/bin\"\n# token=x\nprefix=/usr/local"));
    }
}
