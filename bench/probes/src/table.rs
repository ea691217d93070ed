//! The table of all subjects, as ratios too.

use crate::fping::Pace;
use crate::load::{Check, Way};
use crate::measured::Measured;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// This program itself.
    Own(Check, Way),
    Blackbox(Check),
    Fping(Pace),
}

/// One subject, and what was measured of it in each round.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    name: &'static str,
    pub(crate) measured: Vec<Measured>,
}

/// Returns the subjects, in the order in which they have their turns.
pub(crate) fn rows() -> Vec<Row> {
    let row = |subject, name| Row { subject, name, measured: Vec::new() };
    vec![
        row(Subject::Own(Check::Tcp, Way::Probe), "TCP: shipped probe"),
        row(Subject::Own(Check::Tcp, Way::Sockets), "TCP: the same with sockets of its own"),
        row(Subject::Own(Check::Tcp, Way::Native), "TCP: native"),
        row(Subject::Own(Check::Tcp, Way::Instance), "TCP: an instance that reads its settings"),
        row(Subject::Blackbox(Check::Tcp), "TCP: blackbox_exporter"),
        row(Subject::Own(Check::Icmp, Way::Probe), "ICMP: shipped probe"),
        row(Subject::Own(Check::Icmp, Way::Native), "ICMP: native"),
        row(Subject::Own(Check::Icmp, Way::Instance), "ICMP: an instance that reads its settings"),
        row(Subject::Blackbox(Check::Icmp), "ICMP: blackbox_exporter"),
        row(Subject::Fping(Pace::Bursts), "ICMP: fping, all targets at once"),
        row(Subject::Fping(Pace::Even), "ICMP: fping, one request a millisecond"),
    ]
}

impl Row {
    /// Returns the round whose cost is the middle one.
    fn middle(&self) -> Option<Measured> {
        let mut sorted = self.measured.clone();
        sorted.sort_by(|a, b| a.micros_per_run().total_cmp(&b.micros_per_run()));
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Returns the processor time of one check of a subject, in microseconds, in its middle round.
fn micros(rows: &[Row], subject: Subject) -> f64 {
    let row = rows.iter().find(|row| row.subject == subject);
    row.and_then(Row::middle).map_or(f64::NAN, |middle| middle.micros_per_run())
}

/// Prints the table, and the numbers that have a target below it.
pub(crate) fn print(rows: &[Row]) {
    println!("| subject | us of CPU per check | least to most | checks per core-second | peak memory, MiB | failed |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        let Some(middle) = row.middle() else { continue };
        let costs = row.measured.iter().map(Measured::micros_per_run);
        let (least, most) = costs.fold((f64::INFINITY, 0.0_f64), |(least, most), c| (least.min(c), most.max(c)));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let peak = middle.peak_kib.map_or("-".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0));
        let (cost, failed) = (middle.micros_per_run(), row.measured.iter().map(|m| m.failed).sum::<u64>());
        println!("| {} | {cost:.1} | {least:.1}-{most:.1} | {:.0} | {peak} | {failed} |", row.name, 1e6 / cost);
    }
    let of = |subject| micros(rows, subject);
    let own = |check, way| of(Subject::Own(check, way));
    let sandbox = |check, way| own(check, way) - own(check, Way::Native);
    let over = |check| of(Subject::Blackbox(check)) / own(check, Way::Probe);
    let slower = |pace| own(Check::Icmp, Way::Probe) / of(Subject::Fping(pace));
    println!();
    println!("| number | measured | target |");
    println!("|---|---|---|");
    println!("| TCP checks per core, times those of blackbox_exporter | {:.1} | >= 5 |", over(Check::Tcp));
    println!("| ICMP checks per core, times those of blackbox_exporter | {:.1} | >= 5 |", over(Check::Icmp));
    println!("| sandbox per run with sockets, us | {:.1} | <= 45 |", sandbox(Check::Tcp, Way::Sockets));
    println!("| sandbox per run, narrow world (tcp), us | {:.1} | <= 30 |", sandbox(Check::Tcp, Way::Probe));
    println!("| sandbox per run, narrow world (ping), us | {:.1} | <= 30 |", sandbox(Check::Icmp, Way::Probe));
    println!("| fping's rate over ours, all targets at once | {:.1} | <= 3 |", slower(Pace::Bursts));
    println!("| fping's rate over ours, one request a millisecond | {:.1} | <= 3 |", slower(Pace::Even));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_middle_round_is_the_one_whose_cost_is_neither_the_least_nor_the_most() {
        let measured = |micros| Measured { runs: 1, failed: 0, cpu: Duration::from_micros(micros), peak_kib: None };
        let mut rows = rows();
        rows[0].measured = [30, 90, 10].map(measured).to_vec();
        assert_eq!(rows[0].middle(), Some(measured(30)));
        assert_eq!(rows[1].middle(), None);
    }
}
