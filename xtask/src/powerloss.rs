//! Many rounds of power losses and kills under a writing manager (`manager/tests/storage`).

use anyhow::Result;

use crate::shell;

/// Plays the rounds; a seed at which something was lost is in the message of the test that fails.
pub(crate) fn run(rounds: u64, seed: u64) -> Result<()> {
    shell::run(
        shell::cargo()
            .args(["test", "--locked", "--quiet", "--package", "vouch-manager", "--test", "storage", "--"])
            .args(["--ignored", "--exact", "power_loss::many_rounds", "--nocapture"])
            .env("VOUCH_POWERLOSS_ROUNDS", rounds.to_string())
            .env("VOUCH_POWERLOSS_SEED", seed.to_string()),
    )
}
