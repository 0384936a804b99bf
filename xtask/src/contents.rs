//! The contents of an image, from its manifest and SBOM, and the differences between two images. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use smoke::boot::Boot;

use crate::cloud::Image;
use crate::error::{Exit, Result};

/// The document with the tools and the system; `/etc/agent-ami/manifest.json` in the image.
pub const MANIFEST: &str = "manifest.json";
/// The document with every package, in the CycloneDX format; `/etc/agent-ami/sbom.cdx.json` in the image.
pub const SBOM: &str = "sbom.cdx.json";

/// The part of the manifest that is compared.
#[derive(Clone, Debug, Default, Deserialize)]
struct Manifest {
    os: BTreeMap<String, String>,
    tools: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Sbom {
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    version: String,
    #[serde(default)]
    purl: String,
}

/// The contents of an image, and the boot times of its instances.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    manifest: Manifest,
    /// Versions by type and name (`deb/jq`, `npm/npm`); a package can be installed in several versions.
    packages: BTreeMap<String, Vec<String>>,
    /// Seconds from starting the machine to SSH, for each pass of the smoke test.
    boots: Vec<(String, f64)>,
}

/// A tool, package or property of the system that differs between two images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub name: String,
    /// Its version in the older image; `None` if it is new.
    pub from: Option<String>,
    /// Its version in the newer image; `None` if it was removed.
    pub to: Option<String>,
}

/// The boot times of two images in one pass; `None` if not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootChange {
    /// `first boot`, `after reboot`.
    pub pass: String,
    /// Seconds from starting the machine to SSH, for the older image.
    pub from: Option<f64>,
    /// Seconds from starting the machine to SSH, for the newer image.
    pub to: Option<f64>,
}

/// The differences between two images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Base image, kernel, system.
    pub system: Vec<Change>,
    /// The tools of the manifest.
    pub tools: Vec<Change>,
    /// The packages of the SBOM.
    pub packages: Vec<Change>,
    /// Sizes of the disks in bytes: older, newer.
    pub bytes: (u64, u64),
    /// The boot times of each pass.
    #[serde(default)]
    pub boots: Vec<BootChange>,
}

impl Contents {
    /// Parses the manifest and the SBOM of an image.
    pub fn read(image: &Image, manifest: &[u8], sbom: &[u8]) -> Result<Self> {
        let damaged = |name: &str, error: serde_json::Error| {
            let hint = format!("run `cargo xtask ami smoke {}` to download it again", image.id);
            Exit::Failed.error(format_args!("{name} of {} cannot be read: {error}", image.id), hint)
        };
        let manifest = serde_json::from_slice(manifest).map_err(|e| damaged(MANIFEST, e))?;
        let sbom: Sbom = serde_json::from_slice(sbom).map_err(|e| damaged(SBOM, e))?;
        let mut packages: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Component { name, version, purl } in sbom.components {
            // `pkg:deb/debian/jq@1.7?arch=amd64`: the type distinguishes the Debian package jq from the npm package jq.
            let kind = purl.trim_start_matches("pkg:").split('/').next().unwrap_or_default().to_owned();
            packages.entry(format!("{kind}/{name}")).or_default().push(version);
        }
        packages.values_mut().for_each(|versions| versions.sort());
        Ok(Self { manifest, packages, boots: Vec::new() })
    }

    /// Adds the boot times that the smoke test measured: pairs of pass and boot.
    #[must_use]
    pub fn with_boots<'a>(self, boots: impl Iterator<Item = (&'a str, &'a Boot)>) -> Self {
        Self { boots: boots.filter_map(|(pass, boot)| Some((pass.to_owned(), boot.to_ssh?))).collect(), ..self }
    }

    /// The names of all packages, without versions.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        self.packages.keys().map(String::as_str)
    }
}

/// Compares two images.
pub fn difference((a, a_in): (&Image, &Contents), (b, b_in): (&Image, &Contents)) -> Difference {
    let system = |image: &Image, contents: &Contents| {
        let mut all = contents.manifest.os.clone();
        all.extend(image.base.as_ref().map(|base| ("base".to_owned(), base.id.clone())));
        all
    };
    let joined = |contents: &Contents| -> BTreeMap<String, String> {
        contents.packages.iter().map(|(name, versions)| (name.clone(), versions.join(", "))).collect()
    };
    Difference {
        system: changes(&system(a, a_in), &system(b, b_in)),
        tools: changes(&a_in.manifest.tools, &b_in.manifest.tools),
        packages: changes(&joined(a_in), &joined(b_in)),
        bytes: (a.disk_bytes, b.disk_bytes),
        boots: boots(&a_in.boots, &b_in.boots),
    }
}

fn changes(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<Change> {
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    let change =
        |name: &&String| Change { name: (*name).clone(), from: a.get(*name).cloned(), to: b.get(*name).cloned() };
    names.iter().map(change).filter(|c| c.from != c.to).collect()
}

/// The boot times of each pass that one of the images has, in order.
fn boots(a: &[(String, f64)], b: &[(String, f64)]) -> Vec<BootChange> {
    let mut passes: Vec<&String> = a.iter().map(|(pass, _)| pass).collect();
    passes.extend(b.iter().map(|(pass, _)| pass).filter(|pass| !a.iter().any(|(known, _)| known == *pass)));
    let time = |boots: &[(String, f64)], pass: &str| boots.iter().find(|(p, _)| p == pass).map(|(_, seconds)| *seconds);
    let change = |pass: &String| BootChange { pass: pass.clone(), from: time(a, pass), to: time(b, pass) };
    passes.into_iter().map(change).collect()
}

impl BootChange {
    /// `51.0 s -> 33.2 s (-17.8 s)`.
    pub fn text(&self) -> String {
        let side = |time: Option<f64>| time.map_or("not measured".to_owned(), |seconds| format!("{seconds:.1} s"));
        let by = self.from.zip(self.to).map_or(String::new(), |(from, to)| format!(" ({:+.1} s)", to - from));
        format!("{} -> {}{by}", side(self.from), side(self.to))
    }
}

impl Difference {
    /// The differences as text: what is new, removed and changed.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (title, changes) in [("system", &self.system), ("tools", &self.tools), ("packages", &self.packages)] {
            let count = if changes.is_empty() { "the same".to_owned() } else { format!("{} differ", changes.len()) };
            let _ = writeln!(text, "{title}: {count}");
            for Change { name, from, to } in changes {
                let _ = match (from, to) {
                    (Some(from), Some(to)) => writeln!(text, "  ~ {name}  {from} -> {to}"),
                    (None, Some(to)) => writeln!(text, "  + {name}  {to}"),
                    (Some(from), None) => writeln!(text, "  - {name}  {from}"),
                    (None, None) => Ok(()),
                };
            }
        }
        let (a, b) = self.bytes;
        let sign = if b < a { '-' } else { '+' };
        let _ = writeln!(
            text,
            "size: {} MB -> {} MB ({sign}{} MB)",
            a / 1_000_000,
            b / 1_000_000,
            a.abs_diff(b) / 1_000_000
        );
        if self.boots.is_empty() {
            let _ = writeln!(text, "machine start to SSH: not measured");
        }
        for boot in &self.boots {
            let _ = writeln!(text, "machine start to SSH, {}: {}", boot.pass, boot.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{BaseRecord, ImageId};
    use crate::recipe::Digest;

    fn image(base: &str, disk_bytes: u64) -> Image {
        let digest = Digest::of(base.as_bytes());
        Image {
            id: ImageId(format!("ami-{base}")),
            recipe_hash: digest,
            base: Some(BaseRecord::local(base, digest)),
            content: digest,
            disk_bytes,
            ..Image::sample()
        }
    }

    fn contents(image: &Image, tools: &str, components: &str) -> Contents {
        let manifest = format!(r#"{{"os": {{"id": "debian"}}, "tools": {tools}, "build": null}}"#);
        Contents::read(image, manifest.as_bytes(), format!(r#"{{"components": {components}}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn the_text_has_what_is_new_removed_and_changed() {
        let (a, b) = (image("debian-13", 2_000_000_000), image("debian-13", 2_150_000_000));
        let a_in = contents(
            &a,
            r#"{"node": "24.1.0", "locus": "1.0.0"}"#,
            r#"[{"name": "jq", "version": "1.6", "purl": "pkg:deb/debian/jq@1.6"},
                {"name": "jq", "version": "2", "purl": "pkg:npm/jq@2"},
                {"name": "ms", "version": "2.0.0", "purl": "pkg:npm/ms@2.0.0"},
                {"name": "ed", "version": "1", "purl": "pkg:deb/debian/ed@1"}]"#,
        );
        let b_in = contents(
            &b,
            r#"{"node": "24.2.0", "bun": "1.4.5"}"#,
            r#"[{"name": "jq", "version": "1.7", "purl": "pkg:deb/debian/jq@1.7"},
                {"name": "jq", "version": "2", "purl": "pkg:npm/jq@2"},
                {"name": "ms", "version": "2.1.0", "purl": "pkg:npm/ms@2.1.0"},
                {"name": "ms", "version": "2.0.0", "purl": "pkg:npm/ms@2.0.0"}]"#,
        );
        insta::assert_snapshot!(difference((&a, &a_in), (&b, &b_in)).text(), @r"
        system: the same
        tools: 3 differ
          + bun  1.4.5
          - locus  1.0.0
          ~ node  24.1.0 -> 24.2.0
        packages: 3 differ
          - deb/ed  1
          ~ deb/jq  1.6 -> 1.7
          ~ npm/ms  2.0.0 -> 2.0.0, 2.1.0
        size: 2000 MB -> 2150 MB (+150 MB)
        machine start to SSH: not measured
        ");
        let same = difference((&a, &a_in), (&a, &a_in));
        assert!(same.system.is_empty() && same.tools.is_empty() && same.packages.is_empty());
    }

    #[test]
    fn boot_times_are_compared_pass_by_pass() {
        let image = image("debian-13", 1_000_000);
        let boot = |seconds| Boot { to_ssh: Some(seconds), ..Boot::default() };
        let slow = contents(&image, "{}", "[]").with_boots([("first boot", &boot(51.04))].into_iter());
        let (first, second) = (boot(33.2), boot(20.0));
        let passes = [("first boot", &first), ("after reboot", &second), ("nothing", &Boot::default())];
        let fast = contents(&image, "{}", "[]").with_boots(passes.into_iter());
        let text = difference((&image, &slow), (&image, &fast)).text();
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("machine")).collect();
        assert_eq!(
            lines,
            [
                "machine start to SSH, first boot: 51.0 s -> 33.2 s (-17.8 s)",
                "machine start to SSH, after reboot: not measured -> 20.0 s",
            ]
        );
    }

    #[test]
    fn another_base_is_a_difference_of_the_system() {
        let (a, b) = (image("debian-13", 1), image("ubuntu-24.04", 1));
        let (a_in, b_in) = (contents(&a, "{}", "[]"), contents(&b, "{}", "[]"));
        let system = difference((&a, &a_in), (&b, &b_in)).system;
        assert_eq!(system.len(), 1);
        assert_eq!(system[0].to.as_deref(), Some("ubuntu-24.04"));
    }

    #[test]
    fn a_damaged_document_is_named() {
        let image = image("x", 1);
        let error = Contents::read(&image, b"{", b"{}").unwrap_err();
        assert!(error.to_string().contains("manifest.json of ami-x"), "{error}");
    }
}
