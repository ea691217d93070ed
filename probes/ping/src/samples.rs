//! What a series of echo requests measures.

use std::time::Duration;

use probe_kit::Sample;

/// Returns the samples of a series that sent so many requests, at least one; `took` are the round trips of those that
/// were answered, in the order of their sequence numbers.
///
/// `sent` and `answered` are counts, `loss` is the share that was not answered. The round trips are there if one was
/// answered, `jitter` if two were.
pub fn samples(sent: u32, took: &[Duration]) -> Vec<Sample> {
    let lost = (f64::from(sent) - took.len() as f64).max(0.0);
    let mut samples = vec![
        Sample { name: "sent", value: f64::from(sent), unit: "requests" },
        Sample { name: "answered", value: took.len() as f64, unit: "requests" },
        Sample { name: "loss", value: lost / f64::from(sent), unit: "ratio" },
    ];
    let round_trips = [
        ("round_trip_min", took.iter().min().copied()),
        ("round_trip_mean", mean(took)),
        ("round_trip_max", took.iter().max().copied()),
        ("jitter", jitter(took)),
    ];
    let seconds = |(name, value): (&'static str, Option<Duration>)| {
        value.map(|value| Sample { name, value: value.as_secs_f64(), unit: "seconds" })
    };
    samples.extend(round_trips.into_iter().filter_map(seconds));
    samples
}

/// Returns how much one round trip differs from the next, in the mean: the jitter of RFC 3550, section 6.4.1, without
/// its smoothing, which is for streams that go on.
fn jitter(took: &[Duration]) -> Option<Duration> {
    let differences: Vec<Duration> = took.windows(2).map(|pair| pair[0].abs_diff(pair[1])).collect();
    mean(&differences)
}

fn mean(took: &[Duration]) -> Option<Duration> {
    took.iter().sum::<Duration>().checked_div(u32::try_from(took.len()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(sent: u32, micros: &[u64]) -> Vec<(&'static str, f64)> {
        let took: Vec<Duration> = micros.iter().copied().map(Duration::from_micros).collect();
        samples(sent, &took).into_iter().map(|sample| (sample.name, sample.value)).collect()
    }

    #[test]
    fn round_trips_that_differ_have_a_mean_and_a_jitter() {
        assert_eq!(
            measured(4, &[250, 1000, 400]),
            [
                ("sent", 4.0),
                ("answered", 3.0),
                ("loss", 0.25),
                ("round_trip_min", 0.000_25),
                ("round_trip_mean", 0.000_55),
                ("round_trip_max", 0.001),
                ("jitter", 0.000_675),
            ]
        );
        let jitter = |micros: &[u64]| measured(4, micros).into_iter().find(|(name, _)| *name == "jitter");
        assert_eq!(jitter(&[250, 400, 1000]), Some(("jitter", 0.000_375)), "the order counts");
        assert_eq!(jitter(&[300, 300]), Some(("jitter", 0.0)));
    }

    #[test]
    fn what_was_not_answered_is_not_measured() {
        let one = [
            ("sent", 2.0),
            ("answered", 1.0),
            ("loss", 0.5),
            ("round_trip_min", 0.002),
            ("round_trip_mean", 0.002),
            ("round_trip_max", 0.002),
        ];
        assert_eq!(measured(2, &[2000]), one, "one round trip differs from none");
        assert_eq!(measured(2, &[]), [("sent", 2.0), ("answered", 0.0), ("loss", 1.0)]);
        assert_eq!(measured(3, &[1])[2], ("loss", 2.0 / 3.0));
        assert_eq!(measured(3, &[1, 1, 1])[2], ("loss", 0.0));
    }

    #[test]
    fn each_sample_has_a_unit() {
        let units: Vec<&str> = samples(2, &[Duration::ZERO; 2]).iter().map(|sample| sample.unit).collect();
        assert_eq!(units, ["requests", "requests", "ratio", "seconds", "seconds", "seconds", "seconds"]);
    }
}
