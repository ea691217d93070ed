//! How many failures in a row silence takes before it is believed, given the loss of the path (rule 4).

/// The chance that the right answer is lost every time, at which silence is believed.
const FALSE_SILENCE: f64 = 1e-12;
/// The fewest failures in a row that silence is ever believed after.
pub(crate) const FAILURES_MIN: u32 = vouch_types::policy::SILENCE_FAILURES_MIN;
/// The loss of round trips that is taken for granted where less, or nothing, was measured: 1 % each way.
pub(crate) const LOSS_ASSUMED_PER_MILLE: u16 = 20;
/// No path is believed to lose more than this: beyond it no silence could ever be believed.
const LOSS_MAX_PER_MILLE: u16 = 900;

/// Returns n = ceil(ln 1e-12 / ln p), at least 6, for a path that loses `loss_per_mille` of its round trips.
pub(crate) fn failures_needed(loss_per_mille: u16) -> u32 {
    if loss_per_mille == 0 {
        return FAILURES_MIN;
    }
    let p = f64::from(loss_per_mille.min(LOSS_MAX_PER_MILLE)) / 1000.0;
    let n = (FALSE_SILENCE.ln() / p.ln()).ceil();
    // Between 6 and 263 by the bounds of p: it fits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds of p bound it")]
    let n = n as u32;
    n.max(FAILURES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_fault_table_come_out() {
        assert_eq!(failures_needed(510), 42, "30 % each way");
        assert_eq!(failures_needed(20), 8, "1 % each way");
        assert_eq!(failures_needed(0), 6, "the floor");
        assert_eq!(failures_needed(1), 6);
        assert_eq!(failures_needed(1000), failures_needed(900), "some silence is believed on any path");
    }
}
