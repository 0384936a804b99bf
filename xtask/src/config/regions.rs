//! Reads `[regions]`, and checks regions and KMS keys against the partition and each other.

use std::collections::BTreeMap;

use super::read::Section;
use super::{Overrides, Regions};
use crate::ids::Region;
use crate::partition::Partition;

/// Reads `[regions]`. All AWS regions must be in one partition. `--region` makes another one of them the home region.
pub(super) fn read(section: &Section<'_>, overrides: &Overrides) -> Regions {
    let regions = Regions {
        local: at_home(section, "local", named(section.list("local")), overrides.local_region.as_ref()),
        aws: at_home(section, "aws", named(section.any_list("aws")), overrides.aws_region.as_ref()),
    };
    if let Some(home) = regions.aws.first()
        && let Some(other) = regions.aws.iter().find(|region| Partition::of(region) != Partition::of(home))
    {
        let (one, two) = (Partition::of(home), Partition::of(other));
        let message = format!("{home} is in {one} and {other} in {two}: EC2 does not copy images between partitions");
        let help = "list the regions of one partition, and use another project for those of another partition";
        section.reader.wrong(section.span("aws"), message, help);
    }
    regions
}

/// The regions with the home region of `--region` first.
fn at_home(section: &Section<'_>, key: &str, mut regions: Vec<Region>, home: Option<&Region>) -> Vec<Region> {
    let Some(home) = home else { return regions };
    match regions.iter().position(|region| region == home) {
        Some(at) => {
            regions[..=at].rotate_right(1);
            let names: Vec<&str> = regions.iter().map(Region::as_str).collect();
            section.reader.overridden(&format!("regions.{key}"), &format!("{names:?}"), "--region");
        }
        None => {
            let message = format!("--region is `{home}`, which is not in `{key}` of [regions]");
            section.reader.wrong(section.span(key), message, "use a region of the list, or add the region to it");
        }
    }
    regions
}

/// The regions with these names.
pub(super) fn named(names: Vec<String>) -> Vec<Region> {
    names.into_iter().map(Region::from).collect()
}

/// Checks that a key given by ARN is in the region that uses it: EBS encrypts a snapshot only with a key of its region (EBS user guide,
/// "Amazon EBS encryption").
pub(super) fn check_keys(section: &Section<'_>, keys: &BTreeMap<Region, String>) {
    for (region, key) in keys {
        // arn:PARTITION:kms:REGION:ACCOUNT:key/ID. A key's id and an alias's name always refer to the region of the call.
        let Some(arn) = key.strip_prefix("arn:") else { continue };
        let parts: Vec<&str> = arn.splitn(5, ':').collect();
        if parts.first() != Some(&Partition::of(region).name()) || parts.get(2) != Some(&region.as_str()) {
            let message = format!("`kms_key_ids` has {key} for {region}, which is not a key of that region");
            section.reader.wrong(section.span("kms_key_ids"), message, "set a key of the region, or its alias");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    const GOOD: &str = include_str!("../../../ami.toml");

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, &Overrides::default(), &BTreeMap::new(), &|_| true)
    }

    fn refused(text: &str) -> String {
        let error = parse(text).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        crate::error::plain(&error)
    }

    #[test]
    fn regions_of_two_partitions_are_refused() {
        let configured = "aws = [\"us-east-1\", \"us-west-2\", \"eu-west-1\", \"ap-southeast-1\"]";
        assert!(GOOD.contains(configured));
        let message = refused(&GOOD.replace(configured, "aws = [\"us-east-1\", \"us-gov-west-1\"]"));
        assert!(message.contains("us-east-1 is in aws and us-gov-west-1 in aws-us-gov"), "{message}");
        parse(&GOOD.replace(configured, "aws = [\"us-gov-west-1\", \"us-gov-east-1\"]")).unwrap();
    }

    #[test]
    fn a_key_of_another_region_is_refused() {
        let with = |key: &str| GOOD.replace("kms_key_ids = {}", &format!("kms_key_ids = {{ us-west-2 = \"{key}\" }}"));
        let key = "arn:aws:kms:us-west-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        for good in [key, "1234abcd-12ab-34cd-56ef-1234567890ab", "alias/images"] {
            assert_eq!(parse(&with(good)).unwrap().aws.kms_key_ids["us-west-2"], good);
        }
        for other in [key.replace("us-west-2", "us-east-1"), key.replace("arn:aws:", "arn:aws-cn:")] {
            let message = refused(&with(&other));
            assert!(message.contains("not a key of that region"), "{message}");
        }
    }
}
