//! How long a watcher's checks took, in histograms that count since its life began.
//!
//! Whoever takes them keeps what was told last, and adds what is more: a message that is lost, doubled or late then counts
//! nothing twice.

use std::time::Duration;

use vouch_types::{Network, NodeId, ProbeName};

use super::{ConvertError, at_most, distinct, limits, network, node_id, probe_name};
use crate::proto;

/// The upper bounds of the buckets but the last, which has none, in microseconds.
pub const BOUNDS_MICROS: [u64; 13] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000];
/// How many buckets there are.
pub const BUCKETS: usize = BOUNDS_MICROS.len() + 1;

/// How many checks took how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationHistogram {
    /// Of each bucket, how many took longer than the bound before it and no longer than its own.
    pub counts: [u64; BUCKETS],
    /// How long all took together, in microseconds.
    pub sum_micros: u64,
}

impl DurationHistogram {
    /// Counts one check.
    pub fn count(&mut self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_MICROS.partition_point(|bound| *bound < took);
        self.counts[at] = self.counts[at].saturating_add(1);
        self.sum_micros = self.sum_micros.saturating_add(took);
    }

    /// Returns how many checks were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(own, more)| *own = own.saturating_add(more));
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }

    /// Returns what was counted since `earlier`; everything, when it has begun anew since.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let began_anew =
            self.sum_micros < earlier.sum_micros || self.counts.iter().zip(earlier.counts).any(|(own, was)| *own < was);
        if began_anew {
            return *self;
        }
        let mut counts = self.counts;
        counts.iter_mut().zip(earlier.counts).for_each(|(own, was)| *own -= was);
        Self { counts, sum_micros: self.sum_micros - earlier.sum_micros }
    }
}

/// What checks are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationKey {
    /// The probe.
    pub probe: ProbeName,
    /// Over which network it looks.
    pub network: Network,
    /// The node of the VMs at which it looks.
    pub node: NodeId,
}

/// Everything that a watcher has counted since its life began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherDurations(pub Vec<(DurationKey, DurationHistogram)>);

impl From<&WatcherDurations> for proto::Durations {
    fn from(told: &WatcherDurations) -> Self {
        let histogram = |(key, histogram): &(DurationKey, DurationHistogram)| proto::DurationHistogram {
            probe: key.probe.to_string(),
            network: proto::Network::from(key.network).into(),
            node: key.node.to_string(),
            counts: histogram.counts.to_vec(),
            sum_micros: histogram.sum_micros,
        };
        Self { histograms: told.0.iter().map(histogram).collect() }
    }
}

impl TryFrom<proto::Durations> for WatcherDurations {
    type Error = ConvertError;
    fn try_from(m: proto::Durations) -> Result<Self, ConvertError> {
        at_most("durations", m.histograms.len(), limits::DURATION_HISTOGRAMS_MAX, "histograms")?;
        let histogram = |m: proto::DurationHistogram| {
            let key = DurationKey {
                probe: probe_name("durations.probe", &m.probe)?,
                network: network("durations.network", m.network)?,
                node: node_id("durations.node", &m.node)?,
            };
            let buckets = m.counts.len();
            let counts = m.counts.try_into().map_err(|_: Vec<u64>| {
                ConvertError::new("durations.counts", buckets, format!("must be {BUCKETS} buckets"))
            })?;
            let histogram = DurationHistogram { counts, sum_micros: m.sum_micros };
            for (field, value) in [("durations.counts", histogram.total()), ("durations.sum_micros", m.sum_micros)] {
                if value > limits::DURATIONS_COUNTED_MAX {
                    let rule = format!("must be at most {}", limits::DURATIONS_COUNTED_MAX);
                    return Err(ConvertError::new(field, value, rule));
                }
            }
            Ok((key, histogram))
        };
        let histograms: Vec<_> = m.histograms.into_iter().map(histogram).collect::<Result<_, ConvertError>>()?;
        distinct("durations", histograms.iter().map(|(key, _)| key))?;
        Ok(Self(histograms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(micros: &[u64]) -> DurationHistogram {
        let mut histogram = DurationHistogram::default();
        micros.iter().for_each(|micros| histogram.count(Duration::from_micros(*micros)));
        histogram
    }

    #[test]
    fn each_check_is_in_the_first_bucket_that_is_long_enough() {
        let histogram = counted(&[0, 500, 501, 5_000_000, 5_000_001, u64::MAX / 2]);
        assert_eq!((histogram.counts[0], histogram.counts[1]), (2, 1));
        assert_eq!((histogram.counts[BUCKETS - 2], histogram.counts[BUCKETS - 1]), (1, 2));
        assert_eq!(histogram.total(), 6);
    }

    #[test]
    fn what_is_added_is_what_is_more_and_everything_of_one_that_began_anew() {
        let (before, after) = (counted(&[700, 900]), counted(&[700, 900, 40, 800]));
        assert_eq!(after.since(&before), counted(&[40, 800]));
        assert_eq!(after.since(&after), DurationHistogram::default());
        assert_eq!(before.since(&after), before);
        assert_eq!(counted(&[40]).since(&before), counted(&[40]), "another bucket, and fewer in the first");
        let mut sum = before;
        sum.add(&counted(&[40, 800]));
        assert_eq!(sum, after);
    }

    fn told(nodes: usize) -> WatcherDurations {
        let key = |i| DurationKey {
            probe: ProbeName::new("rdp").expect("a valid name"),
            network: Network::Service,
            node: NodeId::new(&format!("n{i}")).expect("a valid name"),
        };
        WatcherDurations((0..nodes).map(|i| (key(i), counted(&[i as u64]))).collect())
    }

    #[test]
    fn it_travels_whole_and_what_breaks_a_rule_is_refused_with_the_field() {
        let whole = told(limits::DURATION_HISTOGRAMS_MAX);
        let message = proto::Durations::from(&whole);
        assert_eq!(WatcherDurations::try_from(message.clone()), Ok(whole));
        let refused = |change: fn(&mut proto::Durations), field: &str| {
            let mut message = message.clone();
            message.histograms.truncate(2);
            change(&mut message);
            let error = WatcherDurations::try_from(message).expect_err(field);
            assert_eq!(error.field, field, "{error}");
        };
        refused(|m| m.histograms[0].probe = "A b".to_owned(), "durations.probe");
        refused(|m| m.histograms[0].network = 0, "durations.network");
        refused(|m| m.histograms[0].node.clear(), "durations.node");
        refused(|m| m.histograms[0].counts.truncate(BUCKETS - 1), "durations.counts");
        refused(|m| m.histograms[0].counts[3] = limits::DURATIONS_COUNTED_MAX + 1, "durations.counts");
        refused(|m| m.histograms[0].counts = vec![u64::MAX; BUCKETS], "durations.counts");
        refused(|m| m.histograms[0].sum_micros = limits::DURATIONS_COUNTED_MAX + 1, "durations.sum_micros");
        refused(|m| m.histograms[1] = m.histograms[0].clone(), "durations");
        let more = proto::Durations::from(&told(limits::DURATION_HISTOGRAMS_MAX + 1));
        assert_eq!(WatcherDurations::try_from(more).map_err(|e| e.field), Err("durations"));
    }
}
