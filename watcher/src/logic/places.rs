//! Which runs may begin: how many are in flight, of all that there are places for.
//!
//! Runs at targets that answer end soon; those at silent ones keep their place until their timeout, and those of a probe
//! that misbehaves until they are stopped. So that neither delays the look at another target or by another probe:
//!
//! - A quarter of all places is kept for checks whose last run ended soon: for the [`Pace::Prompt`] ones.
//! - A component that was compiled here, whoever wrote it, has a *window*: that many runs of it are in flight at most. As a
//!   congestion window of TCP it begins small, grows by one with each run that ends by itself while at least half of it is
//!   in use, and is halved by each run that had to be stopped (RFC 5681 section 3.1, RFC 7661). Shipped components have none.
//!   It never grows beyond what there is memory for. A quarter of it is kept for prompt checks, too.
//! - Such a component has half of the places of slow checks at most, however long its runs may take.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::Digest;

use super::RunLimit;

/// The window of a component of which nothing is known.
pub const WINDOW_FIRST: usize = 4;

/// How soon the last run of a check ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pace {
    /// In less than half of its timeout; or it has had none.
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

/// Why a run was begun, and so whose places it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It was due.
    Due,
    /// A manager asked. How soon it will end is unknown: asked are those that give no sign of life.
    Asked,
}

/// Runs in flight of one component.
#[derive(Debug, Default)]
struct Component {
    in_flight: usize,
    lasting: usize,
    /// How many may be in flight; `None` when as many as there are places for.
    window: Option<Window>,
}

/// How many runs of a component may be in flight, and how far that may grow.
#[derive(Clone, Copy, Debug)]
struct Window {
    size: usize,
    most: usize,
}

/// Which runs may begin.
#[derive(Debug)]
pub struct Places {
    most: usize,
    in_flight: usize,
    /// Those of slow checks, and asked ones.
    lasting: usize,
    components: BTreeMap<Digest, Component>,
}

impl Places {
    /// Returns that nothing is in flight, of as many runs as may be.
    pub fn new(runs: RunLimit) -> Self {
        Self { most: runs.all(), in_flight: 0, lasting: 0, components: BTreeMap::new() }
    }

    /// Returns how many runs of slow checks, and asked ones, may be in flight.
    const fn lasting_max(&self) -> usize {
        most_that_last(self.most)
    }

    /// Sets which components are assigned; what is known of others is forgotten once none of their runs is in flight.
    pub fn set_components(&mut self, assigned: &BTreeSet<Digest>) {
        self.components.retain(|digest, known| known.in_flight > 0 || assigned.contains(digest));
    }

    /// A component can run now.
    pub fn ready(&mut self, component: Digest, origin: Origin) {
        let known = self.components.entry(component).or_default();
        known.window = match origin {
            Origin::Shipped => None,
            Origin::Compiled { runs } => {
                let most = runs.clamp(1, self.most);
                Some(Window { size: known.window.map_or(WINDOW_FIRST, |window| window.size).min(most), most })
            }
        };
    }

    /// Returns whether no run may begin, of whatever it is.
    pub const fn is_full(&self) -> bool {
        self.in_flight >= self.most
    }

    /// Returns whether a run of a check in this lane may begin that is due.
    pub fn has_room(&self, lane: Lane) -> bool {
        let is_slow = lane.pace == Pace::Slow;
        let component = lane.component.as_ref().and_then(|digest| self.components.get(digest));
        let fits_component = component.is_none_or(|known| match known.window {
            None => true,
            Some(window) if is_slow => {
                let lasting_max = most_that_last(window.size).min(self.lasting_max() / 2);
                known.in_flight < window.size && known.lasting < lasting_max
            }
            Some(window) => known.in_flight < window.size,
        });
        !self.is_full() && fits_component && !(is_slow && self.lasting >= self.lasting_max())
    }

    /// Returns whether a run of a check in this lane may begin that was asked for; how many of them there may be is for
    /// [`Bursts`](super::Bursts) to say.
    pub fn has_room_for_asked(&self, lane: Lane) -> bool {
        self.has_room(Lane { pace: Pace::Prompt, ..lane })
    }

    /// A run has begun.
    pub fn begun(&mut self, lane: Lane, cause: Cause) {
        let lasts = usize::from(lasts(lane, cause));
        self.in_flight += 1;
        self.lasting += lasts;
        if let Some(component) = lane.component {
            let known = self.components.entry(component).or_default();
            known.in_flight += 1;
            known.lasting += lasts;
        }
    }

    /// A run has ended that had begun so, by itself or because it was `stopped`.
    pub fn ended(&mut self, lane: Lane, cause: Cause, stopped: bool) {
        let lasts = usize::from(lasts(lane, cause));
        self.in_flight -= 1;
        self.lasting -= lasts;
        let Some(known) = lane.component.and_then(|component| self.components.get_mut(&component)) else { return };
        if let Some(window) = &mut known.window {
            if stopped {
                window.size = (window.size / 2).max(1);
            } else if known.in_flight * 2 >= window.size {
                window.size = (window.size + 1).min(window.most);
            }
        }
        known.in_flight -= 1;
        known.lasting -= lasts;
    }
}

/// Returns how many of so many places may be taken by runs that last; of one, one.
const fn most_that_last(places: usize) -> usize {
    places - places / 4
}

fn lasts(lane: Lane, cause: Cause) -> bool {
    lane.pace == Pace::Slow || cause == Cause::Asked
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: Digest = Digest::new([1; 32]);
    const COMPILED: Digest = Digest::new([2; 32]);

    fn lane(component: Digest, pace: Pace) -> Lane {
        Lane { component: Some(component), pace }
    }

    fn places() -> Places {
        let mut places = Places::new(RunLimit::LEAST);
        places.ready(SHIPPED, Origin::Shipped);
        places.ready(COMPILED, Origin::Compiled { runs: usize::MAX });
        places
    }

    /// Begins runs until there is no room; returns how many.
    fn filled(places: &mut Places, lane: Lane) -> usize {
        (0..).take_while(|_| places.has_room(lane).then(|| places.begun(lane, Cause::Due)).is_some()).count()
    }

    #[test]
    fn a_quarter_of_the_places_is_kept_for_prompt_checks_and_asked_runs_take_none_of_it() {
        let mut places = places();
        let (slow, prompt) = (lane(SHIPPED, Pace::Slow), lane(SHIPPED, Pace::Prompt));
        (0..RunLimit::LEAST.asked()).for_each(|_| places.begun(prompt, Cause::Asked));
        assert_eq!(filled(&mut places, slow), 64, "of 192 that last, 128 are asked ones");
        assert!(!places.is_full());
        assert_eq!(filled(&mut places, prompt), 64);
        assert!(places.is_full() && !places.has_room(Lane { component: None, pace: Pace::Prompt }));
        places.ended(slow, Cause::Due, false);
        assert!(places.has_room(slow) && places.has_room(prompt));
    }

    #[test]
    fn the_window_of_a_compiled_component_grows_while_it_is_used_and_is_halved_by_each_run_that_is_stopped() {
        let (mut places, prompt) = (places(), lane(COMPILED, Pace::Prompt));
        assert_eq!(filled(&mut places, prompt), WINDOW_FIRST);
        assert!(!places.has_room_for_asked(prompt) && places.has_room(lane(SHIPPED, Pace::Slow)));
        (0..WINDOW_FIRST).for_each(|_| places.ended(prompt, Cause::Due, false));
        let grown = filled(&mut places, prompt);
        // The last two ended while less than half of the window was in use.
        assert_eq!(grown, WINDOW_FIRST + 2);
        (0..grown).for_each(|_| places.ended(prompt, Cause::Due, true));
        assert_eq!(filled(&mut places, prompt), 1);
        // One at a time is all of a window of one.
        places.ended(prompt, Cause::Due, false);
        assert_eq!(filled(&mut places, prompt), 2);
        // One that is made ready again, after its managers took it away for a moment, is known.
        places.ready(COMPILED, Origin::Compiled { runs: usize::MAX });
        assert!(!places.has_room(prompt));
    }

    #[test]
    fn one_that_ends_one_run_at_a_time_never_opens_its_window_far() {
        let (mut places, prompt) = (places(), lane(COMPILED, Pace::Prompt));
        for _ in 0..10_000 {
            places.begun(prompt, Cause::Due);
            places.ended(prompt, Cause::Due, false);
        }
        assert!(filled(&mut places, prompt) <= WINDOW_FIRST, "it behaves as long as it is alone");
    }

    #[test]
    fn a_compiled_component_has_half_of_the_places_of_slow_checks_at_most() {
        let (mut places, slow) = (places(), lane(COMPILED, Pace::Slow));
        for _ in 0..32 {
            let begun = filled(&mut places, slow);
            (0..begun).for_each(|_| places.ended(slow, Cause::Due, false));
        }
        assert_eq!(filled(&mut places, slow), 96);
        assert_eq!(filled(&mut places, lane(SHIPPED, Pace::Slow)), 96);
    }

    #[test]
    fn a_window_never_grows_beyond_the_runs_that_there_is_memory_for() {
        let (mut places, prompt) = (places(), lane(COMPILED, Pace::Prompt));
        for (runs, most) in [(6, 6), (2, 2), (0, 1)] {
            places.ready(COMPILED, Origin::Compiled { runs });
            for _ in 0..10 {
                let begun = filled(&mut places, prompt);
                assert!(begun <= most);
                (0..begun).for_each(|_| places.ended(prompt, Cause::Due, false));
            }
            let begun = filled(&mut places, prompt);
            assert_eq!(begun, most);
            (0..begun).for_each(|_| places.ended(prompt, Cause::Due, false));
        }
    }

    #[test]
    fn a_component_that_is_assigned_no_more_is_forgotten_once_its_runs_have_ended() {
        let (mut places, prompt) = (places(), lane(COMPILED, Pace::Prompt));
        places.begun(prompt, Cause::Due);
        places.set_components(&BTreeSet::from([SHIPPED]));
        places.ended(prompt, Cause::Due, true);
        assert_eq!(places.in_flight, 0);
        places.set_components(&BTreeSet::from([SHIPPED]));
        assert_eq!(places.components.keys().collect::<Vec<_>>(), [&SHIPPED]);
    }
}
