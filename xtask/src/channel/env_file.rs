//! The env file that the Locus API reads. Only the variables of the channel are set; all other lines stay as they are.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;

use crate::cloud::{Image, ImageId};
use crate::durable;
use crate::error::{Exit, Result};
use crate::ids::Region;

/// A planned change to a channel's env file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file as it is; `None` if there is none.
    before: Option<String>,
    /// The file as it will be.
    after: String,
}

/// The variable of a region: `LOCUS_AMI_ID_US_EAST_1`.
fn of_region(variable: &str, region: &Region) -> String {
    format!("{variable}_{}", region.to_uppercase().replace('-', "_"))
}

/// The image of each of these regions that has one in the file.
pub fn points_at(file: &Path, variable: &str, regions: &[Region]) -> Result<BTreeMap<Region, ImageId>> {
    let settings = settings(file, variable)?;
    let value = |name: &str| settings.iter().rfind(|(key, _)| key == name).map(|(_, id)| id.clone());
    Ok(regions.iter().filter_map(|region| Some((region.clone(), value(&of_region(variable, region))?))).collect())
}

/// Every image in the file, including those of regions that are not in ami.toml any more.
pub fn names(file: &Path, variable: &str) -> Result<Vec<ImageId>> {
    Ok(settings(file, variable)?.into_iter().map(|(_, id)| id).collect())
}

/// The channel's variables that are not empty, with their values.
fn settings(file: &Path, variable: &str) -> Result<Vec<(String, ImageId)>> {
    let text = read(file)?.unwrap_or_default();
    let assignments = text.lines().filter_map(|l| l.trim_start().trim_start_matches("export ").split_once('='));
    let is_of_channel =
        |name: &str| name.strip_prefix(variable).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    let own = assignments.filter(|(name, _)| is_of_channel(name.trim()));
    // The value as a shell reads it: a quoted text, or everything up to a blank.
    let value = |text: &str| match text.trim_start().chars().next().filter(|c| "\"'".contains(*c)) {
        Some(quote) => text.trim_start()[1..].split(quote).next().unwrap_or_default().to_owned(),
        None => text.split_whitespace().next().unwrap_or_default().to_owned(),
    };
    let own = own.map(|(name, text)| (name.trim().to_owned(), ImageId(value(text))));
    Ok(own.filter(|(_, id)| !id.0.is_empty()).collect())
}

fn read(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The change that points a channel at `images`, the home region's first.
pub fn plan(file: &Path, variable: &str, images: &[Image]) -> Result<Change> {
    let before = read(file)?;
    let mut settings: Vec<(String, String)> = Vec::new();
    settings.extend(images.first().map(|home| (variable.to_owned(), home.id.to_string())));
    settings.extend(images.iter().map(|i| (of_region(variable, &i.region), i.id.to_string())));
    let after = edit(before.as_deref().unwrap_or_default(), &settings);
    Ok(Change { before, after })
}

/// Writes the change if the file has not changed since it was planned, then reads it back.
pub fn apply(file: &Path, change: &Change) -> Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    let now = fs::read_to_string(file).ok();
    if now != change.before {
        return Err(Exit::Failed.error(
            format_args!("{} was changed by another process meanwhile", file.display()),
            "run the command again and review the new diff",
        ));
    }
    durable::replace(file, change.after.as_bytes())?;
    let read_back = fs::read_to_string(file)?;
    if read_back != change.after {
        return Err(Exit::Failed.error(
            format_args!("{} does not have the content that was written to it", file.display()),
            "stop the other process that writes to it, then promote again",
        ));
    }
    Ok(())
}

impl Change {
    /// True if the file already has the planned content.
    pub fn is_empty(&self) -> bool {
        self.before.as_deref() == Some(&self.after)
    }

    /// The change as a unified diff with `name` as the file's name.
    pub fn diff(&self, name: &str) -> String {
        let before = self.before.as_deref().unwrap_or_default();
        similar::TextDiff::from_lines(before, &self.after)
            .unified_diff()
            .context_radius(2)
            .header(name, name)
            .to_string()
    }
}

/// Sets variables in an env file. A value is replaced in its line, which keeps its `export`, comment and line ending; missing variables
/// are appended. Every byte of the other lines stays as it is.
fn edit(text: &str, settings: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut missing: Vec<&(String, String)> = settings.iter().collect();
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let (export, assignment) = rest.strip_prefix("export ").map_or(("", rest), |a| ("export ", a));
        let name = assignment.split_once('=').map(|(name, _)| name.trim());
        match settings.iter().find(|(key, _)| Some(key.as_str()) == name) {
            Some((key, value)) => {
                let comment = assignment.find(" #").map_or("", |at| &assignment[at..]);
                out.push_str(&format!("{indent}{export}{key}={value}{comment}{}", &whole[line.len()..]));
                missing.retain(|m| m.0 != *key);
            }
            None => out.push_str(whole),
        }
    }
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    if !out.is_empty() && !out.ends_with('\n') && !missing.is_empty() {
        out.push_str(ending);
    }
    for (key, value) in missing {
        out.push_str(&format!("{key}={value}{ending}"));
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
        export LOCUS_AMI_ID=a # no

          LOCUS_AMI_ID_LOCAL_2=b
        LOCUS_AMI_ID_OLD=1
        LOCUS_AMI_ID_LOCAL_1=a
        ");
    }

    #[test]
    fn line_endings_are_kept() {
        let settings = set(&[("LOCUS_AMI_ID", "a"), ("LOCUS_AMI_ID_X", "b")]);
        assert_eq!(edit("P=1\r\nLOCUS_AMI_ID=x\r\n", &settings), "P=1\r\nLOCUS_AMI_ID=a\r\nLOCUS_AMI_ID_X=b\r\n");
        assert_eq!(edit("LOCUS_AMI_ID_X=x\nLOCUS_AMI_ID=x", &settings), "LOCUS_AMI_ID_X=b\nLOCUS_AMI_ID=a");
        assert_eq!(edit("", &settings), "LOCUS_AMI_ID=a\nLOCUS_AMI_ID_X=b\n");
    }

    #[test]
    fn written_variables_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.env");
        let regions = ["us-east-1", "eu-west-1"].map(Region::from);
        assert_eq!(points_at(&file, "LOCUS_AMI_ID", &regions).unwrap(), BTreeMap::new());
        fs::write(&file, "LOCUS_AMI_ID=ami-1\n export LOCUS_AMI_ID_US_EAST_1=ami-1\nLOCUS_AMI_ID_EU_WEST_1=\n")
            .unwrap();
        let expected = [("us-east-1".into(), ImageId("ami-1".to_owned()))].into();
        assert_eq!(points_at(&file, "LOCUS_AMI_ID", &regions).unwrap(), expected);
        fs::write(&file, "LOCUS_AMI_ID_US_EAST_1=\"ami-1\" # ours\nLOCUS_AMI_ID_SA_EAST_1=ami-2 # old\nOTHER=ami-3\n")
            .unwrap();
        assert_eq!(points_at(&file, "LOCUS_AMI_ID", &regions).unwrap(), expected);
        assert_eq!(names(&file, "LOCUS_AMI_ID").unwrap(), ["ami-1", "ami-2"].map(|id| ImageId(id.to_owned())));
    }

    proptest! {
        #[test]
        fn editing_is_idempotent_and_keeps_other_lines(lines in prop::collection::vec("[A-Z_]{0,8}(=[a-z]{0,4})?", 0..8)) {
            let settings = set(&[("LOCUS_AMI_ID", "ami-1"), ("LOCUS_AMI_ID_X", "ami-2")]);
            let once = edit(&lines.join("\n"), &settings);
            prop_assert_eq!(edit(&once, &settings), once.clone());
            for (key, value) in &settings {
                let line = format!("{key}={value}");
                prop_assert!(once.lines().any(|l| l == line));
            }
            let others = |text: &str| text.lines().filter(|l| !l.starts_with("LOCUS_AMI_ID")).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(others(&once), others(&lines.join("\n")));
        }
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("channels/staging.env");
        let change = Change { before: None, after: "LOCUS_AMI_ID=a\n".to_owned() };
        apply(&file, &change).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "LOCUS_AMI_ID=a\n");
        let error = apply(&file, &change).unwrap_err();
        assert!(error.to_string().contains("changed by another process"), "{error}");
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "the temporary file is removed");
    }
}
