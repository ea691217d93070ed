//! What is told of a VM: its machine's last word, with its counters and what they come to.

use std::collections::BTreeMap;

use tokio::time::Instant;
use vouch_types::{HypervisorState, Network, Progress};

use super::{Inner, Machine, READ_EXPECTED};
use crate::hypervisor::{Counters, LinkState, VmView, interfaces};
use crate::progress::CounterRead;
use crate::vm_file::VmFile;

/// Packets received and sent per interface, as the host counts them: what it receives from a tap the guest has sent.
pub(super) type Packets = BTreeMap<String, (u64, u64)>;
type Ports = BTreeMap<Network, Vec<String>>;

impl Inner {
    /// Takes the counters of the last read into the judgement of a VM's progress.
    pub(super) fn note_progress(&self, machine: &mut Machine, packets: &Packets) {
        let status = machine.status.borrow().clone();
        if status.state != HypervisorState::Running || status.ended || !status.known {
            return machine.progress.clear();
        }
        let ports = self.launcher.ports(&machine.record.plan);
        machine.progress.note(CounterRead {
            at: status.read_begun,
            vcpu: status.vcpu,
            block_operations: status.block_operations,
            // A VM without a card sends nothing, and that is known.
            sent_packets: if ports.is_empty() { Some(0) } else { sent(&ports, packets) },
            monitor: status.monitor,
        });
    }

    pub(super) fn vm_view(&self, machine: &Machine, file: &VmFile, packets: &Packets) -> VmView {
        let status = machine.status.borrow().clone();
        let now = Instant::now();
        let ports = if status.ended { BTreeMap::new() } else { self.launcher.ports(&machine.record.plan) };
        let links = ports.iter().map(|(network, taps)| (*network, link(taps))).collect();
        let progress = status.progress.unwrap_or_else(|| machine.progress.word());
        VmView {
            spec: file.spec(),
            start: machine.record.start,
            state: status.state,
            progress: if status.state == HypervisorState::Running { progress } else { Progress::Unknown },
            operation: status.operation,
            // The end of a process does not grow old.
            read_begun: if status.ended { now } else { status.read_begun },
            // Before its first read a VM is told as unknown, which must not make the reads of the others look old.
            overdue: !status.known || status.waiting_since.is_some_and(|since| now - since > READ_EXPECTED),
            counters: Counters {
                vcpu: status.vcpu.map(|v| v.ran),
                block_operations: status.block_operations,
                net_rx_packets: received(&ports, packets),
                net_tx_packets: sent(&ports, packets),
                steal_per_mille: status.steal_per_mille,
                monitor: status.monitor,
            },
            links,
        }
    }
}

fn sent(ports: &Ports, packets: &Packets) -> Option<u64> {
    sum(ports, packets, |(received, _)| *received)
}

fn received(ports: &Ports, packets: &Packets) -> Option<u64> {
    sum(ports, packets, |(_, sent)| *sent)
}

fn sum(ports: &Ports, packets: &Packets, pick: fn(&(u64, u64)) -> u64) -> Option<u64> {
    let known: Vec<u64> = ports.values().flatten().filter_map(|p| packets.get(p)).map(pick).collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

fn link(taps: &[String]) -> LinkState {
    let all = taps.iter().all(|t| interfaces::link_state(t) == LinkState::Up);
    if all { LinkState::Up } else { LinkState::Down }
}
