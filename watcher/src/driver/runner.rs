//! The seam between the driver and whatever runs probes, so that a simulator can bring its own.

use std::time::Duration;

use async_trait::async_trait;
use vouch_types::{Digest, ProbeName};

use crate::logic::{Ended, Origin, ProbeSpec};

/// Makes probes ready and runs them.
#[async_trait]
pub trait ProbeRunner: Send + Sync + 'static {
    /// Makes a probe ready to run and returns where it came from; one that is ready already is no error.
    ///
    /// # Errors
    /// Why it cannot run, for people.
    async fn prepare(&self, probe: &ProbeName, digest: &Digest) -> Result<Origin, String>;

    /// Gives back what a probe takes that is not needed any more.
    fn forget(&self, digest: &Digest);

    /// Runs a probe that is ready once, within `timeout`. What could not run is [`Outcome::Unknown`].
    ///
    /// [`Outcome::Unknown`]: vouch_types::Outcome::Unknown
    async fn run(&self, spec: &ProbeSpec, timeout: Duration) -> Ended;
}
