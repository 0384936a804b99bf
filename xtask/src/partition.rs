//! AWS partitions: groups of regions with separate accounts, ARNs and endpoints (AWS General Reference, "Amazon Resource Names").

use std::fmt;

/// A partition. Its name is the second component of ARNs. Roles, keys and images of one partition cannot be used in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Partition {
    /// `aws`, the commercial regions.
    Commercial,
    /// `aws-us-gov`, AWS GovCloud (US).
    GovCloud,
    /// `aws-cn`, the regions in China.
    China,
    /// `aws-eusc`, the AWS European Sovereign Cloud.
    EuropeanSovereign,
}

impl Partition {
    /// The partition of a region, by the beginning of its name.
    pub fn of(region: &str) -> Self {
        match region {
            _ if region.starts_with("us-gov-") => Self::GovCloud,
            _ if region.starts_with("cn-") => Self::China,
            _ if region.starts_with("eusc-") => Self::EuropeanSovereign,
            _ => Self::Commercial,
        }
    }

    /// The partition's name, the second part of its ARNs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commercial => "aws",
            Self::GovCloud => "aws-us-gov",
            Self::China => "aws-cn",
            Self::EuropeanSovereign => "aws-eusc",
        }
    }

    /// The domain of its endpoints.
    pub fn dns_suffix(self) -> &'static str {
        match self {
            Self::Commercial | Self::GovCloud => "amazonaws.com",
            Self::China => "amazonaws.com.cn",
            Self::EuropeanSovereign => "amazonaws.eu",
        }
    }

    /// The audience of an OpenID Connect token for STS, the input `audience` of `aws-actions/configure-aws-credentials`.
    pub fn sts_audience(self) -> &'static str {
        match self {
            Self::China => "sts.amazonaws.com.cn",
            Self::EuropeanSovereign => "sts.amazonaws.eu",
            Self::Commercial | Self::GovCloud => "sts.amazonaws.com",
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_belongs_to_one_partition() {
        let cases = [
            ("us-east-1", "aws"),
            ("ap-southeast-1", "aws"),
            ("us-gov-west-1", "aws-us-gov"),
            ("cn-north-1", "aws-cn"),
            ("eusc-de-east-1", "aws-eusc"),
        ];
        for (region, name) in cases {
            assert_eq!(Partition::of(region).name(), name, "{region}");
        }
    }
}
