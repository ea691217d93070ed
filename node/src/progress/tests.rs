//! Counters as measured guests show them, and what they come to.

use super::*;

const BEAT: Duration = Duration::from_millis(500);

/// A guest whose counters the test moves, read on the node's beat.
struct Guest {
    track: ProgressTrack,
    read: CounterRead,
}

impl Guest {
    fn new() -> Self {
        let read = CounterRead {
            at: Instant::now(),
            vcpu: Some(VcpuTimes { ran: Duration::from_secs(2), waited: Duration::from_secs(1), threads: 1 }),
            block_operations: Some(0),
            sent_packets: Some(7),
            monitor: Some(Duration::from_millis(1)),
        };
        let mut track = ProgressTrack::default();
        track.note(read);
        Self { track, read }
    }

    /// Lets one beat pass, in which the vCPUs run and wait for these shares of one vCPU's time.
    fn beat_with(&mut self, ran: u32, waited: u32, change: impl FnOnce(&mut CounterRead)) -> Progress {
        self.read.at += BEAT;
        if let Some(vcpu) = &mut self.read.vcpu {
            vcpu.ran += BEAT * ran / 1000;
            vcpu.waited += BEAT * waited / 1000;
        }
        change(&mut self.read);
        self.track.note(self.read);
        self.track.word()
    }

    fn beat(&mut self, vcpu_per_mille: u32, change: impl FnOnce(&mut CounterRead)) -> Progress {
        self.beat_with(vcpu_per_mille, 0, change)
    }

    /// Lets so many beats pass, and returns the words in a row that differ.
    fn beats(&mut self, beats: usize, vcpu_per_mille: impl Fn(usize) -> u32) -> Vec<Progress> {
        let mut words: Vec<Progress> = (0..beats).map(|i| self.beat(vcpu_per_mille(i), |_| {})).collect();
        words.dedup();
        words
    }
}

#[test]
fn nothing_is_said_before_the_window_is_full() {
    let mut guest = Guest::new();
    assert_eq!(guest.beats(5, |_| 0), [Progress::Unknown]);
    assert_eq!(guest.beats(1, |_| 0), [Progress::Still]);
}

#[test]
fn an_idle_guest_works_and_its_word_does_not_change_for_ten_minutes() {
    let mut guest = Guest::new();
    guest.beats(6, |_| 20);
    // Its timers come in heaps: beats with hardly anything between beats with much.
    assert_eq!(guest.beats(1200, |i| [12, 115, 2, 21, 0, 40][i % 6]), [Progress::Working]);
}

#[test]
fn a_guest_that_panicked_without_a_device_to_say_so_spins_and_one_that_halted_is_still() {
    let mut guest = Guest::new();
    guest.beats(10, |_| 20);
    assert_eq!(guest.beats(7, |_| 978), [Progress::Working, Progress::Spinning]);
    assert_eq!(guest.beats(8, |_| 0), [Progress::Spinning, Progress::Working, Progress::Still]);
}

#[test]
fn a_packet_or_a_block_operation_is_progress_at_once_and_for_one_window() {
    let mut guest = Guest::new();
    guest.beats(8, |_| 1000);
    assert_eq!(guest.beat(1000, |r| r.sent_packets = Some(8)), Progress::Working);
    assert_eq!(guest.beats(5, |_| 1000), [Progress::Working]);
    assert_eq!(guest.beats(1, |_| 1000), [Progress::Spinning]);
    assert_eq!(guest.beat(1000, |r| r.block_operations = Some(1)), Progress::Working);
}

#[test]
fn a_word_does_not_flap_around_its_bound() {
    let mut guest = Guest::new();
    guest.beats(8, |_| 950);
    assert_eq!(guest.beats(100, |i| if i % 7 < 4 { 920 } else { 850 }), [Progress::Spinning]);
    let mut guest = Guest::new();
    guest.beats(8, |_| 0);
    assert_eq!(guest.beats(100, |i| if i % 7 < 4 { 1 } else { 2 }), [Progress::Still]);
    assert_eq!(guest.beats(100, |_| 3), [Progress::Still, Progress::Working], "a timer is life");
    let mut guest = Guest::new();
    let mut words: Vec<Progress> = (0..100)
        .map(|i| {
            // The first beats fill the window above the bound; after that it is crossed again and again.
            let waited = if i < 7 || i % 7 < 4 { 360 } else { 200 };
            guest.beat_with(1000 - waited, waited, |_| {})
        })
        .collect();
    words.dedup();
    assert_eq!(words, [Progress::Unknown]);
}

#[test]
fn a_host_that_keeps_time_from_the_guest_is_not_its_guests_fault() {
    let mut guest = Guest::new();
    for _ in 0..20 {
        assert_eq!(guest.beat_with(600, 400, |_| {}), Progress::Unknown);
    }
    let word = guest.beat_with(600, 400, |r| r.sent_packets = Some(8));
    assert_eq!(word, Progress::Working, "a packet proves life all the same");
    let mut guest = Guest::new();
    let words: Vec<Progress> = (0..6).map(|_| guest.beat_with(740, 250, |_| {})).collect();
    assert_eq!(words.last(), Some(&Progress::Spinning), "with less it is a spin, because a waiting vCPU wants to run");
    let mut guest = Guest::new();
    let words: Vec<Progress> = (0..6).map(|_| guest.beat_with(20, 250, |_| {})).collect();
    assert_eq!(words.last(), Some(&Progress::Working), "an idle guest that waits for its turn is none");
}

#[test]
fn one_vcpu_that_spins_is_enough_and_a_guest_of_four_that_computes_a_little_does_not() {
    let with_four = |ran: u32, waited: u32| {
        let mut guest = Guest::new();
        guest.read.vcpu = guest.read.vcpu.map(|v| VcpuTimes { threads: 4, ..v });
        guest.beats(1, |_| 0);
        (0..7).map(|_| guest.beat_with(ran, waited, |_| {})).last()
    };
    assert_eq!(with_four(670, 330), Some(Progress::Spinning), "a panic halts the other three");
    assert_eq!(with_four(3200, 700), Some(Progress::Spinning));
    assert_eq!(with_four(2600, 1300), Some(Progress::Unknown));
    assert_eq!(with_four(80, 40), Some(Progress::Working));
}

#[test]
fn counters_that_are_missing_or_begin_anew_say_nothing() {
    let mut guest = Guest::new();
    guest.beats(8, |_| 0);
    assert_eq!(guest.beat(0, |r| r.vcpu = None), Progress::Unknown);
    let mut guest = Guest::new();
    guest.beats(8, |_| 0);
    assert_eq!(guest.beat(0, |r| r.vcpu = Some(VcpuTimes { threads: 1, ..VcpuTimes::default() })), Progress::Unknown);
    let mut guest = Guest::new();
    guest.read.block_operations = None;
    assert_eq!(guest.beats(10, |_| 0), [Progress::Unknown]);
    let mut guest = Guest::new();
    guest.beats(8, |_| 0);
    assert_eq!(guest.beat(0, |r| r.at += GAP_MAX), Progress::Unknown, "nobody looked for too long");
    guest.beats(8, |_| 0);
    guest.track.clear();
    assert_eq!(guest.track.word(), Progress::Unknown);
}

#[test]
fn a_monitor_that_is_slow_says_that_qemu_is_held_up() {
    let mut guest = Guest::new();
    assert_eq!(guest.beats(6, |_| 0).last(), Some(&Progress::Still));
    let word = guest.beat(0, |r| r.monitor = Some(MONITOR_SLOW + Duration::from_millis(1)));
    assert_eq!(word, Progress::Unknown);
}

#[test]
fn reads_that_come_fast_are_not_remembered_and_no_more_than_needed_are() {
    let mut guest = Guest::new();
    for _ in 0..10_000 {
        guest.read.at += Duration::from_millis(1);
        guest.track.note(guest.read);
        assert!(guest.track.reads.len() <= READS_MAX);
    }
    assert_eq!(guest.track.reads.len(), 31, "the window at the least spacing");
    assert_eq!(guest.track.word(), Progress::Still);
}
