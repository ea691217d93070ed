//! Which runs may begin: how many are in flight, of all that there are places for.
//!
//! Runs at targets that answer end soon; those at silent ones keep their place until their timeout, and those of a probe
//! that misbehaves until they are stopped. So that neither delays the look at another target or by another probe:
//!
//! - A quarter of all places is kept for checks whose last run ended soon, the [`Pace::Prompt`] ones. Of the rest, slow
//!   checks have five sixths and asked runs two thirds at most, so that neither shuts the other out.
//! - A component that was compiled here, whoever wrote it, has a *window*: that many runs of it are in flight at most. Much
//!   as a congestion window of TCP it begins small, grows by one with each run that ends by itself while at least half of
//!   it is in use (RFC 5681, RFC 7661), and is halved by a run that had to be stopped or crashed, or that ended while the
//!   component computed more than its share. It never grows beyond half of all places, nor beyond the runs that there was
//!   memory for when the component was made ready. Slow checks have three quarters of it at most, and asked runs half.
//!   Shipped components have no window.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vouch_types::{Digest, Moment};

use super::{Conduct, RunLimit};

/// The window of a component of which nothing is known.
pub const WINDOW_FIRST: usize = 4;
/// A compiled component has one part in so many of the processor.
const SHARE: i64 = 4;
/// The most that it may compute at once, in microseconds.
const ALLOWANCE_MAX: i64 = 250_000;

/// How soon the last run of a check ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pace {
    /// In less than half of its timeout and of the cluster's; or it has had none.
    Prompt,
    /// Later.
    Slow,
}

/// Checks that compete for the same places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lane {
    /// SHA-256 of the component that runs; `None` for a relay, and where no component is assigned.
    pub component: Option<Digest>,
    /// How soon its last run ended.
    pub pace: Pace,
}

/// Where a component came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It came with the watcher.
    Shipped,
    /// It was compiled here.
    Compiled {
        /// For how many runs of it at a time there is memory, as far as is known.
        runs: usize,
    },
}

/// Why a run was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It was due.
    Due,
    /// A manager asked. How soon it will end is unknown: asked are those that give no sign of life.
    Asked,
}

/// A place that a run has until it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    lane: Lane,
    kind: Kind,
    begun: Moment,
}

impl Place {
    /// Returns the lane that it began in.
    pub const fn lane(&self) -> Lane {
        self.lane
    }
}

/// Who competes for a share of the places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Prompt,
    Slow,
    Asked,
}

impl Kind {
    const fn of(lane: Lane, cause: Cause) -> Self {
        match (cause, lane.pace) {
            (Cause::Asked, _) => Self::Asked,
            (Cause::Due, Pace::Slow) => Self::Slow,
            (Cause::Due, Pace::Prompt) => Self::Prompt,
        }
    }
}

/// Runs in flight, or how many there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    all: usize,
    slow: usize,
    asked: usize,
}

impl Counts {
    /// Returns whether one more of this kind fits into so many places.
    fn fits(self, kind: Kind, places: usize) -> bool {
        // Of one place, all may have one.
        let lasting = (places - places / 4).max(1);
        let lasts = self.slow + self.asked < lasting;
        let fits = match kind {
            Kind::Prompt => true,
            Kind::Slow => lasts && self.slow < (lasting * 5 / 6).max(1),
            Kind::Asked => lasts && self.asked < (lasting * 2 / 3).max(1),
        };
        self.all < places && fits
    }

    fn of(&mut self, kind: Kind) -> Option<&mut usize> {
        match kind {
            Kind::Prompt => None,
            Kind::Slow => Some(&mut self.slow),
            Kind::Asked => Some(&mut self.asked),
        }
    }

    fn add(&mut self, kind: Kind) {
        self.all += 1;
        self.of(kind).into_iter().for_each(|count| *count += 1);
    }

    fn remove(&mut self, kind: Kind) {
        self.all -= 1;
        self.of(kind).into_iter().for_each(|count| *count -= 1);
    }
}

/// Runs of one component.
#[derive(Debug, Default)]
struct Component {
    in_flight: Counts,
    /// How many may be in flight; `None` when as many as there are places for.
    window: Option<Window>,
}

/// How many runs of a component may be in flight, and what it may compute.
#[derive(Clone, Copy, Debug)]
struct Window {
    size: usize,
    most: usize,
    /// Runs that began before say nothing of the window that there has been since.
    halved: Moment,
    /// How much it may compute at once, in microseconds; below zero when it computed more.
    allowance: i64,
    /// Up to when that is counted.
    at: Moment,
}

impl Window {
    const fn first(most: usize) -> Self {
        Self { size: WINDOW_FIRST, most, halved: Moment::ZERO, allowance: ALLOWANCE_MAX, at: Moment::ZERO }
    }

    /// Returns whether the component stays within its share of the processor with what this run computed.
    fn affords(&mut self, now: Moment, computed: Duration) -> bool {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let earned = micros(now.since(self.at)) / SHARE;
        self.at = now;
        let left = self.allowance.saturating_add(earned).min(ALLOWANCE_MAX).saturating_sub(micros(computed));
        self.allowance = left.max(-ALLOWANCE_MAX);
        left >= 0
    }

    fn ended(&mut self, place: Place, in_flight: usize, now: Moment, conduct: Conduct) {
        let is_well = match conduct {
            Conduct::Untold => return,
            Conduct::Badly => false,
            Conduct::Well { computed } => self.affords(now, computed),
        };
        if is_well && in_flight * 2 >= self.size {
            self.size = (self.size + 1).min(self.most);
        } else if !is_well && place.begun >= self.halved {
            self.size = (self.size / 2).max(1);
            self.halved = now;
        }
    }
}

/// Which runs may begin.
#[derive(Debug)]
pub struct Places {
    most: usize,
    in_flight: Counts,
    components: BTreeMap<Digest, Component>,
}

impl Places {
    /// Returns that nothing is in flight, of as many runs as may be.
    pub fn new(runs: RunLimit) -> Self {
        Self { most: runs.all(), in_flight: Counts::default(), components: BTreeMap::new() }
    }

    /// Sets which components are assigned; what is known of others is forgotten once none of their runs is in flight.
    pub fn set_components(&mut self, assigned: &BTreeSet<Digest>) {
        self.components.retain(|digest, known| known.in_flight.all > 0 || assigned.contains(digest));
    }

    /// A component can run now.
    pub fn ready(&mut self, component: Digest, origin: Origin) {
        let known = self.components.entry(component).or_default();
        known.window = match origin {
            Origin::Shipped => None,
            Origin::Compiled { runs } => {
                let most = runs.clamp(1, self.most / 2);
                let window = known.window.unwrap_or_else(|| Window::first(most));
                Some(Window { size: window.size.min(most), most, ..window })
            }
        };
    }

    /// Returns whether no run may begin, of whatever it is.
    pub const fn is_full(&self) -> bool {
        self.in_flight.all >= self.most
    }

    /// Returns whether a run of a check in this lane may begin.
    pub fn has_room(&self, lane: Lane, cause: Cause) -> bool {
        let kind = Kind::of(lane, cause);
        let component = lane.component.as_ref().and_then(|digest| self.components.get(digest));
        let windowed = component.and_then(|known| Some((known.in_flight, known.window?)));
        self.in_flight.fits(kind, self.most)
            && windowed.is_none_or(|(in_flight, window)| in_flight.fits(kind, window.size))
    }

    /// A run begins.
    pub fn begin(&mut self, now: Moment, lane: Lane, cause: Cause) -> Place {
        let kind = Kind::of(lane, cause);
        self.in_flight.add(kind);
        if let Some(component) = lane.component {
            self.components.entry(component).or_default().in_flight.add(kind);
        }
        Place { lane, kind, begun: now }
    }

    /// The run that has this place has ended.
    pub fn end(&mut self, now: Moment, place: Place, conduct: Conduct) {
        self.in_flight.remove(place.kind);
        let component = place.lane.component.and_then(|component| self.components.get_mut(&component));
        let Some(known) = component else { return };
        if let Some(window) = &mut known.window {
            window.ended(place, known.in_flight.all, now, conduct);
        }
        known.in_flight.remove(place.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: Digest = Digest::new([1; 32]);
    const COMPILED: Digest = Digest::new([2; 32]);
    const WELL: Conduct = Conduct::Well { computed: Duration::from_micros(50) };

    fn lane(component: Digest, pace: Pace) -> Lane {
        Lane { component: Some(component), pace }
    }

    /// All places, with a clock.
    struct Bench {
        places: Places,
        now: Moment,
    }

    impl Bench {
        fn new() -> Self {
            let mut places = Places::new(RunLimit::LEAST);
            places.ready(SHIPPED, Origin::Shipped);
            places.ready(COMPILED, Origin::Compiled { runs: usize::MAX });
            Self { places, now: Moment::ZERO }
        }

        /// Begins runs until there is no room.
        fn fill(&mut self, lane: Lane, cause: Cause) -> Vec<Place> {
            let mut begun = Vec::new();
            while self.places.has_room(lane, cause) {
                begun.push(self.places.begin(self.now, lane, cause));
            }
            begun
        }

        /// Ends runs a second later.
        fn end(&mut self, runs: Vec<Place>, conduct: Conduct) {
            self.now = self.now + Duration::from_secs(1);
            runs.into_iter().for_each(|place| self.places.end(self.now, place, conduct));
        }

        /// Fills the window again and again with runs that are well; returns how many it has then.
        fn grown(&mut self, lane: Lane, rounds: usize) -> usize {
            for _ in 0..rounds {
                let begun = self.fill(lane, Cause::Due);
                self.end(begun, WELL);
            }
            let begun = self.fill(lane, Cause::Due);
            let count = begun.len();
            self.end(begun, Conduct::Untold);
            count
        }
    }

    #[test]
    fn a_quarter_is_kept_for_prompt_checks_and_neither_slow_nor_asked_ones_shut_the_other_out() {
        let (slow, prompt) = (lane(SHIPPED, Pace::Slow), lane(SHIPPED, Pace::Prompt));
        for (first, second, counts) in [
            ((slow, Cause::Due), (prompt, Cause::Asked), (160, 32)),
            ((prompt, Cause::Asked), (slow, Cause::Due), (128, 64)),
            ((slow, Cause::Asked), (slow, Cause::Due), (128, 64)),
        ] {
            let mut bench = Bench::new();
            let begun = (bench.fill(first.0, first.1), bench.fill(second.0, second.1));
            assert_eq!((begun.0.len(), begun.1.len()), counts);
            assert_eq!(bench.fill(prompt, Cause::Due).len(), 64);
            assert!(bench.places.is_full());
            assert!(!bench.places.has_room(Lane { component: None, pace: Pace::Prompt }, Cause::Due));
            bench.end(begun.0, WELL);
            assert!(bench.places.has_room(slow, Cause::Due) && bench.places.has_room(prompt, Cause::Asked));
        }
    }

    #[test]
    fn a_window_grows_while_it_is_used_and_is_halved_once_for_all_runs_that_began_before() {
        let (mut bench, prompt) = (Bench::new(), lane(COMPILED, Pace::Prompt));
        assert_eq!(bench.grown(prompt, 0), WINDOW_FIRST);
        // The last of them ended while less than half of the window was in use.
        assert!((WINDOW_FIRST + 2..WINDOW_FIRST * 2).contains(&bench.grown(prompt, 1)));
        let before = bench.grown(prompt, 4);
        let begun = bench.fill(prompt, Cause::Due);
        bench.end(begun, Conduct::Badly);
        let after = bench.fill(prompt, Cause::Due);
        assert_eq!(after.len(), before / 2);
        bench.end(after, Conduct::Untold);
        assert_eq!(bench.grown(prompt, 0), before / 2, "what never began says nothing");
        for _ in 0..10 {
            let begun = bench.fill(prompt, Cause::Due);
            bench.end(begun, Conduct::Badly);
        }
        assert_eq!(bench.grown(prompt, 0), 1);
        // One that is made ready again, after its managers took it away for a moment, is known.
        bench.places.ready(COMPILED, Origin::Compiled { runs: usize::MAX });
        assert_eq!(bench.grown(prompt, 0), 1);
        assert!(bench.grown(prompt, 3) > 1, "it recovers");
    }

    #[test]
    fn one_that_ends_one_run_at_a_time_never_opens_its_window_far() {
        let (mut bench, prompt) = (Bench::new(), lane(COMPILED, Pace::Prompt));
        for _ in 0..1_000 {
            let place = bench.places.begin(bench.now, prompt, Cause::Due);
            bench.end(vec![place], WELL);
        }
        assert!(bench.grown(prompt, 0) <= WINDOW_FIRST, "it behaves as long as it is alone");
    }

    #[test]
    fn one_that_computes_more_than_its_share_and_ends_by_itself_has_one_run_at_a_time() {
        let (mut bench, prompt) = (Bench::new(), lane(COMPILED, Pace::Prompt));
        bench.grown(prompt, 8);
        for _ in 0..20 {
            let begun = bench.fill(prompt, Cause::Due);
            bench.end(begun, Conduct::Well { computed: Duration::from_millis(400) });
        }
        assert_eq!(bench.grown(prompt, 0), 1);
        // What it computes when it has calmed down is within it.
        assert!(bench.grown(prompt, 8) > WINDOW_FIRST);
    }

    #[test]
    fn a_compiled_component_has_half_of_all_places_at_most_and_asked_runs_do_not_take_its_window() {
        let (mut bench, slow, prompt) = (Bench::new(), lane(COMPILED, Pace::Slow), lane(COMPILED, Pace::Prompt));
        assert_eq!(bench.grown(prompt, 40), 128);
        assert_eq!(bench.grown(slow, 0), 80);
        let asked = bench.fill(prompt, Cause::Asked);
        assert_eq!((asked.len(), bench.fill(prompt, Cause::Due).len()), (64, 64));
        assert!(bench.places.has_room(lane(SHIPPED, Pace::Slow), Cause::Due));
        let mut bench = Bench::new();
        assert_eq!(bench.fill(prompt, Cause::Asked).len(), WINDOW_FIRST / 2);
        assert!(bench.places.has_room(prompt, Cause::Due));
    }

    #[test]
    fn a_window_never_grows_beyond_the_runs_that_there_was_memory_for() {
        let (mut bench, prompt) = (Bench::new(), lane(COMPILED, Pace::Prompt));
        for (runs, most) in [(6, 6), (2, 2), (0, 1)] {
            bench.places.ready(COMPILED, Origin::Compiled { runs });
            assert_eq!(bench.grown(prompt, 10), most);
        }
    }

    #[test]
    fn a_component_that_is_assigned_no_more_is_forgotten_once_its_runs_have_ended() {
        let (mut bench, prompt) = (Bench::new(), lane(COMPILED, Pace::Prompt));
        let place = bench.places.begin(bench.now, prompt, Cause::Due);
        bench.places.set_components(&BTreeSet::from([SHIPPED]));
        bench.end(vec![place], Conduct::Badly);
        assert_eq!(bench.places.in_flight, Counts::default());
        bench.places.set_components(&BTreeSet::from([SHIPPED]));
        assert_eq!(bench.places.components.keys().collect::<Vec<_>>(), [&SHIPPED]);
    }
}
