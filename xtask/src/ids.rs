//! The types of names and ids that are text, so that none can be passed for another.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// Declares the type of a name. It is a string in JSON, in JSON Schemas and in messages.
macro_rules! name {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Not `write_str`, which ignores the width.
                f.pad(&self.0)
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        // Derived, it would be a definition of its own in each schema.
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                String::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                String::json_schema(generator)
            }
        }
    };
}

name! {
    /// A region: `us-east-1`, or a local one such as `local-1`. Empty (the default) for calls that have no region.
    #[derive(Default)]
    Region
}

name! {
    /// The name of a channel: `staging`.
    #[derive(Default)]
    ChannelName
}

name! {
    /// The id of a run, with the time of its start in UTC: `run-20261128-084010-e8eec9`.
    RunId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_a_string_in_json_and_in_messages() {
        let region = Region::from("us-east-1");
        assert_eq!(serde_json::to_string(&region).unwrap(), "\"us-east-1\"");
        assert_eq!(serde_json::from_str::<Region>("\"us-east-1\"").unwrap(), region);
        assert_eq!(format!("{region:12}|{region:>12}|"), "us-east-1   |   us-east-1|");
        assert_eq!([region, "eu-west-1".into()].join(", "), "us-east-1, eu-west-1");
    }

    #[test]
    fn the_schema_of_a_name_is_that_of_a_string() {
        let schema = |name: Schema| serde_json::to_value(name).unwrap();
        assert_eq!(schema(schemars::schema_for!(Vec<RunId>))["items"], serde_json::json!({ "type": "string" }));
        assert!(!schema(schemars::schema_for!(Vec<RunId>)).to_string().contains("$defs"));
    }
}
