//! An account at its own endpoint, a provider with injected faults, and an inventory of the remaining resources.

#![allow(dead_code, reason = "shared by tests that each use a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use xtask::cloud::{BuilderKind, Capture, Cloud as _, Copied, EngineKind, Identity, Image, Start};
use xtask::error::Result;
use xtask::ids::Region;
use xtask::recipe::{Digest, Source};
use xtask::state::{RunRequest, State};
use xtask_aws::cloud::Ec2;
use xtask_aws::drive::Driver;
use xtask_aws::settings::Settings;

use super::settings::{settings, source};
use super::support::{Moto, Plan, added, clients, inventory, owner};

pub(crate) const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "ap-southeast-1"];

/// An account at its own endpoint, with providers whose calls can have injected faults.
pub(crate) struct Account {
    pub(crate) moto: Moto,
    pub(crate) driver: Arc<Driver>,
    pub(crate) dir: tempfile::TempDir,
    /// The inventory before the first call: in moto, the account owns the snapshots of the fixtures.
    before: BTreeMap<String, usize>,
}

impl Account {
    pub(crate) fn new() -> Self {
        Self::at(Moto::start())
    }

    /// An account at this endpoint.
    pub(crate) fn at(moto: Moto) -> Self {
        let driver = Arc::new(Driver::new().unwrap());
        let mut account = Self { moto, driver, dir: tempfile::tempdir().unwrap(), before: BTreeMap::new() };
        account.before = account.left();
        account
    }

    pub(crate) fn with(&self, plans: Vec<Plan>) -> Ec2 {
        self.with_settings(plans, settings(&REGIONS))
    }

    pub(crate) fn with_settings(&self, plans: Vec<Plan>, settings: Settings) -> Ec2 {
        let state = State::open(self.dir.path().join("state")).unwrap();
        let run = Arc::new(state.begin_run(RunRequest { command: "test", words: &[], on: "aws" }).unwrap());
        Ec2::new(Arc::clone(&self.driver), &clients(&self.moto.url, plans), settings, &state, Some(run))
    }

    /// A provider with the access key of the account's owner.
    pub(crate) fn owners(&self) -> Ec2 {
        let state = State::open(self.dir.path().join("state")).unwrap();
        let run = Arc::new(state.begin_run(RunRequest { command: "test", words: &[], on: "aws" }).unwrap());
        Ec2::new(Arc::clone(&self.driver), &owner(&self.moto.url), settings(&REGIONS), &state, Some(run))
    }

    /// The resources that have been added since the start.
    pub(crate) fn left(&self) -> BTreeMap<String, usize> {
        let clients = owner(&self.moto.url);
        let regions = REGIONS.map(str::to_owned);
        added(self.driver.finish(inventory(&clients, &regions)), &self.before)
    }

    pub(crate) fn assert_left(&self, expected: &[(&str, usize)]) {
        let expected: BTreeMap<String, usize> = expected.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect();
        assert_eq!(self.left(), expected);
    }

    /// Builds an image. There is no machine behind the endpoint, so the builder is not connected to.
    pub(crate) fn build(&self, ec2: &Ec2) -> Result<Image> {
        self.build_of(ec2, &source())
    }

    /// As [`Account::build`], with another name, because names are unique in an account.
    pub(crate) fn build_as(&self, ec2: &Ec2, name: &str) -> Result<Image> {
        let mut source = source();
        source.settings.insert("ami_name".to_owned(), name.into());
        self.build_of(ec2, &source)
    }

    fn build_of(&self, ec2: &Ec2, source: &Source) -> Result<Image> {
        let base = ec2.base(source, &|_| {})?;
        let machine =
            ec2.begin(Start { builder: BuilderKind::Instance, source, base: &base, from: None, next: None }, &|_| {})?;
        ec2.capture(machine, &base, &capture(source), &|_| {})
    }

    pub(crate) fn copy(&self, ec2: &Ec2, image: &Image) -> Vec<Copied> {
        let mut results = Vec::new();
        let targets: Vec<Region> = REGIONS[1..].iter().map(|r| (*r).into()).collect();
        ec2.copy(image, &targets, &|_, _, _| {}, &mut |copied| {
            results.push(copied);
            Ok(())
        })
        .unwrap();
        results
    }
}

/// The capture of a build of the project's own template.
pub(crate) fn capture(source: &Source) -> Capture {
    Capture {
        image: "locus-agent".to_owned(),
        version: "1.0.0".to_owned(),
        recipe_hash: Digest::of(b"recipe"),
        engine: EngineKind::Native,
        built_in: BuilderKind::Instance,
        agent: Some("all".to_owned()),
        template: None,
        region: REGIONS[0].into(),
        builder: Identity::default(),
        source: Some(source.clone()),
    }
}
