//! What is broken next, and for how long: drawn from a seed.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Random numbers that follow from a seed.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Returns dice for a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns a number below `limit`, 0 for a limit of 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.0.random_range(0..limit) }
    }

    /// Returns a time between two.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        self.0.random_range(least..=most.max(least))
    }
}

/// Whom it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever leads then.
    Leader,
    /// The first manager after the leader in the order of ids, round and round.
    Next,
    /// The one after that.
    AfterNext,
}

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again afterwards.
    Kill(Who),
    /// All of them at once, and started again.
    KillAll,
    /// SIGSTOP, and SIGCONT afterwards.
    Pause(Who),
    /// Cut from all others in both directions.
    Isolate(Who),
    /// It can send and not receive.
    Deaf(Who),
    /// It can receive and not send.
    Mute(Who),
    /// The other two do not reach one another, and this one reaches both.
    Bridge(Who),
    /// Everything between managers is held up.
    Slow,
    /// The leadership is handed over.
    Transfer,
    /// Removed from the cluster, wiped, added again and given a vote again.
    Replace(Who),
    /// SIGTERM, and started again afterwards.
    Restart(Who),
    /// Its disk is filled to far below the watermark.
    FillDisk(Who),
    /// Its wall clock jumps forward, and back afterwards.
    JumpClock(Who),
}

impl Fault {
    /// Draws the next one.
    pub fn draw(dice: &mut Dice) -> Self {
        let who = match dice.below(4) {
            0 | 1 => Who::Leader,
            2 => Who::Next,
            _ => Who::AfterNext,
        };
        let follower = if dice.below(2) == 0 { Who::Next } else { Who::AfterNext };
        match dice.below(21) {
            0..=2 => Self::Kill(who),
            3 => Self::KillAll,
            4..=6 => Self::Pause(who),
            7..=8 => Self::Isolate(who),
            9 => Self::Isolate(Who::Leader),
            10 => Self::Deaf(who),
            11 => Self::Mute(who),
            12..=13 => Self::Bridge(who),
            14 => Self::Slow,
            15 => Self::Transfer,
            16 => Self::Replace(follower),
            17 => Self::Restart(who),
            18..=19 => Self::FillDisk(who),
            _ => Self::JumpClock(who),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_faults_again_and_all_of_them_in_time() {
        let drawn = |seed| {
            let mut dice = Dice::new(seed);
            (0..400).map(|_| format!("{:?}", Fault::draw(&mut dice))).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let all = drawn(7);
        let kinds: BTreeSet<&str> = all.iter().map(|f| f.split('(').next().unwrap_or_default()).collect();
        assert_eq!(kinds.len(), 13, "{kinds:?}");
    }

    #[test]
    fn a_drawn_time_lies_between_its_bounds() {
        let mut dice = Dice::new(1);
        let (least, most) = (Duration::from_millis(5), Duration::from_millis(9));
        assert!((0..100).map(|_| dice.between(least, most)).all(|t| (least..=most).contains(&t)));
        assert_eq!(dice.between(least, least), least);
    }
}
