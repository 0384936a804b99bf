//! Layers: the disk states that a build can start from, and how they are stored on this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::str::FromStr;
use std::time::Duration;

use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::recipe::{Digest, Step};

/// A layer that a build can start from: the disk after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// hash(parent key, step).
    pub key: Digest,
    /// The key of the parent layer, or the base's digest.
    pub parent: Digest,
    /// The step's name.
    pub step: String,
    /// The step's inputs when it ran, from which a later plan derives what changed.
    pub inputs: BTreeMap<String, Digest>,
    /// Duration of the step in seconds.
    pub seconds: f64,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// The layer record of a step that has just run.
pub fn layer_of(step: &Step, key: Digest, parent: Digest, took: Duration) -> Layer {
    Layer {
        key,
        parent,
        step: step.name.clone(),
        inputs: step.inputs(),
        seconds: took.as_secs_f64(),
        created: Timestamp::now().to_string(),
    }
}

/// Identifies one of several layers with the same key: each run of a step creates a new one. Sorted by creation time.
///
/// As text `YYYYMMDD-HHMMSS-MICROS-RANDOM`, which is the name of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Generation {
    /// In whole microseconds.
    at: Timestamp,
    random: [u8; 3],
}

/// The error for a text that is not a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a generation of a layer")]
pub struct NoGeneration;

const SECONDS: &str = "%Y%m%d-%H%M%S";

impl Generation {
    /// A new generation that sorts after `newest` even if the clock was set back since.
    pub fn next(newest: Option<Self>) -> Result<Self> {
        let mut random = [0; 3];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let now = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or_default();
        let after = newest.map(|g| g.at.saturating_add(SignedDuration::from_micros(1)).unwrap_or(g.at));
        Ok(Self { at: after.map_or(now, |after| after.max(now)), random })
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.random;
        let micros = self.at.subsec_nanosecond() / 1000;
        write!(f, "{}-{micros:06}-{a:02x}{b:02x}{c:02x}", self.at.strftime(SECONDS))
    }
}

impl FromStr for Generation {
    type Err = NoGeneration;

    fn from_str(text: &str) -> Result<Self, NoGeneration> {
        let read = || {
            let (rest, random) = text.rsplit_once('-')?;
            let (seconds, micros) = rest.rsplit_once('-')?;
            let seconds = jiff::civil::DateTime::strptime(SECONDS, seconds).ok()?;
            let seconds = seconds.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
            let at = seconds.checked_add(SignedDuration::from_micros(micros.parse().ok()?)).ok()?;
            let [_, a, b, c] = u32::from_str_radix(random, 16).ok()?.to_be_bytes();
            Some(Self { at, random: [a, b, c] })
        };
        // Only the canonical text is accepted.
        read().filter(|found| found.to_string() == text).ok_or(NoGeneration)
    }
}

impl TryFrom<String> for Generation {
    type Error = NoGeneration;

    fn try_from(text: String) -> Result<Self, NoGeneration> {
        text.parse()
    }
}

impl From<Generation> for String {
    fn from(generation: Generation) -> Self {
        generation.to_string()
    }
}

/// Identifies a stored layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId {
    pub key: Digest,
    /// Its generation; `None` for a layer of the old layout, which had none.
    pub generation: Option<Generation>,
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            Some(generation) => write!(f, "{}/{generation}", self.key.short()),
            None => write!(f, "{}", self.key.short()),
        }
    }
}

/// A layer that is stored on this machine, whether or not a build can start from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLayer {
    /// Its key and generation.
    pub id: LayerId,
    /// The step's name, if it is known.
    pub step: Option<String>,
    /// Its parent layer; `None` if the parent is a base or is not known.
    pub below: Option<LayerId>,
    /// Disk space that it occupies, in bytes.
    pub bytes: u64,
    /// When a build last started from it or from a layer above it; its creation time if none has.
    pub used: Timestamp,
    /// Whether a build can start from it.
    pub standing: Standing,
}

/// Whether a build can start from a stored layer, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A build can start from it.
    Listed,
    /// A newer layer with the same key is used instead.
    Replaced,
    /// Its parent was replaced or removed.
    Stranded,
    /// Its step failed or was interrupted.
    Unfinished,
    /// It is damaged, for the given reason.
    Broken(String),
    /// An earlier version of this program, without generations, created it.
    OldLayout,
    /// Its removal was interrupted.
    HalfRemoved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_of_a_generation_is_parsed() {
        let generation = Generation::next(None).unwrap();
        let text = generation.to_string();
        assert_eq!(text.parse(), Ok(generation));
        assert_eq!(text.len(), 29, "{text}");
        for wrong in ["", "disk.qcow2", &text[1..], &format!("{text}0"), &text.replace('-', "_"), &format!(".{text}")] {
            assert_eq!(wrong.parse::<Generation>(), Err(NoGeneration), "{wrong}");
        }
    }

    #[test]
    fn generations_sort_by_creation_as_values_and_as_text_even_when_the_clock_is_set_back() {
        let future: Generation = "20991231-235959-999999-ffffff".parse().unwrap();
        let mut made = vec![future];
        for _ in 0..20 {
            made.push(Generation::next(made.last().copied()).unwrap());
        }
        let texts: Vec<String> = made.iter().map(Generation::to_string).collect();
        assert!(made.is_sorted() && texts.is_sorted(), "{texts:?}");
        assert!(made.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
