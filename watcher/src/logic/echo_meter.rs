//! How much one network loses, as a watcher's echoes to its peers show it: each is one round trip and nothing else.
//!
//! A dead peer must not look like loss, so an echo that nobody answered counts as lost only once its peer has answered
//! again, and a long silence does not count at all: that was an outage, of the peer, or of the network where all were
//! silent together. Answers that are held back for a while and then come too late are such a silence.
//!
//! What counts is the last half minute, or less: where the share that is lost has changed for certain, only what came
//! after the change does (the idea of ADWIN; Bifet and Gavaldà, 2007). So a loss that begins is told within seconds, and
//! one that stays is told more and more exactly. The test is the likelihood ratio of two binomial shares, which holds for
//! few trips and small shares as well, where the usual normal one cries wolf.
//!
//! Of several peers one whose way is not like that of the others is left out: it is that way, and not the network.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vouch_types::{Moment, WatcherId};

/// How long a round trip counts at most.
pub const TRIPS_COUNTED_FOR: Duration = Duration::from_secs(30);
/// The loss is told once this many round trips have been counted.
pub const TRIPS_MIN: u32 = 20;
/// How many echoes in a row may be silent to count as loss, of one peer or of all together; more are an outage. At a loss
/// of 51 % of all round trips that many in a row come once in 3,000.
pub const SILENT_TRIPS_MAX: usize = 12;
/// The fewest rows of silence, each with an answer behind it, that loss is told of: one interruption of a second is a row of
/// many lost trips, and no loss. At a loss of 51 % there are three rows in a second.
const ROWS_MIN: usize = 3;
/// Trips this close together are counted together.
const STEP: Duration = Duration::from_secs(1);
/// The fewest trips on either side of a change.
const SIDE_MIN: u32 = 12;
/// How much likelier two shares have to be than one (twice the logarithm) to be believed: once in two million by chance.
const CHANGED: f64 = 25.0;
/// The same for a peer that is left out: once in a thousand.
const STANDS_OUT: f64 = 9.0;

/// What came of one echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Echo {
    /// Its reply came in time.
    Replied,
    /// None did.
    Silent,
}

/// Round trips, and how many of them were lost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Trips {
    tried: u32,
    lost: u32,
}

impl Trips {
    fn share(self) -> f64 {
        f64::from(self.lost) / f64::from(self.tried.max(1))
    }

    fn with(self, other: Self) -> Self {
        Self { tried: self.tried + other.tried, lost: self.lost + other.lost }
    }

    fn without(self, other: Self) -> Self {
        Self { tried: self.tried - other.tried, lost: self.lost - other.lost }
    }

    /// Returns the logarithm of how likely these are where such a share is lost.
    fn likelihood(self, share: f64) -> f64 {
        let of = |count: u32, share: f64| if count == 0 { 0.0 } else { f64::from(count) * share.ln() };
        of(self.lost, share) + of(self.tried - self.lost, 1.0 - share)
    }

    /// Returns twice the logarithm of how much likelier it is that both lose shares of their own than the same one.
    fn differs(self, other: Self) -> f64 {
        let same = self.with(other).share();
        let apart = self.likelihood(self.share()) + other.likelihood(other.share());
        2.0 * (apart - self.likelihood(same) - other.likelihood(same))
    }
}

/// The last round trips to one peer.
#[derive(Debug, Default)]
struct Window {
    /// By when the first of each step was begun, in order.
    steps: VecDeque<(Moment, Trips)>,
    /// Echoes that it has not answered, until it answers again; one too many stays as the mark of an outage.
    silent: Vec<Moment>,
}

impl Window {
    fn count(&mut self, at: Moment, lost: u32) {
        match self.steps.back_mut() {
            Some((from, trips)) if at.since(*from) < STEP => *trips = trips.with(Trips { tried: 1, lost }),
            Some(_) | None => self.steps.push_back((at, Trips { tried: 1, lost })),
        }
        // Also while nobody asks for the share: a watcher that no manager hears goes on for days.
        self.forget_before(at - TRIPS_COUNTED_FOR);
    }

    fn all(&self) -> Trips {
        self.steps.iter().fold(Trips::default(), |all, (_, trips)| all.with(*trips))
    }

    fn forget_before(&mut self, floor: Moment) {
        while self.steps.front().is_some_and(|(from, _)| *from < floor) {
            self.steps.pop_front();
        }
    }
}

/// Returns since when another share is lost than before, if that is certain.
fn changed_at(steps: &BTreeMap<Moment, Trips>) -> Option<Moment> {
    let all = steps.values().copied().fold(Trips::default(), Trips::with);
    let (mut before, mut best) = (Trips::default(), (CHANGED, None));
    for (from, trips) in steps {
        let after = all.without(before);
        if before.tried >= SIDE_MIN && after.tried >= SIDE_MIN {
            let differs = before.differs(after);
            if differs > best.0 {
                best = (differs, Some(*from));
            }
        }
        before = before.with(*trips);
    }
    best.1
}

/// How much one network loses on the way to peers.
#[derive(Debug, Default)]
pub struct EchoMeter {
    windows: BTreeMap<WatcherId, Window>,
    /// Echoes that were silent since any peer answered; one too many is the mark of an outage of all.
    row: Vec<(WatcherId, Moment)>,
    /// When the last rows of silence began that were no outage, in order.
    rows: VecDeque<Moment>,
}

impl EchoMeter {
    /// Sets who the peers are; what is known of those that stay is kept.
    pub fn set_peers(&mut self, peers: &[WatcherId]) {
        self.windows.retain(|peer, _| peers.contains(peer));
        self.row.retain(|(peer, _)| peers.contains(peer));
        for peer in peers {
            self.windows.entry(*peer).or_default();
        }
    }

    /// Takes what came of an echo that was sent at this moment, in the order of sending.
    pub fn take(&mut self, peer: WatcherId, at: Moment, echo: Echo) {
        if !self.windows.contains_key(&peer) {
            return;
        }
        match echo {
            Echo::Silent => {
                if self.row.len() <= SILENT_TRIPS_MAX {
                    self.row.push((peer, at));
                }
            }
            Echo::Replied => {
                let outage = self.row.len() > SILENT_TRIPS_MAX;
                if let Some((_, begun)) = self.row.first().filter(|_| !outage) {
                    self.rows.push_back(*begun);
                    self.forget_rows_before(at - TRIPS_COUNTED_FOR);
                }
                for (silent, at) in self.row.drain(..).filter(|_| !outage) {
                    if let Some(window) = self.windows.get_mut(&silent).filter(|w| w.silent.len() <= SILENT_TRIPS_MAX) {
                        window.silent.push(at);
                    }
                }
                let Some(window) = self.windows.get_mut(&peer) else { return };
                let silent = std::mem::take(&mut window.silent);
                if silent.len() <= SILENT_TRIPS_MAX {
                    silent.into_iter().for_each(|at| window.count(at, 1));
                }
                window.count(at, 0);
            }
        }
    }

    fn forget_before(&mut self, floor: Moment) {
        self.windows.values_mut().for_each(|window| window.forget_before(floor));
        self.forget_rows_before(floor);
    }

    fn forget_rows_before(&mut self, floor: Moment) {
        while self.rows.front().is_some_and(|begun| *begun < floor) {
            self.rows.pop_front();
        }
    }

    /// Returns the share of round trips that were lost lately, in per mille; `None` while too few are known.
    pub fn per_mille(&mut self, now: Moment) -> Option<u16> {
        self.forget_before(now - TRIPS_COUNTED_FOR);
        // Of all together: each alone has too few trips to tell soon.
        let mut steps: BTreeMap<Moment, Trips> = BTreeMap::new();
        for (from, trips) in self.windows.values().flat_map(|window| &window.steps) {
            let step = steps.entry(*from).or_default();
            *step = step.with(*trips);
        }
        if let Some(change) = changed_at(&steps) {
            self.forget_before(change);
        }
        let mut peers: Vec<Trips> = self.windows.values().map(Window::all).filter(|trips| trips.tried > 0).collect();
        peers.sort_by(|a, b| a.share().total_cmp(&b.share()));
        // The lower one in the middle: of two that disagree, the one that loses less.
        let middle = *peers.get(peers.len().checked_sub(1)? / 2)?;
        let stands_out = |peer: &Trips| middle.differs(*peer) > STANDS_OUT;
        let all = peers.into_iter().filter(|peer| !stands_out(peer)).fold(Trips::default(), Trips::with);
        let lost = if self.rows.len() < ROWS_MIN { 0 } else { all.lost };
        // At most 1000.
        (all.tried >= TRIPS_MIN).then(|| u16::try_from(lost * 1000 / all.tried).unwrap_or(1000))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ONE: WatcherId = WatcherId::new(1);
    const TWO: WatcherId = WatcherId::new(2);
    const THREE: WatcherId = WatcherId::new(3);

    /// Numbers that look random and are the same each time (SplitMix64).
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn round_trip(&mut self, each_way_per_mille: u64) -> Echo {
            let (there, back) = (self.roll() % 1000, self.roll() % 1000);
            if there.min(back) >= each_way_per_mille { Echo::Replied } else { Echo::Silent }
        }
    }

    /// A watcher with peers that it asks twelve times a second in all.
    struct Bench {
        meter: EchoMeter,
        peers: Vec<WatcherId>,
        dice: Dice,
        now: Moment,
    }

    impl Bench {
        fn new(peers: &[WatcherId], seed: u64) -> Self {
            let mut meter = EchoMeter::default();
            meter.set_peers(peers);
            Self { meter, peers: peers.to_vec(), dice: Dice(seed), now: Moment::ZERO + SECOND }
        }

        /// Lets a second pass in which the way to each peer loses so much each way.
        fn second(&mut self, per_mille: impl Fn(WatcherId) -> u64) -> Option<u16> {
            let count = 12 / u32::try_from(self.peers.len()).unwrap();
            for echo in 0..count {
                for peer in self.peers.clone() {
                    let came = self.dice.round_trip(per_mille(peer));
                    self.meter.take(peer, self.now + SECOND / count * echo, came);
                }
            }
            self.now = self.now + SECOND;
            self.meter.per_mille(self.now)
        }

        fn seconds(&mut self, count: u64, per_mille: impl Fn(WatcherId) -> u64) -> Option<u16> {
            (0..count).map(|_| self.second(&per_mille)).last().flatten()
        }
    }

    /// Returns what one way loses where round trips lose so much, in per mille.
    fn one_way(round_trips: u16) -> f64 {
        (1.0 - (1.0 - f64::from(round_trips) / 1000.0).sqrt()) * 1000.0
    }

    #[test]
    fn thirty_per_cent_each_way_that_begins_is_told_within_five_points_ten_seconds_later() {
        for peers in [&[ONE][..], &[ONE, TWO], &[ONE, TWO, THREE]] {
            let mut near = 0;
            for seed in 0..200 {
                let mut bench = Bench::new(peers, seed);
                bench.seconds(60, |_| 10);
                let lossy = (1..=10).find(|_| bench.second(|_| 300).is_some_and(|told| one_way(told) >= 100.0));
                assert!(lossy.is_some_and(|seconds| seconds <= 7), "seed {seed}: lossy after {lossy:?} s");
                let told = one_way(bench.seconds(10 - lossy.unwrap_or(10), |_| 300).unwrap());
                near += u32::from((told - 300.0).abs() <= 50.0);
                let told = one_way(bench.seconds(20, |_| 300).unwrap());
                assert!((told - 300.0).abs() <= 75.0, "seed {seed}: {told} after 30 s");
            }
            // One watcher's word has an error of 3.3 points; what is told of a network is the mean of all of them.
            assert!(near >= 160, "{near} of 200 with {} peers", peers.len());
        }
    }

    #[test]
    fn a_loss_of_one_to_five_per_cent_each_way_is_never_told_as_ten() {
        for (loss, peers) in [10, 30, 50].into_iter().zip([&[ONE, TWO, THREE][..], &[ONE, TWO], &[ONE]]) {
            let mut bench = Bench::new(peers, loss);
            for second in 0..20_000 {
                let told = bench.second(|_| loss).map_or(0.0, one_way);
                assert!(told < 100.0, "{told} told of {loss} after {second} s");
            }
        }
    }

    #[test]
    fn a_loss_that_ends_is_forgotten_within_seconds_and_one_that_stays_is_not() {
        for seed in 0..50 {
            let mut bench = Bench::new(&[ONE, TWO], seed);
            bench.seconds(20, |_| 300);
            for second in 0..60 {
                let told = bench.second(|_| 300).map_or(0.0, one_way);
                assert!(told >= 150.0, "seed {seed}: {told} after {second} s");
            }
            assert!(bench.seconds(8, |_| 0).is_some_and(|told| told < 50), "seed {seed}");
        }
    }

    #[test]
    fn a_dead_peer_is_no_loss_neither_while_it_is_dead_nor_when_it_is_back() {
        let mut bench = Bench::new(&[ONE, TWO], 3);
        bench.seconds(10, |_| 0);
        for _ in 0..10 {
            assert_eq!(bench.second(|peer| if peer == TWO { 1000 } else { 0 }), Some(0));
        }
        assert_eq!(bench.meter.windows[&TWO].silent.len(), SILENT_TRIPS_MAX + 1, "no more is kept");
        assert_eq!(bench.seconds(3, |_| 0), Some(0));
        let mut alone = Bench::new(&[ONE], 3);
        alone.seconds(10, |_| 0);
        alone.seconds(10, |_| 1000);
        assert_eq!(alone.meter.row.len(), SILENT_TRIPS_MAX + 1, "no more is kept");
        assert_eq!(alone.second(|_| 0), Some(0));
    }

    #[test]
    fn answers_that_are_held_back_for_two_seconds_again_and_again_are_no_loss() {
        for peers in [&[ONE][..], &[ONE, TWO], &[ONE, TWO, THREE]] {
            let mut bench = Bench::new(peers, 1);
            for second in 0..100 {
                let held = second % 5 < 2;
                let told = bench.second(|_| if held { 1000 } else { 0 });
                assert!(told.unwrap_or(0) == 0, "{told:?}");
            }
        }
    }

    #[test]
    fn one_interruption_is_no_loss_however_short_it_is() {
        for peers in [&[ONE][..], &[ONE, TWO], &[ONE, TWO, THREE]] {
            for (seed, cut_for) in (0..20).flat_map(|seed| (1..=20).map(move |tenths| (seed, tenths))) {
                let mut bench = Bench::new(peers, seed);
                bench.seconds(20 + seed % 7, |_| 0);
                let begun = bench.now + Duration::from_millis(37 * seed);
                let end = begun + Duration::from_millis(100) * cut_for;
                let (step, mut at) = (SECOND / 12, bench.now);
                for peer in peers.iter().cycle().take(12 * 40) {
                    let echo = if (begun..end).contains(&at) { Echo::Silent } else { Echo::Replied };
                    bench.meter.take(*peer, at, echo);
                    at = at + step;
                    let told = bench.meter.per_mille(at);
                    assert_eq!(told.unwrap_or(0), 0, "{cut_for} tenths of a second, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn one_bad_peer_does_not_decide_alone_where_there_are_more() {
        for peers in [&[ONE, TWO][..], &[ONE, TWO, THREE]] {
            let mut bench = Bench::new(peers, 5);
            bench.seconds(30, |_| 10);
            for _ in 0..60 {
                let told = bench.second(|peer| if peer == ONE { 300 } else { 10 });
                assert!(told.is_some_and(|told| one_way(told) < 100.0), "{told:?}");
            }
        }
        let mut alone = Bench::new(&[ONE], 5);
        assert!(alone.seconds(30, |_| 300).is_some_and(|told| told > 400), "where there is no other, it does");
    }

    #[test]
    fn few_trips_old_ones_and_those_of_former_peers_say_nothing() {
        let mut bench = Bench::new(&[ONE], 1);
        assert_eq!(bench.second(|_| 0), None);
        assert_eq!(bench.second(|_| 0), Some(0));
        assert_eq!(bench.meter.per_mille(bench.now + TRIPS_COUNTED_FOR), None);
        bench.seconds(100, |_| 0);
        assert!(bench.meter.windows[&ONE].all().tried <= 12 * 30);
        bench.meter.set_peers(&[TWO]);
        bench.meter.take(ONE, bench.now, Echo::Replied);
        assert_eq!(bench.meter.windows.keys().collect::<Vec<_>>(), [&TWO]);
    }

    proptest! {
        /// Whatever comes, no more is lost than was tried, and what is kept is bounded.
        #[test]
        fn shares_are_shares(
            echoes in prop::collection::vec((1u64..5, 0u64..400, any::<bool>()), 1..600),
            asked_every in 1usize..600,
        ) {
            let mut meter = EchoMeter::default();
            meter.set_peers(&[ONE, TWO, THREE]);
            let mut now = Moment::ZERO;
            for (number, (peer, millis, replied)) in (1..).zip(echoes) {
                now = now + Duration::from_millis(millis);
                meter.take(WatcherId::new(peer), now, if replied { Echo::Replied } else { Echo::Silent });
                if number % asked_every == 0 {
                    prop_assert!(meter.per_mille(now).is_none_or(|told| told <= 1000));
                }
                prop_assert!(meter.row.len() <= SILENT_TRIPS_MAX + 1);
                for window in meter.windows.values() {
                    prop_assert!(window.silent.len() <= SILENT_TRIPS_MAX + 1 && window.steps.len() <= 31);
                }
            }
        }
    }
}
