//! The local provider: images are folders, regions folders of those, an instance is a QEMU process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fs_err as fs;

use super::{BaseRecord, Capture, Cloud, Copied, Corrupt, Fraction, Image, Layer, Listed, Made, sha256_file};
use crate::error::{Error, Exit, Result, plain};
use crate::process::{Cmd, Ended};
use crate::recipe::{Digest, Source};
use crate::state::{Run, State};

pub mod base;
mod layers;
mod machine;
pub mod qemu;
mod qmp;
pub mod seed;
mod store;

use base::{Base, Bases};
use layers::Layers;
pub use machine::{LocalMachine, Size};
use machine::{Start, instance_disk};
use qemu::{Acceleration, Boot, Verdict};
use seed::Purpose;
use store::Store;

/// What `ami.toml` says about this provider.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The regions, home first.
    pub regions: Vec<String>,
    /// Machine size.
    pub size: Size,
    /// Root disk size in GiB.
    pub disk_gib: u64,
    /// Space for a first build in GiB; half of it is enough when there are layers.
    pub build_gib: u64,
    /// Acceleration, or `None` for the best that works.
    pub acceleration: Option<Acceleration>,
    /// Base image, or `None` for the best that can be had.
    pub base: Option<base::Name>,
    /// Where Ubuntu's images come from.
    pub ubuntu_releases: String,
}

/// The provider.
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
    /// The provider over a state folder. Without a run it can look, copy and delete, but start no machine.
    pub fn new(state: &State, settings: Settings, project: &Path, run: Option<Arc<Run>>) -> Self {
        let bases = Bases {
            root: state.path("base"),
            project: project.to_owned(),
            ubuntu_releases: settings.ubuntu_releases.clone(),
            wanted: settings.base,
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

    /// What accelerates machines here; found once and remembered.
    pub fn acceleration(&self) -> Result<Verdict> {
        let path = self.state.path("acceleration.json");
        let remembered = std::fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok());
        let verdict = qemu::probe(self.settings.acceleration, remembered.as_ref())?;
        if self.settings.acceleration.is_none() && remembered.as_ref() != Some(&verdict) {
            fs::write(path, serde_json::to_vec_pretty(&verdict).unwrap_or_default())?;
        }
        Ok(verdict)
    }

    fn run(&self) -> Result<&Run> {
        self.run.as_deref().ok_or_else(|| {
            Exit::Failed.error("no run was begun for this machine", "this is a defect; please report it")
        })
    }

    fn base_named(&self, record: &BaseRecord) -> Result<Base> {
        let base = self.bases.at_hand()?.filter(|b| b.record == *record);
        base.ok_or_else(|| Exit::Failed.error("the base image changed under the build", "run the same command again"))
    }

    /// Starts a machine and enters it. One that does not come up is given up once, for another with a disk of its own: an emulated
    /// guest hangs now and then, and a person would do the same. `make_disk` makes that disk.
    fn start(
        &self,
        name: &str,
        purpose: Purpose,
        make_disk: &dyn Fn() -> Result<PathBuf>,
        boot: &Boot,
        told: &dyn Fn(&str),
    ) -> Result<LocalMachine> {
        let (run, size, acceleration) = (self.run()?, self.settings.size, self.acceleration()?.acceleration);
        // An instance that hangs on a real processor is the image's fault, and a verdict.
        let may_try_again = purpose == Purpose::Builder || acceleration == Acceleration::Tcg;
        let begin = || {
            let disk = make_disk()?;
            LocalMachine::start(run, Start { name, purpose, disk, boot: boot.clone(), size, acceleration })
        };
        let mut machine = begin()?;
        let patience = if may_try_again { size.boot_timeout / 2 } else { size.boot_timeout };
        match machine.enter(patience, told) {
            Ok(()) => return Ok(machine),
            Err(error) if !may_try_again || error.exit() != Exit::Failed => return Err(error),
            Err(error) => {
                drop(machine);
                told(&format!("{error}; starting another machine"));
                fs::remove_dir_all(run.path(name))?;
                machine = begin()?;
                machine.instead_of(plain(&error));
            }
        }
        machine.enter(size.boot_timeout, told)?;
        Ok(machine)
    }

    fn unknown_region(&self, region: &str) -> Error {
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

    fn regions(&self) -> &[String] {
        &self.settings.regions
    }

    fn best_effort(&self) -> &[String] {
        &[]
    }

    fn base(&self, _: &Source, told: &dyn Fn(&str)) -> Result<BaseRecord> {
        Ok(self.bases.provide(told)?.record)
    }

    fn base_at_hand(&self, _: &Source) -> Result<Option<BaseRecord>> {
        Ok(self.bases.at_hand()?.map(|b| b.record))
    }

    fn layers(&self) -> Result<Vec<Layer>> {
        self.layers.list()
    }

    fn remove_unfinished(&self) -> Result<()> {
        self.layers.remove_unfinished()
    }

    fn ready(&self, _: &Source, cold: bool) -> Result<Option<String>> {
        let bytes = self.settings.build_gib << 30;
        self.state.require_space(if cold { bytes } else { bytes / 2 }, "this build")?;
        let verdict = self.acceleration()?;
        let emulated = verdict.acceleration == Acceleration::Tcg;
        Ok(emulated.then(|| format!("machines are emulated, about ten times slower than real ones: {}", verdict.why)))
    }

    fn build_certificates(&self) -> Result<Vec<String>> {
        seed::host_certificates()
    }

    fn start_builder(&self, start: super::Start<'_>, told: &dyn Fn(&str)) -> Result<LocalMachine> {
        let super::Start { from, next, .. } = start;
        let base = self.base_named(start.base)?;
        let below = match from {
            Some(key) => self.layers.disk(key),
            None => base.disk.clone(),
        };
        if !below.exists() {
            return Err(from.map_or_else(
                || Exit::Failed.error("the base image is gone", "run the same command again"),
                layers::missing,
            ));
        }
        // The base is grown once, by the first overlay on it; layers above inherit the size.
        let grow = from.is_none().then_some(self.settings.disk_gib);
        let last = self.run()?.path("last");
        let disk = || match next {
            Some(key) => self.layers.begin(key, &below, grow),
            None => instance_disk(&last, &below, grow),
        };
        self.start("builder", Purpose::Builder, &disk, &base.boot, told)
    }

    fn checkpoint(&self, machine: &mut LocalMachine, layer: &Layer, next: Option<Digest>) -> Result<()> {
        let below = machine.disk().to_owned();
        let overlay = match next {
            Some(key) => self.layers.begin(key, &below, None)?,
            None => instance_disk(&self.run()?.path("last"), &below, None)?,
        };
        machine.snapshot(overlay)?;
        self.layers.finish(layer)
    }

    fn capture(
        &self,
        machine: LocalMachine,
        base: &BaseRecord,
        capture: &Capture,
        told: &dyn Fn(&str),
    ) -> Result<Image> {
        let disk = machine.disk().to_owned();
        machine.power_off(told)?;
        self.publish(&disk, base, capture, told)
    }

    fn for_packer(&self, start: super::Start<'_>) -> Result<Vec<(String, String)>> {
        let base = self.base_named(start.base)?;
        let dir = self.run()?.path("packer");
        fs::create_dir_all(&dir)?;
        let key = dir.join("id_ed25519");
        Cmd::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", self.run()?.id(), "-f"])
            .arg(&key)
            .read()?;
        let public = fs::read_to_string(dir.join("id_ed25519.pub"))?;
        seed::write(&dir.join("seed"), self.run()?.id(), &public, Purpose::Builder)?;
        let accelerator = self.acceleration()?.acceleration.name();
        let facts = [
            ("qemu_base", base.disk.display().to_string()),
            ("qemu_seed", dir.join("seed").display().to_string()),
            ("qemu_private_key", key.display().to_string()),
            ("qemu_accelerator", accelerator.to_owned()),
            ("output_directory", dir.join("output").display().to_string()),
        ];
        Ok(facts.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }

    fn adopt(&self, made: &Made, base: &BaseRecord, capture: &Capture, told: &dyn Fn(&str)) -> Result<Image> {
        let Made::Disk(name) = made else {
            return Err(Exit::Failed.error("Packer made no disk", "name a qemu source as `source_local` in ami.toml"));
        };
        // The manifest may name the file without its folder.
        let file = name.file_name().map(Path::new).unwrap_or(name);
        self.publish(&self.run()?.path("packer/output").join(file), base, capture, told)
    }

    fn instance_types(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn launch(&self, image: &Image, _: &str, told: &dyn Fn(&str)) -> Result<LocalMachine> {
        let below = self.store.dir(image).join(store::DISK);
        let dir = self.run()?.path("smoke");
        // An instance boots the way a customer's does: firmware, boot loader, kernel from the disk.
        self.start("smoke", Purpose::Instance, &|| instance_disk(&dir, &below, None), &Boot::Firmware, told)
    }

    fn images(&self, region: &str) -> Result<Vec<Listed>> {
        if !self.settings.regions.iter().any(|r| r == region) {
            return Err(self.unknown_region(region));
        }
        self.store.list(region)
    }

    fn copy(
        &self,
        image: &Image,
        regions: &[String],
        told: &dyn Fn(&str, Fraction),
        done: &mut dyn FnMut(Copied) -> Result<()>,
    ) -> Result<()> {
        // One after the other: they share a disk.
        for region in regions {
            let started = Instant::now();
            let result = self.copy_to(image, region, &|now, all| told(region, Some((now, all))));
            done(Copied { region: region.clone(), result, took: started.elapsed() })?;
        }
        Ok(())
    }

    fn files(&self, image: &Image) -> Vec<PathBuf> {
        vec![self.store.dir(image).join(store::DISK)]
    }

    fn users(&self, _: &Image) -> Result<Vec<String>> {
        // An instance lives no longer than the command that started it, and works on an overlay that the run's folder holds.
        Ok(Vec::new())
    }

    fn delete(&self, image: &Image) -> Result<()> {
        self.store.remove(&self.store.dir(image), &image.id)
    }

    fn discard(&self, corrupt: &Corrupt) -> Result<()> {
        self.store.remove(Path::new(&corrupt.place), &corrupt.id)
    }

    fn put_document(&self, image: &Image, name: &str, bytes: &[u8]) -> Result<()> {
        let dir = self.store.dir(image);
        let staged = dir.join(format!(".{name}"));
        fs::write(&staged, bytes)?;
        Ok(fs::rename(staged, dir.join(name))?)
    }

    fn document(&self, image: &Image, name: &str) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.store.dir(image).join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Local {
    fn copy_to(&self, image: &Image, region: &str, told: &dyn Fn(u64, u64)) -> Result<(Image, bool)> {
        let id = store::id(region, &image.name, image.content);
        let there = self.images(region)?.into_iter().find_map(|listed| match listed {
            Listed::Image(there) if there.id == id => Some(*there),
            _ => None,
        });
        if let Some(there) = there {
            return Ok((there, false));
        }
        let from = self.store.dir(image);
        let unfinished = self.store.unfinished(region, &id)?;
        let disk = unfinished.join(store::DISK);
        copy_file(&from.join(store::DISK), &disk, told)?;
        let found = sha256_file(&disk)?;
        if found != image.content {
            fs::remove_dir_all(&unfinished)?;
            return Err(Exit::Failed.error(
                format_args!("the copy of {} to {region} has SHA-256 {found}, not {}", image.id, image.content),
                format_args!("the source may be damaged: delete {} and build again", image.id),
            ));
        }
        let copy = Image {
            id,
            region: region.to_owned(),
            created: jiff::Timestamp::now().to_string(),
            copied_from: Some(image.id.clone()),
            ..image.clone()
        };
        self.store.publish(&unfinished, &copy)?;
        Ok((copy, true))
    }

    /// Puts a disk into the store as an image.
    fn publish(&self, disk: &Path, base: &BaseRecord, capture: &Capture, told: &dyn Fn(&str)) -> Result<Image> {
        let name = self.free_name(capture)?;
        let unfinished = self.store.unfinished(&capture.region, &super::ImageId(name.clone()))?;
        let target = unfinished.join(store::DISK);
        told("flattening the layers into one disk");
        convert(disk, &target, told)?;
        told("hashing the disk");
        let disk_sha256 = sha256_file(&target)?;
        let image = Image {
            schema: 1,
            id: store::id(&capture.region, &name, disk_sha256),
            name,
            region: capture.region.clone(),
            image: capture.image.clone(),
            version: capture.version.clone(),
            created: jiff::Timestamp::now().to_string(),
            recipe_hash: capture.recipe_hash,
            base: base.clone(),
            content: disk_sha256,
            disk_bytes: fs::metadata(&target)?.len(),
            copied_from: None,
            run: self.run()?.id().to_owned(),
            engine: capture.engine.clone(),
            builder: capture.builder.clone(),
            tags: [("ManagedBy".to_owned(), "agent-ami".to_owned())].into(),
        };
        self.store.publish(&unfinished, &image)?;
        Ok(image)
    }

    /// The next free `{image}-v{version}-{YYYYMMDD-HHmm}`: names are unique in a region, and two builds can fall into a minute.
    fn free_name(&self, capture: &Capture) -> Result<String> {
        let taken: Vec<String> = self
            .images(&capture.region)?
            .into_iter()
            .filter_map(|listed| if let Listed::Image(image) = listed { Some(image.name) } else { None })
            .collect();
        let mut at = jiff::Timestamp::now();
        loop {
            let name = format!("{}-v{}-{}", capture.image, capture.version, at.strftime("%Y%m%d-%H%M"));
            if !taken.contains(&name) {
                return Ok(name);
            }
            at += jiff::SignedDuration::from_mins(1);
        }
    }
}

/// Writes the chain of overlays as one disk.
fn convert(from: &Path, to: &Path, told: &dyn Fn(&str)) -> Result<()> {
    let mut said = String::new();
    let cmd = Cmd::new("qemu-img").args(["convert", "-p", "-W", "-m", "8", "-O", "qcow2"]).arg(from).arg(to);
    let ended = cmd.stream(None, |_, line| {
        let line = line.trim();
        if line.starts_with('(') { told(line) } else { said.push_str(line) }
    })?;
    if ended != Ended::Code(0) {
        return Err(Exit::Failed.error(
            format_args!("`{cmd}` failed ({ended:?}): {said}"),
            "check the free disk space, then run the same command again",
        ));
    }
    Ok(())
}

/// Copies in pieces, so that progress can be told and a signal ends it.
fn copy_file(from: &Path, to: &Path, told: &dyn Fn(u64, u64)) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let (mut source, mut target) = (fs::File::open(from)?, fs::File::create(to)?);
    let total = source.metadata()?.len();
    let mut buffer = vec![0; 4 << 20];
    let mut done = 0;
    loop {
        crate::signals::check()?;
        let n = source.read(&mut buffer)?;
        if n == 0 {
            return Ok(target.sync_all()?);
        }
        target.write_all(&buffer[..n])?;
        done += n as u64;
        told(done, total);
    }
}
