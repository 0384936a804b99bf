//! Reads the layer directory, and determines the layers that a build can start from.

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

/// The record's file name. It is written last, so a layer without it is unfinished.
pub(super) const RECORD: &str = "layer.json";
/// The record's file name while it is written.
pub(super) const HALF_RECORD: &str = ".layer.json";

/// A layer's record on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) generation: Generation,
    /// The generation of its parent layer; `None` if the parent is a base.
    pub(super) parent_generation: Option<Generation>,
    pub(super) layer: Layer,
}

impl Record {
    /// The parent layer; `None` if the parent is a base.
    pub(super) fn below(&self) -> Option<LayerId> {
        self.parent_generation.map(|generation| LayerId { key: self.layer.parent, generation: Some(generation) })
    }
}

/// An entry of the layer directory.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: LayerId,
    pub(super) dir: PathBuf,
    pub(super) status: Status,
}

/// The state of an entry, regardless of other entries.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Status {
    /// A layer with record and disk, whose backing file exists and is that of the parent in the record.
    Finished(Box<Record>),
    Unfinished,
    Broken(String),
    OldLayout,
    HalfRemoved,
}

impl Found {
    pub(super) fn record(&self) -> Option<&Record> {
        if let Status::Finished(record) = &self.status { Some(record) } else { None }
    }
}

/// All entries of the layer directory. Other files in it are ignored.
pub(super) fn all(root: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let dir = entry?.path();
        let Some(key) = parse_name::<Digest>(&dir).filter(|_| dir.is_dir()) else { continue };
        if [RECORD, DISK].iter().any(|file| dir.join(file).exists()) {
            found.push(Found { id: LayerId { key, generation: None }, dir: dir.clone(), status: Status::OldLayout });
        }
        // A caller without the build lock may read the directory while another process removes it.
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let dir = entry?.path();
            let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (name, removed) = name.strip_prefix(REMOVED).map_or((name, false), |name| (name, true));
            let Ok(generation) = name.parse::<Generation>() else { continue };
            let id = LayerId { key, generation: Some(generation) };
            let status = if removed { Status::HalfRemoved } else { inspect(root, id, generation, &dir) };
            found.push(Found { id, dir, status });
        }
    }
    Ok(found)
}

fn parse_name<T: std::str::FromStr>(path: &Path) -> Option<T> {
    path.file_name()?.to_str()?.parse().ok()
}

fn inspect(root: &Path, id: LayerId, generation: Generation, dir: &Path) -> Status {
    let text = match std::fs::read(dir.join(RECORD)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Status::Unfinished,
        Err(error) => return Status::Broken(format!("its record cannot be read: {error}")),
    };
    let record: Record = match serde_json::from_slice(&text) {
        Ok(record) => record,
        Err(error) => return Status::Broken(format!("its record cannot be read: {error}")),
    };
    if (record.layer.key, record.generation) != (id.key, generation) {
        return Status::Broken("its record belongs to another layer".to_owned());
    }
    match parent(root, &dir.join(DISK)) {
        Ok(below) if below == record.below() => Status::Finished(Box::new(record)),
        Ok(_) => Status::Broken("the backing file of its disk is not the parent in its record".to_owned()),
        Err(problem) => Status::Broken(problem),
    }
}

/// The parent layer of a disk, by the backing file in its header; `None` for an existing file outside of the layer directory.
pub(super) fn parent(root: &Path, disk: &Path) -> std::result::Result<Option<LayerId>, String> {
    let backing = qcow2::backing(disk).map_err(|error| format!("its disk cannot be read: {error}"))?;
    let (Some(dir), Some(backing)) = (disk.parent(), backing) else {
        return Err("its disk has no backing file".to_owned());
    };
    let unreadable = |error| format!("its backing file {} cannot be read: {error}", backing.display());
    let below = std::fs::canonicalize(dir.join(&backing)).map_err(unreadable)?;
    let root = std::fs::canonicalize(root).map_err(|error| format!("the layer directory cannot be read: {error}"))?;
    let Ok(inside) = below.strip_prefix(&root) else { return Ok(None) };
    let parts: Vec<&str> = inside.components().filter_map(text).collect();
    match parts[..] {
        [key, generation, DISK] => match (key.parse(), generation.parse()) {
            (Ok(key), Ok(generation)) => Ok(Some(LayerId { key, generation: Some(generation) })),
            _ => Err(format!("its backing file {} is not a layer", inside.display())),
        },
        _ => Err(format!("its backing file {} is not a layer", inside.display())),
    }
}

fn text(part: Component<'_>) -> Option<&str> {
    part.as_os_str().to_str()
}

/// For each key that a build can start from, the generation to use: the newest one whose parent is a base or the chosen generation of
/// its parent's key.
pub(super) fn choose(found: &[Found]) -> BTreeMap<Digest, &Record> {
    let mut by_key: BTreeMap<Digest, Vec<&Record>> = BTreeMap::new();
    for record in found.iter().filter_map(Found::record) {
        by_key.entry(record.layer.key).or_default().push(record);
    }
    for records in by_key.values_mut() {
        records.sort_by_key(|record| std::cmp::Reverse(record.generation));
    }
    let mut chosen: BTreeMap<Digest, &Record> = BTreeMap::new();
    // The choice for a key depends only on the choice for its parent's key. Each iteration chooses one more level of every chain.
    loop {
        let valid = |record: &Record| match record.parent_generation {
            None => true,
            Some(generation) => chosen.get(&record.layer.parent).is_some_and(|parent| parent.generation == generation),
        };
        let next: Vec<&Record> = by_key
            .iter()
            .filter(|(key, _)| !chosen.contains_key(*key))
            .filter_map(|(_, records)| records.iter().copied().find(|record| valid(record)))
            .collect();
        if next.is_empty() {
            return chosen;
        }
        chosen.extend(next.into_iter().map(|record| (record.layer.key, record)));
    }
}

/// The entries with the fields by which garbage collection decides.
pub(super) fn stored(found: &[Found]) -> Result<Vec<StoredLayer>> {
    let chosen = choose(found);
    let standing = |found: &Found| match &found.status {
        Status::Finished(record) => match chosen.get(&found.id.key) {
            Some(chosen) if chosen.generation == record.generation => Standing::Listed,
            Some(_) => Standing::Replaced,
            None => Standing::Stranded,
        },
        Status::Unfinished => Standing::Unfinished,
        Status::Broken(problem) => Standing::Broken(problem.clone()),
        Status::OldLayout => Standing::OldLayout,
        Status::HalfRemoved => Standing::HalfRemoved,
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

/// Disk space that a file occupies, in bytes. It is less than the length of a sparse file.
fn allocated(file: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(file) {
        Ok(metadata) => Ok(metadata.blocks() * 512),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// When a layer was last used: the time of its marker file, or else its creation time.
fn used(dir: &Path) -> Result<Timestamp> {
    let times = [USED, RECORD].map(|file| std::fs::metadata(dir.join(file)).and_then(|m| m.modified()).ok());
    let at = match times.into_iter().flatten().next() {
        Some(at) => at,
        None => fs::metadata(dir)?.modified()?,
    };
    Ok(Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH))
}
