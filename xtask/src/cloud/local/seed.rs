//! The NoCloud seed, cloud-init's configuration for the first boot (cloud-init: reference/datasources/nocloud).

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::json;

use crate::error::Result;
use crate::recipe::Digest;

/// What a machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Trusts the host's extra CA certificates.
    Builder,
    /// Configured like an instance on EC2.
    Instance,
}

/// Writes the seed directory. `name` becomes part of the instance id.
pub(super) fn write(dir: &Path, name: &str, public_key: &str, purpose: Purpose) -> Result<()> {
    fs::create_dir_all(dir)?;
    let certificates = if purpose == Purpose::Builder { host_certificates()? } else { Vec::new() };
    fs::write(dir.join("meta-data"), meta_data(name, public_key))?;
    fs::write(dir.join("user-data"), user_data(public_key, purpose, &certificates))?;
    Ok(())
}

fn meta_data(name: &str, public_key: &str) -> String {
    // cloud-init installs a key once for each instance id, and a layer contains the id of the machine that it was made on. A resumed run
    // boots from its own layer with a new key, so the id must depend on the key too.
    let id = format!("{name}-{}", Digest::of(public_key.as_bytes()).short());
    format!("{}\n", json!({ "instance-id": id, "local-hostname": "agent-ami" }))
}

/// The path that cloud-init's `ca_certs` module uses; the cleanup step removes files with such names.
fn certificate(index: usize) -> String {
    format!("/usr/local/share/ca-certificates/cloud-init-ca-cert-{}.crt", index + 1)
}

/// The part of update-ca-certificates(8) for one certificate. `ca_certs` runs all of it, which hashes the distribution's 150
/// certificates again and takes 44 s of each boot of an emulated machine.
const TRUST: &str = r#"
name=$(basename "$1" .crt)
cd /etc/ssl/certs
test -e "$name.pem" && exit
ln -s "$1" "$name.pem"
hash=$(openssl x509 -hash -noout -in "$1")
for n in 0 1 2 3 4 5 6 7 8 9; do
  test -L "$hash.$n" || { ln -s "$name.pem" "$hash.$n"; break; }
done
awk 1 "$1" >>ca-certificates.crt
"#;

/// The user-data as JSON, which cloud-init accepts because JSON is YAML.
fn user_data(public_key: &str, purpose: Purpose, certificates: &[String]) -> String {
    let mut config = json!({
        "users": ["default"],
        "ssh_authorized_keys": [public_key.trim()],
        "package_update": false,
        "package_upgrade": false,
    });
    if purpose == Purpose::Builder {
        trust(&mut config, certificates);
    }
    format!("#cloud-config\n{config:#}\n")
}

/// Makes cloud-init install CA certificates, without its `ca_certs` module.
pub fn trust(config: &mut serde_json::Value, certificates: &[String]) {
    // cloud-init's schema rejects empty lists.
    if !certificates.is_empty() {
        let file = |(i, pem)| json!({ "path": certificate(i), "content": pem });
        config["write_files"] = certificates.iter().enumerate().map(file).collect();
        config["runcmd"] =
            (0..certificates.len()).map(|i| json!(["sh", "-euc", TRUST, "trust", certificate(i)])).collect();
    }
}

/// The CA certificates that an administrator added to this host. Without them HTTPS through an intercepting proxy fails in the guest.
pub fn host_certificates() -> Result<Vec<String>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for dir in ["/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors"] {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        files.extend(
            entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "crt" || e == "pem")),
        );
    }
    files.sort();
    let mut certificates = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        if text.contains("BEGIN CERTIFICATE") {
            certificates.push(text);
        }
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> serde_json::Value {
        serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap()
    }

    #[test]
    fn a_builder_trusts_the_hosts_certificates_and_an_instance_does_not() {
        let certificates = ["-----BEGIN CERTIFICATE-----\nx\n".to_owned()];
        let builder = parsed(&user_data("ssh-ed25519 AAAA me\n", Purpose::Builder, &certificates));
        assert_eq!(builder["write_files"][0]["content"], json!(certificates[0]));
        assert_eq!(builder["runcmd"][0][4], builder["write_files"][0]["path"]);
        assert_eq!(builder["ssh_authorized_keys"], json!(["ssh-ed25519 AAAA me"]));
        let instance = parsed(&user_data("ssh-ed25519 AAAA me", Purpose::Instance, &certificates));
        for key in ["write_files", "runcmd", "bootcmd"] {
            assert_eq!(instance[key], json!(null));
        }
        let plain = parsed(&user_data("ssh-ed25519 AAAA me", Purpose::Builder, &[]));
        assert_eq!((&plain["write_files"], &plain["runcmd"]), (&json!(null), &json!(null)));
    }

    #[test]
    fn the_instance_id_depends_on_name_and_key() {
        let id = |name, key| {
            let meta: serde_json::Value = serde_json::from_str(&meta_data(name, key)).unwrap();
            meta["instance-id"].as_str().unwrap().to_owned()
        };
        let first = id("run-1-builder", "ssh-ed25519 AAAA");
        assert!(first.starts_with("run-1-builder-"), "{first}");
        assert_ne!(first, id("run-1-builder", "ssh-ed25519 BBBB"), "the same run, resumed");
        assert_ne!(first, id("run-2-builder", "ssh-ed25519 AAAA"));
    }
}
