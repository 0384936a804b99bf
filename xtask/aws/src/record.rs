//! The record of an image as tags of the AMI, so that every machine of the account can read it.
//!
//! Pure. Only this module names the tags of agent-ami; [`SCHEMA`] lists them. EC2 allows 50 tags of a resource, with keys of up to 128 and
//! values of up to 256 characters (EC2 user guide, "Tag restrictions"): template tags beyond these limits are errors
//! ([`check_template_tags`]), the values of our own tags are truncated.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Image as Ami, ImageState, Tag};
use smoke::report::{Check, Outcome, Report};
use xtask::cloud::{BaseRecord, Capture, Corrupt, EngineKind, Identity, Image, ImageId, Listed};
use xtask::ids::{Region, RunId};
use xtask::recipe::{Digest, Origin};
use xtask::stage::smoke::Record;

/// Prefix of the tags of agent-ami.
const PREFIX: &str = "agent-ami:";
/// Name of the image in ami.toml. Every image of agent-ami has this tag.
pub const IMAGE: &str = "agent-ami:image";
/// Id of the run. Every resource of a run has this tag.
pub const RUN: &str = "agent-ami:run";
/// The recipe hash, by which an unchanged build finds its image.
pub const RECIPE: &str = "agent-ami:recipe";
/// The tag of every resource of agent-ami; conditions of the IAM policies use it.
pub const OURS: (&str, &str) = ("ManagedBy", "agent-ami");
/// The image's version in ami.toml.
const VERSION: &str = "agent-ami:version";
/// The base image: its id, its name, and the digest that plans use for it.
const BASE: &str = "agent-ami:base";
const BASE_NAME: &str = "agent-ami:base-name";
const BASE_DIGEST: &str = "agent-ami:base-digest";
/// The engine that built the image: `native`, `packer`.
const ENGINE: &str = "agent-ami:engine";
/// The agent in the image: the value of the template variable `provider`.
const AGENT: &str = "agent-ami:agent";
/// The template source of a template that is not part of the project, and the digest of its files with the commit.
const TEMPLATE: &str = "agent-ami:template";
const TEMPLATE_REVISION: &str = "agent-ami:template-revision";
/// Identity of the builder: SHA-256 fingerprints of its host keys, and its machine-id.
const HOST_KEYS: &str = "agent-ami:host-keys";
const MACHINE_ID: &str = "agent-ami:machine-id";
/// Digest that all copies of an image share.
pub const CONTENT: &str = "agent-ami:content";
/// Id of the image that a copy was made from.
pub const COPIED_FROM: &str = "agent-ami:copied-from";
/// The run that waits for a copy in progress. It may be another one than the run that built the source.
pub const COPY_RUN: &str = "agent-ami:copy-run";
/// Time until which no other run may remove such a copy, RFC 3339.
pub const COPY_EXPIRES: &str = "agent-ami:copy-expires";
/// Purpose of a temporary resource: `builder`, `smoke-t3.micro`.
pub const PURPOSE: &str = "agent-ami:purpose";
/// Time after which a resource of a run may be removed, RFC 3339.
pub const EXPIRES: &str = "agent-ami:expires";

/// Prefix of marks, which people and pipelines set on an image.
const MARK: &str = "agent-ami:mark:";
/// Result and time of the smoke test, for machines without its report: `passed 2026-11-21T10:00:00Z`.
const SMOKE: &str = "agent-ami:smoke";
/// Digest of the smoke spec.
const SMOKE_SPEC: &str = "agent-ami:smoke-spec";
/// Passes of the smoke test: `first boot on t3.micro, after reboot on t3.micro`.
const SMOKE_PASSES: &str = "agent-ami:smoke-passes";

/// A tag of agent-ami.
#[derive(Clone, Copy, Debug)]
pub struct TagOf {
    pub key: &'static str,
    /// The resources that have it.
    pub on: &'static str,
    /// How a value that is too long for EC2 is truncated; empty for values that are never too long.
    pub cut: &'static str,
}

/// All tags of agent-ami except for marks. `ARCHITECTURE.md` explains each; a test compares both.
pub const SCHEMA: [TagOf; 23] = [
    TagOf { key: OURS.0, on: "all", cut: "" },
    TagOf { key: RUN, on: "all", cut: "" },
    TagOf { key: PURPOSE, on: "instances, volumes, key pairs, security groups", cut: "" },
    TagOf { key: EXPIRES, on: "instances, volumes, key pairs, security groups", cut: "" },
    TagOf { key: IMAGE, on: "images, snapshots", cut: "" },
    TagOf { key: VERSION, on: "images, snapshots", cut: "" },
    TagOf { key: RECIPE, on: "images, snapshots", cut: "" },
    TagOf { key: BASE, on: "images, snapshots", cut: "" },
    TagOf { key: BASE_NAME, on: "images, snapshots", cut: "to 256 characters" },
    TagOf { key: BASE_DIGEST, on: "images, snapshots", cut: "" },
    TagOf { key: ENGINE, on: "images, snapshots", cut: "" },
    TagOf { key: AGENT, on: "images, snapshots", cut: "to 256 characters" },
    TagOf { key: TEMPLATE, on: "images, snapshots", cut: "to 256 characters" },
    TagOf { key: TEMPLATE_REVISION, on: "images, snapshots", cut: "" },
    TagOf { key: HOST_KEYS, on: "images, snapshots", cut: "to whole fingerprints" },
    TagOf { key: MACHINE_ID, on: "images, snapshots", cut: "" },
    TagOf { key: SMOKE, on: "images, snapshots", cut: "" },
    TagOf { key: SMOKE_SPEC, on: "images, snapshots", cut: "" },
    TagOf { key: SMOKE_PASSES, on: "images, snapshots", cut: "to whole passes" },
    TagOf { key: COPIED_FROM, on: "copies", cut: "" },
    TagOf { key: CONTENT, on: "copies", cut: "" },
    TagOf { key: COPY_RUN, on: "copies", cut: "" },
    TagOf { key: COPY_EXPIRES, on: "copies", cut: "" },
];

/// EC2's limits: number of tags of a resource, characters of a key, characters of a value.
const TAGS: usize = 50;
const KEY: usize = 128;
const VALUE: usize = 256;
/// Number of marks that an image may have in addition to the tags of [`SCHEMA`]: `quarantined`, `deprecated`, one for each channel.
const MARKS: usize = 10;

/// An error for template tags that are too many beside the tags of agent-ami, or that EC2 would refuse after the build.
pub fn check_template_tags(template: &BTreeMap<String, String>) -> Result<(), String> {
    let most = TAGS - SCHEMA.len() - MARKS;
    if template.len() > most {
        return Err(format!("{} tags; EC2 allows {TAGS}, of which a template may use {most}", template.len()));
    }
    for (key, value) in template {
        let reserved = key.starts_with("aws:") || (key.starts_with(PREFIX) && key != RUN);
        let long = key.chars().count() > KEY || value.chars().count() > VALUE;
        if key.is_empty() || reserved || long {
            let why =
                if reserved { "its prefix is reserved" } else { "keys have 1 to 128 characters, values up to 256" };
            return Err(format!("tag `{key}` is invalid: {why}"));
        }
    }
    Ok(())
}

/// A text as a tag value, truncated with an ellipsis if it is too long.
fn value(text: &str) -> String {
    if text.chars().count() <= VALUE {
        return text.to_owned();
    }
    text.chars().take(VALUE - 1).chain(['…']).collect()
}

/// Items joined to a tag value: as many whole ones as fit.
fn items(items: &[String], separator: &str) -> String {
    let mut text = String::new();
    for item in items {
        let separator = if text.is_empty() { "" } else { separator };
        if text.chars().count() + separator.len() + item.chars().count() > VALUE {
            break;
        }
        text.extend([separator, item]);
    }
    text
}

/// The contents of an image's tags.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Name of the image in ami.toml.
    pub image: &'a str,
    pub version: &'a str,
    pub recipe_hash: Digest,
    /// The base image; `None` if it is unknown.
    pub base: Option<&'a BaseRecord>,
    /// Name of the engine.
    pub engine: EngineKind,
    /// The agent in the image.
    pub agent: Option<&'a str>,
    /// Where the template comes from.
    pub template: Option<&'a Origin>,
    pub builder: &'a Identity,
    pub run: &'a RunId,
}

impl<'a> Facts<'a> {
    /// The facts of an image to be captured.
    pub fn of_capture(capture: &'a Capture, base: &'a BaseRecord, run: &'a RunId) -> Self {
        let Capture { image, version, recipe_hash, engine, agent, template, builder, .. } = capture;
        let (agent, template) = (agent.as_deref(), template.as_ref());
        let base = Some(base);
        Self { image, version, recipe_hash: *recipe_hash, base, engine: *engine, agent, template, builder, run }
    }

    /// The facts of an existing image.
    pub fn of_image(image: &'a Image) -> Self {
        let Image { image, version, recipe_hash, base, engine, agent, template, builder, run, .. } = image;
        let (base, agent, template) = (base.as_ref(), agent.as_deref(), template.as_ref());
        Self { image, version, recipe_hash: *recipe_hash, base, engine: *engine, agent, template, builder, run }
    }

    /// The facts as tags, with the template's tags.
    pub fn tags(&self, template: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut tags = template.clone();
        tags.retain(|_, value| !value.is_empty());
        let ours = [
            (IMAGE, self.image.to_owned()),
            (VERSION, self.version.to_owned()),
            (RECIPE, self.recipe_hash.to_string()),
            (ENGINE, self.engine.name().to_owned()),
            (HOST_KEYS, items(&self.builder.host_keys, " ")),
            (MACHINE_ID, self.builder.machine_id.clone()),
            (RUN, self.run.to_string()),
            (OURS.0, OURS.1.to_owned()),
        ];
        tags.extend(ours.map(|(key, value)| (key.to_owned(), value)));
        if let Some(base) = self.base {
            let ours =
                [(BASE, base.id.clone()), (BASE_NAME, value(&base.name)), (BASE_DIGEST, base.digest.to_string())];
            tags.extend(ours.map(|(key, value)| (key.to_owned(), value)));
        }
        tags.extend(self.agent.map(|agent| (AGENT.to_owned(), value(agent))));
        if let Some(Origin { source, commit, digest }) = self.template {
            let commit = commit.as_ref().map(|commit| format!(" {commit}")).unwrap_or_default();
            tags.insert(TEMPLATE.to_owned(), value(source));
            tags.insert(TEMPLATE_REVISION.to_owned(), format!("{digest}{commit}"));
        }
        tags
    }
}

/// A mark as a tag.
pub fn mark(key: &str, text: &str) -> (String, String) {
    (format!("{MARK}{key}"), value(text))
}

/// The marks among an image's tags.
pub fn marks(tags: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    tags.iter().filter_map(|(key, value)| Some((key.strip_prefix(MARK)?.to_owned(), value.clone()))).collect()
}

pub fn smoke_tags(record: &Record) -> BTreeMap<String, String> {
    let result = if record.passed { "passed" } else { "failed" };
    let tags = [
        (SMOKE, format!("{result} {}", record.at)),
        (SMOKE_SPEC, record.spec_sha256.to_string()),
        // Other machines take a pass that does not fit as one that did not run.
        (SMOKE_PASSES, items(&record.passes, ", ")),
    ];
    tags.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The smoke record in the tags. Each pass has a report with one check, which names the tags as its source: the full reports are on the
/// machine that ran the smoke test.
pub fn smoke_record(tags: &BTreeMap<String, String>, content: Digest) -> Option<Record> {
    let (result, at) = tags.get(SMOKE)?.split_once(' ')?;
    let passed = result == "passed";
    let passes: Vec<String> = tags.get(SMOKE_PASSES)?.split(", ").map(str::to_owned).collect();
    let report = || Report {
        schema: 1,
        boot_id: String::new(),
        host_keys: Vec::new(),
        os: String::new(),
        checks: vec![Check {
            name: "tags".to_owned(),
            outcome: if passed { Outcome::Pass } else { Outcome::Fail },
            seconds: 0.0,
            message: format!("from the image's tags: {result} {at}"),
        }],
        wall_seconds: 0.0,
        slowest_seconds: 0.0,
        boot: None,
    };
    Some(Record {
        schema: 1,
        content,
        spec_sha256: tags.get(SMOKE_SPEC)?.parse().ok()?,
        passed,
        at: at.parse().ok()?,
        reports: passes.iter().map(|_| report()).collect(),
        passes,
    })
}

/// Time of the smoke test in the tags.
pub fn smoked(tags: &BTreeMap<String, String>) -> Option<jiff::Timestamp> {
    tags.get(SMOKE)?.split_once(' ')?.1.parse().ok()
}

/// The digest that all copies of this image share. It depends only on the image's id, so it stays valid when the image is removed.
pub fn content(id: &str) -> Digest {
    Digest::of(id.as_bytes())
}

/// Tags as the SDK's type.
pub fn sdk_tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect()
}

/// Tags of the SDK as a map.
pub fn plain_tags(tags: &[Tag]) -> BTreeMap<String, String> {
    let pair = |t: &Tag| (t.key().unwrap_or_default().to_owned(), t.value().unwrap_or_default().to_owned());
    tags.iter().map(pair).collect()
}

/// The record of an AMI, or the problem with its state or tags.
pub fn read(region: &Region, ami: &Ami) -> Listed {
    let id = ImageId(ami.image_id().unwrap_or_default().to_owned());
    match image(region, &id, ami) {
        Ok(image) => Listed::Image(Box::new(image)),
        Err(problem) => {
            let place = format!("{id} in {region}");
            Listed::Corrupt(Corrupt { id, region: region.clone(), place, problem })
        }
    }
}

fn image(region: &Region, id: &ImageId, ami: &Ami) -> Result<Image, String> {
    match ami.state() {
        // A disabled image is complete, and can be enabled again.
        Some(ImageState::Available | ImageState::Disabled) => {}
        state => return Err(format!("state is {}", state.map_or("unknown", ImageState::as_str))),
    }
    let tags = plain_tags(ami.tags());
    let tag = |name: &str| tags.get(name).cloned().ok_or_else(|| format!("tag `{name}` is missing"));
    let digest = |name: &str| tag(name)?.parse::<Digest>().map_err(|e| format!("tag `{name}`: {e}"));
    let content = if tags.contains_key(CONTENT) { digest(CONTENT)? } else { content(&id.0) };
    let gib: i64 = ami.block_device_mappings().iter().filter_map(|m| m.ebs()?.volume_size()).map(i64::from).sum();
    Ok(Image {
        schema: 1,
        id: id.clone(),
        name: ami.name().unwrap_or_default().to_owned(),
        region: region.clone(),
        image: tag(IMAGE)?,
        arch: ami.architecture().map(|arch| arch.as_str().to_owned()),
        account: ami.owner_id().map(str::to_owned),
        version: tag(VERSION)?,
        created: ami.creation_date().and_then(|date| date.parse().ok()),
        recipe_hash: digest(RECIPE)?,
        base: Some(BaseRecord { name: tag(BASE_NAME)?, id: tag(BASE)?, digest: digest(BASE_DIGEST)? }),
        content,
        disk_bytes: u64::try_from(gib << 30).unwrap_or(0),
        copied_from: tags.get(COPIED_FROM).map(|id| ImageId(id.clone())),
        run: tag(RUN)?.into(),
        engine: EngineKind::named(&tag(ENGINE)?).ok_or_else(|| format!("tag `{ENGINE}`: unknown engine"))?,
        built_in: None,
        agent: tags.get(AGENT).cloned(),
        template: origin(&tags)?,
        builder: Identity {
            host_keys: tag(HOST_KEYS)?.split_whitespace().map(str::to_owned).collect(),
            machine_id: tag(MACHINE_ID)?,
        },
        tags: tags.into_iter().filter(|(k, _)| !k.starts_with(PREFIX)).collect(),
    })
}

/// Where the image's template comes from. A source of more than 256 characters was truncated.
fn origin(tags: &BTreeMap<String, String>) -> Result<Option<Origin>, String> {
    let (Some(source), Some(revision)) = (tags.get(TEMPLATE), tags.get(TEMPLATE_REVISION)) else { return Ok(None) };
    let (digest, commit) = revision.split_once(' ').map_or((revision.as_str(), None), |(d, c)| (d, Some(c.to_owned())));
    let digest = digest.parse().map_err(|e| format!("tag `{TEMPLATE_REVISION}`: {e}"))?;
    Ok(Some(Origin { source: source.clone(), commit, digest }))
}

/// The snapshots in an AMI's block device mapping.
pub fn snapshots(ami: &Ami) -> Vec<String> {
    ami.block_device_mappings().iter().filter_map(|m| Some(m.ebs()?.snapshot_id()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(base: &BaseRecord, template: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let (builder, origin) = (builder(), origin());
        let facts = Facts {
            image: "locus-agent",
            version: "1.2.3",
            recipe_hash: Digest::of(b"recipe"),
            base: Some(base),
            engine: EngineKind::Native,
            agent: Some("codex"),
            template: Some(&origin),
            builder: &builder,
            run: &"run-1".into(),
        };
        facts.tags(template)
    }

    fn origin() -> Origin {
        let source = format!("git::https://example.org/{}//images?ref=v1", "r".repeat(400));
        Origin { source, commit: Some("c".repeat(40)), digest: Digest::of(b"files") }
    }

    fn builder() -> Identity {
        Identity { host_keys: vec!["SHA256:a".to_owned(), "SHA256:b".to_owned()], machine_id: "0123".to_owned() }
    }

    fn ami(tags: &BTreeMap<String, String>) -> Ami {
        let ami =
            Ami::builder().image_id("ami-1").name("locus-agent-v1.2.3-20261121-1000").state(ImageState::Available);
        // The form of EC2, with milliseconds.
        ami.creation_date("2026-11-21T10:00:00.000Z").set_tags(Some(sdk_tags(tags))).build()
    }

    #[test]
    fn a_record_can_be_read_back_from_tags() {
        let base = BaseRecord { name: "ubuntu-jammy".to_owned(), id: "ami-0".to_owned(), digest: Digest::of(b"base") };
        let template = [("Project".to_owned(), "locus".to_owned()), ("Team".to_owned(), String::new())].into();
        let tags = tagged(&base, &template);
        assert!(!tags.contains_key("Team"), "empty template tags are left out");
        let Listed::Image(image) = read(&"us-east-1".into(), &ami(&tags)) else { panic!("not readable") };
        assert_eq!(
            (image.base.unwrap(), image.recipe_hash, image.run.as_str()),
            (base, Digest::of(b"recipe"), "run-1")
        );
        assert_eq!((image.builder, image.tags["Project"].as_str()), (builder(), "locus"));
        assert_eq!((image.content, image.agent.as_deref()), (content("ami-1"), Some("codex")));
        let template = image.template.unwrap();
        assert_eq!((template.commit, template.digest), (origin().commit, origin().digest));
        assert!(template.source.ends_with('…') && origin().source.starts_with(template.source.trim_end_matches('…')));
    }

    #[test]
    fn a_smoke_record_can_be_read_back_from_tags() {
        let content = Digest::of(b"ami-1");
        let record = Record {
            schema: 1,
            content,
            spec_sha256: Digest::of(b"spec"),
            passed: false,
            at: "2026-11-21T10:00:00Z".parse().unwrap(),
            passes: vec!["first boot on t3.micro".to_owned(), "after reboot on t3.micro".to_owned()],
            reports: Vec::new(),
        };
        let read = smoke_record(&smoke_tags(&record), content).unwrap();
        assert_eq!((read.passed, read.spec_sha256, &read.passes), (false, record.spec_sha256, &record.passes));
        assert!(read.reports.len() == 2 && read.reports.iter().all(|r| !r.passed()));
        let read = smoke_record(&smoke_tags(&Record { passed: true, ..record }), content).unwrap();
        assert!(read.passed && read.reports.iter().all(Report::passed));
        assert!(smoke_record(&BTreeMap::new(), content).is_none());
    }

    #[test]
    fn every_tag_is_in_the_schema_and_the_schema_in_the_architecture() {
        let base = BaseRecord { name: "x".repeat(400), id: "ami-0".to_owned(), digest: Digest::of(b"base") };
        let mut tags = tagged(&base, &BTreeMap::new());
        let passes = (0..20).map(|n| format!("first boot on m{n}i.large")).collect();
        let record = Record {
            schema: 1,
            content: Digest::of(b"x"),
            spec_sha256: Digest::of(b"spec"),
            passed: true,
            at: "2026-11-21T10:00:00Z".parse().unwrap(),
            passes,
            reports: Vec::new(),
        };
        tags.extend(smoke_tags(&record));
        tags.extend([mark("quarantined", &"y".repeat(300))]);
        for (key, value) in &tags {
            assert!(value.chars().count() <= VALUE, "{key}: {value}");
            assert!(SCHEMA.iter().any(|tag| tag.key == key) || key.starts_with(MARK), "{key}");
        }
        assert!(tags[BASE_NAME].ends_with('…') && tags[SMOKE_PASSES].ends_with(".large"), "{tags:?}");
        let architecture = include_str!("../../../ARCHITECTURE.md");
        for tag in SCHEMA {
            let row = architecture.lines().find(|line| line.starts_with(&format!("| `{}` |", tag.key)));
            let row = row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {}", tag.key));
            assert!(row.contains(tag.on) && row.contains(tag.cut), "{row}");
        }
    }

    #[test]
    fn template_tags_beyond_the_limits_are_refused() {
        let some = |n: usize| (0..n).map(|n| (format!("key-{n}"), "value".to_owned())).collect::<BTreeMap<_, _>>();
        check_template_tags(&some(17)).unwrap();
        assert!(check_template_tags(&some(18)).unwrap_err().contains("a template may use 17"));
        for (key, value) in [("agent-ami:recipe", "x"), ("aws:x", "x"), ("long", &"x".repeat(257))] {
            assert!(check_template_tags(&[(key.to_owned(), (*value).to_owned())].into()).unwrap_err().contains(key));
        }
        check_template_tags(&[(RUN.to_owned(), "run-1".to_owned())].into()).unwrap();
    }

    #[test]
    fn an_image_with_damaged_tags_is_reported_with_its_id() {
        let base = BaseRecord::local("x", Digest::of(b"x"));
        let mut tags = tagged(&base, &BTreeMap::new());
        tags.remove(RECIPE);
        let Listed::Corrupt(corrupt) = read(&"us-east-1".into(), &ami(&tags)) else { panic!("readable") };
        assert_eq!(corrupt.place, "ami-1 in us-east-1");
        assert!(corrupt.problem.contains("agent-ami:recipe"), "{}", corrupt.problem);
    }
}
