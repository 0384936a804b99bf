//! Rollback: which image a channel goes back to. Pure.

use crate::error::{Exit, Result};

/// An image that a channel could point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its id in each region.
    pub ids: Vec<String>,
    /// The regions that have it.
    pub regions: Vec<String>,
    /// When the channel was last pointed at it, RFC 3339, if ever.
    pub promoted: Option<String>,
    /// Why it must not be used any more.
    pub quarantined: Option<String>,
}

/// The image to go back to: the one that was asked for, or the last good one before the one that is there now.
pub fn choose(candidates: &[Candidate], regions: &[String], now: Option<&str>, to: Option<&str>) -> Result<String> {
    let lacking = |c: &Candidate| {
        regions.iter().filter(|r| !c.regions.contains(r)).map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    if let Some(to) = to {
        let named = |c: &&Candidate| c.name == to || c.version == to || c.ids.iter().any(|id| id == to);
        let mut found: Vec<&Candidate> = candidates.iter().filter(named).collect();
        // Of one version there may be several images: the one that was in the channel last.
        found.sort_by(|a, b| a.promoted.cmp(&b.promoted));
        let Some(wanted) = found.pop() else {
            return Err(
                Exit::Usage.error(format_args!("no image `{to}`"), "`cargo xtask ami list` shows what is there")
            );
        };
        if let Some(why) = &wanted.quarantined {
            return Err(Exit::Judged
                .error(format_args!("{} is under quarantine: {why}", wanted.name), "go back to another one"));
        }
        if !lacking(wanted).is_empty() {
            return Err(Exit::Judged.error(
                format_args!("{} is not in {}", wanted.name, lacking(wanted)),
                format_args!("`cargo xtask ami copy {}`, then roll back", wanted.name),
            ));
        }
        return Ok(wanted.name.clone());
    }
    let good = |c: &&Candidate| {
        c.promoted.is_some() && c.quarantined.is_none() && Some(c.name.as_str()) != now && lacking(c).is_empty()
    };
    let last = candidates.iter().filter(good).max_by(|a, b| a.promoted.cmp(&b.promoted));
    last.map(|c| c.name.clone()).ok_or_else(|| {
        Exit::Judged.error(
            "there is no image to go back to: none that was in this channel, is in every region and is not under quarantine",
            "name one: --to VERSION; `cargo xtask ami list` shows what is there",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, promoted: Option<&str>) -> Candidate {
        Candidate {
            name: name.to_owned(),
            version: name.trim_start_matches('v').to_owned(),
            ids: vec![format!("ami-{name}")],
            regions: vec!["a".to_owned(), "b".to_owned()],
            promoted: promoted.map(str::to_owned),
            quarantined: None,
        }
    }

    fn regions() -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    #[test]
    fn it_goes_back_to_the_last_good_one() {
        let mut all = vec![
            candidate("v1", Some("2026-01-01")),
            candidate("v2", Some("2026-02-01")),
            candidate("v3", Some("2026-03-01")),
            candidate("v4", None),
        ];
        assert_eq!(choose(&all, &regions(), Some("v3"), None).unwrap(), "v2");
        all[1].quarantined = Some("boots no more".to_owned());
        assert_eq!(choose(&all, &regions(), Some("v3"), None).unwrap(), "v1");
        all[0].regions.pop();
        let error = choose(&all, &regions(), Some("v3"), None).unwrap_err();
        assert_eq!(error.exit(), Exit::Judged);
    }

    #[test]
    fn one_that_is_named_must_be_there_whole_and_good() {
        let mut all = vec![candidate("v1", None), candidate("v2", Some("2026-02-01"))];
        assert_eq!(choose(&all, &regions(), Some("v2"), Some("1")).unwrap(), "v1");
        assert_eq!(choose(&all, &regions(), None, Some("ami-v2")).unwrap(), "v2");
        assert_eq!(choose(&all, &regions(), None, Some("9")).unwrap_err().exit(), Exit::Usage);
        all[0].regions.pop();
        assert!(choose(&all, &regions(), None, Some("v1")).unwrap_err().to_string().contains("is not in b"));
        all[0].quarantined = Some("leaks".to_owned());
        assert!(choose(&all, &regions(), None, Some("v1")).unwrap_err().to_string().contains("quarantine: leaks"));
    }
}
