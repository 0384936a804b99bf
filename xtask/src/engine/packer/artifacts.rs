//! Parses the artifacts in Packer's `-machine-readable` output, and the builds that `packer inspect` prints. Pure.
//!
//! Each artifact is a group of records `TARGET,artifact,INDEX,KEY,VALUE...` (packer, command/build.go). The output of scripts has other
//! records, whose commas and line breaks are escaped, so a script cannot print an artifact.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::output::Record;

/// The id of the QEMU builder (packer-plugin-qemu, builder/qemu/builder.go).
const QEMU: &str = "transcend.qemu";
/// The number of artifacts of a build, and of files of an artifact, that are read. A post-processor can return any number of them.
const MAX: usize = 1000;

/// The artifacts of one build.
#[derive(Debug)]
pub(super) struct Artifacts {
    /// The build, as `-only` names it.
    target: String,
    found: BTreeMap<usize, Artifact>,
}

/// One artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Artifact {
    /// The id of the builder or post-processor that made it.
    builder: String,
    /// The number of its files, as Packer reports it.
    count: Option<usize>,
    files: BTreeMap<usize, String>,
    /// True if its last record was read.
    ended: bool,
}

impl Artifacts {
    pub(super) fn of(target: &str) -> Self {
        Self { target: target.to_owned(), found: BTreeMap::new() }
    }

    /// Reads a record. One that is not about an artifact of the build is ignored.
    pub(super) fn read(&mut self, record: &Record) {
        if record.kind != "artifact" || record.target != self.target {
            return;
        }
        let data: Vec<&str> = record.data.iter().map(String::as_str).collect();
        let Some((index, rest)) = data.split_first() else { return };
        let Some(index) = index.parse().ok().filter(|index| *index < MAX) else { return };
        let artifact: &mut Artifact = self.found.entry(index).or_default();
        match rest {
            ["builder-id", id] => (*id).clone_into(&mut artifact.builder),
            ["files-count", count] => artifact.count = count.parse().ok(),
            ["file", at, name] => {
                if let Some(at) = at.parse().ok().filter(|at| *at < MAX) {
                    artifact.files.insert(at, (*name).to_owned());
                }
            }
            ["end"] => artifact.ended = true,
            _ => {}
        }
    }

    /// The one disk that the QEMU builder made, or why there is not exactly one.
    pub(super) fn disk(&self) -> Result<PathBuf, String> {
        // A post-processor that keeps its input adds the same artifact again.
        let mut disks: Vec<Vec<&str>> = self.found.values().filter_map(Artifact::disks).collect();
        disks.sort();
        disks.dedup();
        let others = || {
            let ids: Vec<&str> = self.found.values().map(|artifact| artifact.builder.as_str()).collect();
            if ids.is_empty() { "no artifact".to_owned() } else { format!("only artifacts of {}", ids.join(", ")) }
        };
        match disks.as_slice() {
            [] => Err(format!("Packer made no disk of {}, {}", self.target, others())),
            [files] => match files.as_slice() {
                [disk] => Ok(PathBuf::from(disk)),
                [] => Err(format!("Packer made no disk of {}, only an artifact without files", self.target)),
                files => Err(format!("Packer made {} files of {}: {}", files.len(), self.target, files.join(", "))),
            },
            _ => Err(format!("Packer made several disks of {}", self.target)),
        }
    }
}

impl Artifact {
    /// The files of a complete artifact of the QEMU builder.
    fn disks(&self) -> Option<Vec<&str>> {
        let complete = self.ended && self.count == Some(self.files.len());
        (self.builder == QEMU && complete).then(|| self.files.values().map(String::as_str).collect())
    }
}

/// The builds of a source in the output of `packer inspect` (packer, hcl2template/types.packer_config.go, `printBuilds`), as `-only` names
/// them, and the names of all builds.
pub(super) fn builds(inspected: &str, source: &str) -> (Vec<String>, Vec<String>) {
    let (mut found, mut all) = (Vec::new(), Vec::new());
    let (mut in_builds, mut build, mut part) = (false, "", "");
    for line in inspected.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let text = line.trim();
        match indent {
            0 if text.starts_with('>') => in_builds = text == "> builds:",
            2 if in_builds => {
                build = text.strip_prefix("> ").and_then(|name| name.strip_suffix(':')).unwrap_or_default();
                part = "";
            }
            4 if in_builds => part = text,
            6 if in_builds && part == "sources:" && text.contains('.') => {
                // The name of a build block precedes that of the source (packer build -help, "-only").
                let name = match build.starts_with("<unnamed build ") {
                    true => text.to_owned(),
                    false => format!("{build}.{text}"),
                };
                if text == source {
                    found.push(name.clone());
                }
                all.push(name);
            }
            _ => {}
        }
    }
    (found, all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &str) -> Artifacts {
        let mut artifacts = Artifacts::of("qemu.x");
        lines.lines().filter_map(Record::read).for_each(|record| artifacts.read(&record));
        artifacts
    }

    fn artifact(index: usize, builder: &str, files: &[&str]) -> String {
        let mut text = format!("1,qemu.x,artifact-count,1\n1,qemu.x,artifact,{index},builder-id,{builder}\n");
        text.push_str(&format!(
            "1,qemu.x,artifact,{index},id,VM\n1,qemu.x,artifact,{index},string,VM files%!(PACKER_COMMA) x\n"
        ));
        text.push_str(&format!("1,qemu.x,artifact,{index},files-count,{}\n", files.len()));
        for (i, file) in files.iter().enumerate() {
            text.push_str(&format!("1,qemu.x,artifact,{index},file,{i},{file}\n"));
        }
        format!("{text}1,qemu.x,artifact,{index},end\n")
    }

    #[test]
    fn the_disk_is_the_only_file_of_the_qemu_artifact() {
        let one = artifact(0, "transcend.qemu", &["out/packer-x"]);
        assert_eq!(read(&one).disk(), Ok("out/packer-x".into()));
        // A manifest keeps its input, a checksum adds an artifact.
        let again = artifact(1, "transcend.qemu", &["out/packer-x"]);
        let sums = artifact(2, "packer.post-processor.checksum", &["sums"]);
        assert_eq!(read(&format!("{one}{again}{sums}")).disk(), Ok("out/packer-x".into()));
    }

    #[test]
    fn anything_else_than_one_disk_is_refused_with_what_was_made() {
        let qemu = |index, file| artifact(index, "transcend.qemu", &[file]);
        let whole = qemu(0, "a");
        let rows = [
            String::new(),
            artifact(0, "packer.post-processor.compress", &["x.gz"]),
            artifact(0, "transcend.qemu", &["a", "efivars.fd"]),
            artifact(0, "transcend.qemu", &[]),
            format!("{whole}{}", qemu(1, "b")),
            // A claimed file of another build, an incomplete artifact, and one with fewer files than Packer counted.
            whole.replace(",qemu.x,", ",other.qemu.x,"),
            whole.replace("1,qemu.x,artifact,0,end\n", ""),
            whole.replace("files-count,1", "files-count,2"),
            whole.replace("artifact,0,", "artifact,18446744073709551615,"),
            whole.replace("file,0,", "file,-1,"),
        ];
        let rows = rows.map(|lines| read(&lines).disk().unwrap_err());
        insta::assert_snapshot!(rows.join("\n"), @"
        Packer made no disk of qemu.x, no artifact
        Packer made no disk of qemu.x, only artifacts of packer.post-processor.compress
        Packer made 2 files of qemu.x: a, efivars.fd
        Packer made no disk of qemu.x, only an artifact without files
        Packer made several disks of qemu.x
        Packer made no disk of qemu.x, no artifact
        Packer made no disk of qemu.x, only artifacts of transcend.qemu
        Packer made no disk of qemu.x, only artifacts of transcend.qemu
        Packer made no disk of qemu.x, no artifact
        Packer made no disk of qemu.x, only artifacts of transcend.qemu
        ");
    }

    #[test]
    fn output_of_a_script_is_no_artifact() {
        let printed =
            artifact(0, "transcend.qemu", &["/etc/shadow"]).replace(',', "%!(PACKER_COMMA)").replace('\n', "\\n");
        let line = format!("1,,ui,say,==> qemu.x: {printed}\n1,qemu.x,ui,say,{printed}\n");
        assert!(read(&line).disk().is_err());
    }

    proptest! {
        #[test]
        fn no_output_stops_the_parser(lines in "([0-9]{0,3},(qemu\\.x)?,artifact,[0-9]{0,22},(file|end|builder-id|files-count|nil)?,.{0,9}\n?){0,9}") {
            let _ = read(&lines).disk();
            let _ = builds(&lines, "qemu.x");
        }
    }

    const INSPECTED: &str = "\
Packer Inspect: HCL2 mode

> input-variables:

var.a: \"x
> builds:\"

> local-variables:


> builds:

  > named:

    sources:

      qemu.x

      null.two

    provisioners:

      shell-local

    post-processors:

      0:
        manifest

  > <unnamed build 1>:

    sources:

      qemu.y

    provisioners:

      <no provisioner>

    post-processors:

      <no post-processor>
";

    #[test]
    fn the_builds_of_a_source_are_named_as_only_names_them() {
        let names = |source: &str| builds(INSPECTED, source).0;
        assert_eq!((names("qemu.x"), names("qemu.y")), (vec!["named.qemu.x".to_owned()], vec!["qemu.y".to_owned()]));
        let (none, all) = builds(INSPECTED, "qemu.z");
        assert_eq!((none, all), (vec![], ["named.qemu.x", "named.null.two", "qemu.y"].map(str::to_owned).into()));
        assert_eq!(builds("", "qemu.x"), (vec![], vec![]));
    }
}
