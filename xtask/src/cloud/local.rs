//! The local provider: an image is a directory, a region a directory of images, an instance a QEMU process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fs_err as fs;

use super::{
    BaseRecord, Builder, BuilderKind, Capture, Cloud, Copied, Corrupt, EngineKind, Fraction, Image, ImageId, Kind,
    Layer, Listed, Made, Orphan, Parameter, StoredLayer,
};
use crate::durable;
use crate::error::{Error, Exit, Result, plain};
use crate::ids::Region;
use crate::ledger::Intent;
use crate::process::Cmd;
use crate::recipe::{Digest, Recipe, Source};
use crate::state::{Run, State};

pub mod base;
mod builder;
mod console;
pub mod container;
mod either;
mod layers;
mod live;
mod machine;
mod make;
mod marks;
mod packer_variables;
mod parameters;
pub mod qemu;
mod qmp;
pub mod seed;
mod store;

use base::{Base, Bases};
use container::Container;
pub use either::LocalMachine;
use layers::Layers;
pub use machine::{Size, VirtualMachine};
use machine::{Start, instance_disk};
use qemu::{Acceleration, Boot};
use seed::Purpose;
use store::Store;

/// The login user of the base images, by which builders are reached.
const BASE_USER: &str = "ubuntu";

/// The provider's settings in `ami.toml`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The regions, home first.
    pub regions: Vec<Region>,
    /// Processors, memory and boot timeout of a machine.
    pub size: Size,
    /// Root disk size in GiB.
    pub disk_gib: u64,
    /// Disk space that a first build requires, in GiB; a build that starts from a layer requires half of it.
    pub build_gib: u64,
    /// Acceleration, or `None` for the best that works.
    pub acceleration: Option<Acceleration>,
    /// The builder, or `None` for the fastest that works.
    pub builder: Option<BuilderKind>,
    /// Base image; `None` for one that exists locally, else Ubuntu 22.04, or Debian 13 where Ubuntu's images cannot be downloaded.
    pub base: Option<base::Name>,
    /// Base URL of Ubuntu's cloud images.
    pub ubuntu_releases: String,
}

/// The [`Cloud`] of this machine.
#[derive(Debug)]
pub struct Local {
    state: State,
    settings: Settings,
    bases: Bases,
    layers: Layers,
    store: Store,
    run: Option<Arc<Run>>,
}

impl Local {
    /// The provider on a state directory. Without a run it can only read; what changes something requires one.
    pub fn new(state: &State, settings: Settings, project: &Path, run: Option<Arc<Run>>) -> Self {
        let bases = Bases {
            root: state.path("base"),
            project: project.to_owned(),
            ubuntu_releases: settings.ubuntu_releases.clone(),
            requested: settings.base,
        };
        Self {
            bases,
            layers: Layers::new(state.path("layers")),
            store: Store::new(state.path("regions")),
            state: state.clone(),
            settings,
            run,
        }
    }

    fn run(&self) -> Result<&Run> {
        self.run.as_deref().ok_or_else(|| {
            Exit::Failed.error("a change was attempted without a run", "this is a defect; please report it")
        })
    }

    /// Calls `work` between writing its intent and its outcome to the ledger.
    fn journal<T>(
        &self,
        (action, region, subject, token): (&str, Option<&Region>, Option<&str>, Option<&str>),
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        let run = self.run()?;
        let intent = Intent {
            action: format!("local:{action}"),
            region: region.cloned(),
            token: token.map(str::to_owned),
            subject: subject.map(str::to_owned),
            tags: vec![format!("agent-ami:run={}", run.id())],
        };
        run.journal(&intent, || work().map(|(value, id)| (value, vec![id])))
    }

    fn base_named(&self, record: &BaseRecord) -> Result<Base> {
        let base = self.bases.at_hand()?.filter(|b| b.record == *record);
        base.ok_or_else(|| Exit::Failed.error("the base image changed during the build", "run the same command again"))
    }

    /// Starts a machine and connects to it. If it does not come up, it is replaced once by another one with a new disk from `make_disk`,
    /// because an emulated guest hangs now and then.
    fn start(
        &self,
        (name, purpose): (&str, Purpose),
        user: &str,
        make_disk: &dyn Fn() -> Result<PathBuf>,
        boot: &Boot,
        on_progress: &dyn Fn(&str),
    ) -> Result<VirtualMachine> {
        let (run, size, acceleration) = (self.run()?, self.settings.size, self.acceleration()?.acceleration);
        // An accelerated instance that hangs is a defect of the image, which a second try would hide.
        let may_try_again = purpose == Purpose::Builder || acceleration == Acceleration::Tcg;
        let start = || {
            self.journal(("StartMachine", None, Some(name), None), || {
                let disk = make_disk()?;
                let parameters = Start { name, purpose, user, disk, boot: boot.clone(), size, acceleration };
                Ok((VirtualMachine::start(run, parameters)?, format!("{}/{name}", run.id())))
            })
        };
        let mut machine = start()?;
        let timeout = if may_try_again { size.boot_timeout / 2 } else { size.boot_timeout };
        match machine.enter(timeout, on_progress) {
            Ok(()) => return Ok(machine),
            Err(error) if !may_try_again || error.exit() != Exit::Failed => return Err(error),
            Err(error) => {
                drop(machine);
                on_progress(&format!("{error}; starting another machine"));
                fs::remove_dir_all(run.path(name))?;
                machine = start()?;
                machine.instead_of(plain(&error));
            }
        }
        machine.enter(size.boot_timeout, on_progress)?;
        Ok(machine)
    }

    /// Starts a container on a disk from `make_disk`, and connects to it.
    fn start_container(
        &self,
        (name, purpose): (&str, Purpose),
        user: &str,
        make_disk: &dyn Fn() -> Result<PathBuf>,
        grow: Option<u64>,
        on_progress: &dyn Fn(&str),
    ) -> Result<LocalMachine> {
        let (run, timeout) = (self.run()?, self.settings.size.boot_timeout);
        let mut machine = self.journal(("StartMachine", None, Some(name), None), || {
            let container = Container::start(run, (name, purpose), user, &make_disk()?, grow)?;
            Ok((container, format!("{}/{name}", run.id())))
        })?;
        machine.enter(timeout, on_progress)?;
        Ok(LocalMachine::Container(Box::new(machine)))
    }

    /// Starts a new instance of an image as a container: in a few seconds, but without the image's kernel and boot loader. For tests of
    /// the programs on an instance; only a virtual machine tests whether the image boots.
    pub fn launch_container(&self, image: &Image, user: &str, on_progress: &dyn Fn(&str)) -> Result<LocalMachine> {
        let below = self.store.dir(image).join(store::DISK);
        let dir = self.run()?.path("smoke");
        let disk = || instance_disk(&dir, &below, None);
        self.start_container(("smoke", Purpose::Instance), user, &disk, None, on_progress)
    }

    fn unknown_region(&self, region: &Region) -> Error {
        Exit::Usage.error(
            format_args!("no local region `{region}`"),
            format_args!("the regions in ami.toml are {}", self.settings.regions.join(", ")),
        )
    }
}

impl Cloud for Local {
    type Machine = LocalMachine;

    fn name(&self) -> &'static str {
        "local"
    }

    fn regions(&self) -> &[Region] {
        &self.settings.regions
    }

    fn best_effort(&self) -> &[Region] {
        &[]
    }

    fn base(&self, _: &Source, on_progress: &dyn Fn(&str)) -> Result<BaseRecord> {
        Ok(self.bases.provide(on_progress)?.record)
    }

    fn existing_base(&self, _: &Source) -> Result<Option<BaseRecord>> {
        Ok(self.bases.at_hand()?.map(|b| b.record))
    }

    fn builder(&self, recipe: Option<&Recipe>, engine: EngineKind) -> Result<Builder> {
        self.builder_here(builder::needs_vm(recipe, engine).as_deref())
    }

    fn requested_builder(&self) -> Option<BuilderKind> {
        self.settings.builder
    }

    fn layers(&self) -> Result<Vec<Layer>> {
        self.layers.list()
    }

    fn earlier_layers(&self) -> Result<Vec<Layer>> {
        self.layers.earlier()
    }

    fn stored_layers(&self) -> Result<Vec<StoredLayer>> {
        self.layers.stored()
    }

    fn remove_layer(&self, layer: &StoredLayer) -> Result<()> {
        let (step, id) = (layer.step.as_deref(), layer.id.to_string());
        self.journal(("DeleteLayer", None, step, Some(&id)), || {
            self.layers.remove(layer.id)?;
            Ok(((), id.clone()))
        })
    }

    fn remove_unfinished(&self) -> Result<()> {
        // The machine of a kept run may still write to one. The first build after that run has ended removes it.
        if self.state.kept_runs()?.is_empty() { self.layers.remove_unfinished() } else { Ok(()) }
    }

    fn ready(&self, _: Option<&Source>, cold: bool) -> Result<Option<String>> {
        let bytes = self.settings.build_gib << 30;
        self.state.require_space(if cold { bytes } else { bytes / 2 }, "this build")?;
        let result = self.acceleration()?;
        let emulated = result.acceleration == Acceleration::Tcg;
        Ok(emulated.then(|| {
            format!("virtual machines are emulated, about ten times slower than accelerated ones: {}", result.why)
        }))
    }

    fn build_certificates(&self) -> Result<Vec<String>> {
        seed::host_certificates()
    }

    fn start_builder(&self, start: super::Start<'_>, on_progress: &dyn Fn(&str)) -> Result<LocalMachine> {
        let super::Start { from, next, .. } = start;
        let base = self.base_named(start.base)?;
        let below = match from {
            Some(key) => self.layers.start_from(key)?,
            None if base.disk.exists() => base.disk.clone(),
            None => return Err(Exit::Failed.error("the base image was removed", "run the same command again")),
        };
        // Only the first overlay on the base is grown; the layers above inherit its size.
        let grow = from.is_none().then_some(self.settings.disk_gib);
        let last = self.run()?.path("last");
        let disk = || match next {
            Some(key) => self.layers.begin(key, &below, grow),
            None => instance_disk(&last, &below, grow),
        };
        if start.builder == BuilderKind::Container {
            return self.start_container(("builder", Purpose::Builder), BASE_USER, &disk, grow, on_progress);
        }
        let machine = self.start(("builder", Purpose::Builder), BASE_USER, &disk, &base.boot, on_progress)?;
        Ok(LocalMachine::Vm(Box::new(machine)))
    }

    fn checkpoint(&self, machine: &mut LocalMachine, layer: &Layer, next: Option<Digest>) -> Result<()> {
        let key = layer.key.to_string();
        self.journal(("CreateLayer", None, Some(&layer.step), Some(&key)), || {
            let below = machine.disk().to_owned();
            let overlay = match next {
                Some(key) => self.layers.begin(key, &below, None)?,
                None => instance_disk(&self.run()?.path("last"), &below, None)?,
            };
            machine.snapshot(overlay)?;
            self.layers.finish(&below, layer)?;
            Ok(((), key.clone()))
        })
    }

    fn capture(
        &self,
        machine: LocalMachine,
        base: &BaseRecord,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Image> {
        let disk = machine.disk().to_owned();
        machine.power_off(on_progress)?;
        self.publish(&disk, Some(base), capture, on_progress)
    }

    fn for_packer(&self, base: Option<&BaseRecord>) -> Result<Vec<(String, String)>> {
        self.packer_variables(base)
    }

    fn adopt(
        &self,
        made: &Made,
        base: Option<&BaseRecord>,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Image> {
        let Made::Disk(name) = made else {
            return Err(Exit::Failed.error("Packer made no disk", "set `source_local` in ami.toml to a qemu source"));
        };
        // The path in Packer's manifest may lack the directory.
        self.publish(&self.run()?.path("packer/output").join(name), base, capture, on_progress)
    }

    fn instance_types(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn launch(&self, image: &Image, _: &str, user: &str, on_progress: &dyn Fn(&str)) -> Result<LocalMachine> {
        let below = self.store.dir(image).join(store::DISK);
        let dir = self.run()?.path("smoke");
        // An instance boots as on EC2: firmware, boot loader, kernel from the disk.
        let disk = || instance_disk(&dir, &below, None);
        let machine = self.start(("smoke", Purpose::Instance), user, &disk, &Boot::Firmware, on_progress)?;
        Ok(LocalMachine::Vm(Box::new(machine)))
    }

    fn images(&self, region: &Region) -> Result<Vec<Listed>> {
        if !self.settings.regions.contains(region) {
            return Err(self.unknown_region(region));
        }
        self.store.list(region)
    }

    fn copy(
        &self,
        image: &Image,
        regions: &[Region],
        on_progress: &dyn Fn(&Region, &str, Fraction),
        done: &mut dyn FnMut(Copied) -> Result<()>,
    ) -> Result<()> {
        // Sequentially, because all regions share one disk.
        for region in regions {
            let started = Instant::now();
            let result =
                self.copy_to(image, region, &|now, all| on_progress(region, "writing the disk", Some((now, all))));
            done(Copied { region: region.clone(), result, took: started.elapsed() })?;
        }
        Ok(())
    }

    fn finish_capture(&self, _: &BaseRecord, _: &Capture, _: &dyn Fn(&str)) -> Result<Option<Image>> {
        // Images are published atomically, so there is no partial one. The build continues from the last layer.
        Ok(None)
    }

    fn orphans(&self) -> Result<Vec<Orphan>> {
        let mut left = Vec::new();
        for region in &self.settings.regions {
            for (path, run) in self.store.unfinished_ones(region)? {
                let bytes = fs::metadata(path.join(store::DISK)).map(|m| m.len()).ok();
                // Without a run: the process was killed before it wrote the run's id. After a day no process works on the directory.
                let expires = if run.is_none() { Some(store::a_day_later(&path)?) } else { None };
                let (id, region) = (path.display().to_string(), region.clone());
                left.push(Orphan { kind: Kind::Directory, id, region, run, expires, bytes });
            }
        }
        // Opening the state ended the machines of dead runs. The remaining ones were kept with `--keep-on-failure`.
        left.extend(self.state.kept_runs()?.into_iter().map(|run| Orphan {
            kind: Kind::Machine,
            id: run.to_string(),
            region: self.home(),
            run: Some(run),
            expires: None,
            bytes: None,
        }));
        Ok(left)
    }

    fn remove_orphan(&self, orphan: &Orphan) -> Result<()> {
        self.journal(("TakeAway", Some(&orphan.region), Some(&orphan.id), None), || {
            match orphan.kind {
                Kind::Machine => self.state.end_kept_run(&orphan.id)?,
                _ if Path::new(&orphan.id).exists() => fs::remove_dir_all(&orphan.id)?,
                _ => {}
            }
            Ok(((), orphan.id.clone()))
        })
    }

    fn files(&self, image: &Image) -> Vec<PathBuf> {
        vec![self.store.dir(image).join(store::DISK)]
    }

    fn users(&self, _: &Image) -> Result<Vec<String>> {
        // An instance ends with the command that started it, and writes to an overlay in the run's directory.
        Ok(Vec::new())
    }

    fn delete(&self, image: &Image) -> Result<()> {
        self.journal(("DeleteImage", Some(&image.region), Some(&image.id.0), None), || {
            self.store.remove(&self.store.dir(image), &image.id, self.run()?.id())?;
            Ok(((), image.id.to_string()))
        })
    }

    fn discard(&self, corrupt: &Corrupt) -> Result<()> {
        self.journal(("DeleteImage", Some(&corrupt.region), Some(&corrupt.id.0), None), || {
            self.store.remove(Path::new(&corrupt.place), &corrupt.id, self.run()?.id())?;
            Ok(((), corrupt.id.to_string()))
        })
    }

    fn parameter(&self, region: &Region, name: &str) -> Result<Option<Parameter>> {
        self.read_parameter(region, name)
    }

    fn put_parameter(&self, region: &Region, name: &str, value: &str, expected: Option<u64>) -> Result<()> {
        self.write_parameter(region, name, value, expected)
    }

    fn parameters(&self, region: &Region) -> Result<Vec<(String, ImageId)>> {
        self.list_parameters(region)
    }

    fn delete_parameter(&self, region: &Region, name: &str) -> Result<()> {
        self.remove_parameter(region, name)
    }

    fn marks(&self, image: &Image) -> Result<BTreeMap<String, String>> {
        self.read_marks(image)
    }

    fn mark(&self, image: &Image, key: &str, value: &str) -> Result<()> {
        self.add_mark(image, key, value)
    }

    fn launchable(&self, image: &Image) -> Result<()> {
        let disk = self.store.dir(image).join(store::DISK);
        let hint = format!("delete {} and copy it again", image.id);
        Cmd::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(disk).hint(hint).read().map(drop)
    }

    fn deprecate(&self, _: &Image) -> Result<()> {
        // Local images have no deprecation time. The caller adds the mark.
        Ok(())
    }

    fn put_document(&self, image: &Image, name: &str, bytes: &[u8]) -> Result<()> {
        self.journal(("PutDocument", Some(&image.region), Some(name), Some(&image.id.0)), || {
            durable::replace_private(&self.store.dir(image).join(name), bytes)?;
            Ok(((), image.id.to_string()))
        })
    }

    fn document(&self, image: &Image, name: &str) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.store.dir(image).join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
