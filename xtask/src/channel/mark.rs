//! The mark `promoted:CHANNEL` of an image: when, by which run and by whom the channel was pointed at it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::ids::RunId;

/// The value of the mark, `TIME RUN WHO`. The name of who comes last, because it may have spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// When the channel was pointed at the image.
    pub at: Timestamp,
    /// The run that did it.
    pub run: RunId,
    /// The login name or the workflow's actor.
    pub who: String,
}

/// The name of the mark: `promoted:staging`.
pub fn promoted(channel: &str) -> String {
    format!("promoted:{channel}")
}

impl fmt::Display for Promoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at, self.run, self.who)
    }
}

impl FromStr for Promoted {
    type Err = String;

    /// Also reads the form of earlier versions, `TIME by WHO in RUN`.
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is not a mark of a promotion");
        let (at, rest) = text.split_once(' ').ok_or_else(invalid)?;
        let at = at.parse().map_err(|_| invalid())?;
        let (run, who) = match rest.strip_prefix("by ").and_then(|earlier| earlier.rsplit_once(" in ")) {
            Some((who, run)) => (run, who),
            None => rest.split_once(' ').ok_or_else(invalid)?,
        };
        Ok(Self { at, run: run.into(), who: who.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_whatever_the_name() {
        for who in ["ann", "by in by", "Ann Example in Berlin by train"] {
            let mark = Promoted {
                at: "2026-11-21T10:00:00Z".parse().unwrap(),
                run: "run-20261121-100000-abcdef".into(),
                who: who.to_owned(),
            };
            assert_eq!(mark.to_string().parse(), Ok(mark));
        }
    }

    #[test]
    fn the_earlier_form_is_read_and_others_are_not() {
        let mark: Promoted = "2026-11-21T10:00:00Z by ann in run-1".parse().unwrap();
        assert_eq!((mark.run.as_str(), mark.who.as_str()), ("run-1", "ann"));
        for text in ["", "2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z run-1", "today run-1 ann"] {
            assert!(text.parse::<Promoted>().is_err(), "{text}");
        }
    }
}
