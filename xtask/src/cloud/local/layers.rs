//! The layer cache: a folder a key, in it one a generation, each a qcow2 overlay on the layer below it.
//!
//! A layer never changes once it is finished, and no making of one touches another: running a step again makes a further generation,
//! and what stands on the older one keeps standing on it. A layer counts when its record is there, which is written last, and when all
//! that it stands on counts. What a killed build leaves has no record; the next build removes it: builds hold a lock, so
//! nobody else is at work on it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;

use super::super::{Generation, Layer, LayerId, StoredLayer};
use crate::durable;
use crate::error::{Error, Exit, Result};
use crate::process::Cmd;
use crate::recipe::Digest;

mod found;
mod qcow2;

use found::{Found, HALF_RECORD, RECORD, Record, What};

const DISK: &str = "disk.qcow2";
/// Its time says when a build last started from the layer or from one above it.
const USED: &str = "used";
/// Before the name of a generation whose removal has begun.
const REMOVED: &str = ".removed-";

/// The folder of all layers.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    root: PathBuf,
}

impl Layers {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The layers that a build can start from: at most one a key, each with its whole chain.
    pub(super) fn list(&self) -> Result<Vec<Layer>> {
        let found = found::all(&self.root)?;
        Ok(found::choose(&found).into_values().map(|record| record.layer.clone()).collect())
    }

    /// The layers that are whole in themselves, and that a build cannot start from all the same.
    pub(super) fn earlier(&self) -> Result<Vec<Layer>> {
        let found = found::all(&self.root)?;
        let chosen = found::choose(&found);
        let earlier = |record: &&Record| chosen.get(&record.layer.key).is_none_or(|chosen| chosen != record);
        Ok(found.iter().filter_map(Found::record).filter(earlier).map(|record| record.layer.clone()).collect())
    }

    /// All that lies here.
    pub(super) fn stored(&self) -> Result<Vec<StoredLayer>> {
        found::stored(&found::all(&self.root)?)
    }

    /// The disk of a layer that is listed, to start a build from. Notes that its chain is used.
    pub(super) fn start_from(&self, key: Digest) -> Result<PathBuf> {
        let found = found::all(&self.root)?;
        let chosen = found::choose(&found);
        let mut next = chosen.get(&key).copied();
        let disk = next.map(|record| self.dir(key, record.generation).join(DISK)).ok_or_else(|| missing(key))?;
        while let Some(record) = next {
            touch(&self.dir(record.layer.key, record.generation).join(USED))?;
            next = record.below().and_then(|below| chosen.get(&below.key).copied());
        }
        Ok(disk)
    }

    /// Makes the overlay in which the state `key` will come to be, above `below`: a generation of its own.
    pub(super) fn begin(&self, key: Digest, below: &Path, size_gib: Option<u64>) -> Result<PathBuf> {
        let newest = found::all(&self.root)?.into_iter().filter_map(|found| found.id.generation).max();
        let dir = self.dir(key, Generation::next(newest)?);
        fs::create_dir_all(self.root.join(key.to_string()))?;
        fs::create_dir(&dir)?;
        let disk = dir.join(DISK);
        overlay(&disk, below, size_gib)?;
        Ok(disk)
    }

    /// Says that the layer whose disk was begun here is finished. What it stands on is what its disk stands on.
    pub(super) fn finish(&self, disk: &Path, layer: &Layer) -> Result<()> {
        let folder = self.root.join(layer.key.to_string());
        let dir = disk.parent().filter(|dir| dir.parent().is_some_and(|parent| parent == folder));
        let generation = dir.and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<Generation>().ok());
        let (Some(dir), Some(generation)) = (dir, generation) else {
            return Err(defect(layer, &format!("{} is not its disk", disk.display())));
        };
        let below = found::stands_on(&self.root, disk).map_err(|problem| defect(layer, &problem))?;
        if let Some(other) = below.filter(|below| below.key != layer.parent) {
            return Err(defect(layer, &format!("it stands on {other}, not on {}", layer.parent.short())));
        }
        let parent_generation = below.and_then(|below| below.generation);
        let record = Record { generation, parent_generation, layer: layer.clone() };
        let text = serde_json::to_string_pretty(&record).unwrap_or_default();
        fs::write(dir.join(HALF_RECORD), text)?;
        // The disk before the record: a record that survives a power loss must not name a disk that did not.
        durable::sync_files(dir)?;
        durable::rename(&dir.join(HALF_RECORD), &dir.join(RECORD))
    }

    /// Removes a layer, and refuses where a finished one stands on it. It loses its name first, so that an interrupted removal leaves
    /// nothing that could be taken for a layer. Only for the holder of the build lock.
    pub(super) fn remove(&self, id: LayerId) -> Result<()> {
        let found = found::all(&self.root)?;
        if let Some(above) = found.iter().find(|f| f.record().and_then(Record::below) == Some(id)) {
            return Err(Exit::Failed.error(
                format_args!("layer {id} cannot be removed: {} stands on it", above.id),
                "run `cargo xtask ami gc` again",
            ));
        }
        let folder = self.root.join(id.key.to_string());
        if let Some(generation) = id.generation {
            let (dir, removed) = (self.dir(id.key, generation), folder.join(format!("{REMOVED}{generation}")));
            if dir.exists() {
                fs::rename(dir, &removed)?;
            }
            if removed.exists() {
                fs::remove_dir_all(removed)?;
            }
        } else {
            for file in [RECORD, HALF_RECORD, DISK] {
                remove_file(&folder.join(file))?;
            }
        }
        remove_if_empty(&folder)
    }

    /// Removes what a killed build or removal left. Only for the holder of the build lock.
    pub(super) fn remove_unfinished(&self) -> Result<()> {
        let unfinished = |found: &Found| matches!(found.what, What::Unfinished | What::HalfRemoved);
        for found in found::all(&self.root)?.into_iter().filter(unfinished) {
            self.remove(found.id)?;
        }
        for entry in fs::read_dir(&self.root)? {
            let dir = entry?.path();
            if dir.is_dir() {
                remove_if_empty(&dir)?;
            }
        }
        Ok(())
    }

    fn dir(&self, key: Digest, generation: Generation) -> PathBuf {
        self.root.join(key.to_string()).join(generation.to_string())
    }
}

/// Gives a file, made if need be, the time of now.
fn touch(file: &Path) -> Result<()> {
    fs::File::create(file)?.into_file().set_modified(SystemTime::now())?;
    Ok(())
}

fn remove_file(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn remove_if_empty(dir: &Path) -> Result<()> {
    if dir.exists() && fs::read_dir(dir)?.next().is_none() {
        fs::remove_dir(dir)?;
    }
    Ok(())
}

fn defect(layer: &Layer, problem: &str) -> Error {
    Exit::Failed.error(
        format_args!("the layer of {} cannot be kept: {problem}", layer.step),
        "this is a defect; please report it",
    )
}

/// Makes a qcow2 overlay on `below`. The backing path is relative where both lie in the state folder, so that it can be moved.
pub(super) fn overlay(disk: &Path, below: &Path, size_gib: Option<u64>) -> Result<()> {
    let backing = relative(disk, below).unwrap_or_else(|| below.to_owned());
    let mut cmd = Cmd::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(backing)
        .arg(disk)
        .hint("check that the disk has space and that the base image is whole (`cargo xtask doctor`)");
    if let Some(size) = size_gib {
        cmd = cmd.arg(format!("{size}G"));
    }
    cmd.read().map(drop)
}

/// `to` as seen from the folder of `from`, when they share more than the root.
fn relative(from: &Path, to: &Path) -> Option<PathBuf> {
    let (from, to): (Vec<_>, Vec<_>) = (from.parent()?.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if shared < 2 {
        return None;
    }
    let up = std::iter::repeat_n(std::path::Component::ParentDir, from.len() - shared);
    Some(up.chain(to[shared..].iter().copied()).collect())
}

/// An error for a layer that a plan counted on and that is gone.
fn missing(key: Digest) -> Error {
    Exit::Failed.error(
        format_args!("layer {} is gone", key.short()),
        "another command removed it; run the same command again and its step is run again",
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::Standing;
    use super::*;
    use crate::stage::gc::Action;
    use crate::stage::gc::layers;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Each step writes to a place of its own.
    const STEPS: usize = 4;

    /// How a build ends.
    #[derive(Clone, Copy, Debug)]
    enum End {
        Well,
        /// In the middle of this step, which has written already.
        In(usize),
        /// After this step, when the next layer was begun and the step's own had no record yet.
        After(usize),
    }

    /// A layer folder, what is built in it, and what each disk must hold: by step, the byte that its run wrote.
    struct Bench {
        dir: tempfile::TempDir,
        layers: Layers,
        runs: u8,
        holds: BTreeMap<PathBuf, Vec<u8>>,
    }

    impl Bench {
        /// `None` where QEMU's tools are not installed.
        fn new() -> Option<Self> {
            let there = |tool: &str| Cmd::new(tool).arg("--version").output().is_ok_and(|said| said.code == 0);
            let dir = tempfile::tempdir().unwrap();
            let layers = Layers::new(dir.path().join("layers"));
            fs::create_dir_all(dir.path().join("base/debian")).unwrap();
            fs::create_dir(&layers.root).unwrap();
            let bench = Self { dir, layers, runs: 0, holds: BTreeMap::new() };
            if !there("qemu-img") || !there("qemu-io") {
                return None;
            }
            Cmd::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(bench.base()).arg("1M").read().unwrap();
            Some(bench)
        }

        fn base(&self) -> PathBuf {
            self.dir.path().join("base/debian/disk.qcow2")
        }

        /// Builds as the engine does; returns how many steps were not run.
        fn build(&mut self, steps: &[String], force: bool, end: End) -> usize {
            self.layers.remove_unfinished().unwrap();
            let chain = chain(steps);
            let listed: BTreeSet<Digest> = self.layers.list().unwrap().into_iter().map(|layer| layer.key).collect();
            let first = chain.iter().rposition(|(key, _)| listed.contains(key) && !force).map_or(0, |i| i + 1);
            let below = match first.checked_sub(1) {
                Some(i) => self.layers.start_from(chain[i].0).unwrap(),
                None => self.base(),
            };
            let mut holds = self.holds.get(&below).cloned().unwrap_or_default();
            assert_eq!(holds.len(), first);
            if first == steps.len() {
                return first;
            }
            let mut disk = self.layers.begin(chain[first].0, &below, None).unwrap();
            for (i, (key, parent)) in chain.iter().enumerate().skip(first) {
                self.runs += 1;
                write(&disk, i, self.runs);
                holds.push(self.runs);
                if matches!(end, End::In(step) if step == i) {
                    break;
                }
                let next = chain.get(i + 1).map(|(next, _)| self.layers.begin(*next, &disk, None).unwrap());
                if matches!(end, End::After(step) if step == i) {
                    break;
                }
                self.layers.finish(&disk, &layer(&steps[i], *key, *parent)).unwrap();
                self.holds.insert(disk.clone(), holds.clone());
                let Some(next) = next else { break };
                disk = next;
            }
            first
        }

        /// Removes what is above `limit` bytes, and stops after `removals`, in the middle of the next.
        fn layers(&self, limit: u64, removals: usize) {
            let policy = layers::Policy { unused: jiff::SignedDuration::from_hours(1), bytes: limit };
            let plan = layers::plan(&self.layers.stored().unwrap(), &policy, jiff::Timestamp::now());
            let mut going = plan.iter().filter(|d| d.action == Action::Remove).map(|d| d.layer.id);
            for id in going.by_ref().take(removals) {
                self.layers.remove(id).unwrap();
            }
            if let Some(LayerId { key, generation: Some(generation) }) = going.next() {
                let dir = self.layers.dir(key, generation);
                if dir.exists() {
                    fs::rename(&dir, dir.with_file_name(format!("{REMOVED}{generation}"))).unwrap();
                }
            }
        }

        /// Every layer that is listed stands on listed ones; the highest ones, or with `all` every finished one, hold the bytes that they
        /// held when they were finished, and no others. Returns the listed disks by key.
        fn check(&self, all: bool) -> BTreeMap<Digest, PathBuf> {
            let stored = self.layers.stored().unwrap();
            let mut listed = BTreeMap::new();
            for layer in &stored {
                let disk = self.layers.dir(layer.id.key, layer.id.generation.unwrap()).join(DISK);
                if layer.standing == Standing::Listed {
                    let below = layer.below.map(|below| stored.iter().find(|l| l.id == below).unwrap());
                    assert!(below.is_none_or(|below| below.standing == Standing::Listed), "{below:?} below {layer:?}");
                    assert!(listed.insert(layer.id.key, disk.clone()).is_none(), "two of {}", layer.id);
                }
                let finished = matches!(layer.standing, Standing::Listed | Standing::Replaced | Standing::Stranded);
                let highest = layer.standing == Standing::Listed && !stored.iter().any(|l| l.below == Some(layer.id));
                if highest || all && finished {
                    holds(&disk, &self.holds[&disk]);
                }
                assert!(!matches!(layer.standing, Standing::Broken(_)), "{layer:?}");
            }
            let names: Vec<Digest> = self.layers.list().unwrap().into_iter().map(|layer| layer.key).collect();
            assert_eq!(names, listed.keys().copied().collect::<Vec<_>>());
            listed
        }
    }

    /// The keys of some steps, each with its parent's.
    fn chain(steps: &[String]) -> Vec<(Digest, Digest)> {
        let mut parent = Digest::of(b"base");
        let mut chain = Vec::new();
        for step in steps {
            let key = Digest::of_parts([("parent", parent.bytes()), ("step", step.as_bytes())]);
            chain.push((key, parent));
            parent = key;
        }
        chain
    }

    /// The steps of a branch that shares its first `shared` ones with all others.
    fn branch(name: &str, shared: usize, steps: usize) -> Vec<String> {
        (0..steps).map(|i| if i < shared { format!("step {i}") } else { format!("step {i} of {name}") }).collect()
    }

    fn layer(step: &str, key: Digest, parent: Digest) -> Layer {
        let (step, inputs, created) = (step.to_owned(), BTreeMap::new(), String::new());
        Layer { key, parent, step, inputs, seconds: 1.0, created }
    }

    fn io(disk: &Path, options: &[&str], commands: impl IntoIterator<Item = String>) {
        let commands = commands.into_iter().flat_map(|command| ["-c".to_owned(), command]);
        let done = Cmd::new("qemu-io").args(options).args(["-f", "qcow2"]).args(commands).arg(disk).output().unwrap();
        assert!(
            done.code == 0 && !done.stdout.contains("failed"),
            "{}: {}{}",
            disk.display(),
            done.stdout,
            done.stderr
        );
    }

    fn write(disk: &Path, step: usize, byte: u8) {
        io(disk, &[], [format!("write -q -P {byte} {}k 64k", 64 * step)]);
    }

    /// Reads what each step's place holds: what its run wrote, and nothing where no run was.
    fn holds(disk: &Path, bytes: &[u8]) {
        let at = |step: usize| bytes.get(step).copied().unwrap_or(0);
        io(disk, &["-r"], (0..bytes.len() + 2).map(|step| format!("read -q -P {} {}k 64k", at(step), 64 * step)));
    }

    #[test]
    fn backing_paths_are_relative_inside_the_state_folder() {
        let below = |to: &str| relative(Path::new("/s/layers/b/2/disk"), Path::new(to));
        assert_eq!(below("/s/layers/a/1/disk"), Some("../../a/1/disk".into()));
        assert_eq!(below("/s/base/d/disk"), Some("../../../base/d/disk".into()));
        assert_eq!(below("/elsewhere/disk"), None);
    }

    #[test]
    fn a_forced_build_of_another_branch_changes_no_layer_that_this_one_stands_on() {
        let Some(mut bench) = Bench::new() else { return };
        let (a, b) = (branch("a", 3, 6), branch("b", 3, 6));
        assert_eq!(bench.build(&a, false, End::Well), 0);
        let before = bench.check(true);
        assert_eq!(bench.build(&b, true, End::Well), 0);
        assert_eq!(bench.build(&a, false, End::Well), 3, "it goes on from the shared layers as they are now");
        let after = bench.check(true);
        assert!(chain(&a).iter().all(|(key, _)| before[key] != after[key] && before[key].exists()));
        assert_eq!(bench.holds[&before[&chain(&a)[5].0]], [1, 2, 3, 4, 5, 6]);
        assert_eq!(bench.holds[&after[&chain(&a)[5].0]], [7, 8, 9, 13, 14, 15]);
        // Of the first build of this branch nothing can be started from any more; of the other one everything.
        let standing = |wanted| bench.layers.stored().unwrap().iter().filter(|l| l.standing == wanted).count();
        assert_eq!([standing(Standing::Listed), standing(Standing::Replaced)], [9, 6]);
        assert_eq!(bench.layers.earlier().unwrap().len(), 6);
    }

    #[test]
    fn after_a_forced_build_that_is_killed_the_next_one_goes_on_from_its_last_layer() {
        for end in [End::In(5), End::After(5)] {
            let Some(mut bench) = Bench::new() else { return };
            let mut steps = branch("a", 8, 8);
            bench.build(&steps, false, End::Well);
            bench.build(&steps, true, end);
            assert_eq!(bench.check(true).len(), 5);
            steps[7] = "the last script with a line changed".to_owned();
            assert_eq!(bench.build(&steps, false, End::Well), 5);
            let listed = bench.check(true);
            assert_eq!(bench.holds[&listed[&chain(&steps)[7].0]], [9, 10, 11, 12, 13, 15, 16, 17]);
        }
    }

    #[test]
    fn a_layer_whose_disk_or_record_is_not_what_it_was_is_not_listed_nor_is_what_stands_on_it() {
        let Some(mut bench) = Bench::new() else { return };
        let steps = branch("a", 4, 4);
        bench.build(&steps, false, End::Well);
        let disks: Vec<PathBuf> = chain(&steps).iter().map(|(key, _)| bench.check(true)[key].clone()).collect();
        let listed = || bench.layers.list().unwrap().len();
        let spoil = |file: &Path, bytes: &[u8], left: usize| {
            let good = fs::read(file).unwrap();
            fs::write(file, bytes).unwrap();
            assert_eq!(listed(), left, "{}", file.display());
            fs::write(file, good).unwrap();
            assert_eq!(listed(), 4);
        };
        spoil(&disks[2], b"no disk", 2);
        spoil(&disks[2], &qcow2::stub("../../../base/debian/disk.qcow2"), 2);
        spoil(&disks[2], &qcow2::stub("../../gone/disk.qcow2"), 2);
        spoil(&disks[2].with_file_name(RECORD), b"{", 2);
        spoil(&disks[2].with_file_name(RECORD), &fs::read(disks[1].with_file_name(RECORD)).unwrap(), 2);
        spoil(&disks[0], b"", 0);
        // Moved as a whole it is as good as before; without its base it is nothing.
        let moved = bench.dir.path().join("moved");
        fs::create_dir(&moved).unwrap();
        fs::rename(&bench.layers.root, moved.join("layers")).unwrap();
        let layers = Layers::new(moved.join("layers"));
        assert_eq!(layers.list().unwrap().len(), 0);
        fs::rename(bench.dir.path().join("base"), moved.join("base")).unwrap();
        assert_eq!(layers.list().unwrap().len(), 4);
        assert!(layers.start_from(chain(&steps)[3].0).unwrap().exists());
    }

    #[test]
    fn only_a_finished_layer_counts_and_an_unfinished_one_is_removed() {
        let Some(mut bench) = Bench::new() else { return };
        let steps = branch("a", 3, 3);
        bench.build(&steps, false, End::In(1));
        let unfinished = || bench.layers.stored().unwrap().into_iter().find(|l| l.standing == Standing::Unfinished);
        let dead = bench.layers.dir(chain(&steps)[1].0, unfinished().unwrap().id.generation.unwrap());
        assert_eq!(bench.layers.list().unwrap().len(), 1);
        fs::create_dir(bench.layers.root.join(chain(&steps)[2].0.to_string())).unwrap();
        bench.layers.remove_unfinished().unwrap();
        assert!(!dead.exists() && unfinished().is_none());
        assert_eq!(fs::read_dir(&bench.layers.root).unwrap().count(), 1, "folders that hold nothing stay");
        assert!(bench.layers.start_from(chain(&steps)[1].0).unwrap_err().to_string().contains("is gone"));
    }

    #[test]
    fn a_layer_of_the_old_layout_is_never_listed_and_goes_without_what_lies_beside_it() {
        let Some(mut bench) = Bench::new() else { return };
        let steps = branch("a", 1, 1);
        let (key, parent) = chain(&steps)[0];
        let folder = bench.layers.root.join(key.to_string());
        fs::create_dir(&folder).unwrap();
        overlay(&folder.join(DISK), &bench.base(), None).unwrap();
        fs::write(folder.join(RECORD), serde_json::to_string(&layer("step 0", key, parent)).unwrap()).unwrap();
        assert_eq!(bench.layers.list().unwrap(), []);
        bench.build(&steps, false, End::Well);
        let standing = |layers: &[StoredLayer]| layers.iter().map(|l| l.standing.clone()).collect::<Vec<_>>();
        let stored = bench.layers.stored().unwrap();
        assert_eq!(standing(&stored), [Standing::OldLayout, Standing::Listed]);
        assert!(stored.iter().all(|layer| layer.bytes > 0));
        let hollow = fs::OpenOptions::new().write(true).open(folder.join(DISK)).unwrap();
        hollow.into_file().set_len(1 << 30).unwrap();
        assert!(bench.layers.stored().unwrap()[0].bytes < 1 << 24, "what takes no disk counts");
        bench.layers.remove(stored[0].id).unwrap();
        assert_eq!(standing(&bench.layers.stored().unwrap()), [Standing::Listed]);
        bench.check(true);
    }

    #[test]
    fn a_build_notes_that_it_uses_the_whole_chain_and_what_another_stands_on_is_not_removed() {
        let Some(mut bench) = Bench::new() else { return };
        let steps = branch("a", 3, 3);
        bench.build(&steps, false, End::Well);
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        for disk in bench.holds.keys() {
            let record = fs::OpenOptions::new().write(true).open(disk.with_file_name(RECORD)).unwrap();
            record.into_file().set_modified(long_ago).unwrap();
        }
        let recent = || bench.layers.stored().unwrap().iter().filter(|l| l.used.as_second() > 1).count();
        assert_eq!(recent(), 0);
        bench.layers.start_from(chain(&steps)[1].0).unwrap();
        assert_eq!(recent(), 2);
        let below = bench.layers.stored().unwrap().into_iter().find(|l| l.below.is_none()).unwrap();
        assert!(bench.layers.remove(below.id).unwrap_err().to_string().contains("stands on it"));
        bench.check(true);
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Build { branch: usize, force: bool, end: End },
        Prune { percent: u64, removals: usize },
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let end = prop_oneof![
            2 => Just(End::Well),
            1 => (0..STEPS).prop_map(End::In),
            1 => (0..STEPS).prop_map(End::After),
        ];
        prop_oneof![
            4 => (0usize..3, any::<bool>(), end).prop_map(|(branch, force, end)| Deed::Build { branch, force, end }),
            1 => (0u64..120, 0usize..12).prop_map(|(percent, removals)| Deed::Prune { percent, removals }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

        /// Builds of three branches, which share no, one and three steps, in any order and with any end.
        #[test]
        fn whatever_happens_a_layer_holds_what_was_written_and_a_build_goes_on_from_the_last(
            deeds in prop::collection::vec(deed(), 1..8)
        ) {
            let Some(mut bench) = Bench::new() else { return Ok(()) };
            let branches = [branch("a", 3, STEPS), branch("b", 3, STEPS), branch("c", 1, STEPS)];
            for deed in deeds {
                match deed {
                    Deed::Build { branch, force, end } => {
                        let steps = &branches[branch];
                        let first = bench.build(steps, force, end);
                        let listed = bench.check(false);
                        let reached = match end {
                            End::Well => STEPS,
                            End::In(step) | End::After(step) if step < first => STEPS,
                            End::In(step) | End::After(step) => step,
                        };
                        let mine = chain(steps);
                        let there = mine.iter().take_while(|(key, _)| listed.contains_key(key)).count();
                        // Where a forced build finished no step, what was there is still there.
                        prop_assert!(there == reached || force && reached == 0, "{there}, not {reached}");
                        if let Some(last) = reached.checked_sub(1).filter(|_| reached > first) {
                            let newest = bench.holds.values().map(|bytes| &bytes[..]).max_by_key(|bytes| bytes.last());
                            prop_assert_eq!(Some(&bench.holds[&listed[&mine[last].0]][..]), newest);
                        }
                    }
                    Deed::Prune { percent, removals } => {
                        let stored = bench.layers.stored().unwrap();
                        let before = bench.check(false);
                        let takes: u64 = stored.iter().map(|layer| layer.bytes).sum();
                        bench.layers(takes * percent / 100, removals);
                        let after = bench.check(false);
                        prop_assert!(after.iter().all(|(key, disk)| before.get(key) == Some(disk)));
                    }
                }
            }
            bench.check(true);
        }
    }
}
