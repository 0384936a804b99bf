//! Nothing of the build may be left on an instance: identity, access, histories, secrets, trust, files.

use std::fs;
use std::path::{Path, PathBuf};

use smoke::spec::Residue;

use super::{Check, Host, Plain, Verdict};

mod keys;

pub(super) fn all(residue: Residue) -> Vec<Check> {
    if !residue.check {
        return vec![];
    }
    let table: [(&str, Plain); 8] = [
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

/// Files of a home in which variables are set.
const SETTINGS: [&str; 8] =
    [".npmrc", ".bashrc", ".bash_profile", ".profile", ".zshrc", ".pam_environment", ".env", "claude-executor/.env"];

fn credentials(host: &Host) -> Verdict {
    let mut found: Vec<PathBuf> =
        homes(host).iter().flat_map(|home| SECRETS.map(|name| home.join(name))).filter(|p| p.exists()).collect();
    let in_homes = homes(host).into_iter().flat_map(|home| SETTINGS.map(|name| home.join(name)));
    let texts = in_homes.chain(["/etc/npmrc", "/usr/local/etc/npmrc", "/etc/environment"].map(PathBuf::from));
    found.extend(texts.filter(|file| fs::read_to_string(file).is_ok_and(|text| has_secret(&text))));
    none_of(found.into_iter())
}

/// True if a line sets something that is named like a secret to a value.
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

/// What Systems Manager sent to another instance: the agent keeps scripts, their parameters and output (docs.aws.amazon.com, "Working with
/// SSM Agent", /var/lib/amazon/ssm/INSTANCE/document).
fn ssm(_: &Host) -> Verdict {
    let own = fs::read_to_string("/var/lib/cloud/data/instance-id").unwrap_or_default();
    let of_others = |folder: &PathBuf| folder.file_name().is_some_and(|name| name.to_string_lossy() != own.trim());
    let mut found = Vec::new();
    for place in ["/var/lib/amazon/ssm", "/var/snap/amazon-ssm-agent/common/var/lib/amazon/ssm"] {
        let folders = fs::read_dir(place).into_iter().flatten().flatten().map(|e| e.path()).filter(of_others);
        for part in folders.flat_map(|folder| ["document", "session"].map(|part| folder.join(part))) {
            first_file(&part, &mut found);
        }
    }
    none_of(found.into_iter())
}

/// A file below the folder, if there is one: it is enough to say where.
fn first_file(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
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

fn none_of(found: impl Iterator<Item = PathBuf>) -> Verdict {
    let found: Vec<String> = found.map(|p: PathBuf| Path::display(&p).to_string()).collect();
    if found.is_empty() { Ok("none".to_owned()) } else { Err(format!("there is {}", found.join(", ")).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        assert!(has_secret("//registry.example/:_authToken=abc\n"));
        assert!(has_secret("export ANTHROPIC_API_KEY=x"));
        assert!(!has_secret("GEMINI_API_KEY=\"\"\nexport GITHUB_TOKEN=\n"));
        assert!(!has_secret("PATH=\"/usr/bin\"\n# token=x\nprefix=/usr/local"));
    }
}
