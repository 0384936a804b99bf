//! `Cloud` for EC2, implemented with the other modules of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ec2::types::ImageState;
use futures_util::StreamExt as _;
use xtask::cloud::{
    BaseRecord, Builder, BuilderKind, Capture, Cloud, Copied, Corrupt, EngineKind, Fraction, Image, ImageId,
    Kind as OrphanKind, Layer, Listed, Made, Orphan, Parameter, Start,
};
use xtask::error::{Exit, Result};
use xtask::ids::Region;
use xtask::recipe::{Digest, Recipe, Source};
use xtask::stage::smoke;
use xtask::state::{Run, State};

use crate::amazon_ebs_source::AmazonEbsSource;
use crate::clients::Clients;
use crate::drive::{Driver, Sections};
use crate::instance::{Ec2Machine, Host};
use crate::order::Order;
use crate::ours::Ours;
use crate::settings::Settings;
use crate::{base, copy, documents, image, orphans, parameters, preflight, protection, record, uses};

mod visible;

/// EC2 and Systems Manager in the regions of ami.toml.
#[derive(Debug)]
pub struct Ec2 {
    driver: Arc<Driver>,
    clients: Clients,
    settings: Settings,
    state: State,
    run: Option<Arc<Run>>,
    /// The base image that was found, so that plan and build use the same one.
    base: Mutex<Option<(String, BaseRecord)>>,
    /// What the search for users of images did not check, and what EC2 keeps of removed images.
    caveats: Mutex<BTreeSet<String>>,
}

impl Ec2 {
    /// The provider with these clients. Without a run it can only read: mutating calls are errors.
    pub fn new(
        driver: Arc<Driver>,
        clients: &Clients,
        settings: Settings,
        state: &State,
        run: Option<Arc<Run>>,
    ) -> Self {
        let clients = clients.of_run(run.clone());
        Self { driver, clients, settings, state: state.clone(), run, base: Mutex::new(None), caveats: Mutex::default() }
    }

    fn run(&self) -> Result<&Arc<Run>> {
        self.run.as_ref().ok_or_else(|| {
            Exit::Failed.error("a change was attempted without a run", "this is a defect; please report it")
        })
    }

    fn host(&self, region: &Region) -> Result<Host> {
        Ok(Host {
            driver: Arc::clone(&self.driver),
            region: region.clone(),
            ec2: self.clients.ec2(region),
            ssm: self.clients.ssm(region),
            settings: self.settings.clone(),
            run: Arc::clone(self.run()?),
        })
    }

    fn document_dir(&self, image: &Image) -> PathBuf {
        // Named by the digest that copies share: a document belongs to all of them.
        self.state.path("aws").join(image.content.to_string())
    }
}

/// The base or the source of a template. On EC2 they must be known, because source, tags and permissions are checked before the build.
fn known<T>(value: Option<T>) -> Result<T> {
    value.ok_or_else(|| {
        let hint = "build it with --on local, or move the template's source to one that the native engine reads";
        Exit::Usage.error("on EC2 the source of a template must be read before the build", hint)
    })
}

impl Cloud for Ec2 {
    type Machine = Ec2Machine;

    fn name(&self) -> &'static str {
        "aws"
    }

    fn regions(&self) -> &[Region] {
        &self.settings.regions
    }

    fn best_effort(&self) -> &[Region] {
        &self.settings.best_effort
    }

    fn base(&self, source: &Source, on_progress: &dyn Fn(&str)) -> Result<BaseRecord> {
        on_progress("looking for the base image");
        let ebs_source = AmazonEbsSource::read(source)?;
        let key = format!("{:?} {:?}", ebs_source.source_ami, ebs_source.source_ami_filter);
        let mut known = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, base)) = known.as_ref().filter(|(k, _)| *k == key) {
            return Ok(base.clone());
        }
        let base = base::find(&self.driver, &self.clients, &self.home(), &ebs_source)?;
        *known = Some((key, base.clone()));
        Ok(base)
    }

    fn existing_base(&self, source: &Source) -> Result<Option<BaseRecord>> {
        self.base(source, &|_| {}).map(Some)
    }

    fn builder(&self, _: Option<&Recipe>, _: EngineKind) -> Result<Builder> {
        Ok(Builder { kind: BuilderKind::Instance, why: "images on EC2 are built on an instance".to_owned() })
    }

    fn requested_builder(&self) -> Option<BuilderKind> {
        None
    }

    fn layers(&self) -> Result<Vec<Layer>> {
        // No layers: a snapshot after each step takes minutes and is billed, a step takes seconds.
        Ok(Vec::new())
    }

    fn remove_unfinished(&self) -> Result<()> {
        Ok(())
    }

    fn ready(&self, source: Option<&Source>, _: bool) -> Result<Option<String>> {
        let ebs_source = AmazonEbsSource::read(known(source)?)?;
        record::check_template_tags(&ebs_source.tags).map_err(|why| {
            Exit::Usage.error(format_args!("`tags` of the template: {why}"), "correct `tags` in the template")
        })?;
        preflight::check(&self.driver, &self.clients, &self.settings, &self.home(), &ebs_source).map(Some)
    }

    fn build_certificates(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn start_builder(&self, start: Start<'_>, on_progress: &dyn Fn(&str)) -> Result<Ec2Machine> {
        let mut machine = self.begin(start, on_progress)?;
        self.ours(&self.home(), |ours| ours.builder(machine.id()))?;
        preflight::capturable(&self.driver, &self.clients, &self.settings, &self.home(), machine.id())?;
        machine.enter(on_progress)?;
        Ok(machine)
    }

    fn checkpoint(&self, _: &mut Ec2Machine, _: &Layer, _: Option<Digest>) -> Result<()> {
        Ok(())
    }

    fn capture(
        &self,
        mut machine: Ec2Machine,
        base: &BaseRecord,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Image> {
        on_progress("stopping the builder");
        machine.stop(on_progress)?;
        let ec2 = self.clients.ec2(&self.home());
        let ebs_source = AmazonEbsSource::read(known(capture.source.as_ref())?)?;
        let tags = record::Facts::of_capture(capture, base, self.run()?.id()).tags(&ebs_source.tags);
        let id = self.driver.finish(image::create(
            &ec2,
            machine.id(),
            &ebs_source.ami_name,
            ebs_source.ami_description.as_deref(),
            &tags,
            self.settings.patience.pause,
        ))?;
        on_progress(&format!("waiting for {id}"));
        let made = self.driver.wait(image::available(&ec2, &id, self.settings.patience.image, on_progress)).and_then(
            |result| {
                let ami = result.map_err(|wait_error| wait_error.into_error(&id))?;
                if ebs_source.imds_support.is_some() {
                    self.driver.finish(image::require_imds_v2(&ec2, &id))?;
                }
                self.driver.finish(image::tag(&ec2, &ami, &tags))?;
                Ok(ami)
            },
        );
        if let Err(error) = made {
            // An incomplete image is removed. If that fails, `gc` finds the image by the run's tag.
            return Err(match self.driver.finish(image::remove(&ec2, &id)) {
                Ok(()) => error,
                Err(aws_errors) => error.context(format!("{id} was not removed: {}", copy::first(aws_errors))),
            });
        }
        // EC2 reads the builder's volumes until the image's snapshots are complete, so the builder is terminated only now.
        machine.end()?;
        self.read(&self.home(), &id)
    }

    fn for_packer(&self, base: Option<&BaseRecord>) -> Result<Vec<(String, String)>> {
        let mut facts: Vec<_> = base.map(|base| ("base_ami".to_owned(), base.id.clone())).into_iter().collect();
        // The Debug form of a list of strings is a list in HCL.
        let cidrs = &self.settings.ssh_cidrs;
        facts.extend((!cidrs.is_empty()).then(|| ("ssh_cidrs".to_owned(), format!("{cidrs:?}"))));
        facts.extend(self.settings.ssh_host.clone().map(|host| ("ssh_host".to_owned(), host)));
        facts.extend(self.settings.ssh_port.map(|port| ("ssh_port".to_owned(), port.to_string())));
        Ok(facts)
    }

    fn adopt(
        &self,
        made: &Made,
        base: Option<&BaseRecord>,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Image> {
        let Made::Image { region, id } = made else {
            return Err(
                Exit::Failed.error("Packer made no AMI", "name an amazon-ebs source as `source_aws` in ami.toml")
            );
        };
        let ec2 = self.clients.ec2(region);
        let ebs_source = AmazonEbsSource::read(known(capture.source.as_ref())?)?;
        let tags = record::Facts::of_capture(capture, known(base)?, self.run()?.id()).tags(&ebs_source.tags);
        let ami = self.driver.wait(image::available(&ec2, &id.0, self.settings.patience.image, on_progress))?;
        let ami = ami.map_err(|wait_error| wait_error.into_error(&id.0))?;
        self.driver.finish(image::tag(&ec2, &ami, &tags))?;
        self.read(region, &id.0)
    }

    fn instance_types(&self) -> Vec<String> {
        self.settings.smoke_types.clone()
    }

    fn launch(&self, image: &Image, instance_type: &str, user: &str, on_progress: &dyn Fn(&str)) -> Result<Ec2Machine> {
        let mut machine = Ec2Machine::begin(
            self.host(&image.region)?,
            &Order::smoke(image, instance_type, user, &self.settings),
            on_progress,
        )?;
        let entered = machine.enter(on_progress);
        match entered {
            Ok(()) => Ok(machine),
            // EC2's status checks show whether the image does not boot, or the connection to the instance failed.
            Err(error) if error.exit() == Exit::Failed && machine.is_guest_impaired() => {
                let why = format!(
                    "smoke test of {} failed: the instance status check is impaired, the system status check is ok",
                    image.id
                );
                Err(error.with_exit(Exit::ImageFailed).context(why))
            }
            Err(error) => Err(error),
        }
    }

    fn images(&self, region: &Region) -> Result<Vec<Listed>> {
        let ec2 = self.clients.ec2(region);
        let found = self.driver.wait(image::tagged(&ec2, record::IMAGE, None))??;
        Ok(found.iter().map(|ami| record::read(region, ami)).collect())
    }

    fn copy(
        &self,
        image: &Image,
        regions: &[Region],
        on_progress: &dyn Fn(&Region, &str, Fraction),
        done: &mut dyn FnMut(Copied) -> Result<()>,
    ) -> Result<()> {
        let (run, sections) = (self.run()?, Sections::default());
        let (clients, settings) = (&self.clients, &self.settings);
        let copies = copy::Copies { clients, settings, run, sections: &sections, source: image, on_progress };
        // `done` is called outside of the wait, because it may run calls itself.
        let mut running = copy::to_all(copies, regions);
        while let Some(copied) = self.driver.wait_around(&sections, running.next())? {
            done(copied)?;
        }
        Ok(())
    }

    fn finish_capture(
        &self,
        base: &BaseRecord,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Option<Image>> {
        let ec2 = self.clients.ec2(&self.home());
        let run = self.run()?.id();
        self.wait_until_consistent()?;
        let made = self.driver.wait(image::tagged(&ec2, record::RUN, Some(run)))??;
        let recipe = capture.recipe_hash.to_string();
        let mine = made.iter().find(|ami| {
            let tags = record::plain_tags(ami.tags());
            // An image of Packer that has not been tagged with the record yet.
            let unrecorded = || !tags.contains_key(record::RECIPE) && !tags.contains_key(record::IMAGE);
            !tags.contains_key(record::COPIED_FROM) && (tags.get(record::RECIPE) == Some(&recipe) || unrecorded())
        });
        let Some(id) = mine.and_then(|ami| ami.image_id()) else { return Ok(None) };
        on_progress(&format!("waiting for {id}, which was in progress when the run was interrupted"));
        let ami = self.driver.wait(image::available(&ec2, id, self.settings.patience.image, on_progress))?;
        let ami = match ami {
            Ok(ami) => ami,
            // A failed image is removed, and the build creates another one.
            Err(crate::wait::WaitError::Final(_)) => {
                self.driver.finish(image::remove(&ec2, id)).map_err(copy::first)?;
                return Ok(None);
            }
            Err(wait_error) => return Err(wait_error.into_error(id)),
        };
        let ebs_source = AmazonEbsSource::read(known(capture.source.as_ref())?)?;
        if ebs_source.imds_support.is_some() {
            self.driver.finish(image::require_imds_v2(&ec2, id))?;
        }
        if !record::plain_tags(ami.tags()).contains_key(record::RECIPE) {
            let tags = record::Facts::of_capture(capture, base, run).tags(&ebs_source.tags);
            self.driver.finish(image::tag(&ec2, &ami, &tags))?;
        }
        self.read(&self.home(), id).map(Some)
    }

    fn orphans(&self) -> Result<Vec<Orphan>> {
        self.wait_until_consistent()?;
        let mut left = Vec::new();
        for region in &self.settings.regions {
            left.extend(self.driver.wait(orphans::find(&self.clients.ec2(region), region))??);
        }
        left.sort_by(|a, b| (a.kind, &a.region, &a.id).cmp(&(b.kind, &b.region, &b.id)));
        Ok(left)
    }

    fn remove_orphan(&self, orphan: &Orphan) -> Result<()> {
        let ec2 = self.clients.ec2(&orphan.region);
        // A resumed run uses its image in progress, which needs the builder until it is complete. A cleanup after another run removes the
        // image, too, so it does not wait.
        if orphan.kind == OrphanKind::Machine && orphan.run.as_ref() == Some(self.run()?.id()) {
            self.captured(&orphan.region)?;
        }
        self.driver.finish(orphans::remove(&ec2, orphan)).map_err(copy::first)
    }

    fn files(&self, _: &Image) -> Vec<PathBuf> {
        Vec::new()
    }

    fn users(&self, image: &Image) -> Result<Vec<String>> {
        let uses = self.driver.wait(uses::of(&self.clients, image))??;
        uses.caveats.into_iter().for_each(|caveat| self.note(caveat));
        Ok(uses.users.into_iter().collect())
    }

    fn caveats(&self) -> Vec<String> {
        self.caveats.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn delete(&self, image: &Image) -> Result<()> {
        let (ec2, id) = (self.clients.ec2(&image.region), image.id.0.as_str());
        let found = self.driver.wait(image::by_ids(&ec2, std::slice::from_ref(&image.id.0)))??;
        let snapshots: Vec<String> = found.iter().flat_map(record::snapshots).collect();
        self.ours(&image.region, |ours| ours.removable(id, &snapshots))?;
        let unprotected = self.driver.finish(protection::lift(&ec2, id))?;
        self.driver.finish(image::remove(&ec2, id)).map_err(|aws_errors| match unprotected {
            true => copy::first(aws_errors).context(protection::COOLDOWN),
            false => copy::first(aws_errors),
        })?;
        if let Some(until) = self.driver.wait(protection::in_recycle_bin(&ec2, id))? {
            self.note(format!(
                "{id} stays in the Recycle Bin of {} until {until}; its snapshots are billed until then",
                image.region
            ));
        }
        Ok(())
    }

    fn usable(&self, image: &Image) -> Result<()> {
        let (region, id) = (&image.region, image.id.0.as_str());
        match self.ami(region, id)?.state() {
            Some(ImageState::Disabled) => Err(image::disabled(region, id)),
            _ => Ok(()),
        }
    }

    fn promotable(&self, image: &Image) -> Result<()> {
        self.ours(&image.region, |ours| ours.promotable(&image.id.0))
    }

    fn protect(&self, image: &Image) -> Result<()> {
        Ok(self.driver.finish(protection::put(&self.clients.ec2(&image.region), &image.id.0))?)
    }

    fn discard(&self, corrupt: &Corrupt) -> Result<()> {
        let ec2 = self.clients.ec2(&corrupt.region);
        self.driver.finish(image::remove(&ec2, &corrupt.id.0)).map_err(copy::first)
    }

    fn parameter(&self, region: &Region, name: &str) -> Result<Option<Parameter>> {
        Ok(self.driver.wait(parameters::get(&self.clients.ssm(region), name))??)
    }

    fn put_parameter(&self, region: &Region, name: &str, value: &str, expected: Option<u64>) -> Result<()> {
        let (ssm, sections, pause) = (self.clients.ssm(region), Sections::default(), self.settings.patience.command);
        let write = parameters::Write { ssm: &ssm, region, name, value, expected, pause, sections: &sections };
        self.driver.wait_around(&sections, write.make())?
    }

    fn writable(&self, region: &Region, name: &str, value: &str) -> Result<()> {
        Ok(self.driver.finish(parameters::writable(&self.clients.ssm(region), name, value))?)
    }

    fn parameters(&self, region: &Region) -> Result<Vec<(String, ImageId)>> {
        Ok(self.driver.wait(parameters::of_images(&self.clients.ssm(region)))??.ids)
    }

    fn delete_parameter(&self, region: &Region, name: &str) -> Result<()> {
        Ok(self.driver.finish(parameters::delete(&self.clients.ssm(region), name))?)
    }

    fn marks(&self, image: &Image) -> Result<BTreeMap<String, String>> {
        Ok(record::marks(&record::plain_tags(self.ami(&image.region, &image.id.0)?.tags())))
    }

    fn mark(&self, image: &Image, key: &str, value: &str) -> Result<()> {
        let ami = self.ami(&image.region, &image.id.0)?;
        self.tag_visibly(&image.region, &ami, &[record::mark(key, value)].into())
    }

    fn launchable(&self, image: &Image) -> Result<()> {
        self.usable(image)?;
        preflight::launchable(&self.driver, &self.clients, &self.settings, image)
    }

    fn deprecate(&self, image: &Image) -> Result<()> {
        let (ec2, id) = (self.clients.ec2(&image.region), image.id.0.as_str());
        self.ours(&image.region, |ours| ours.deprecable(id))?;
        // The protection holds for another 24 hours. An image stays deprecated for longer than that before it is removed.
        self.driver.finish(protection::lift(&ec2, id))?;
        Ok(self.driver.finish(image::deprecate(&ec2, id))?)
    }

    fn disables(&self) -> bool {
        true
    }

    fn disable(&self, image: &Image) -> Result<()> {
        if self.ami(&image.region, &image.id.0)?.state() == Some(&ImageState::Disabled) {
            return Ok(());
        }
        self.ours(&image.region, |ours| ours.disablable(&image.id.0))?;
        Ok(self.driver.finish(image::disable(&self.clients.ec2(&image.region), &image.id.0))?)
    }

    fn put_document(&self, image: &Image, name: &str, bytes: &[u8]) -> Result<()> {
        documents::put(&self.document_dir(image), name, bytes)?;
        // Another machine may promote the image, so the result is also in the image's tags. CopyImage copies them to later copies.
        if name == smoke::DOCUMENT
            && image.copied_from.is_none()
            && let Ok(record) = serde_json::from_slice::<smoke::Record>(bytes)
        {
            let ami = self.ami(&image.region, &image.id.0)?;
            self.tag_visibly(&image.region, &ami, &record::smoke_tags(&record))?;
        }
        Ok(())
    }

    fn document(&self, image: &Image, name: &str) -> Result<Option<Vec<u8>>> {
        let here = documents::get(&self.document_dir(image), name)?;
        if name != smoke::DOCUMENT {
            return Ok(here);
        }
        let tags = record::plain_tags(self.ami(&image.region, &image.id.0)?.tags());
        Ok(documents::newest(here, record::smoke_record(&tags, image.content)))
    }
}

impl Ec2 {
    /// The clients, with the list of calls made.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Starts a builder and waits until it runs, without connecting to it.
    pub fn begin(&self, start: Start<'_>, on_progress: &dyn Fn(&str)) -> Result<Ec2Machine> {
        let ebs_source = AmazonEbsSource::read(start.source)?;
        let order = Order::builder(&ebs_source, &start.base.id, &self.settings);
        Ec2Machine::begin(self.host(&self.home())?, &order, on_progress)
    }

    /// Checks permissions on tagged resources of a region.
    fn ours(&self, region: &Region, check: impl FnOnce(Ours<'_>) -> Result<()>) -> Result<()> {
        check(Ours { driver: &self.driver, ec2: &self.clients.ec2(region), region })
    }

    fn note(&self, caveat: String) {
        self.caveats.lock().unwrap_or_else(PoisonError::into_inner).insert(caveat);
    }
}
