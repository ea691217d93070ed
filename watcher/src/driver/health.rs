//! Measures how well this machine keeps time: late timers, and the time that its hypervisor kept.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::watcher_task::Input;

/// From one measurement of lateness to the next.
const SAMPLE: Duration = Duration::from_millis(50);
/// The worst of this time is told.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Measures for as long as somebody takes `inputs`.
pub(super) async fn measure(inputs: mpsc::Sender<Input>) {
    let mut cpu = CpuTimes::read();
    loop {
        let (begun, mut worst) = (Instant::now(), Duration::ZERO);
        while begun.elapsed() < TOLD_EVERY {
            let due = Instant::now() + SAMPLE;
            sleep_until(due).await;
            worst = worst.max(due.elapsed());
        }
        let last = std::mem::replace(&mut cpu, CpuTimes::read());
        let steal_percent = cpu.steal_percent_since(&last);
        if inputs.send(Input::Health { loop_lag: worst, steal_percent }).await.is_err() {
            return;
        }
    }
}

/// Counters of the first line of `/proc/stat` (proc_stat(5)), in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct CpuTimes {
    all: u64,
    steal: u64,
}

impl CpuTimes {
    fn read() -> Self {
        std::fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        // user nice system idle iowait irq softirq steal; the guest times that follow are part of user and nice.
        let line = text.lines().next().unwrap_or_default();
        let times: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
        Self { all: times.iter().sum(), steal: times.get(7).copied().unwrap_or_default() }
    }

    fn steal_percent_since(&self, before: &Self) -> u8 {
        let all = self.all.saturating_sub(before.all).max(1);
        let percent = self.steal.saturating_sub(before.steal).saturating_mul(100) / all;
        u8::try_from(percent.min(100)).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_share_of_the_time_between_two_readings() {
        let before = CpuTimes::parse("cpu  10 0 10 70 0 0 0 10 5 5\ncpu0 1 1 1 1\n");
        let after = CpuTimes::parse("cpu  20 0 20 100 0 0 0 60 9 9\n");
        assert_eq!(before, CpuTimes { all: 100, steal: 10 });
        assert_eq!(after.steal_percent_since(&before), 50);
        assert_eq!(CpuTimes::parse("").steal_percent_since(&after), 0);
    }
}
