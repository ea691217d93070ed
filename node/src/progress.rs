//! Whether a guest gets on, judged from successive reads of its counters. Pure: reads come in, a word comes out.
//!
//! What the counters of real guests say under TCG (QEMU 7.2 at niceness 10 on a busy machine; share of one vCPU's time
//! over 3 s):
//!
//! | guest | vCPU ran | waited for a CPU | block operations, packets sent |
//! |---|---|---|---|
//! | Linux 6.1 on microvm, idle, nobody asks it anything | 1.7 to 2.5 % | 0 to 2 % | none for a minute and longer |
//! | Linux 6.1 on q35, idle | 0.66 to 0.98 % | 0 to 2 % | none |
//! | real mode, `sti; hlt`, only the PC's timer ticks | 0.31 to 0.34 % | 0 to 1 % | none |
//! | real mode, `cli; hlt` | 0.03 to 0.04 % | 0 % | none |
//! | paused, panicked with pvpanic, or its process stopped (SIGSTOP) | exactly 0 | 0 | none |
//! | Linux 6.1 after a panic without pvpanic; `cli; jmp $`; a program that computes | 64 to 98 %, with what it waited 97 to 100 % | 2 to 36 % | none |
//!
//! A halted vCPU costs nothing of its own under TCG: its thread sleeps on a condition variable (`qemu_wait_io_event`)
//! until there is an interrupt that it takes. Each interrupt that it does not take wakes the thread for some 16 us, which
//! is the rest of 0.03 %. So an idle guest shows by its timers alone, and one that stays below them for all of
//! [`WINDOW`] is not idle. Under KVM the thread sleeps in the kernel; no figures were taken there.
//!
//! The word says nothing of the guest's health: a program that computes looks like a spin. It must never become a
//! verdict alone.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use vouch_types::Progress;

/// The time over which counters are compared.
pub const WINDOW: Duration = Duration::from_secs(3);
/// The least time between two reads that are remembered: reads on events can come much faster than the beat.
pub const SPACING_MIN: Duration = Duration::from_millis(100);
/// The longest time between two reads that still belong together.
pub const GAP_MAX: Duration = Duration::from_secs(10);
/// How many reads are remembered: the window at the least spacing, and the one before it.
pub const READS_MAX: usize = 32;
/// Below this share of the time nothing moves, per mille: above what interrupts cost that a guest does not take, and
/// well below what the slowest timer costs that it takes.
pub const STILL_BELOW: u128 = 1;
/// From this share on a guest that was still works again, per mille.
pub const STILL_ENDS: u128 = 2;
/// From this share of one vCPU's time on, run or waited for, a guest spins, per mille.
pub const SPIN_FROM: u128 = 900;
/// Below this share a guest that spun works again, per mille.
pub const SPIN_ENDS: u128 = 750;
/// From this share of all its vCPUs' time on for which they wait for a CPU the counters say nothing, per mille.
pub const STEAL_FROM: u128 = 300;
/// Below this share they say something again, per mille.
pub const STEAL_ENDS: u128 = 200;
/// A monitor that is slower than this says that QEMU itself is held up, and not its guest.
pub const MONITOR_SLOW: Duration = Duration::from_secs(1);

/// Times of a machine's vCPUs, all together, since its process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VcpuTimes {
    /// For how long they ran.
    pub ran: Duration,
    /// For how long they waited for a CPU of the host (steal).
    pub waited: Duration,
    /// How many threads they are.
    pub threads: u32,
}

/// One read of a guest's counters; what is not known is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterRead {
    /// When it was read.
    pub at: Instant,
    /// What its vCPUs have had of the host.
    pub vcpu: Option<VcpuTimes>,
    /// Block operations done; 0 for a guest without a disk.
    pub block_operations: Option<u64>,
    /// Packets that it sent; 0 for a guest without a network card.
    pub sent_packets: Option<u64>,
    /// Round trip of the monitor.
    pub monitor: Option<Duration>,
}

/// What the reads of the window come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Judged {
    /// They do not fill the window, or do not say enough.
    #[default]
    Nothing,
    /// The host keeps too much time from the guest.
    Starved,
    Working,
    Still,
    Spinning,
}

/// The reads of one VM's counters over the last seconds, and the word that they come to.
///
/// ```text
///            window full
/// Nothing ----------------> Starved | Working | Still | Spinning, and any of them to any other
///    ^                                   |
///    +---- counters missing or begun anew, or not read for long
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProgressTrack {
    reads: VecDeque<CounterRead>,
    judged: Judged,
}

impl ProgressTrack {
    /// Returns what the reads so far come to.
    pub fn word(&self) -> Progress {
        match self.judged {
            Judged::Nothing | Judged::Starved => Progress::Unknown,
            Judged::Working => Progress::Working,
            Judged::Still => Progress::Still,
            Judged::Spinning => Progress::Spinning,
        }
    }

    /// Forgets all reads: the guest does not execute, or cannot be read.
    pub fn clear(&mut self) {
        self.reads.clear();
        self.judged = Judged::Nothing;
    }

    /// Takes one more read into account. One that is no later than the last, or comes too soon after it, changes
    /// nothing.
    pub fn note(&mut self, read: CounterRead) {
        if let Some(last) = self.reads.back() {
            let passed = read.at.saturating_duration_since(last.at);
            if passed < SPACING_MIN {
                return;
            }
            if passed > GAP_MAX || began_anew(last, &read) {
                self.clear();
            }
        }
        self.reads.push_back(read);
        while self.reads.get(1).is_some_and(|second| read.at.saturating_duration_since(second.at) >= WINDOW)
            || self.reads.len() > READS_MAX
        {
            self.reads.pop_front();
        }
        self.judged = self.judge();
    }

    fn judge(&self) -> Judged {
        let (Some(first), Some(last)) = (self.reads.front(), self.reads.back()) else { return Judged::Nothing };
        let span = last.at.saturating_duration_since(first.at);
        if span < WINDOW {
            return Judged::Nothing;
        }
        let (Some(blocks), Some(sent), Some((from, to))) = (
            moved(first.block_operations, last.block_operations),
            moved(first.sent_packets, last.sent_packets),
            first.vcpu.zip(last.vcpu),
        ) else {
            return Judged::Nothing;
        };
        if blocks || sent {
            return Judged::Working;
        }
        if self.reads.iter().any(|r| r.monitor.is_some_and(|m| m > MONITOR_SLOW)) {
            return Judged::Nothing;
        }
        let per_mille = |part: Duration, of: Duration| (part.as_nanos() * 1000).checked_div(of.as_nanos()).unwrap_or(0);
        let waited = to.waited.saturating_sub(from.waited);
        if per_mille(waited, span * to.threads) >= if self.judged == Judged::Starved { STEAL_ENDS } else { STEAL_FROM }
        {
            return Judged::Starved;
        }
        let ran = to.ran.saturating_sub(from.ran);
        // A vCPU that waits for a CPU wants to run: with that a spin shows on a busy host as well, and where the other
        // vCPUs are halted.
        if per_mille(ran + waited, span) >= if self.judged == Judged::Spinning { SPIN_ENDS } else { SPIN_FROM } {
            Judged::Spinning
        } else if per_mille(ran, span) < if self.judged == Judged::Still { STILL_ENDS } else { STILL_BELOW } {
            Judged::Still
        } else {
            Judged::Working
        }
    }
}

fn moved(from: Option<u64>, to: Option<u64>) -> Option<bool> {
    from.zip(to).map(|(from, to)| to > from)
}

/// Counters only rise within one life of a process.
fn began_anew(before: &CounterRead, now: &CounterRead) -> bool {
    let fell = |a: Option<u64>, b: Option<u64>| a.zip(b).is_some_and(|(a, b)| b < a);
    before.vcpu.zip(now.vcpu).is_some_and(|(a, b)| b.ran < a.ran || b.waited < a.waited)
        || fell(before.block_operations, now.block_operations)
        || fell(before.sent_packets, now.sent_packets)
}

#[cfg(test)]
mod tests;
