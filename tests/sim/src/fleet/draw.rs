//! Everything that is drawn, from one seed.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Draws what chance decides; the same seed draws the same.
#[derive(Debug)]
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// Returns the draws of one seed and one part of the model.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(part);
        Self(rng)
    }

    /// Returns whether something of this probability happens.
    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        probability > 0.0 && self.0.random::<f32>() < probability
    }

    /// Returns a time from `least` to `most`, all as likely.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + (most.saturating_sub(least)).mul_f32(self.0.random::<f32>())
    }

    /// Returns a time of exponential distribution with this mean.
    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        let uniform = self.0.random::<f64>().max(1e-12);
        mean.mul_f64(-uniform.ln())
    }
}
