//! The objects that a command uses once its run has begun.

use std::sync::Arc;

use super::{Context, Provider};
use crate::config::Config;
use crate::error::Result;
use crate::state::{Run, State};

/// Shared by the stages of a command with a run.
pub struct Session<'a, P> {
    /// The project, the command line and the run.
    pub context: &'a Context,
    /// Where images are made.
    pub provider: &'a P,
    /// `ami.toml`, with environment variables and options applied.
    pub config: &'a Config,
    /// The state directory.
    pub state: &'a State,
    /// The run.
    pub run: &'a Arc<Run>,
}

// Derived, it would require `P: Copy`.
impl<P> Clone for Session<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Session<'_, P> {}

impl<P: Provider> Session<'_, P> {
    /// The provider's cloud, which writes its calls to the run's ledger.
    pub fn cloud(&self) -> Result<P::Cloud> {
        self.provider.open(self.context, self.config, self.state, Some(Arc::clone(self.run)))
    }
}
