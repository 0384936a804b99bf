//! Promote: a channel's env file points at one image per region. Gate, diff, write, read back.

use std::path::Path;

use fs_err as fs;

use super::smoke::Record;
use crate::cloud::Image;
use crate::error::{Exit, Result};
use crate::event::{Event, Observer};

/// The variable the Locus API reads (guide, section 8); `_<REGION>` is added for each region (section 9).
const VARIABLE: &str = "LOCUS_AMI_ID";

/// A change to a channel's env file, ready to be shown and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file as it is; `None` if there is none.
    before: Option<String>,
    /// The file as it will be.
    after: String,
}

/// Judges whether an image may be promoted: smoke passed for exactly this disk, and every region has it.
pub fn gate(images: &[Image], regions: &[String], record: Option<&Record>) -> Result<()> {
    let Some(home) = images.first() else {
        return Err(Exit::Usage.error("no image to promote", "build one with `cargo xtask ami build`"));
    };
    let refuse = |what: String, hint: String| {
        Err(Exit::Judged.error(format_args!("{} may not be promoted: {what}", home.id), hint))
    };
    let smoke = format!("run `cargo xtask ami smoke {}`", home.id);
    match record {
        None => return refuse("it has no smoke report".to_owned(), smoke),
        Some(record) if record.content != home.content => {
            return refuse("its smoke report was made for another disk".to_owned(), smoke);
        }
        Some(record) if !record.passed => return refuse("its smoke test failed".to_owned(), smoke),
        // A record that says `passed` over reports that do not is not believed.
        Some(record) if record.reports.is_empty() || !record.reports.iter().all(::smoke::report::Report::passed) => {
            return refuse("its smoke report holds a failed or empty pass".to_owned(), smoke);
        }
        Some(_) => {}
    }
    let missing: Vec<&str> =
        regions.iter().filter(|r| !images.iter().any(|i| i.region == **r)).map(String::as_str).collect();
    if !missing.is_empty() {
        return refuse(
            format!("it is not in {}", missing.join(", ")),
            format!("run `cargo xtask ami copy {}`", home.id),
        );
    }
    if let Some(other) = images.iter().find(|i| i.content != home.content) {
        return refuse(
            format!("{} in {} has another disk", other.id, other.region),
            format!("delete {} and copy again", other.id),
        );
    }
    Ok(())
}

/// The change that points a channel at `images`, the home region's first.
pub fn plan(file: &Path, images: &[Image]) -> Result<Change> {
    let before = match fs::read_to_string(file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let mut settings: Vec<(String, String)> = Vec::new();
    settings.extend(images.first().map(|home| (VARIABLE.to_owned(), home.id.to_string())));
    settings.extend(
        images.iter().map(|i| (format!("{VARIABLE}_{}", i.region.to_uppercase().replace('-', "_")), i.id.to_string())),
    );
    let after = edit(before.as_deref().unwrap_or_default(), &settings);
    Ok(Change { before, after })
}

/// Writes the change if the file is still what it was when it was planned, then reads it back.
pub fn apply(file: &Path, change: &Change, events: &dyn Observer) -> Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    let now = fs::read_to_string(file).ok();
    if now != change.before {
        return Err(Exit::Failed.error(
            format_args!("{} was changed by someone else in between", file.display()),
            "run the command again and look at the new diff",
        ));
    }
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut staged = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut staged, change.after.as_bytes())?;
    staged.as_file().sync_all()?;
    // A new file is readable as any other; an existing one keeps its mode.
    let permissions = fs::metadata(file).map(|m| m.permissions()).unwrap_or_else(|_| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::Permissions::from_mode(0o644)
    });
    staged.as_file().set_permissions(permissions)?;
    staged.persist(file).map_err(|e| e.error)?;
    let read_back = fs::read_to_string(file)?;
    if read_back != change.after {
        return Err(Exit::Failed.error(
            format_args!("{} does not hold what was written to it", file.display()),
            "another process writes to it; stop that and promote again",
        ));
    }
    events.event(Event::Note { message: format!("{} written and read back", file.display()) });
    Ok(())
}

impl Change {
    /// True if the file says already what it should.
    pub fn is_empty(&self) -> bool {
        self.before.as_deref() == Some(&self.after)
    }

    /// The change for a person to read.
    pub fn diff(&self, name: &str) -> String {
        let before = self.before.as_deref().unwrap_or_default();
        similar::TextDiff::from_lines(before, &self.after)
            .unified_diff()
            .context_radius(2)
            .header(name, name)
            .to_string()
    }
}

/// Sets variables in an env file: their lines are replaced where they stand (`export` kept), others are left as they are.
fn edit(text: &str, settings: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut missing: Vec<&(String, String)> = settings.iter().collect();
    for line in text.lines() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let (export, assignment) = rest.strip_prefix("export ").map_or(("", rest), |a| ("export ", a));
        let name = assignment.split_once('=').map(|(name, _)| name.trim());
        match settings.iter().find(|(key, _)| Some(key.as_str()) == name) {
            Some(setting) => {
                out.push_str(&format!("{indent}{export}{}={}\n", setting.0, setting.1));
                missing.retain(|m| m.0 != setting.0);
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    for (key, value) in missing {
        out.push_str(&format!("{key}={value}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn other_lines_comments_and_order_are_kept() {
        let text =
            "# the API\nPORT=1\nexport LOCUS_AMI_ID=ami-old # no\n\n  LOCUS_AMI_ID_LOCAL_2=x\nLOCUS_AMI_ID_OLD=1";
        let out =
            edit(text, &set(&[("LOCUS_AMI_ID", "a"), ("LOCUS_AMI_ID_LOCAL_1", "a"), ("LOCUS_AMI_ID_LOCAL_2", "b")]));
        insta::assert_snapshot!(out, @r"
        # the API
        PORT=1
        export LOCUS_AMI_ID=a

          LOCUS_AMI_ID_LOCAL_2=b
        LOCUS_AMI_ID_OLD=1
        LOCUS_AMI_ID_LOCAL_1=a
        ");
    }

    proptest! {
        #[test]
        fn editing_twice_is_editing_once_and_foreign_lines_stay(lines in prop::collection::vec("[A-Z_]{0,8}(=[a-z]{0,4})?", 0..8)) {
            let settings = set(&[("LOCUS_AMI_ID", "ami-1"), ("LOCUS_AMI_ID_X", "ami-2")]);
            let once = edit(&lines.join("\n"), &settings);
            prop_assert_eq!(edit(&once, &settings), once.clone());
            for (key, value) in &settings {
                let line = format!("{key}={value}");
                prop_assert!(once.lines().any(|l| l == line));
            }
            let foreign = |text: &str| text.lines().filter(|l| !l.starts_with("LOCUS_AMI_ID")).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(foreign(&once), foreign(&lines.join("\n")));
        }
    }

    #[test]
    fn a_file_that_changed_in_between_is_not_overwritten() {
        struct Deaf;
        impl Observer for Deaf {
            fn event(&self, _: Event) {}
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("channels/staging.env");
        let change = Change { before: None, after: "LOCUS_AMI_ID=a\n".to_owned() };
        apply(&file, &change, &Deaf).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "LOCUS_AMI_ID=a\n");
        let error = apply(&file, &change, &Deaf).unwrap_err();
        assert!(error.to_string().contains("changed by someone else"), "{error}");
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no staged file stays");
    }
}
