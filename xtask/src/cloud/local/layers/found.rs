//! What lies in the layer folder, and which of it a build can start from.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::super::{Generation, Layer, LayerId, Standing, StoredLayer};
use super::{DISK, REMOVED, USED, qcow2};
use crate::error::Result;
use crate::recipe::Digest;

/// The record's file name. It is written last: what has none is unfinished.
pub(super) const RECORD: &str = "layer.json";
/// The record while it is written.
pub(super) const HALF_RECORD: &str = ".layer.json";

/// A layer's record on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Which making of the layer this is.
    pub(super) generation: Generation,
    /// Which making of its parent it stands on; `None` for one that stands on a base.
    pub(super) parent_generation: Option<Generation>,
    /// What the rest of the program knows of it.
    pub(super) layer: Layer,
}

impl Record {
    /// The layer that it stands on.
    pub(super) fn below(&self) -> Option<LayerId> {
        self.parent_generation.map(|generation| LayerId { key: self.layer.parent, generation: Some(generation) })
    }
}

/// Something in the layer folder.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: LayerId,
    pub(super) dir: PathBuf,
    pub(super) what: What,
}

/// What it is, looked at alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// A layer with its record, its disk, and under it the file that the record means.
    Finished(Box<Record>),
    Unfinished,
    Broken(String),
    OldLayout,
    HalfRemoved,
}

impl Found {
    pub(super) fn record(&self) -> Option<&Record> {
        if let What::Finished(record) = &self.what { Some(record) } else { None }
    }
}

/// Everything in the folder that is ours.
pub(super) fn all(root: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let dir = entry?.path();
        let Some(key) = named::<Digest>(&dir).filter(|_| dir.is_dir()) else { continue };
        if [RECORD, DISK].iter().any(|file| dir.join(file).exists()) {
            found.push(Found { id: LayerId { key, generation: None }, dir: dir.clone(), what: What::OldLayout });
        }
        // It may be removed while somebody looks who holds no lock.
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let dir = entry?.path();
            let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (name, removed) = name.strip_prefix(REMOVED).map_or((name, false), |name| (name, true));
            let Ok(generation) = name.parse::<Generation>() else { continue };
            let id = LayerId { key, generation: Some(generation) };
            let what = if removed { What::HalfRemoved } else { look(root, id, generation, &dir) };
            found.push(Found { id, dir, what });
        }
    }
    Ok(found)
}

fn named<T: std::str::FromStr>(path: &Path) -> Option<T> {
    path.file_name()?.to_str()?.parse().ok()
}

fn look(root: &Path, id: LayerId, generation: Generation, dir: &Path) -> What {
    let text = match std::fs::read(dir.join(RECORD)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return What::Unfinished,
        Err(error) => return What::Broken(format!("its record cannot be read: {error}")),
    };
    let record: Record = match serde_json::from_slice(&text) {
        Ok(record) => record,
        Err(error) => return What::Broken(format!("its record cannot be read: {error}")),
    };
    if (record.layer.key, record.generation) != (id.key, generation) {
        return What::Broken("its record is another layer's".to_owned());
    }
    match stands_on(root, &dir.join(DISK)) {
        Ok(below) if below == record.below() => What::Finished(Box::new(record)),
        Ok(_) => What::Broken("its disk stands on another one than its record says".to_owned()),
        Err(problem) => What::Broken(problem),
    }
}

/// The layer that a disk stands on, by its own header; `None` for a file outside of the layer folder that is there.
pub(super) fn stands_on(root: &Path, disk: &Path) -> std::result::Result<Option<LayerId>, String> {
    let backing = qcow2::backing(disk).map_err(|error| format!("its disk cannot be read: {error}"))?;
    let (Some(dir), Some(backing)) = (disk.parent(), backing) else {
        return Err("its disk stands on nothing".to_owned());
    };
    let gone = |error| format!("{}, which it stands on, cannot be read: {error}", backing.display());
    let below = std::fs::canonicalize(dir.join(&backing)).map_err(gone)?;
    let root = std::fs::canonicalize(root).map_err(|error| format!("the layer folder cannot be read: {error}"))?;
    let Ok(inside) = below.strip_prefix(&root) else { return Ok(None) };
    let parts: Vec<&str> = inside.components().filter_map(text).collect();
    match parts[..] {
        [key, generation, DISK] => match (key.parse(), generation.parse()) {
            (Ok(key), Ok(generation)) => Ok(Some(LayerId { key, generation: Some(generation) })),
            _ => Err(format!("it stands on {}, which is no layer", inside.display())),
        },
        _ => Err(format!("it stands on {}, which is no layer", inside.display())),
    }
}

fn text(part: Component<'_>) -> Option<&str> {
    part.as_os_str().to_str()
}

/// For each key that a build can start from, which making of it. From the bases upward: the newest that stands on a base, or on the
/// chosen making of its parent.
pub(super) fn choose(found: &[Found]) -> BTreeMap<Digest, &Record> {
    let mut by_key: BTreeMap<Digest, Vec<&Record>> = BTreeMap::new();
    for record in found.iter().filter_map(Found::record) {
        by_key.entry(record.layer.key).or_default().push(record);
    }
    for records in by_key.values_mut() {
        records.sort_by_key(|record| std::cmp::Reverse(record.generation));
    }
    let mut chosen: BTreeMap<Digest, &Record> = BTreeMap::new();
    // What is chosen for a key depends on its parent's key alone, and that is settled before. A turn settles a step of every chain.
    loop {
        let settled = |record: &Record| match record.parent_generation {
            None => true,
            Some(generation) => chosen.get(&record.layer.parent).is_some_and(|parent| parent.generation == generation),
        };
        let next: Vec<&Record> = by_key
            .iter()
            .filter(|(key, _)| !chosen.contains_key(*key))
            .filter_map(|(_, records)| records.iter().copied().find(|record| settled(record)))
            .collect();
        if next.is_empty() {
            return chosen;
        }
        chosen.extend(next.into_iter().map(|record| (record.layer.key, record)));
    }
}

/// What lies there, for who decides what goes.
pub(super) fn stored(found: &[Found]) -> Result<Vec<StoredLayer>> {
    let chosen = choose(found);
    let standing = |found: &Found| match &found.what {
        What::Finished(record) => match chosen.get(&found.id.key) {
            Some(chosen) if chosen.generation == record.generation => Standing::Listed,
            Some(_) => Standing::Replaced,
            None => Standing::Stranded,
        },
        What::Unfinished => Standing::Unfinished,
        What::Broken(problem) => Standing::Broken(problem.clone()),
        What::OldLayout => Standing::OldLayout,
        What::HalfRemoved => Standing::HalfRemoved,
    };
    let layer = |found: &Found| {
        Ok(StoredLayer {
            id: found.id,
            step: found.record().map(|record| record.layer.step.clone()),
            below: found.record().and_then(Record::below),
            bytes: allocated(&found.dir.join(DISK))?,
            used: used(&found.dir)?,
            standing: standing(found),
        })
    };
    found.iter().map(layer).collect()
}

/// What a file takes of the disk, which is less than its length where it has holes.
fn allocated(file: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(file) {
        Ok(metadata) => Ok(metadata.blocks() * 512),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// When a layer was last used: the time on its marker, or else when it was made.
fn used(dir: &Path) -> Result<Timestamp> {
    let times = [USED, RECORD].map(|file| std::fs::metadata(dir.join(file)).and_then(|m| m.modified()).ok());
    let at = match times.into_iter().flatten().next() {
        Some(at) => at,
        None => fs::metadata(dir)?.modified()?,
    };
    Ok(Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH))
}
