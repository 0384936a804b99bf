//! An image's record, kept in the AMI's tags: what is known about an image travels with it and needs no file of ours.
//!
//! Pure, both ways. EC2 allows 50 tags of 128 and 256 characters.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Image as Ami, ImageState, Tag};
use smoke::report::{Check, Outcome, Report};
use xtask::cloud::{BaseRecord, Capture, Corrupt, Identity, Image, ImageId, Listed};
use xtask::recipe::Digest;
use xtask::stage::smoke::Record;

/// Prefix of our own tags.
const PREFIX: &str = "agent-ami:";
/// The tag that says an image is ours, and which image of ami.toml it is.
pub const IMAGE: &str = "agent-ami:image";
/// The tag every resource of a run bears.
pub const RUN: &str = "agent-ami:run";
/// The recipe hash, by which an unchanged build finds its image.
pub const RECIPE: &str = "agent-ami:recipe";
/// What copies of one image share.
pub const CONTENT: &str = "agent-ami:content";
/// The image a copy was made from.
pub const COPIED_FROM: &str = "agent-ami:copied-from";
/// What an instance is for: `builder`, `smoke-t3.micro`.
pub const PURPOSE: &str = "agent-ami:purpose";
/// When a resource of a run may be taken away, RFC 3339.
pub const EXPIRES: &str = "agent-ami:expires";

/// Prefix of what people and pipelines note on an image.
const MARK: &str = "agent-ami:mark:";
/// How the image was judged, for machines that have no report of it: `passed 2026-11-21T10:00:00Z`.
const SMOKE: &str = "agent-ami:smoke";
/// By which spec.
const SMOKE_SPEC: &str = "agent-ami:smoke-spec";
/// In which passes, `first boot on t3.micro, after reboot on t3.micro`.
const SMOKE_PASSES: &str = "agent-ami:smoke-passes";

/// What the tags say.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Which image of ami.toml.
    pub image: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What was done.
    pub recipe_hash: Digest,
    /// To which base.
    pub base: &'a BaseRecord,
    /// By which engine.
    pub engine: &'a str,
    /// On which machine.
    pub builder: &'a Identity,
    /// In which run.
    pub run: &'a str,
}

impl<'a> Facts<'a> {
    /// Of an image to be captured.
    pub fn of_capture(capture: &'a Capture, base: &'a BaseRecord, run: &'a str) -> Self {
        let Capture { image, version, recipe_hash, engine, builder, .. } = capture;
        Self { image, version, recipe_hash: *recipe_hash, base, engine, builder, run }
    }

    /// Of an image that is there.
    pub fn of_image(image: &'a Image) -> Self {
        let Image { image, version, recipe_hash, base, engine, builder, run, .. } = image;
        Self { image, version, recipe_hash: *recipe_hash, base, engine, builder, run }
    }

    /// As tags, beside the template's.
    pub fn tags(&self, template: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut tags = template.clone();
        tags.retain(|_, value| !value.is_empty());
        let ours = [
            (IMAGE, self.image.to_owned()),
            ("agent-ami:version", self.version.to_owned()),
            (RECIPE, self.recipe_hash.to_string()),
            ("agent-ami:base", self.base.id.clone()),
            ("agent-ami:base-name", self.base.name.clone()),
            ("agent-ami:base-digest", self.base.digest.to_string()),
            ("agent-ami:engine", self.engine.to_owned()),
            ("agent-ami:host-keys", self.builder.host_keys.join(" ")),
            ("agent-ami:machine-id", self.builder.machine_id.clone()),
            (RUN, self.run.to_owned()),
            ("ManagedBy", "agent-ami".to_owned()),
        ];
        tags.extend(ours.map(|(key, value)| (key.to_owned(), value.chars().take(256).collect())));
        tags
    }
}

/// A mark as a tag. EC2 takes 256 characters of a value.
pub fn mark(key: &str, value: &str) -> (String, String) {
    (format!("{MARK}{key}"), value.chars().take(256).collect())
}

/// The marks among an image's tags.
pub fn marks(tags: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    tags.iter().filter_map(|(key, value)| Some((key.strip_prefix(MARK)?.to_owned(), value.clone()))).collect()
}

/// A verdict as tags.
pub fn verdict_tags(record: &Record) -> BTreeMap<String, String> {
    let verdict = if record.passed { "passed" } else { "failed" };
    let tags = [
        (SMOKE, format!("{verdict} {}", record.at)),
        (SMOKE_SPEC, record.spec_sha256.to_string()),
        (SMOKE_PASSES, record.passes.join(", ")),
    ];
    tags.map(|(key, value)| (key.to_owned(), value.chars().take(256).collect())).into()
}

/// The verdict that the tags hold, each pass with one check that says where it is from: the reports are where the judging was.
pub fn verdict(tags: &BTreeMap<String, String>, content: Digest) -> Option<Record> {
    let (verdict, at) = tags.get(SMOKE)?.split_once(' ')?;
    let passed = verdict == "passed";
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
            message: format!("the image's tags say: {verdict} {at}"),
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
        at: at.to_owned(),
        reports: passes.iter().map(|_| report()).collect(),
        passes,
    })
}

/// What copies of this image share: it never changes, whatever happens to its first copy.
pub fn content(id: &str) -> Digest {
    Digest::of(id.as_bytes())
}

/// The SDK's form.
pub fn sdk_tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect()
}

/// Plain tags.
pub fn plain_tags(tags: &[Tag]) -> BTreeMap<String, String> {
    let pair = |t: &Tag| (t.key().unwrap_or_default().to_owned(), t.value().unwrap_or_default().to_owned());
    tags.iter().map(pair).collect()
}

/// An AMI of ours as its record.
pub fn read(region: &str, ami: &Ami) -> Listed {
    let id = ImageId(ami.image_id().unwrap_or_default().to_owned());
    match image(region, &id, ami) {
        Ok(image) => Listed::Image(Box::new(image)),
        Err(problem) => {
            let place = format!("{id} in {region}");
            Listed::Corrupt(Corrupt { id, region: region.to_owned(), place, problem })
        }
    }
}

fn image(region: &str, id: &ImageId, ami: &Ami) -> Result<Image, String> {
    match ami.state() {
        Some(ImageState::Available) => {}
        state => return Err(format!("its state is {}", state.map_or("unknown", ImageState::as_str))),
    }
    let tags = plain_tags(ami.tags());
    let tag = |name: &str| tags.get(name).cloned().ok_or_else(|| format!("it has no tag `{name}`"));
    let digest = |name: &str| tag(name)?.parse::<Digest>().map_err(|e| format!("tag `{name}`: {e}"));
    let content = if tags.contains_key(CONTENT) { digest(CONTENT)? } else { content(&id.0) };
    let gib: i64 = ami.block_device_mappings().iter().filter_map(|m| m.ebs()?.volume_size()).map(i64::from).sum();
    Ok(Image {
        schema: 1,
        id: id.clone(),
        name: ami.name().unwrap_or_default().to_owned(),
        region: region.to_owned(),
        image: tag(IMAGE)?,
        arch: ami.architecture().map(|arch| arch.as_str().to_owned()),
        account: ami.owner_id().map(str::to_owned),
        version: tag("agent-ami:version")?,
        created: ami.creation_date().unwrap_or_default().to_owned(),
        recipe_hash: digest(RECIPE)?,
        base: BaseRecord {
            name: tag("agent-ami:base-name")?,
            id: tag("agent-ami:base")?,
            digest: digest("agent-ami:base-digest")?,
        },
        content,
        disk_bytes: u64::try_from(gib << 30).unwrap_or(0),
        copied_from: tags.get(COPIED_FROM).map(|id| ImageId(id.clone())),
        run: tag(RUN)?,
        engine: tag("agent-ami:engine")?,
        built_in: None,
        builder: Identity {
            host_keys: tag("agent-ami:host-keys")?.split_whitespace().map(str::to_owned).collect(),
            machine_id: tag("agent-ami:machine-id")?,
        },
        tags: tags.into_iter().filter(|(k, _)| !k.starts_with(PREFIX)).collect(),
    })
}

/// The snapshots an AMI consists of.
pub fn snapshots(ami: &Ami) -> Vec<String> {
    ami.block_device_mappings().iter().filter_map(|m| Some(m.ebs()?.snapshot_id()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(base: &BaseRecord, template: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let builder = builder();
        let facts = Facts {
            image: "locus-agent",
            version: "1.2.3",
            recipe_hash: Digest::of(b"recipe"),
            base,
            engine: "native",
            builder: &builder,
            run: "run-1",
        };
        facts.tags(template)
    }

    fn builder() -> Identity {
        Identity { host_keys: vec!["SHA256:a".to_owned(), "SHA256:b".to_owned()], machine_id: "0123".to_owned() }
    }

    fn ami(tags: &BTreeMap<String, String>) -> Ami {
        let ami =
            Ami::builder().image_id("ami-1").name("locus-agent-v1.2.3-20261121-1000").state(ImageState::Available);
        ami.set_tags(Some(sdk_tags(tags))).build()
    }

    #[test]
    fn a_record_survives_the_way_through_tags() {
        let base = BaseRecord { name: "ubuntu-jammy".to_owned(), id: "ami-0".to_owned(), digest: Digest::of(b"base") };
        let template = [("Project".to_owned(), "locus".to_owned()), ("Team".to_owned(), String::new())].into();
        let tags = tagged(&base, &template);
        assert!(!tags.contains_key("Team"), "EC2 shows an empty tag as a mistake");
        let Listed::Image(image) = read("us-east-1", &ami(&tags)) else { panic!("not readable") };
        assert_eq!((image.base, image.recipe_hash, image.run.as_str()), (base, Digest::of(b"recipe"), "run-1"));
        assert_eq!((image.builder, image.tags["Project"].as_str()), (builder(), "locus"));
        assert_eq!(image.content, content("ami-1"));
    }

    #[test]
    fn a_verdict_survives_the_way_through_tags() {
        let content = Digest::of(b"ami-1");
        let record = Record {
            schema: 1,
            content,
            spec_sha256: Digest::of(b"spec"),
            passed: false,
            at: "2026-11-21T10:00:00Z".to_owned(),
            passes: vec!["first boot on t3.micro".to_owned(), "after reboot on t3.micro".to_owned()],
            reports: Vec::new(),
        };
        let read = verdict(&verdict_tags(&record), content).unwrap();
        assert_eq!((read.passed, read.spec_sha256, &read.passes), (false, record.spec_sha256, &record.passes));
        assert!(read.reports.len() == 2 && read.reports.iter().all(|r| !r.passed()));
        let read = verdict(&verdict_tags(&Record { passed: true, ..record }), content).unwrap();
        assert!(read.passed && read.reports.iter().all(Report::passed));
        assert!(verdict(&BTreeMap::new(), content).is_none());
    }

    #[test]
    fn an_image_whose_tags_are_damaged_is_named() {
        let base = BaseRecord::local("x", Digest::of(b"x"));
        let mut tags = tagged(&base, &BTreeMap::new());
        tags.remove(RECIPE);
        let Listed::Corrupt(corrupt) = read("us-east-1", &ami(&tags)) else { panic!("readable") };
        assert_eq!(corrupt.place, "ami-1 in us-east-1");
        assert!(corrupt.problem.contains("agent-ami:recipe"), "{}", corrupt.problem);
    }
}
