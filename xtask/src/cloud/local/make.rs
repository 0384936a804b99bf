//! Creates local images: from a builder's disk, and by copying an image from another region.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::super::{BaseRecord, Capture, Cloud as _, Image, ImageId, Listed, sha256_file};
use super::Local;
use super::store::{self, Store};
use crate::error::{Exit, Result};
use crate::ids::{Region, RunId};
use crate::process::{Cmd, Ended, Tail};
use crate::signals::{self, PathGuard};

impl Local {
    /// Copies an image to a region. Returns the copy, and false if it existed already.
    pub(super) fn copy_to(
        &self,
        image: &Image,
        region: &Region,
        on_progress: &dyn Fn(u64, u64),
    ) -> Result<(Image, bool)> {
        let id = store::id(region, &image.name, image.content);
        let existing = self.images(region)?.into_iter().find_map(|listed| match listed {
            Listed::Image(image) if image.id == id => Some(*image),
            _ => None,
        });
        if let Some(existing) = existing {
            return Ok((existing, false));
        }
        self.journal(("CopyImage", Some(region), Some(&image.name), Some(&id.0)), || {
            let copy = self.make_copy(image, region, &id, on_progress)?;
            Ok(((copy, true), id.to_string()))
        })
    }

    fn make_copy(&self, image: &Image, region: &Region, id: &ImageId, on_progress: &dyn Fn(u64, u64)) -> Result<Image> {
        let from = self.store.dir(image);
        let unfinished = Unfinished::begin(&self.store, region, id, self.run()?.id())?;
        let disk = unfinished.path.join(store::DISK);
        copy_file(&from.join(store::DISK), &disk, on_progress)?;
        let found = sha256_file(&disk)?;
        if found != image.content {
            return Err(Exit::Failed.error(
                format_args!("the copy of {} to {region} has SHA-256 {found}, not {}", image.id, image.content),
                format_args!("the source may be damaged: delete {} and build again", image.id),
            ));
        }
        let copy = Image {
            id: id.clone(),
            region: region.clone(),
            created: Some(jiff::Timestamp::now()),
            copied_from: Some(image.id.clone()),
            ..image.clone()
        };
        self.store.publish(&unfinished.path, &copy)?;
        Ok(copy)
    }

    /// Flattens a disk and stores it as an image.
    pub(super) fn publish(
        &self,
        disk: &Path,
        base: Option<&BaseRecord>,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Image> {
        let name = self.free_name(capture)?;
        self.journal(
            ("CreateImage", Some(&capture.region), Some(&name), Some(&capture.recipe_hash.to_string())),
            || {
                let image = self.make_image(disk, &name, base, capture, on_progress)?;
                let id = image.id.to_string();
                Ok((image, id))
            },
        )
    }

    fn make_image(
        &self,
        disk: &Path,
        name: &str,
        base: Option<&BaseRecord>,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Image> {
        let id = ImageId(name.to_owned());
        let unfinished = Unfinished::begin(&self.store, &capture.region, &id, self.run()?.id())?;
        let target = unfinished.path.join(store::DISK);
        on_progress("flattening the layers into one disk");
        convert(disk, &target, on_progress)?;
        on_progress("hashing the disk");
        let disk_sha256 = sha256_file(&target)?;
        let image = Image {
            schema: 1,
            id: store::id(&capture.region, name, disk_sha256),
            name: name.to_owned(),
            region: capture.region.clone(),
            image: capture.image.clone(),
            arch: Some(arch()),
            account: None,
            version: capture.version.clone(),
            created: Some(jiff::Timestamp::now()),
            recipe_hash: capture.recipe_hash,
            base: base.cloned(),
            content: disk_sha256,
            disk_bytes: fs::metadata(&target)?.len(),
            copied_from: None,
            run: self.run()?.id().clone(),
            engine: capture.engine,
            built_in: Some(capture.built_in),
            agent: capture.agent.clone(),
            template: capture.template.clone(),
            builder: capture.builder.clone(),
            tags: [("ManagedBy".to_owned(), "agent-ami".to_owned())].into(),
        };
        self.store.publish(&unfinished.path, &image)?;
        Ok(image)
    }

    /// The next unused name `{image}-v{version}-{YYYYMMDD-HHmm}`. Names are unique in a region, and two builds can finish in one minute.
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

/// The directory of an image that is being made. Removed if the work ends without an image: by an error, a first or a second signal.
struct Unfinished {
    path: PathBuf,
    _guard: PathGuard,
}

impl Unfinished {
    fn begin(store: &Store, region: &Region, id: &ImageId, run: &RunId) -> Result<Self> {
        let guard = signals::remove_on_second_signal(store.unfinished_dir(region, id));
        Ok(Self { path: store.unfinished(region, id, run)?, _guard: guard })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // A published image has another name. A directory that cannot be removed has a file with the run's id, by which `gc` finds it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// The architecture of this host, and thus of its machines and images, in EC2's terms.
fn arch() -> String {
    if std::env::consts::ARCH == "aarch64" { "arm64".to_owned() } else { std::env::consts::ARCH.to_owned() }
}

/// Flattens the chain of overlays into one disk.
fn convert(from: &Path, to: &Path, on_progress: &dyn Fn(&str)) -> Result<()> {
    let mut output = Tail::default();
    // zstd (QEMU 5.1 and later) reduces the size to a third, and takes about as long as writing the saved bytes would.
    let cmd = Cmd::new("qemu-img")
        .args(["convert", "-p", "-c", "-W", "-m", "8", "-O", "qcow2", "-o", "compression_type=zstd"])
        .arg(from)
        .arg(to);
    let ended = cmd.stream(None, |_, line| {
        let line = line.trim();
        if line.starts_with('(') { on_progress(line) } else { output.push(line) }
    })?;
    if ended != Ended::Code(0) {
        return Err(Exit::Failed.error(
            format_args!("`{cmd}` failed ({ended:?}): {output}"),
            "check the free disk space, then run the same command again",
        ));
    }
    Ok(())
}

/// Copies a file in chunks, so that progress is reported and a signal interrupts the copy.
fn copy_file(from: &Path, to: &Path, on_progress: &dyn Fn(u64, u64)) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let (mut source, mut target) = (fs::File::open(from)?, fs::File::create(to)?);
    let total = source.metadata()?.len();
    let mut buffer = vec![0; 4 << 20];
    let mut done = 0;
    loop {
        signals::check()?;
        let n = source.read(&mut buffer)?;
        if n == 0 {
            return Ok(target.sync_all()?);
        }
        target.write_all(&buffer[..n])?;
        done += n as u64;
        on_progress(done, total);
    }
}
