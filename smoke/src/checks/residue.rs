//! Data of the build that an instance must not have: identity, keys, histories, credentials, trusted certificates, files.

use std::fs;
use std::path::{Path, PathBuf};

use smoke::spec::Residue;

use crate::check::{Check, CheckFn, CheckResult, Host};

mod keys;

pub(super) fn all(residue: Residue) -> Vec<Check> {
    if !residue.check {
        return vec![];
    }
    let table: [(&str, CheckFn); 8] = [
        ("residue-host-keys", host_keys),
        ("residue-authorized-keys", keys::authorized_keys),
        ("residue-machine-id", machine_id),
        ("residue-histories", histories),
        ("residue-credentials", credentials),
        ("residue-build-ca", build_ca),
        ("residue-build-files", build_files),
        ("residue-ssm", ssm),
    ];
    table.into_iter().map(|(name, run)| Check::new(name, run)).collect()
}

fn homes(host: &Host) -> [PathBuf; 2] {
    [PathBuf::from("/root"), host.user.home.clone()]
}

fn host_keys(host: &Host) -> CheckResult {
    let builder = host.fixture("builder_host_keys").ok_or("the fixtures have no builder_host_keys")?;
    let keys = host.host_keys();
    if keys.is_empty() {
        return Err("the instance has no SSH host keys".into());
    }
    if let Some(shared) = keys.iter().find(|key| builder.lines().any(|l| l.trim() == key.as_str())) {
        return Err(format!("{shared} is a host key of the builder").into());
    }
    Ok(format!("{} keys, none of the builder", keys.len()))
}

fn machine_id(host: &Host) -> CheckResult {
    let builder = host.fixture("builder_machine_id").ok_or("the fixtures have no builder_machine_id")?;
    let id = fs::read_to_string("/etc/machine-id")?;
    let (id, builder) = (id.trim(), builder.trim());
    if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("/etc/machine-id is {id:?}").into());
    }
    if id == builder {
        Err("/etc/machine-id is that of the builder".into())
    } else {
        Ok("differs from the builder's".to_owned())
    }
}

fn histories(host: &Host) -> CheckResult {
    none_of(homes(host).iter().flat_map(|home| {
        let names = fs::read_dir(home).into_iter().flatten().flatten().map(|e| e.path());
        names.filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with('.') && (name.ends_with("_history") || name == ".lesshst" || name == ".wget-hsts")
        })
    }))
}

/// Files below a home in which the programs of the image, and those of a builder, store credentials.
const CREDENTIAL_FILES: [&str; 11] = [
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

/// Files below a home that set variables.
const VARIABLE_FILES: [&str; 8] =
    [".npmrc", ".bashrc", ".bash_profile", ".profile", ".zshrc", ".pam_environment", ".env", "claude-executor/.env"];

fn credentials(host: &Host) -> CheckResult {
    let mut found: Vec<PathBuf> = homes(host)
        .iter()
        .flat_map(|home| CREDENTIAL_FILES.map(|name| home.join(name)))
        .filter(|p| p.exists())
        .collect();
    let in_homes = homes(host).into_iter().flat_map(|home| VARIABLE_FILES.map(|name| home.join(name)));
    let texts = in_homes.chain(["/etc/npmrc", "/usr/local/etc/npmrc", "/etc/environment"].map(PathBuf::from));
    found.extend(texts.filter(|file| fs::read_to_string(file).is_ok_and(|text| has_secret(&text))));
    none_of(found.into_iter())
}

/// True if a line sets a name that contains the name of a secret to a non-empty value.
fn has_secret(text: &str) -> bool {
    const WORDS: [&str; 5] = ["_authtoken", "_password", "api_key", "secret", "token"];
    let name = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| name.trim().to_lowercase())
    };
    text.lines()
        .filter(|l| !l.trim_start().starts_with('#'))
        .filter_map(name)
        .any(|n| WORDS.iter().any(|w| n.contains(w)))
}

/// The trust store has no certificate that the build host added.
fn build_ca(host: &Host) -> CheckResult {
    let dir = host.fixture_path("build-ca").ok_or("the fixtures have no build-ca")?;
    let without_line_breaks = |text: &str| text.lines().map(str::trim).collect::<String>();
    let bundle = without_line_breaks(&fs::read_to_string("/etc/ssl/certs/ca-certificates.crt")?);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)?.flatten().map(|e| e.path()).collect();
    files.sort();
    for file in &files {
        let certificate = without_line_breaks(&fs::read_to_string(file)?);
        if certificate.is_empty() || bundle.contains(&certificate) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(format!("the certificate {name} of the build host is trusted").into());
        }
    }
    Ok(format!("none of the {} certificates of the build host is trusted", files.len()))
}

fn build_files(_: &Host) -> CheckResult {
    let paths = ["/var/tmp/agent-ami", "/etc/dpkg/dpkg.cfg.d/agent-ami-build", "/root/.npm", "/root/.pm2"];
    let scripts = fs::read_dir("/tmp").into_iter().flatten().flatten().map(|e| e.path());
    let scripts = scripts.filter(|p| p.to_string_lossy().starts_with("/tmp/script_"));
    none_of(paths.into_iter().map(PathBuf::from).filter(|p| p.exists()).chain(scripts))
}

/// Documents and sessions of another instance: the Systems Manager agent stores scripts, their parameters and output (docs.aws.amazon.com,
/// "Working with SSM Agent", /var/lib/amazon/ssm/INSTANCE/document).
fn ssm(_: &Host) -> CheckResult {
    let own = fs::read_to_string("/var/lib/cloud/data/instance-id").unwrap_or_default();
    let of_others = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy() != own.trim());
    let mut found = Vec::new();
    for place in ["/var/lib/amazon/ssm", "/var/snap/amazon-ssm-agent/common/var/lib/amazon/ssm"] {
        let dirs = fs::read_dir(place).into_iter().flatten().flatten().map(|e| e.path()).filter(of_others);
        for part in dirs.flat_map(|dir| ["document", "session"].map(|part| dir.join(part))) {
            first_file(&part, &mut found);
        }
    }
    none_of(found.into_iter())
}

/// Adds one file below the directory, if it has any; the message then names the place.
fn first_file(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let before = found.len();
        if entry.path().is_dir() {
            first_file(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
        if found.len() > before {
            return;
        }
    }
}

fn none_of(found: impl Iterator<Item = PathBuf>) -> CheckResult {
    let found: Vec<String> = found.map(|p: PathBuf| Path::display(&p).to_string()).collect();
    if found.is_empty() { Ok("none".to_owned()) } else { Err(format!("found {}", found.join(", ")).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_by_name() {
        assert!(has_secret("//registry.example/:_authToken=abc\n"));
        assert!(has_secret("export ANTHROPIC_API_KEY=x"));
        assert!(!has_secret("GEMINI_API_KEY=\"\"\nexport GITHUB_TOKEN=\n"));
        assert!(!has_secret("PATH=\"/usr/bin\"\n# token=x\nprefix=/usr/local"));
    }
}
