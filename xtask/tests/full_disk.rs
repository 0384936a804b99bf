//! The file system of the state directory is full: a change that cannot be written to the ledger is not made, and with free space again the
//! run can be resumed.
//!
//! `cargo test -p xtask --test full_disk -- --ignored` as root, which mounting a small tmpfs requires, or `cargo xtask test --full`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use xtask::process::Cmd;

#[path = "support/project.rs"]
mod project;
use project::Project;
#[path = "support/stopped.rs"]
mod stopped;
use stopped::Stopped;

/// A tmpfs of 4 MiB.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        Cmd::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&at).read().unwrap();
        Self(at)
    }

    /// Writes a file until no space is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("fill")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Cmd::new("umount").arg("--lazy").arg(&self.0).read().unwrap();
    }
}

#[test]
#[ignore = "mounts a tmpfs, which requires root"]
fn changes_that_cannot_be_written_to_the_ledger_are_not_made() {
    for point in ["before:2", "after:2", "before:4", "after:4"] {
        let project = Project::new();
        project.edit("ami.toml", "ssm_prefix = \"\"", "ssm_prefix = \"/locus/ami\"");
        let disk = Disk::mount(project.path(".agent-ami"));
        let image = project.ready("20261121-0001");
        let promote = ["ami", "promote", &image.id.0, "--channel", "staging", "--yes"];
        let mut command = project.command(&promote);
        command.env("LEDGER_PAUSE_AT", point);
        let stopped = Stopped::start(&command);
        disk.fill();
        let stderr = stopped.finish(3);
        assert!(stderr.contains("free some"), "{point}: {stderr}");
        assert_eq!(
            point.starts_with("after"),
            stderr.contains("ledger.db cannot be used: database or disk is full"),
            "{point}: {stderr}"
        );
        assert!(!project.path("channels/staging.env").exists(), "{point}: a later change was made");
        // Refused because the disk is full, or because the first promotion could not release its claim.
        project.run(&promote).assert_exit(3, &[]);

        disk.empty();
        let ledger = rusqlite::Connection::open(project.path(".agent-ami/ledger.db")).unwrap();
        let outcome: String = ledger.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(outcome, "ok");
        let runs = project.data(&["ami", "runs", "--unfinished"])["runs"].clone();
        project.run(&["ami", "resume", runs[0]["run"]["id"].as_str().unwrap(), "--yes"]).assert_exit(0, &["read back"]);
        let history = project.data(&["ami", "history", "--channel", "staging"]);
        assert_eq!(history["now"]["local-1"], image.id.0.as_str(), "{point}");
        assert_eq!(history["history"].as_array().unwrap().len(), 1, "{point}");
    }
}
