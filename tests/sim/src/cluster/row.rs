//! The rows of the fault table: what is injected, whom it concerns, and what an ideal system says of it.
//!
//! This is the one place in the simulator where `FAULTS.md` is written down. A row that comes in several shapes has a
//! letter after its number. Expectations are the table's, never those of today's detector.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use VmState::{Degraded, Down, Hung, Lost, Paused, Rebooting, Up};
use vouch_types::VmState;

/// Whom a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strikes {
    /// One node, and its VMs.
    Node,
    /// One VM.
    Vm,
    /// One rack, its nodes and their VMs.
    Rack,
    /// Everything.
    Cluster,
}

/// Where the cause is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// In a fault of the VM or of its node's path, or in an incident.
    Fault,
    /// The same, or a note of the VM.
    Note,
    /// As a note on a manager that is deaf.
    DeafManager,
    /// As a watcher of the node that is lost.
    LostWatcher,
    /// Nothing may be told.
    Nothing,
    /// Whatever is told does not matter.
    Anything,
}

/// How soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Within this many milliseconds of the fault.
    Within(u64),
    /// Within this many milliseconds of the proof, which comes [`PROOF_AFTER`] after the fault.
    AfterProof(u64),
    /// A manager leads again within this many milliseconds.
    LeaderWithin(u64),
    /// The node's word rules within this many milliseconds of the heal.
    AfterHeal(u64),
    /// At no time: nothing may be said.
    NoAlarm,
}

/// When the proof that a node is off comes.
pub const PROOF_AFTER: Duration = Duration::from_secs(8);

/// What is known of a row.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its number, with a letter for its shape.
    pub name: &'static str,
    /// What happens.
    pub title: &'static str,
    /// Whom it strikes.
    pub strikes: Strikes,
    /// States of the VMs that it strikes, any of them.
    pub states: &'static [VmState],
    /// Beginnings of the causes that are right, as the API writes them.
    pub causes: &'static [&'static str],
    /// Where they are to be read.
    pub told: Told,
    /// Advice that is right for the VMs that it strikes.
    pub advice: &'static [&'static str],
    /// How soon.
    pub when: When,
    /// It breaks paths and agents only: no VM may change its state (I3).
    pub path_only: bool,
}

macro_rules! rows {
    ($($(#[$doc:meta])* $row:ident = $name:literal, $title:literal, $strikes:ident, [$($state:ident),*], [$($cause:literal),*] $told:ident,
        [$($advice:literal),*], $when:ident $(($ms:literal))?, $path:literal;)*) => {
        /// A row of the fault table, in one of its shapes.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Row {
            $(#[doc = $title] $(#[$doc])* $row,)*
        }

        impl Row {
            /// All rows.
            pub const ALL: &'static [Self] = &[$(Self::$row,)*];

            /// Returns what is known of it.
            pub const fn spec(self) -> Spec {
                match self {
                    $(Self::$row => Spec {
                        name: $name,
                        title: $title,
                        strikes: Strikes::$strikes,
                        states: &[$($state),*],
                        causes: &[$($cause),*],
                        told: Told::$told,
                        advice: &[$($advice),*],
                        when: When::$when $(($ms))?,
                        path_only: $path,
                    },)*
                }
            }
        }
    };
}

rows! {
    PathCut = "1", "path between the agent and all managers cut", Node, [Up], ["manager_node_path"] Fault, ["none"], Within(2_000), true;
    LeaderDeaf = "2", "the leader cannot hear the node", Node, [Up], [] DeafManager, ["none"], Within(2_000), true;
    AgentKilled = "3", "node agent killed", Node, [Up], ["node_agent"] Fault, ["none"], Within(2_000), true;
    AgentWedged = "4", "node agent wedged", Node, [Up], ["node_agent"] Fault, ["none"], Within(3_000), true;
    HypervisorSilent = "5", "hypervisor service hung", Node, [Up], ["hypervisor"] Fault, ["none"], Within(5_000), true;
    ProcessDead = "6", "QEMU process dies", Vm, [Down], ["vm_process"] Fault, ["restart"], Within(1_000), false;
    PanicTold = "7a", "guest panic with pvpanic", Vm, [Down], ["guest_os"] Fault, ["restart"], Within(1_000), false;
    PanicSilent = "7b", "guest panic without pvpanic", Vm, [Hung], ["guest_os"] Fault, ["restart"], Within(8_000), false;
    HangStill = "8a", "guest hang, vCPUs halted", Vm, [Hung], ["guest_os"] Fault, ["restart"], Within(8_000), false;
    HangSpinning = "8b", "guest hang, vCPUs spinning", Vm, [Hung], ["guest_os"] Fault, ["restart"], Within(8_000), false;
    IoError = "9", "vCPU paused on I/O error", Vm, [Paused], ["storage"] Fault, ["none"], Within(1_000), false;
    Pause = "10a", "operator pause", Vm, [Paused, Up], [] Nothing, ["none", "blocked"], NoAlarm, false;
    Snapshot = "10b", "snapshot, guest frozen for 3 s", Vm, [Up], [] Nothing, ["none", "blocked"], NoAlarm, false;
    Migration = "10c", "live migration", Vm, [Up], [] Nothing, ["none", "blocked"], NoAlarm, false;
    Reboot = "11", "reboot from inside the guest", Vm, [Rebooting, Up], [] Nothing, ["none"], NoAlarm, false;
    NicDown = "12", "VM's service port down", Vm, [Degraded], ["vm_nic"] Fault, ["none"], Within(3_000), false;
    RdpStopped = "14", "RDP service stopped", Vm, [Degraded], ["service(rdp)"] Fault, ["none"], Within(3_000), false;
    RdpWedged = "15", "RDP accepts and never answers", Vm, [Degraded], ["service(rdp)"] Fault, ["none"], Within(5_000), false;
    GuestAgentStopped = "16", "guest agent stopped", Vm, [Up], ["guest_agent"] Note, ["none"], Within(10_000), false;
    PingDropped = "17", "guest firewall drops ping", Vm, [Up], [] Anything, ["none"], NoAlarm, false;
    PowerOff = "18a", "node power-off", Node, [Lost], ["node", "node_isolated"] Fault, ["fence_first"], Within(5_000), false;
    PowerOffProved = "18b", "node power-off, then proof", Node, [Down], ["node", "node_isolated"] Fault, ["safe_to_restart"], AfterProof(2_000), false;
    Isolated = "19", "node alive, cut from both networks", Node, [Lost], ["node", "node_isolated"] Fault, ["fence_first"], Within(5_000), false;
    StorageLost = "21", "node loses its storage only", Node, [Paused], ["storage"] Fault, ["fence_first"], Within(5_000), false;
    ManagementDown = "22", "management network down", Cluster, [Up], ["network(management)"] Fault, ["none"], Within(5_000), true;
    ServiceDown = "23", "service network down", Cluster, [Degraded], ["network(service)"] Fault, ["none"], Within(5_000), false;
    RackLost = "24", "rack lost", Rack, [Lost], ["rack"] Fault, ["fence_first"], Within(10_000), false;
    WatcherDead = "25", "watcher VM dies", Node, [Up], ["watcher"] LostWatcher, ["none"], Within(2_000), true;
    WatcherNodeDead = "26", "watcher's node dies", Node, [Lost], ["node", "node_isolated"] Fault, ["fence_first"], Within(5_000), false;
    LeaderKilled = "28", "leader killed", Cluster, [Up], [] Anything, ["none"], LeaderWithin(1_000), true;
    LeaderCut = "29", "leader cut from the followers", Cluster, [Up], [] Anything, ["none"], LeaderWithin(1_000), true;
    MinorityCut = "30", "a minority of the managers cut off", Cluster, [Up], [] Anything, ["none"], NoAlarm, true;
    OneWayFrom = "31a", "one-way partition, node not heard", Node, [Up], ["one_way"] Fault, ["none"], Within(5_000), true;
    OneWayTo = "31b", "one-way partition, node does not hear", Node, [Up], ["one_way"] Fault, ["none"], Within(5_000), true;
    LossManagement = "32a", "30 % loss on the management network", Cluster, [Up], ["lossy_path"] Fault, ["none"], Within(10_000), true;
    LossService = "32b", "30 % loss on the service network", Cluster, [Up], ["lossy_path"] Fault, ["none"], Within(10_000), true;
    Bursts = "33", "latency bursts of 2 s", Cluster, [Up], [] Anything, ["none"], NoAlarm, true;
    ClockJump = "34", "wall clock jumps by an hour", Cluster, [Up], [] Nothing, ["none"], NoAlarm, true;
    Flap = "37", "link flaps every 5 s", Node, [Up], ["manager_node_path"] Fault, ["none"], Within(2_000), true;
    Heal = "39", "link heals", Node, [Up], ["manager_node_path"] Fault, ["none"], AfterHeal(1_000), true;
    MonitorCut = "40", "VM-node link cut, monitor silent", Vm, [Up], ["node_vm_path"] Fault, ["none"], Within(3_000), true;
    UplinkDead = "41", "node's management uplink dead", Node, [Up], ["node_uplink(management)"] Fault, ["none"], Within(2_000), true;
}

impl Row {
    /// Returns its number without the letter.
    pub fn number(self) -> u16 {
        self.spec().name.trim_end_matches(|c: char| c.is_ascii_lowercase()).parse().unwrap_or_default()
    }

    /// Returns the rows of this name: all shapes where the letter is left out.
    pub fn named(name: &str) -> Vec<Self> {
        let number = name.parse::<u16>().ok();
        let fits = |row: &&Self| row.spec().name == name || number == Some(row.number());
        Self::ALL.iter().filter(fits).copied().collect()
    }

    /// Returns how long a trial looks after the fault.
    pub fn watched_for(self) -> Duration {
        let within = match self.spec().when {
            When::Within(ms) | When::LeaderWithin(ms) => Duration::from_millis(ms),
            When::AfterProof(ms) => PROOF_AFTER + Duration::from_millis(ms),
            When::AfterHeal(_) => Duration::from_secs(2),
            When::NoAlarm => Duration::from_secs(12),
        };
        within + Duration::from_secs(6)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.spec().name)
    }
}

impl FromStr for Row {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let row = Self::ALL.iter().find(|row| row.spec().name == text);
        row.copied().ok_or_else(|| format!("row {text:?}: must be one of the fault table, as 1 or 7a"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_that_can_be_simulated_is_there() {
        let mut numbers: Vec<u16> = Row::ALL.iter().map(|row| row.number()).collect();
        numbers.dedup();
        let table = [
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 28, 29, 30, 31, 32,
            33, 34, 37, 39, 40, 41,
        ];
        assert_eq!(numbers, table);
        assert_eq!(Row::named("7"), [Row::PanicTold, Row::PanicSilent]);
        assert_eq!(Row::named("7b"), [Row::PanicSilent]);
    }
}
