//! `ami.toml`: what is built, where it goes, how it is kept. Strict, and every mistake is told at once with its place.
//!
//! Knows no cloud and no template: those take the plain values they need from here. Only `main` reads the environment; it
//! comes in as data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::error::{Exit, Result};

mod identity;
mod read;
mod regions;

pub use read::Setting;
use read::{Reader, Section};

/// The file's name.
pub const FILE: &str = "ami.toml";

/// The variable that the Locus API reads (guide, section 8).
const ENV_VARIABLE: &str = "LOCUS_AMI_ID";

/// What flags set; they win over everything.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--state`.
    pub state_dir: Option<PathBuf>,
    /// `--builder`.
    pub builder: Option<String>,
}

/// The validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[images.*]` by name.
    pub images: BTreeMap<String, Image>,
    /// `[regions]`.
    pub regions: Regions,
    /// `[channels.*]` by name.
    pub channels: BTreeMap<String, Channel>,
    /// `[retention]`.
    pub retention: Retention,
    /// `[local]`.
    pub local: Local,
    /// `[aws]`.
    pub aws: Aws,
    /// `[packer]`.
    pub packer: Packer,
    settings: Vec<Setting>,
}

/// `[images.NAME]`.
#[derive(Clone, Debug)]
pub struct Image {
    /// Template file or folder, relative to the project.
    pub template: String,
    /// Semantic version.
    pub version: String,
    /// Smoke spec, relative to the project.
    pub smoke: PathBuf,
    /// The variable that holds the image's id in the channels' env files; `_<REGION>` is added for each region.
    pub env_variable: String,
    /// The template's source for `--on local`.
    pub source_local: String,
    /// The template's source for `--on aws`; empty if the image is not built there.
    pub source_aws: String,
    /// Template variables.
    pub vars: BTreeMap<String, String>,
}

/// `[regions]`.
#[derive(Clone, Debug)]
pub struct Regions {
    /// Local regions, home first.
    pub local: Vec<String>,
    /// AWS regions, home first.
    pub aws: Vec<String>,
}

/// `[channels.NAME]`.
#[derive(Clone, Debug)]
pub struct Channel {
    /// The env file that points at the image, relative to the project; empty for none.
    pub env_file: PathBuf,
    /// Prefix of the Systems Manager parameters that point at it; empty for none.
    pub ssm_prefix: String,
    /// Tell a GitHub workflow, by the file that GITHUB_OUTPUT names.
    pub github_output: bool,
    /// The channel an image must have been in before; empty for none.
    pub after: String,
    /// For how many hours.
    pub soak_hours: u64,
}

/// `[retention]`.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Days an image is kept after it was replaced.
    pub keep_days: u64,
    /// How many images are kept whatever their age.
    pub keep_last: u64,
    /// Days an image is deprecated before it is disabled, or goes where images cannot be disabled.
    pub deprecate_days: u64,
    /// Days an image on EC2 is disabled before it goes; 0 for not at all.
    pub disable_days: u64,
    /// How many things one `gc` may remove.
    pub max_removals: u64,
}

/// `[local]`.
#[derive(Clone, Debug)]
pub struct Local {
    /// State folder, relative to the project.
    pub state_dir: PathBuf,
    /// Virtual processors of a machine.
    pub cpus: u32,
    /// Memory of a machine in MiB.
    pub memory_mib: u64,
    /// Root disk in GiB.
    pub disk_gib: u64,
    /// Space in GiB that the first build of an image takes on the disk of the state folder.
    pub build_gib: u64,
    /// Days a layer is kept that no build starts from.
    pub layer_days: u64,
    /// What all layers may take of the disk in GiB.
    pub layers_gib: u64,
    /// `auto`, `kvm`, `hvf`, `tcg`.
    pub acceleration: String,
    /// `auto`, `vm`, `container`.
    pub builder: String,
    /// `auto` or a base image's name.
    pub base: String,
    /// How long a boot may take, in seconds.
    pub boot_timeout_secs: u64,
    /// Where Ubuntu's images come from.
    pub ubuntu_releases: String,
}

/// `[aws]`.
#[derive(Clone, Debug)]
pub struct Aws {
    /// Accounts that may be worked in; empty for any.
    pub accounts: Vec<String>,
    /// Named profile; empty for what the environment says.
    pub profile: String,
    /// Regions whose failure does not fail a copy.
    pub best_effort_regions: Vec<String>,
    /// Further instance types for the builder, tried in order when there is no capacity.
    pub build_instance_types: Vec<String>,
    /// Instance types of smoke instances, one instance each.
    pub smoke_instance_types: Vec<String>,
    /// How instances are entered: `ssh`, `ssm`.
    pub via: String,
    /// Instance profile for Systems Manager; empty for what the template says.
    pub ssm_instance_profile: String,
    /// The role of an instance profile, by the profile's name, where the two are not named alike: a name, with its path if it has one.
    pub instance_profile_roles: BTreeMap<String, String>,
    /// Networks that temporary security groups let in; empty for the caller's own address.
    pub ssh_cidrs: Vec<String>,
    /// Address to use instead of an instance's own; empty for its own.
    pub ssh_host: String,
    /// Port to use with it; 0 for the template's.
    pub ssh_port: u16,
    /// KMS key of the copies, by region.
    pub kms_key_ids: BTreeMap<String, String>,
    /// Ask for copies within this many minutes, in steps of 15; 0 for as fast as it goes at no price.
    pub copy_completion_minutes: u64,
    /// An instance ends itself after this many minutes.
    pub instance_lifetime_minutes: u64,
    /// How long an instance may take to let us in, in seconds.
    pub boot_timeout_secs: u64,
}

/// `[packer]`: the guide's keys.
#[derive(Clone, Debug)]
pub struct Packer {
    /// The packer binary, a path or a name on PATH.
    pub binary_path: String,
    /// Bring Packer if it is not found.
    pub auto_install: bool,
    /// The version to bring.
    pub version: String,
    /// Where releases come from.
    pub releases: String,
    /// Working folder.
    pub work_dir: PathBuf,
    /// Region of AMI builds.
    pub default_region: String,
    /// Instance type of the builder.
    pub build_instance_type: String,
    /// Subnet of the builder; empty for the default VPC.
    pub build_subnet_id: String,
    /// Longest build in seconds.
    pub build_timeout_secs: u64,
}

impl Config {
    /// The image of this name with its settings; without a name, the only one.
    pub fn image(&self, name: Option<&str>) -> Result<(&str, &Image)> {
        let known = || self.images.keys().cloned().collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self.images.get_key_value(name).map(|(k, v)| (k.as_str(), v)).ok_or_else(|| {
                Exit::Usage
                    .error(format_args!("ami.toml has no image `{name}`"), format_args!("its images are: {}", known()))
            }),
            None => {
                let mut all = self.images.iter();
                match (all.next(), all.next()) {
                    (Some((name, image)), None) => Ok((name, image)),
                    _ => Err(Exit::Usage
                        .error("no image given, and ami.toml has several", format_args!("name one of: {}", known()))),
                }
            }
        }
    }

    /// Reads `ami.toml` in `root`, with environment and flags over it.
    pub fn load(root: &Path, overrides: &Overrides, env: &BTreeMap<String, String>) -> Result<Self> {
        let path = root.join(FILE);
        let text = fs::read_to_string(&path).map_err(|e| {
            Exit::Usage.error(
                format_args!("cannot read the configuration: {e}"),
                "run in a checkout of the project; README.md describes ami.toml",
            )
        })?;
        Self::parse(&text, overrides, env, &|relative| root.join(relative).exists())
    }

    /// The same from text; `exists` tells whether a path relative to the project is there.
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
                "{FILE}:{}: this is not TOML: {}",
                e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1),
                e.message(),
            );
            Exit::Usage.because(report.with_source_code(miette::NamedSource::new(FILE, text.to_owned())))
        })?;
        let reader = Reader::new(FILE, text, env);
        let root = reader.section(table.get_ref()).only(&[
            "images",
            "regions",
            "channels",
            "retention",
            "local",
            "aws",
            "packer",
        ]);
        let images = images(&root, exists);
        let regions = root.table("regions", "regions").only(&["local", "aws"]);
        let regions = regions::read(&regions);
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
        let packer = packer(&root);
        let settings = reader.finish().map_err(|wrong| Exit::Usage.because(*wrong))?;
        Ok(Self { images, regions, channels, retention, local, aws, packer, settings })
    }

    /// Every value with its origin, in order of the file's sections.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}

fn images(root: &Section<'_>, exists: &dyn Fn(&Path) -> bool) -> BTreeMap<String, Image> {
    let all = root.table("images", "images");
    let mut images = BTreeMap::new();
    for (name, _) in all.entries() {
        let path = format!("images.{}", name.get_ref());
        let section = all.table(name.get_ref(), &path).only(&[
            "template",
            "version",
            "smoke",
            "env_variable",
            "source_local",
            "source_aws",
            "vars",
        ]);
        let image = Image {
            template: section.text("template", None),
            version: section.text("version", None),
            smoke: section.text("smoke", None).into(),
            env_variable: section.text("env_variable", Some(ENV_VARIABLE)),
            source_local: section.text("source_local", None),
            source_aws: section.text("source_aws", Some("")),
            vars: section.strings("vars"),
        };
        for (key, file) in [("template", Path::new(&image.template)), ("smoke", &image.smoke)] {
            if !file.as_os_str().is_empty() && !exists(file) {
                let help = "paths are relative to the folder of ami.toml";
                section.reader.wrong(section.span(key), format!("`{key}`: there is no {}", file.display()), help);
            }
        }
        if !image.version.is_empty() && semver::Version::parse(&image.version).is_err() {
            let help = "write MAJOR.MINOR.PATCH; the guide's section 8 says when to raise which";
            section.reader.wrong(section.span("version"), format!("`{}` is no semantic version", image.version), help);
        }
        identity::check(&section, name.get_ref(), &image, &images);
        images.insert(name.get_ref().to_string(), image);
    }
    if images.is_empty() {
        root.reader.wrong(
            0..0,
            "there is no image",
            "add [images.NAME] with template, version, smoke and source_local",
        );
    }
    images
}

fn channels(root: &Section<'_>) -> BTreeMap<String, Channel> {
    let all = root.table("channels", "channels");
    let mut channels: BTreeMap<String, Channel> = BTreeMap::new();
    for (name, _) in all.entries() {
        let path = format!("channels.{}", name.get_ref());
        let section =
            all.table(name.get_ref(), &path).only(&["env_file", "ssm_prefix", "github_output", "after", "soak_hours"]);
        let env_file = PathBuf::from(section.text("env_file", Some("")));
        let ssm_prefix = section.text("ssm_prefix", Some(""));
        if env_file.as_os_str().is_empty() && ssm_prefix.is_empty() {
            let help = "set env_file, ssm_prefix or both";
            section.reader.wrong(
                section.span("env_file"),
                format!("channel `{}` points nowhere", name.get_ref()),
                help,
            );
        }
        if !ssm_prefix.is_empty() && (!ssm_prefix.starts_with('/') || ssm_prefix.ends_with('/')) {
            let help = "write it as /locus/ami";
            section.reader.wrong(
                section.span("ssm_prefix"),
                format!("`{ssm_prefix}` is no prefix of parameters"),
                help,
            );
        }
        let shared = |c: &Channel| !env_file.as_os_str().is_empty() && c.env_file == env_file;
        if let Some((other, _)) = channels.iter().find(|(_, c)| shared(c)) {
            let message = format!("channels `{other}` and `{}` share {}", name.get_ref(), env_file.display());
            section.reader.wrong(section.span("env_file"), message, "give each channel a file of its own");
        }
        let channel = Channel {
            env_file,
            ssm_prefix,
            github_output: section.flag("github_output", false),
            after: section.text("after", Some("")),
            soak_hours: section.number("soak_hours", 0, 0..=8760),
        };
        channels.insert(name.get_ref().to_string(), channel);
    }
    for (name, channel) in &channels {
        if !channel.after.is_empty() && (channel.after == *name || !channels.contains_key(&channel.after)) {
            let message = format!("channel `{name}` comes after `{}`, which is no other channel", channel.after);
            all.reader.wrong(0..0, message, "name a channel of this file, as after = \"staging\"");
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
    let builder = match &overrides.builder {
        Some(builder) => {
            s.reader.overridden("local.builder", builder, "--builder");
            builder.clone()
        }
        None => s.word("builder", "auto", &["auto", "vm", "container"]),
    };
    Local {
        state_dir,
        cpus: u32::try_from(s.number("cpus", 2, 1..=64)).unwrap_or(2),
        memory_mib: s.number("memory_mib", 2048, 1024..=1_048_576),
        disk_gib: s.number("disk_gib", 20, 8..=16384),
        build_gib: s.number("build_gib", 9, 1..=16384),
        layer_days: s.number("layer_days", 30, 1..=3650),
        layers_gib: s.number("layers_gib", 40, 1..=16384),
        acceleration: s.word("acceleration", "auto", &["auto", "kvm", "hvf", "tcg"]),
        builder,
        base: s.word("base", "auto", &["auto", "ubuntu-22.04", "ubuntu-24.04", "debian-13"]),
        boot_timeout_secs: s.number("boot_timeout_secs", 600, 30..=7200),
        ubuntu_releases: s.text("ubuntu_releases", Some("https://cloud-images.ubuntu.com/releases")),
    }
}

fn aws(root: &Section<'_>, regions: &[String]) -> Aws {
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
    let known: Vec<&str> = regions.iter().map(String::as_str).collect();
    let best_effort_regions = s.any_list("best_effort_regions");
    let kms_key_ids = s.strings("kms_key_ids");
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
        let help = "EC2 takes 15 to 2880 minutes in steps of 15; 0 asks for none";
        s.reader.wrong(s.span("copy_completion_minutes"), "`copy_completion_minutes` is no multiple of 15", help);
    }
    let mut smoke_instance_types = s.any_list("smoke_instance_types");
    if smoke_instance_types.is_empty() {
        smoke_instance_types.push("t3.micro".to_owned());
    }
    Aws {
        accounts: s.any_list("accounts"),
        profile: s.text("profile", Some("")),
        best_effort_regions,
        build_instance_types: s.any_list("build_instance_types"),
        smoke_instance_types,
        via: s.word("via", "ssh", &["ssh", "ssm"]),
        ssm_instance_profile: s.text("ssm_instance_profile", Some("")),
        instance_profile_roles: s.strings("instance_profile_roles"),
        ssh_cidrs: s.any_list("ssh_cidrs"),
        ssh_host: s.text("ssh_host", Some("")),
        ssh_port: u16::try_from(s.number("ssh_port", 0, 0..=65535)).unwrap_or(0),
        kms_key_ids,
        copy_completion_minutes,
        instance_lifetime_minutes: s.number("instance_lifetime_minutes", 120, 10..=1440),
        boot_timeout_secs: s.number("boot_timeout_secs", 600, 30..=7200),
    }
}

fn packer(root: &Section<'_>) -> Packer {
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
    ]);
    Packer {
        binary_path: s.text("binary_path", Some("packer")),
        auto_install: s.flag("auto_install", true),
        version: s.text("version", Some("1.16.0")),
        releases: s.text("releases", Some("https://releases.hashicorp.com")),
        work_dir: s.text("work_dir", Some(".agent-ami/packer")).into(),
        default_region: s.text("default_region", Some("us-east-1")),
        build_instance_type: s.text("build_instance_type", Some("t3.medium")),
        build_subnet_id: s.text("build_subnet_id", Some("")),
        build_timeout_secs: s.number("build_timeout_secs", 1800, 60..=86400),
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
    fn ours_is_good_and_every_value_knows_its_origin() {
        let config = parse(GOOD, &[("AGENT_AMI_LOCAL_CPUS", "4"), ("PATH", "/bin")]).unwrap();
        assert_eq!((config.local.cpus, config.regions.local.len()), (4, 2));
        let origin = |key: &str| config.settings().iter().find(|s| s.key == key).map(|s| s.origin.clone()).unwrap();
        assert_eq!(origin("local.cpus"), "environment AGENT_AMI_LOCAL_CPUS");
        assert!(origin("local.memory_mib").starts_with("ami.toml:"));
    }

    #[test]
    fn how_long_and_how_large_layers_may_be_is_set_and_never_nothing() {
        let config = parse(GOOD, &[("AGENT_AMI_LOCAL_LAYERS_GIB", "7")]).unwrap();
        assert_eq!((config.local.layer_days, config.local.layers_gib), (30, 7));
        let text = GOOD.replace("layers_gib = 40", "layers_gib = 0").replace("layer_days = 30", "layer_days = -1");
        let said = rendered(&text);
        for part in [
            "`layers_gib` is not a number that can be used here (it comes from ami.toml:",
            "`layer_days` is not a number that can be used here",
            "write a whole number from 1 to 16384",
        ] {
            assert!(said.contains(part), "{part} is missing in\n{said}");
        }
        let without: String = GOOD.lines().filter(|l| !l.starts_with("layer")).map(|l| format!("{l}\n")).collect();
        let config = parse(&without, &[]).unwrap();
        assert_eq!((config.local.layer_days, config.local.layers_gib), (30, 40));
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let env = [("AGENT_AMI_LOCAL_STATE_DIR".to_owned(), "/env".to_owned())].into();
        let overrides = Overrides { state_dir: Some("/flag".into()), builder: Some("vm".to_owned()) };
        let config = Config::parse(GOOD, &overrides, &env, &|_| true).unwrap();
        assert_eq!(config.local.state_dir, Path::new("/flag"));
        assert_eq!(config.local.builder, "vm");
        for (key, flag) in [("local.state_dir", "--state"), ("local.builder", "--builder")] {
            assert!(config.settings().iter().any(|s| s.key == key && s.origin == flag), "{key}");
        }
    }

    #[test]
    fn every_mistake_is_told_with_line_and_remedy() {
        let text = GOOD
            .replace("cpus = 2", "cpu = 2")
            .replace("version = \"1.0.0\"", "version = 1")
            .replace("\"auto\"                      # auto, kvm", "\"kwm\" # auto, kvm");
        let said = rendered(&text);
        for part in [
            "unknown key in [local] `cpu`",
            "did you mean `cpus`?",
            "`version` must be a string, not a number",
            "unknown value for `acceleration` `kwm`",
            "did you mean `kvm`?",
            "ami.toml:7",
        ] {
            assert!(said.contains(part), "{part} is missing in\n{said}");
        }
    }

    #[test]
    fn broken_toml_and_an_unknown_variable_are_told() {
        assert!(rendered("[images\n").contains("ami.toml:1: this is not TOML"));
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
            let said = rendered(&text);
            let wanted = format!("did you mean `{key}`?");
            prop_assert!(said.contains(&wanted), "{}", said);
        }
    }
}
