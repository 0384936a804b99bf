//! Why a template was refused: whether Packer may accept what this crate does not.

use crate::error::Error;
use crate::files::Refused;

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Packer supports it, or may support it, for example with a plugin.
    Unsupported,
    /// A template that is not part of the project must not do this on this host. Packer would do it.
    Forbidden,
    /// Packer refuses it as well.
    Invalid,
}

/// What was refused first in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether Packer may accept it.
    pub cause: Cause,
    /// File, line and what was refused, as one line.
    pub text: String,
}

impl Refusal {
    /// The refusal that an error of [`crate::evaluate`] reports; `None` for an error without a location in a template.
    pub fn of(error: &Error) -> Option<Self> {
        let refused = error.report().downcast_ref::<Refused>()?;
        let text = refused.unsupported.as_ref().unwrap_or(&refused.message).lines().collect::<Vec<_>>().join(" ");
        Some(Self { cause: refused.cause, text })
    }
}

/// The same error with another hint before its own.
pub fn with_help(error: Error, help: &str) -> Error {
    match error.report().downcast_ref::<Refused>() {
        Some(refused) => {
            let mut refused = refused.clone();
            refused.help = format!("{help}\n{}", refused.help);
            error.exit().because(refused)
        }
        None => error,
    }
}
