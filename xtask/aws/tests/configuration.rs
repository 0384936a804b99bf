//! Every key of ami.toml has an effect. A table lists where; a key that is not in the table, or has no effect there, fails a test.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::collections::{BTreeMap, BTreeSet};

use xtask::cli::Job;
use xtask::commands::{Provider as _, local_settings};
use xtask::config::{Config, Overrides};
use xtask_aws::policy::{Scope, policy};
use xtask_aws::provider::{OnAws, settings};

/// Where a key has an effect.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// In the settings of `--on local`.
    Local,
    /// In the settings of the EC2 provider.
    Aws,
    /// In the template's variables.
    Template,
    /// In the policies that `iam-policy` prints.
    Policy,
    /// In code that requires a store, a template or a terminal: the file below `xtask/src`, and the expression that reads the value.
    Code(&'static str, &'static str),
}
use Where::{Aws, Code, Local, Policy, Template};

/// The settings of the images API.
const SERVE: &str = "../serve/src/settings.rs";

/// The key, with `*` for a name; a value other than the file's, as TOML; the places where the key has an effect, as far as this test can
/// check them.
const KEYS: &[(&str, &str, &[Where])] = &[
    ("images.*.default", "", &[Code("config.rs", "image.default")]),
    ("images.*.template", "", &[Code("commands/ami/request.rs", "image.template")]),
    ("images.*.version", "", &[Code("commands/ami/plan.rs", "&image.version")]),
    ("images.*.smoke", "", &[Code("commands/ami/smoke.rs", "image.smoke")]),
    ("images.*.env_variable", "", &[Code("channel/targets.rs", "configured.env_variable")]),
    ("images.*.source_local", "", &[Code("commands/provider.rs", "image.source_local")]),
    ("images.*.source_aws", "", &[Code("commands/iam_policy.rs", "image.source_aws")]),
    ("images.*.vars.*", "", &[Code("commands/ami/plan.rs", "image.vars")]),
    ("regions.local", "[\"local-7\"]", &[Local]),
    ("regions.aws", "[\"us-gov-west-1\"]", &[Aws, Template, Policy]),
    ("channels.*.env_file", "", &[Code("channel/targets.rs", "channel.env_file")]),
    ("channels.*.ssm_prefix", "\"/other\"", &[Aws, Policy, Code("channel/targets.rs", "channel.ssm_prefix")]),
    ("channels.*.github_output", "", &[Code("channel/targets.rs", "channel.github_output")]),
    ("channels.*.after", "", &[Code("commands/ami/promote.rs", "configured.after")]),
    ("channels.*.soak_hours", "", &[Code("commands/ami/promote.rs", "configured.soak_hours")]),
    ("retention.keep_days", "", &[Code("commands/ami/gc.rs", "retention.keep_days")]),
    ("retention.keep_last", "", &[Code("commands/ami/gc.rs", "retention.keep_last")]),
    ("retention.deprecate_days", "", &[Code("commands/ami/gc.rs", "retention.deprecate_days")]),
    ("retention.disable_days", "", &[Code("commands/ami/gc.rs", "retention.disable_days")]),
    ("retention.max_removals", "", &[Code("commands/ami/gc.rs", "retention.max_removals")]),
    ("local.state_dir", "", &[Code("commands/context.rs", "config.local.state_dir")]),
    ("local.cpus", "7", &[Local]),
    ("local.memory_mib", "4096", &[Local]),
    ("local.disk_gib", "33", &[Local]),
    ("local.build_gib", "34", &[Local]),
    ("local.layer_days", "", &[Code("commands/ami/gc/layers.rs", "local.layer_days")]),
    ("local.layers_gib", "", &[Code("commands/ami/gc/layers.rs", "local.layers_gib")]),
    ("local.acceleration", "\"tcg\"", &[Local]),
    ("local.builder", "\"container\"", &[Local]),
    ("local.base", "\"debian-13\"", &[Local]),
    ("local.boot_timeout_secs", "77", &[Local]),
    ("local.ubuntu_releases", "\"https://example.com\"", &[Local]),
    ("aws.accounts", "[\"123456789012\"]", &[Aws, Policy]),
    ("aws.profile", "\"other\"", &[Aws]),
    ("aws.best_effort_regions", "[\"us-west-2\"]", &[Aws]),
    ("aws.build_instance_types", "[\"m5.large\"]", &[Aws]),
    ("aws.smoke_instance_types", "[\"m5.large\"]", &[Aws]),
    ("aws.via", "\"ssm\"", &[Aws]),
    ("aws.ssm_instance_profile", "\"other\"", &[Aws, Policy]),
    ("aws.instance_profile_roles.*", "\"path/other\"", &[Policy]),
    ("aws.ssh_cidrs", "[\"192.0.2.0/24\"]", &[Aws]),
    ("aws.ssh_host", "\"192.0.2.1\"", &[Aws]),
    ("aws.ssh_port", "2222", &[Aws]),
    ("aws.kms_key_ids.*", "\"alias/other\"", &[Aws, Policy]),
    ("aws.copy_completion_minutes", "30", &[Aws]),
    ("aws.instance_lifetime_minutes", "33", &[Aws]),
    ("aws.boot_timeout_secs", "77", &[Aws]),
    ("packer.binary_path", "", &[Code("commands/ami/engine.rs", "config.packer.binary_path")]),
    ("packer.auto_install", "", &[Code("commands/ami/engine.rs", "config.packer.auto_install")]),
    ("packer.version", "", &[Code("commands/ami/engine.rs", "config.packer.version")]),
    ("packer.releases", "", &[Code("commands/ami/engine.rs", "config.packer.releases")]),
    ("packer.work_dir", "", &[Code("commands/ami/engine.rs", "config.packer.work_dir")]),
    // Used if [regions] has none for AWS.
    ("packer.default_region", "\"us-gov-west-1\"", &[Template, Policy]),
    ("packer.build_instance_type", "\"m5.large\"", &[Template]),
    ("packer.build_subnet_id", "\"subnet-7\"", &[Aws, Template]),
    (
        "packer.build_timeout_secs",
        "",
        &[
            Code("commands/ami/engine.rs", "config.packer.build_timeout_secs"),
            Code("commands/ami/build.rs", "config.packer.build_timeout_secs"),
        ],
    ),
    ("packer.template_source", "", &[Code("config.rs", "packer.template_source")]),
    ("serve.listen", "", &[Code(SERVE, "serve.listen")]),
    ("serve.database_url", "", &[Code(SERVE, "serve.database_url")]),
    ("serve.tls_cert", "", &[Code(SERVE, "serve.tls_cert")]),
    ("serve.tls_key", "", &[Code(SERVE, "serve.tls_key")]),
    ("serve.hosts", "", &[Code(SERVE, "serve.hosts")]),
    ("serve.regions", "", &[Code(SERVE, "regions.contains(region)")]),
    ("serve.instance_types", "", &[Code(SERVE, "instance_types.clone()")]),
    ("serve.templates", "", &[Code(SERVE, "templates.is_empty()")]),
    ("serve.image", "", &[Code(SERVE, "config.image(image.as_deref())")]),
    ("serve.variables", "", &[Code(SERVE, "variables.iter()")]),
    ("serve.file_sources", "", &[Code(SERVE, "config.serve.file_sources")]),
    ("serve.inline_sources", "", &[Code(SERVE, "config.serve.inline_sources")]),
    ("serve.concurrency", "", &[Code(SERVE, "serve.concurrency")]),
    ("serve.region_concurrency", "", &[Code(SERVE, "serve.region_concurrency")]),
    ("serve.queue_limit", "", &[Code(SERVE, "serve.queue_limit")]),
    ("serve.requests_per_minute", "", &[Code(SERVE, "serve.requests_per_minute")]),
    ("serve.lease_secs", "", &[Code(SERVE, "serve.lease_secs")]),
    ("serve.drain_secs", "", &[Code(SERVE, "serve.drain_secs")]),
    ("serve.abandon_secs", "", &[Code(SERVE, "serve.abandon_secs")]),
    ("serve.build_days", "", &[Code(SERVE, "serve.build_days")]),
];

#[path = "../../tests/support/files.rs"]
mod files;
use files::root;

/// The project's own ami.toml with an entry in each table.
fn ours() -> toml::Table {
    let text = std::fs::read_to_string(root().join("ami.toml")).unwrap();
    let mut file: toml::Table = text.parse().unwrap();
    file["images"]["locus-agent"]["vars"] = table("provider = 'codex'");
    file["aws"]["kms_key_ids"] = table("us-west-2 = 'alias/images'");
    file["aws"]["ssm_instance_profile"] = "agent-ami".into();
    file["aws"]["instance_profile_roles"] = table("agent-ami = 'agent-ami-role'");
    file
}

fn table(text: &str) -> toml::Value {
    toml::Value::Table(text.parse().unwrap())
}

fn load(file: &toml::Table) -> Config {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("packer/default-ec2")).unwrap();
    std::fs::create_dir_all(dir.path().join("smoke/specs")).unwrap();
    for spec in ["locus-agent", "default-ec2"] {
        std::fs::write(dir.path().join(format!("smoke/specs/{spec}.toml")), "").unwrap();
    }
    std::fs::write(dir.path().join("ami.toml"), file.to_string()).unwrap();
    Config::load(dir.path(), &Overrides::default(), &BTreeMap::new()).unwrap()
}

/// The form of a key in the table: `channels.*.after` for `channels.staging.after`.
fn general(key: &str) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    let named = |i: usize| match parts[0] {
        "images" | "channels" => i == 1 || (i == 3 && parts[2] == "vars"),
        "aws" => i == 2,
        _ => false,
    };
    let part = |(i, part): (usize, &&str)| if named(i) { "*".to_owned() } else { (*part).to_owned() };
    parts.iter().enumerate().map(part).collect::<Vec<_>>().join(".")
}

#[test]
fn the_table_has_every_key_and_no_other() {
    let keys: BTreeSet<String> = load(&ours()).settings().iter().map(|setting| general(&setting.key)).collect();
    let table: BTreeSet<String> = KEYS.iter().map(|(key, ..)| (*key).to_owned()).collect();
    assert_eq!(table.len(), KEYS.len(), "a key is in the table twice");
    assert_eq!(keys, table);
}

/// The result of a configuration in one place.
fn effect(place: Where, config: &Config) -> String {
    match place {
        Local => format!("{:?}", local_settings(config)),
        Aws => format!("{:?}", settings(config)),
        Template => format!("{:?}", OnAws::default().settings(config, None)),
        Policy => policy(&[Job::All], &Scope::of(config, &[]).unwrap()).to_string(),
        Code(..) => String::new(),
    }
}

/// The file with the changes that a change of the key requires, and with the key changed everywhere.
fn changed(key: &str, to: Option<&str>) -> toml::Table {
    fn set(table: &mut toml::Table, path: &[&str], value: &toml::Value) {
        let [first, rest @ ..] = path else { return };
        let names: Vec<String> = table.keys().filter(|name| *first == "*" || name == first).cloned().collect();
        let names = if names.is_empty() { vec![(*first).to_owned()] } else { names };
        for name in names {
            match table.get_mut(&name) {
                Some(toml::Value::Table(inner)) if !rest.is_empty() => set(inner, rest, value),
                _ => drop(table.insert(name, value.clone())),
            }
        }
    }
    let mut file = ours();
    if key == "regions.aws" || key == "packer.default_region" {
        file["aws"]["kms_key_ids"] = table("");
    }
    if key == "packer.default_region" {
        file["regions"]["aws"] = toml::Value::Array(Vec::new());
    }
    if key == "aws.ssm_instance_profile" {
        file["aws"]["instance_profile_roles"] = table("");
    }
    if let Some(to) = to {
        let value = format!("x = {to}").parse::<toml::Table>().unwrap()["x"].clone();
        set(&mut file, &key.split('.').collect::<Vec<_>>(), &value);
    }
    file
}

#[test]
fn every_key_has_an_effect_where_the_table_lists_it() {
    let mut checked = 0;
    for (key, to, places) in KEYS {
        for place in *places {
            if let Code(file, expression) = place {
                let text = std::fs::read_to_string(root().join("xtask/src").join(file)).unwrap();
                assert!(text.contains(expression), "{key}: {file} has no `{expression}`");
                continue;
            }
            // The two files differ only in the value of the key.
            let (before, after) = (load(&changed(key, None)), load(&changed(key, Some(to))));
            assert_ne!(effect(*place, &before), effect(*place, &after), "{key} = {to} changes nothing in {place:?}");
            assert_eq!(
                effect(*place, &after),
                effect(*place, &load(&changed(key, Some(to)))),
                "{place:?} differs for the same file"
            );
            checked += 1;
        }
    }
    assert!(checked > 35, "{checked} effects were checked");
}
