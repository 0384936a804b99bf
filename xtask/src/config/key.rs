//! The keys of `ami.toml` as data, for the reference and the JSON Schema.

/// A key that the reader knows, for the reference and the JSON Schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// `local.cpus`; the name of an image or a channel is the sample's.
    pub name: String,
    /// What its value may be.
    pub kind: Kind,
}

/// What a key's value may be, and its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string. Without a default the key is required.
    Text { default: Option<String> },
    /// One of some words.
    Word {
        default: String,
        /// All words.
        words: Vec<String>,
    },
    /// A whole number.
    Number {
        default: u64,
        /// Least and greatest value.
        range: std::ops::RangeInclusive<u64>,
    },
    /// `true` or `false`.
    Flag { default: bool },
    /// A list of different strings.
    List {
        /// True if at least one is required.
        required: bool,
    },
    /// A table of strings.
    Table,
}
