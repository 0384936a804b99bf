//! `ami.toml`: images, regions, channels, retention and the settings of both providers. All mistakes of the file are reported at once, each with
//! its line.
//!
//! The environment comes in as data: [`Config::load`] gets it from the caller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use schemars::JsonSchema;

use crate::error::{Exit, Result};
use crate::ids::{ChannelName, Region};
use crate::template_source::TemplateSource;

mod identity;
mod key;
mod model;
mod read;
mod regions;
mod serve;

pub use key::{Key, Kind};
use model::Words as _;
pub use model::{Acceleration, Aws, Base, Builder, Channel, Image, Local, Packer, Regions, Retention, Via};
use read::{Reader, Section};
pub use read::{Setting, variable};
pub use serve::Serve;

/// The file's name.
pub const FILE: &str = "ami.toml";

/// The variable that the Locus API reads the image's id from; docs/src/reference-image.md#versioning.
const ENV_VARIABLE: &str = "LOCUS_AMI_ID";

/// The sections of the file, in the order of the reference.
const SECTIONS: [&str; 8] = ["images", "regions", "channels", "retention", "local", "aws", "packer", "serve"];

/// The position of a key's section: an image's default comes from another section, so they are not read in this order.
fn section_of(key: &str) -> Option<usize> {
    let name = key.split('.').next().unwrap_or_default();
    SECTIONS.iter().position(|section| *section == name)
}

/// The default of `template_source`.
const DEFAULT_TEMPLATE: &str = "builtin://default-ec2";

fn is_default(path: &Path) -> bool {
    DEFAULT_TEMPLATE.parse().is_ok_and(|source: TemplateSource| source.in_project().as_deref() == Some(path))
}

/// Values of flags. They override the file and the environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--state`.
    pub state_dir: Option<PathBuf>,
    /// `--builder`.
    pub builder: Option<Builder>,
    /// `--region` of a local build: the home region.
    pub local_region: Option<Region>,
    /// `--region` of a build on EC2: the home region.
    pub aws_region: Option<Region>,
    /// `--instance-type`.
    pub instance_type: Option<String>,
}

/// The configuration, after all checks. The documentation of the fields below is the reference of `ami.toml` (`cargo xtask docs`).
#[derive(Clone, Debug, JsonSchema)]
#[schemars(title = "ami.toml")]
pub struct Config {
    /// The images that the project builds, by name.
    pub images: BTreeMap<String, Image>,
    /// Where images are built and copied to.
    pub regions: Regions,
    /// Channels, each of which points at one image of each `[images.NAME]`, by name.
    pub channels: BTreeMap<ChannelName, Channel>,
    /// How long images are kept. `cargo xtask ami gc` applies it.
    pub retention: Retention,
    /// Builds on this machine (`--on local`).
    pub local: Local,
    /// Builds on EC2 (`--on aws`).
    pub aws: Aws,
    /// Packer (`--engine packer`), and settings of the builder on EC2.
    pub packer: Packer,
    /// The images API (`cargo xtask serve`).
    pub serve: Serve,
    #[schemars(skip)]
    settings: Vec<Setting>,
}

impl Config {
    /// The image of this name with its settings; without a name, the default one, or the only one.
    pub fn image(&self, name: Option<&str>) -> Result<(&str, &Image)> {
        let known = || self.images.keys().cloned().collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self.images.get_key_value(name).map(|(k, v)| (k.as_str(), v)).ok_or_else(|| {
                Exit::Usage
                    .error(format_args!("ami.toml has no image `{name}`"), format_args!("its images are: {}", known()))
            }),
            None => {
                let mut all = self.images.iter();
                let only = all.next().filter(|_| all.next().is_none());
                let found = self.images.iter().find(|(_, image)| image.default).or(only);
                found.map(|(name, image)| (name.as_str(), image)).ok_or_else(|| {
                    let hint = format!("name one of: {}; or set default = true for one in ami.toml", known());
                    Exit::Usage.error("no image given, and ami.toml has several", hint)
                })
            }
        }
    }

    /// Reads `ami.toml` in `root`. The environment overrides it, flags override both.
    pub fn load(root: &Path, overrides: &Overrides, env: &BTreeMap<String, String>) -> Result<Self> {
        let path = root.join(FILE);
        let text = fs::read_to_string(&path).map_err(|e| {
            Exit::Usage.error(
                format_args!("cannot read the configuration: {e}"),
                "run in a checkout of the project; docs/src/reference/configuration.md describes ami.toml",
            )
        })?;
        Self::parse(&text, overrides, env, &|relative| root.join(relative).exists())
    }

    /// The same from text. `exists` returns whether a path relative to the project exists.
    fn parse(
        text: &str,
        overrides: &Overrides,
        env: &BTreeMap<String, String>,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<Self> {
        let table = toml::de::DeTable::parse(text).map_err(|e| {
            let report = miette::miette!(
                labels = e.span().map(|s| miette::LabeledSpan::at(s, "here")).into_iter().collect::<Vec<_>>(),
                help = "see toml.io for the syntax",
                "{FILE}:{}: not valid TOML: {}",
                e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1),
                e.message(),
            );
            Exit::Usage.because(report.with_source_code(miette::NamedSource::new(FILE, text.to_owned())))
        })?;
        let reader = Reader::new(FILE, text, env);
        let read = Self::read(&reader, table.get_ref(), overrides, exists);
        let mut settings = reader.finish().map_err(|wrong| Exit::Usage.because(*wrong))?;
        settings.sort_by_key(|setting| section_of(&setting.key));
        Ok(Self { settings, ..read })
    }

    /// Every key with its default and what it allows, in the order of the file's sections. The image is called `NAME`, the channel, too.
    pub fn keys() -> Vec<Key> {
        let text = "[images.NAME]\n[channels.NAME]\n";
        let reader = Reader::new(FILE, text, &BTreeMap::new());
        if let Ok(table) = toml::de::DeTable::parse(text) {
            Self::read(&reader, table.get_ref(), &Overrides::default(), &|_| true);
        }
        let mut keys = reader.keys();
        keys.sort_by_key(|key| section_of(&key.name));
        keys
    }

    /// Reads all sections; mistakes stay with the reader.
    fn read(
        reader: &Reader,
        table: &toml::de::DeTable<'_>,
        overrides: &Overrides,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Self {
        let root = reader.section(table).only(&SECTIONS);
        let packer = packer(&root, overrides, exists);
        let images = images(&root, &packer.template_source, exists);
        let regions = root.table("regions", "regions").only(&["local", "aws"]);
        let regions = regions::read(&regions, overrides);
        let channels = channels(&root);
        let retention = root.table("retention", "retention").only(&[
            "keep_days",
            "keep_last",
            "deprecate_days",
            "disable_days",
            "max_removals",
        ]);
        let retention = Retention {
            keep_days: retention.number("keep_days", 30, 0..=3650),
            keep_last: retention.number("keep_last", 3, 1..=1000),
            deprecate_days: retention.number("deprecate_days", 7, 0..=3650),
            disable_days: retention.number("disable_days", 7, 0..=3650),
            max_removals: retention.number("max_removals", 20, 1..=10_000),
        };
        let local = local(&root, overrides);
        let aws = aws(&root, &regions.aws);
        let names: Vec<&str> = images.keys().map(String::as_str).collect();
        let serve = serve::read(&root, &names, [&regions.local, &regions.aws]);
        Self { images, regions, channels, retention, local, aws, packer, serve, settings: Vec::new() }
    }

    /// Every value with its origin, in order of the file's sections.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}

/// A template source. One in the project must exist.
fn template(section: &Section<'_>, key: &str, default: &str, exists: &dyn Fn(&Path) -> bool) -> TemplateSource {
    let text = section.text(key, Some(default));
    match text.parse::<TemplateSource>() {
        Ok(source) => {
            if let Some(file) = source.in_project().filter(|file| !exists(file)) {
                let help = "paths are relative to the directory of ami.toml";
                section.reader.wrong(section.span(key), format!("`{key}`: {} does not exist", file.display()), help);
            }
            source
        }
        Err(error) => {
            let help = error.report().help().map(|help| help.to_string()).unwrap_or_default();
            section.reader.wrong(section.span(key), format!("`{key}`: {error}"), help);
            TemplateSource::Local(text.into())
        }
    }
}

fn images(
    root: &Section<'_>,
    template_source: &TemplateSource,
    exists: &dyn Fn(&Path) -> bool,
) -> BTreeMap<String, Image> {
    let all = root.table("images", "images");
    let mut images = BTreeMap::new();
    for (name, _) in all.entries() {
        let path = format!("images.{}", name.get_ref());
        let section = all.table(name.get_ref(), &path).only(&[
            "default",
            "template",
            "version",
            "smoke",
            "env_variable",
            "source_local",
            "source_aws",
            "vars",
        ]);
        let image = Image {
            default: section.flag("default", false),
            template: template(&section, "template", &template_source.to_string(), exists),
            version: section.text("version", None),
            smoke: section.text("smoke", None).into(),
            env_variable: section.text("env_variable", Some(ENV_VARIABLE)),
            source_local: section.text("source_local", None),
            source_aws: section.optional("source_aws"),
            vars: section.strings("vars"),
        };
        if !image.smoke.as_os_str().is_empty() && !exists(&image.smoke) {
            let help = "paths are relative to the directory of ami.toml";
            let message = format!("`smoke`: {} does not exist", image.smoke.display());
            section.reader.wrong(section.span("smoke"), message, help);
        }
        if !image.version.is_empty() && semver::Version::parse(&image.version).is_err() {
            let help = "write MAJOR.MINOR.PATCH; docs/src/reference-image.md#versioning has the rule for each part";
            section.reader.wrong(
                section.span("version"),
                format!("`{}` is not a semantic version", image.version),
                help,
            );
        }
        identity::check(&section, name.get_ref(), &image, &images);
        images.insert(name.get_ref().to_string(), image);
    }
    if images.is_empty() {
        root.reader.wrong(
            0..0,
            "no image is configured",
            "add [images.NAME] with template, version, smoke and source_local",
        );
    }
    images
}

fn channels(root: &Section<'_>) -> BTreeMap<ChannelName, Channel> {
    let all = root.table("channels", "channels");
    let mut channels: BTreeMap<ChannelName, Channel> = BTreeMap::new();
    for (name, _) in all.entries() {
        let path = format!("channels.{}", name.get_ref());
        let section =
            all.table(name.get_ref(), &path).only(&["env_file", "ssm_prefix", "github_output", "after", "soak_hours"]);
        let env_file = section.optional("env_file").map(PathBuf::from);
        let ssm_prefix = section.optional("ssm_prefix");
        if env_file.is_none() && ssm_prefix.is_none() {
            let help = "set one or both";
            section.reader.wrong(
                section.span("env_file"),
                format!("channel `{}` has neither env_file nor ssm_prefix", name.get_ref()),
                help,
            );
        }
        if let Some(prefix) = ssm_prefix.as_deref().filter(|p| !p.starts_with('/') || p.ends_with('/')) {
            let help = "begin with a slash and end without one: /locus/ami";
            section.reader.wrong(
                section.span("ssm_prefix"),
                format!("`{prefix}` is not a prefix of parameter names"),
                help,
            );
        }
        let shared = |c: &Channel| env_file.is_some() && c.env_file == env_file;
        if let Some((other, _)) = channels.iter().find(|(_, c)| shared(c)) {
            let message = format!(
                "channels `{other}` and `{}` share {}",
                name.get_ref(),
                env_file.iter().map(|f| f.display().to_string()).collect::<String>()
            );
            section.reader.wrong(section.span("env_file"), message, "give each channel its own file");
        }
        let channel = Channel {
            env_file,
            ssm_prefix,
            github_output: section.flag("github_output", false),
            after: section.optional("after").map(Into::into),
            soak_hours: section.number("soak_hours", 0, 0..=8760),
        };
        channels.insert(name.get_ref().to_string().into(), channel);
    }
    for (name, channel) in &channels {
        if let Some(after) = channel.after.as_ref().filter(|after| *after == name || !channels.contains_key(*after)) {
            let message = format!("channel `{name}` comes after `{after}`, which is not another channel");
            all.reader.wrong(0..0, message, "name another channel of this file: after = \"staging\"");
        }
    }
    channels
}

fn local(root: &Section<'_>, overrides: &Overrides) -> Local {
    let s = root.table("local", "local").only(&[
        "state_dir",
        "cpus",
        "memory_mib",
        "disk_gib",
        "build_gib",
        "layer_days",
        "layers_gib",
        "acceleration",
        "builder",
        "base",
        "boot_timeout_secs",
        "ubuntu_releases",
    ]);
    let state_dir = match &overrides.state_dir {
        Some(dir) => {
            s.reader.overridden("local.state_dir", &dir.display(), "--state");
            dir.clone()
        }
        None => s.text("state_dir", Some(".agent-ami")).into(),
    };
    let builder = match overrides.builder {
        Some(builder) => {
            let word = Builder::ALL.iter().find(|(_, value)| *value == builder).map_or("auto", |(word, _)| *word);
            s.reader.overridden("local.builder", &word, "--builder");
            builder
        }
        None => s.word("builder"),
    };
    Local {
        state_dir,
        cpus: u32::try_from(s.number("cpus", 2, 1..=64)).unwrap_or(2),
        memory_mib: s.number("memory_mib", 2048, 1024..=1_048_576),
        disk_gib: s.number("disk_gib", 20, 8..=16384),
        build_gib: s.number("build_gib", 12, 1..=16384),
        layer_days: s.number("layer_days", 30, 1..=3650),
        layers_gib: s.number("layers_gib", 40, 1..=16384),
        acceleration: s.word("acceleration"),
        builder,
        base: s.word("base"),
        boot_timeout_secs: s.number("boot_timeout_secs", 600, 30..=7200),
        ubuntu_releases: s.text("ubuntu_releases", Some("https://cloud-images.ubuntu.com/releases")),
    }
}

fn aws(root: &Section<'_>, regions: &[Region]) -> Aws {
    let s = root.table("aws", "aws").only(&[
        "accounts",
        "profile",
        "best_effort_regions",
        "build_instance_types",
        "smoke_instance_types",
        "via",
        "ssm_instance_profile",
        "instance_profile_roles",
        "ssh_cidrs",
        "ssh_host",
        "ssh_port",
        "kms_key_ids",
        "copy_completion_minutes",
        "instance_lifetime_minutes",
        "boot_timeout_secs",
    ]);
    let known: Vec<&str> = regions.iter().map(Region::as_str).collect();
    let best_effort_regions = regions::named(s.any_list("best_effort_regions"));
    let kms_key_ids: BTreeMap<Region, String> =
        s.strings("kms_key_ids").into_iter().map(|(region, key)| (region.into(), key)).collect();
    for (key, region) in best_effort_regions
        .iter()
        .map(|r| ("best_effort_regions", r))
        .chain(kms_key_ids.keys().map(|r| ("kms_key_ids", r)))
    {
        if !known.contains(&region.as_str()) {
            s.reader.unknown(s.span(key), "region", region, &known);
        }
    }
    regions::check_keys(&s, &kms_key_ids);
    let copy_completion_minutes = s.number("copy_completion_minutes", 0, 0..=2880);
    if !copy_completion_minutes.is_multiple_of(15) {
        let help = "EC2 accepts 15 to 2880 minutes in steps of 15; 0 means a standard copy";
        s.reader.wrong(s.span("copy_completion_minutes"), "`copy_completion_minutes` is not a multiple of 15", help);
    }
    let mut smoke_instance_types = s.any_list("smoke_instance_types");
    if smoke_instance_types.is_empty() {
        smoke_instance_types.push("t3.micro".to_owned());
    }
    Aws {
        accounts: s.any_list("accounts"),
        profile: s.optional("profile"),
        best_effort_regions,
        build_instance_types: s.any_list("build_instance_types"),
        smoke_instance_types,
        via: s.word("via"),
        ssm_instance_profile: s.optional("ssm_instance_profile"),
        instance_profile_roles: s.strings("instance_profile_roles"),
        ssh_cidrs: s.any_list("ssh_cidrs"),
        ssh_host: s.optional("ssh_host"),
        ssh_port: u16::try_from(s.number("ssh_port", 0, 0..=65535)).ok().filter(|port| *port != 0),
        kms_key_ids,
        copy_completion_minutes: Some(copy_completion_minutes).filter(|minutes| *minutes != 0),
        instance_lifetime_minutes: s.number("instance_lifetime_minutes", 120, 10..=1440),
        boot_timeout_secs: s.number("boot_timeout_secs", 600, 30..=7200),
    }
}

fn packer(root: &Section<'_>, overrides: &Overrides, exists: &dyn Fn(&Path) -> bool) -> Packer {
    let s = root.table("packer", "packer").only(&[
        "binary_path",
        "auto_install",
        "version",
        "releases",
        "work_dir",
        "default_region",
        "build_instance_type",
        "build_subnet_id",
        "build_timeout_secs",
        "template_source",
    ]);
    Packer {
        binary_path: s.text("binary_path", Some("packer")),
        auto_install: s.flag("auto_install", true),
        version: s.text("version", Some("1.16.0")),
        releases: s.text("releases", Some("https://releases.hashicorp.com")),
        work_dir: s.text("work_dir", Some(".agent-ami/packer")).into(),
        default_region: s.text("default_region", Some("us-east-1")).into(),
        build_instance_type: match &overrides.instance_type {
            Some(kind) => {
                s.reader.overridden("packer.build_instance_type", kind, "--instance-type");
                kind.clone()
            }
            None => s.text("build_instance_type", Some("t3.medium")),
        },
        build_subnet_id: s.optional("build_subnet_id"),
        build_timeout_secs: s.number("build_timeout_secs", 1800, 10..=86400),
        // A project without the builtin template need not set the key: an image without `template` is checked.
        template_source: template(&s, "template_source", DEFAULT_TEMPLATE, &|path| is_default(path) || exists(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = include_str!("../../ami.toml");

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::parse(text, &Overrides::default(), &env, &|_| true)
    }

    fn rendered(text: &str) -> String {
        let error = parse(text, &[]).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        crate::error::plain(&error)
    }

    #[test]
    fn the_projects_file_is_valid_and_every_value_has_its_origin() {
        let config = parse(GOOD, &[("AGENT_AMI_LOCAL_CPUS", "4"), ("PATH", "/bin")]).unwrap();
        assert_eq!((config.local.cpus, config.regions.local.len()), (4, 2));
        let origin = |key: &str| config.settings().iter().find(|s| s.key == key).map(|s| s.origin.clone()).unwrap();
        assert_eq!(origin("local.cpus"), "environment AGENT_AMI_LOCAL_CPUS");
        assert!(origin("local.memory_mib").starts_with("ami.toml:"));
    }

    #[test]
    fn limits_of_layers_are_set_and_never_zero() {
        let config = parse(GOOD, &[("AGENT_AMI_LOCAL_LAYERS_GIB", "7")]).unwrap();
        assert_eq!((config.local.layer_days, config.local.layers_gib), (30, 7));
        let text = GOOD.replace("layers_gib = 40", "layers_gib = 0").replace("layer_days = 30", "layer_days = -1");
        let output = rendered(&text);
        for part in [
            "`layers_gib` is not an allowed number (from ami.toml:",
            "`layer_days` is not an allowed number",
            "write a whole number from 1 to 16384",
        ] {
            assert!(output.contains(part), "{part} is missing in\n{output}");
        }
        let without: String = GOOD.lines().filter(|l| !l.starts_with("layer")).map(|l| format!("{l}\n")).collect();
        let config = parse(&without, &[]).unwrap();
        assert_eq!((config.local.layer_days, config.local.layers_gib), (30, 40));
    }

    #[test]
    fn a_flag_overrides_the_environment() {
        let env = [("AGENT_AMI_LOCAL_STATE_DIR".to_owned(), "/env".to_owned())].into();
        let overrides =
            Overrides { state_dir: Some("/flag".into()), builder: Some(Builder::Vm), ..Overrides::default() };
        let config = Config::parse(GOOD, &overrides, &env, &|_| true).unwrap();
        assert_eq!(config.local.state_dir, Path::new("/flag"));
        assert_eq!(config.local.builder, Builder::Vm);
        for (key, flag) in [("local.state_dir", "--state"), ("local.builder", "--builder")] {
            assert!(config.settings().iter().any(|s| s.key == key && s.origin == flag), "{key}");
        }
    }

    #[test]
    fn every_mistake_has_its_line_and_a_hint() {
        let text = GOOD
            .replace("cpus = 2", "cpu = 2")
            .replace("version = \"1.0.0\"", "version = 1")
            .replace("\"auto\"                      # auto, kvm", "\"kwm\" # auto, kvm");
        let output = rendered(&text);
        for part in [
            "unknown key in [local] `cpu`",
            "did you mean `cpus`?",
            "`version` must be a string, not a number",
            "unknown value for `acceleration` `kwm`",
            "did you mean `kvm`?",
            "ami.toml:9",
        ] {
            assert!(output.contains(part), "{part} is missing in\n{output}");
        }
    }

    #[test]
    fn broken_toml_and_an_unknown_variable_are_errors() {
        assert!(rendered("[images\n").contains("ami.toml:1: not valid TOML"));
        let error = parse(GOOD, &[("AGENT_AMI_LOCAL_CPU", "4")]).unwrap_err();
        assert!(crate::error::plain(&error).contains("did you mean `AGENT_AMI_LOCAL_CPUS`?"));
    }

    proptest! {
        #[test]
        fn a_typo_in_a_key_suggests_the_key(i in 0usize..11, at in 1usize..8, c in "[a-z]") {
            let keys = ["state_dir", "cpus", "memory_mib", "disk_gib", "build_gib", "layer_days", "layers_gib", "acceleration", "base", "boot_timeout_secs", "ubuntu_releases"];
            let key = keys[i];
            let at = at.min(key.len() - 1);
            let typo = format!("{}{c}{}", &key[..at], &key[at + 1..]);
            prop_assume!(!keys.contains(&typo.as_str()) && key.len() > 4);
            let text = GOOD.replace(&format!("\n{key} ="), &format!("\n{typo} ="));
            let output = rendered(&text);
            let expected = format!("did you mean `{key}`?");
            prop_assert!(output.contains(&expected), "{}", output);
        }
    }
}
