//! The layer cache: a directory for each key, in it one for each generation, which contains a qcow2 overlay on the parent layer.
//!
//! A finished layer never changes. Running a step again creates another generation, and the layers above the older generation keep it as
//! their parent. A layer is valid if its record exists, which is written last, and if all its parents are valid. A killed build leaves a
//! layer without a record. The next build removes it, which is safe because builds hold a lock.

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

use found::{Found, HALF_RECORD, RECORD, Record, Status};

const DISK: &str = "disk.qcow2";
/// A file whose modification time is when a build last started from the layer or from one above it.
const USED: &str = "used";
/// Prefix of the name of a generation whose removal has begun.
const REMOVED: &str = ".removed-";

/// The directory of all layers.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    root: PathBuf,
}

impl Layers {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The layers that a build can start from: at most one for each key, each with its complete chain of parents.
    pub(super) fn list(&self) -> Result<Vec<Layer>> {
        let found = found::all(&self.root)?;
        Ok(found::choose(&found).into_values().map(|record| record.layer.clone()).collect())
    }

    /// Finished layers that a build cannot start from, because another generation is used or a parent is missing.
    pub(super) fn earlier(&self) -> Result<Vec<Layer>> {
        let found = found::all(&self.root)?;
        let chosen = found::choose(&found);
        let earlier = |record: &&Record| chosen.get(&record.layer.key).is_none_or(|chosen| chosen != record);
        Ok(found.iter().filter_map(Found::record).filter(earlier).map(|record| record.layer.clone()).collect())
    }

    /// All layers in the directory, valid or not.
    pub(super) fn stored(&self) -> Result<Vec<StoredLayer>> {
        found::stored(&found::all(&self.root)?)
    }

    /// The disk of a listed layer, to start a build from. Records the use of the layer and its parents.
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

    /// Creates a new generation of `key` with an overlay on `below`, to which the step will write.
    pub(super) fn begin(&self, key: Digest, below: &Path, size_gib: Option<u64>) -> Result<PathBuf> {
        let newest = found::all(&self.root)?.into_iter().filter_map(|found| found.id.generation).max();
        let dir = self.dir(key, Generation::next(newest)?);
        fs::create_dir_all(self.root.join(key.to_string()))?;
        fs::create_dir(&dir)?;
        let disk = dir.join(DISK);
        overlay(&disk, below, size_gib)?;
        Ok(disk)
    }

    /// Writes the record of the layer whose disk [`Layers::begin`] created. Its parent is the layer of the disk's backing file.
    pub(super) fn finish(&self, disk: &Path, layer: &Layer) -> Result<()> {
        let key_dir = self.root.join(layer.key.to_string());
        let dir = disk.parent().filter(|dir| dir.parent().is_some_and(|parent| parent == key_dir));
        let generation = dir.and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<Generation>().ok());
        let (Some(dir), Some(generation)) = (dir, generation) else {
            return Err(defect(layer, &format!("{} is not its disk", disk.display())));
        };
        let below = found::parent(&self.root, disk).map_err(|problem| defect(layer, &problem))?;
        if let Some(other) = below.filter(|below| below.key != layer.parent) {
            return Err(defect(layer, &format!("its parent is {other}, not {}", layer.parent.short())));
        }
        let parent_generation = below.and_then(|below| below.generation);
        let record = Record { generation, parent_generation, layer: layer.clone() };
        let text = serde_json::to_string_pretty(&record).unwrap_or_default();
        fs::write(dir.join(HALF_RECORD), text)?;
        // Synchronizes the disk before the record: after a power loss there must be no record without its disk.
        durable::sync_files(dir)?;
        durable::rename(&dir.join(HALF_RECORD), &dir.join(RECORD))
    }

    /// Removes a layer. An error if it is the parent of a finished one. It is renamed first, so that an interrupted removal leaves nothing
    /// that could be mistaken for a layer. The caller must hold the build lock.
    pub(super) fn remove(&self, id: LayerId) -> Result<()> {
        let found = found::all(&self.root)?;
        if let Some(above) = found.iter().find(|f| f.record().and_then(Record::below) == Some(id)) {
            return Err(Exit::Failed.error(
                format_args!("layer {id} cannot be removed: it is the parent of {}", above.id),
                "run `cargo xtask ami gc` again",
            ));
        }
        let key_dir = self.root.join(id.key.to_string());
        if let Some(generation) = id.generation {
            let (dir, removed) = (self.dir(id.key, generation), key_dir.join(format!("{REMOVED}{generation}")));
            if dir.exists() {
                fs::rename(dir, &removed)?;
            }
            if removed.exists() {
                fs::remove_dir_all(removed)?;
            }
        } else {
            for file in [RECORD, HALF_RECORD, DISK] {
                remove_file(&key_dir.join(file))?;
            }
        }
        remove_if_empty(&key_dir)
    }

    /// Removes the remains of killed builds and removals. The caller must hold the build lock.
    pub(super) fn remove_unfinished(&self) -> Result<()> {
        let unfinished = |found: &Found| matches!(found.status, Status::Unfinished | Status::HalfRemoved);
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

/// Sets the modification time of a file to now. Creates the file if it does not exist.
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
        format_args!("the layer of {} cannot be stored: {problem}", layer.step),
        "this is a defect; please report it",
    )
}

/// Creates a qcow2 overlay on `below`. The backing path is relative where both are in the state directory, so that it can be moved.
pub(super) fn overlay(disk: &Path, below: &Path, size_gib: Option<u64>) -> Result<()> {
    let backing = relative(disk, below).unwrap_or_else(|| below.to_owned());
    let mut cmd = Cmd::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(backing)
        .arg(disk)
        .hint("check the free disk space, and the file below with `qemu-img check`");
    if let Some(size) = size_gib {
        cmd = cmd.arg(format!("{size}G"));
    }
    cmd.read().map(drop)
}

/// The path of `to` relative to the directory of `from`; `None` if they have only the root in common.
fn relative(from: &Path, to: &Path) -> Option<PathBuf> {
    let (from, to): (Vec<_>, Vec<_>) = (from.parent()?.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if shared < 2 {
        return None;
    }
    let up = std::iter::repeat_n(std::path::Component::ParentDir, from.len() - shared);
    Some(up.chain(to[shared..].iter().copied()).collect())
}

/// The error for a layer of the plan that no longer exists.
fn missing(key: Digest) -> Error {
    Exit::Failed.error(
        format_args!("layer {} was removed by another command", key.short()),
        "run the same command again; it runs the layer's step",
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

    /// Maximum number of steps of a build. Each step writes to another offset of the disk.
    const STEPS: usize = 4;

    /// How a build ends.
    #[derive(Clone, Copy, Debug)]
    enum End {
        Well,
        /// During this step, after it wrote to the disk.
        In(usize),
        /// After this step, when the next overlay exists and the step's layer has no record yet.
        After(usize),
    }

    /// A layer directory, and the expected content of each disk in it: for each step, the byte that its run wrote.
    struct Bench {
        dir: tempfile::TempDir,
        layers: Layers,
        runs: u8,
        holds: BTreeMap<PathBuf, Vec<u8>>,
    }

    impl Bench {
        /// `None` where QEMU's tools are not installed.
        fn new() -> Option<Self> {
            let is_installed =
                |tool: &str| Cmd::new(tool).arg("--version").output().is_ok_and(|finished| finished.code == 0);
            let dir = tempfile::tempdir().unwrap();
            let layers = Layers::new(dir.path().join("layers"));
            fs::create_dir_all(dir.path().join("base/debian")).unwrap();
            fs::create_dir(&layers.root).unwrap();
            let bench = Self { dir, layers, runs: 0, holds: BTreeMap::new() };
            if !is_installed("qemu-img") || !is_installed("qemu-io") {
                return None;
            }
            Cmd::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(bench.base()).arg("1M").read().unwrap();
            Some(bench)
        }

        fn base(&self) -> PathBuf {
            self.dir.path().join("base/debian/disk.qcow2")
        }

        /// Builds like the engine. Returns the number of steps that were cached.
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

        /// Prunes the layers to `limit` bytes. Stops after `removals`, during the next removal.
        fn prune(&self, limit: u64, removals: usize) {
            let policy = layers::Policy { unused: jiff::SignedDuration::from_hours(1), bytes: limit };
            let plan = layers::plan(&self.layers.stored().unwrap(), &policy, jiff::Timestamp::now());
            let mut planned = plan.iter().filter(|d| d.action == Action::Remove).map(|d| d.layer.id);
            for id in planned.by_ref().take(removals) {
                self.layers.remove(id).unwrap();
            }
            if let Some(LayerId { key, generation: Some(generation) }) = planned.next() {
                let dir = self.layers.dir(key, generation);
                if dir.exists() {
                    fs::rename(&dir, dir.with_file_name(format!("{REMOVED}{generation}"))).unwrap();
                }
            }
        }

        /// Asserts that the parent of each listed layer is listed, and that disks contain exactly the bytes that they had when they were
        /// finished: those of the topmost listed layers, or with `all` those of all finished layers. Returns the listed disks by key.
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
                let topmost = layer.standing == Standing::Listed && !stored.iter().any(|l| l.below == Some(layer.id));
                if topmost || all && finished {
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

    /// The steps of a branch, of which the first `shared` ones are the same in all branches.
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

    /// Asserts that each step's offset contains the byte that its run wrote, or zeros if the step was not run.
    fn holds(disk: &Path, bytes: &[u8]) {
        let at = |step: usize| bytes.get(step).copied().unwrap_or(0);
        io(disk, &["-r"], (0..bytes.len() + 2).map(|step| format!("read -q -P {} {}k 64k", at(step), 64 * step)));
    }

    #[test]
    fn backing_paths_are_relative_inside_the_state_directory() {
        let below = |to: &str| relative(Path::new("/s/layers/b/2/disk"), Path::new(to));
        assert_eq!(below("/s/layers/a/1/disk"), Some("../../a/1/disk".into()));
        assert_eq!(below("/s/base/d/disk"), Some("../../../base/d/disk".into()));
        assert_eq!(below("/elsewhere/disk"), None);
    }

    #[test]
    fn a_forced_build_of_another_branch_changes_no_layer_of_this_one() {
        let Some(mut bench) = Bench::new() else { return };
        let (a, b) = (branch("a", 3, 6), branch("b", 3, 6));
        assert_eq!(bench.build(&a, false, End::Well), 0);
        let before = bench.check(true);
        assert_eq!(bench.build(&b, true, End::Well), 0);
        assert_eq!(bench.build(&a, false, End::Well), 3, "it does not start from the newest shared layers");
        let after = bench.check(true);
        assert!(chain(&a).iter().all(|(key, _)| before[key] != after[key] && before[key].exists()));
        assert_eq!(bench.holds[&before[&chain(&a)[5].0]], [1, 2, 3, 4, 5, 6]);
        assert_eq!(bench.holds[&after[&chain(&a)[5].0]], [7, 8, 9, 13, 14, 15]);
        // All layers of this branch's first build are replaced; all those of the other builds are listed.
        let standing = |expected| bench.layers.stored().unwrap().iter().filter(|l| l.standing == expected).count();
        assert_eq!([standing(Standing::Listed), standing(Standing::Replaced)], [9, 6]);
        assert_eq!(bench.layers.earlier().unwrap().len(), 6);
    }

    #[test]
    fn after_a_killed_forced_build_the_next_one_starts_from_its_last_layer() {
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
    fn a_layer_with_a_damaged_disk_or_record_and_the_layers_above_it_are_not_listed() {
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
        // A moved directory is valid only together with its base.
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
    fn only_finished_layers_are_listed_and_unfinished_ones_are_removed() {
        let Some(mut bench) = Bench::new() else { return };
        let steps = branch("a", 3, 3);
        bench.build(&steps, false, End::In(1));
        let unfinished = || bench.layers.stored().unwrap().into_iter().find(|l| l.standing == Standing::Unfinished);
        let dead = bench.layers.dir(chain(&steps)[1].0, unfinished().unwrap().id.generation.unwrap());
        assert_eq!(bench.layers.list().unwrap().len(), 1);
        fs::create_dir(bench.layers.root.join(chain(&steps)[2].0.to_string())).unwrap();
        bench.layers.remove_unfinished().unwrap();
        assert!(!dead.exists() && unfinished().is_none());
        assert_eq!(fs::read_dir(&bench.layers.root).unwrap().count(), 1, "an empty directory remains");
        assert!(bench.layers.start_from(chain(&steps)[1].0).unwrap_err().to_string().contains("was removed"));
    }

    #[test]
    fn a_layer_of_the_old_layout_is_never_listed_and_can_be_removed_alone() {
        let Some(mut bench) = Bench::new() else { return };
        let steps = branch("a", 1, 1);
        let (key, parent) = chain(&steps)[0];
        let key_dir = bench.layers.root.join(key.to_string());
        fs::create_dir(&key_dir).unwrap();
        overlay(&key_dir.join(DISK), &bench.base(), None).unwrap();
        fs::write(key_dir.join(RECORD), serde_json::to_string(&layer("step 0", key, parent)).unwrap()).unwrap();
        assert_eq!(bench.layers.list().unwrap(), []);
        bench.build(&steps, false, End::Well);
        let standing = |layers: &[StoredLayer]| layers.iter().map(|l| l.standing.clone()).collect::<Vec<_>>();
        let stored = bench.layers.stored().unwrap();
        assert_eq!(standing(&stored), [Standing::OldLayout, Standing::Listed]);
        assert!(stored.iter().all(|layer| layer.bytes > 0));
        let sparse = fs::OpenOptions::new().write(true).open(key_dir.join(DISK)).unwrap();
        sparse.into_file().set_len(1 << 30).unwrap();
        assert!(bench.layers.stored().unwrap()[0].bytes < 1 << 24, "holes are counted");
        bench.layers.remove(stored[0].id).unwrap();
        assert_eq!(standing(&bench.layers.stored().unwrap()), [Standing::Listed]);
        bench.check(true);
    }

    #[test]
    fn a_build_records_the_use_of_the_whole_chain_and_a_parent_is_not_removed() {
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
        assert!(bench.layers.remove(below.id).unwrap_err().to_string().contains("it is the parent of"));
        bench.check(true);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Build { branch: usize, force: bool, end: End },
        Prune { percent: u64, removals: usize },
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let end = prop_oneof![
            2 => Just(End::Well),
            1 => (0..STEPS).prop_map(End::In),
            1 => (0..STEPS).prop_map(End::After),
        ];
        prop_oneof![
            4 => (0usize..3, any::<bool>(), end).prop_map(|(branch, force, end)| Operation::Build { branch, force, end }),
            1 => (0u64..120, 0usize..12).prop_map(|(percent, removals)| Operation::Prune { percent, removals }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

        /// Builds of three branches, in any order and with any end. Two of them share three steps, and the third one shares one with them.
        #[test]
        fn after_any_operations_layers_have_their_content_and_builds_start_from_the_last_one(
            operations in prop::collection::vec(operation(), 1..8)
        ) {
            let Some(mut bench) = Bench::new() else { return Ok(()) };
            let branches = [branch("a", 3, STEPS), branch("b", 3, STEPS), branch("c", 1, STEPS)];
            for operation in operations {
                match operation {
                    Operation::Build { branch, force, end } => {
                        let steps = &branches[branch];
                        let first = bench.build(steps, force, end);
                        let listed = bench.check(false);
                        let reached = match end {
                            End::Well => STEPS,
                            End::In(step) | End::After(step) if step < first => STEPS,
                            End::In(step) | End::After(step) => step,
                        };
                        let mine = chain(steps);
                        let valid = mine.iter().take_while(|(key, _)| listed.contains_key(key)).count();
                        // A forced build that finished no step leaves the existing layers.
                        prop_assert!(valid == reached || force && reached == 0, "{valid}, not {reached}");
                        if let Some(last) = reached.checked_sub(1).filter(|_| reached > first) {
                            let newest = bench.holds.values().map(|bytes| &bytes[..]).max_by_key(|bytes| bytes.last());
                            prop_assert_eq!(Some(&bench.holds[&listed[&mine[last].0]][..]), newest);
                        }
                    }
                    Operation::Prune { percent, removals } => {
                        let stored = bench.layers.stored().unwrap();
                        let before = bench.check(false);
                        let takes: u64 = stored.iter().map(|layer| layer.bytes).sum();
                        bench.prune(takes * percent / 100, removals);
                        let after = bench.check(false);
                        prop_assert!(after.iter().all(|(key, disk)| before.get(key) == Some(disk)));
                    }
                }
            }
            bench.check(true);
        }
    }
}
