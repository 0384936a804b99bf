//! The provider's settings for tests, with short waits.

use std::collections::BTreeMap;
use std::time::Duration;

use xtask::recipe::Source;
use xtask::template::{Request, evaluate};
use xtask_aws::settings::{Patiences, Settings, Via};
use xtask_aws::wait::Patience;

use super::support::root;

/// Settings for these regions, home first.
pub(crate) fn settings(regions: &[&str]) -> Settings {
    let quick = |patience: Patience| Patience {
        deadline: Duration::from_secs(20),
        missing: Duration::from_secs(3),
        first: Duration::from_millis(20),
        longest: Duration::from_millis(50),
        confirm: Duration::from_millis(10),
        ..patience
    };
    Settings {
        regions: regions.iter().map(|r| (*r).into()).collect(),
        best_effort: Vec::new(),
        profile: None,
        accounts: Vec::new(),
        more_builder_types: vec!["t3a.medium".to_owned()],
        smoke_types: vec!["t3.micro".to_owned()],
        via: Via::Ssh,
        ssm_profile: None,
        subnet: None,
        ssh_cidrs: vec!["192.0.2.0/24".to_owned()],
        ssh_host: None,
        ssh_port: None,
        prefixes: Vec::new(),
        kms_keys: BTreeMap::new(),
        copy_within: None,
        lifetime: Duration::from_secs(3600),
        boot_timeout: Duration::from_secs(2),
        patience: Patiences {
            image: quick(Patience::IMAGE),
            copy: quick(Patience::COPY),
            instance: quick(Patience::INSTANCE),
            pause: Duration::from_millis(100),
            command: Duration::from_millis(20),
        },
    }
}

/// The source of the project's own template.
pub(crate) fn source() -> Source {
    let cidrs = ("ssh_cidrs".to_owned(), "[\"192.0.2.0/24\"]".to_owned());
    evaluate(&Request {
        path: root().join("packer"),
        source: "amazon-ebs.locus".to_owned(),
        settings: Vec::new(),
        vars: vec![cidrs],
        var_files: Vec::new(),
        env: BTreeMap::new(),
        now: "2026-11-21T10:00:00Z".parse().unwrap(),
        root: root(),
        foreign: None,
    })
    .unwrap()
    .source
}
