//! What the rows of the fault table break on the stage of real machines, beyond what the story needs.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use vouch_types::Network;

use super::{MANAGERS, QemuStage, Scene, manager_addresses};
use crate::netns::{Carriage, Carrier, Cut, Pace};
use crate::wall_clock::WallClock;

/// Where a guest's RDP server listens.
const RDP_PORT: u16 = 3389;

/// Which way packets are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneWay {
    /// What the node sends to the managers.
    FromNode,
    /// What the managers send to the node.
    ToNode,
}

fn both(addresses: crate::netns::Addresses) -> [Ipv4Addr; 2] {
    Network::ALL.map(|network| addresses.on(network))
}

impl QemuStage {
    fn node_index(&self, node: &str) -> Result<usize> {
        self.nodes.iter().position(|m| m.host.name == node).with_context(|| format!("there is no node {node}"))
    }

    fn node_and_managers(&self, node: &str) -> Result<([Ipv4Addr; 2], Vec<Ipv4Addr>)> {
        let own = both(self.nodes[self.node_index(node)?].host.addresses);
        Ok((own, (0..MANAGERS).map(manager_addresses).flat_map(both).collect()))
    }

    /// Returns the cut between the agent of a node and one manager, on every network.
    ///
    /// # Errors
    /// Fails if there is no such node or manager.
    pub fn between_node_and_manager(&self, node: &str, manager: &str) -> Result<Cut> {
        let own = both(self.nodes[self.node_index(node)?].host.addresses);
        Ok(Cut::between(&own, &both(manager_addresses(self.manager_number(manager)?))))
    }

    /// Returns the cut between the agent of a node and all managers, on every network.
    ///
    /// # Errors
    /// Fails if there is no such node.
    pub fn between_node_and_managers(&self, node: &str) -> Result<Cut> {
        let (own, managers) = self.node_and_managers(node)?;
        Ok(Cut::between(&own, &managers))
    }

    /// Returns the cut of one direction between the agent of a node and all managers, on every network.
    ///
    /// # Errors
    /// Fails if there is no such node.
    pub fn one_way(&self, node: &str, way: OneWay) -> Result<Cut> {
        let (own, managers) = self.node_and_managers(node)?;
        Ok(match way {
            OneWay::FromNode => Cut::one_way(&own, &managers),
            OneWay::ToNode => Cut::one_way(&managers, &own),
        })
    }

    /// Returns the cut between one manager and the others, on every network; nodes and watchers still reach it.
    ///
    /// # Errors
    /// Fails if there is no such manager.
    pub fn between_manager_and_others(&self, manager: &str) -> Result<Cut> {
        let alone = self.manager_number(manager)?;
        let others = (0..MANAGERS).filter(|i| *i != alone).map(manager_addresses).flat_map(both);
        Ok(Cut::between(&both(manager_addresses(alone)), &others.collect::<Vec<_>>()))
    }

    /// Begins to drop packets silently.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn cut(&self, cut: &Cut) -> Result<()> {
        self.lab.cut(cut)
    }

    /// Ends a cut.
    ///
    /// # Errors
    /// Fails if the cut is not in force.
    pub fn heal(&self, cut: &Cut) -> Result<()> {
        self.lab.heal(cut)
    }

    /// Changes what becomes of all that goes from machine to machine over a network.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn carry(&self, network: Network, carriage: Carriage) -> Result<()> {
        self.lab.carry(network, carriage)
    }

    /// Changes how fast both networks hand out what they carry.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn pace(&self, pace: Pace) -> Result<()> {
        Network::ALL.iter().try_for_each(|&network| self.lab.pace(network, pace))
    }

    /// Ends everything that was done to networks, power, clocks and services, whatever it was: after a row that failed
    /// halfway.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn mend(&mut self) -> Result<()> {
        self.lab.heal_all()?;
        self.pace(Pace::AtOnce)?;
        Network::ALL.iter().try_for_each(|&network| self.carry(network, Carriage::Whole))?;
        self.nodes.iter().try_for_each(|node| self.carriers(&node.host.name, Carrier::Up))?;
        let dark: Vec<String> =
            self.nodes.iter().filter(|node| node.process.is_none()).map(|node| node.host.name.clone()).collect();
        dark.iter().try_for_each(|node| self.power_on(node))?;
        self.managers.iter().try_for_each(|m| self.set_clock(&m.host.name, 0).map(drop))?;
        let mended = |vm: &String| self.unwedge_rdp(vm).and_then(|()| self.ignore_ping(vm, false));
        self.vms().iter().filter(|_| dark.is_empty()).try_for_each(mended)
    }

    /// Takes both uplinks of a node away, or gives them back.
    ///
    /// # Errors
    /// Fails if there is no such node.
    pub fn carriers(&self, node: &str, carrier: Carrier) -> Result<()> {
        let host = &self.nodes[self.node_index(node)?].host;
        Network::ALL.iter().try_for_each(|&network| self.lab.carrier(host, network, carrier))
    }

    /// Cuts the power of a node: its agent, its guests and its watcher are gone at once, and so is its carrier.
    ///
    /// # Errors
    /// Fails if one of its processes stays.
    pub fn power_off(&mut self, node: &str) -> Result<()> {
        let i = self.node_index(node)?;
        let gone = self.scene.guests().iter().filter(|guest| guest.node == i).map(|guest| guest.number);
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        gone.for_each(|number| drop(ports.remove(&number)));
        drop(ports);
        self.lab.power_off(&self.nodes[i].host)?;
        self.nodes[i].process = None;
        self.carriers(node, Carrier::Down)
    }

    /// Gives a node power again: it boots, as the boot id that its agent reads says, and starts its guests.
    ///
    /// # Errors
    /// Fails if its agent can't be started.
    pub fn power_on(&mut self, node: &str) -> Result<()> {
        self.carriers(node, Carrier::Up)?;
        self.boots += 1;
        let boot = self.folder.path().join(format!("boot-{node}"));
        fs::write(&boot, format!("b0070000-0000-4000-8000-{:012}\n", self.boots))?;
        let i = self.node_index(node)?;
        self.nodes[i].boot = Some(boot);
        self.start_node(i)
    }

    /// Puts something in the place of a guest's RDP server that accepts connections and never says a word.
    ///
    /// # Errors
    /// Fails if the guest doesn't do it.
    pub fn wedge_rdp(&self, vm: &str) -> Result<()> {
        // Both must not want the port at the same time.
        self.in_guest(vm, "killall xrdp; while pidof xrdp; do usleep 50000; done")?;
        let silent = format!("nc -ll -p {RDP_PORT} -e sh -c 'cat >/dev/null' >/dev/null 2>&1 &");
        self.in_guest(vm, &silent).map(drop)
    }

    /// Ends what [`Self::wedge_rdp`] began, and starts the real one.
    ///
    /// # Errors
    /// Fails if the guest doesn't do it.
    pub fn unwedge_rdp(&self, vm: &str) -> Result<()> {
        self.in_guest(vm, "killall nc cat; while pidof nc; do usleep 50000; done")?;
        // What runs on behind must not write into the answers.
        self.in_guest(vm, "{ pidof xrdp || xrdp --nodaemon; } >/dev/null 2>&1 &").map(drop)
    }

    /// Lets a guest ignore ping, or answer it again.
    ///
    /// # Errors
    /// Fails if the guest doesn't do it.
    pub fn ignore_ping(&self, vm: &str, ignored: bool) -> Result<()> {
        let line = format!("echo {} > /proc/sys/net/ipv4/icmp_echo_ignore_all", u8::from(ignored));
        self.in_guest(vm, &line).map(drop)
    }

    /// Sets the wall clock of a manager by so many seconds from the machine's. Returns whether it has one of its own.
    ///
    /// # Errors
    /// Fails if the clock can't be set.
    pub fn set_clock(&self, manager: &str, seconds: i64) -> Result<bool> {
        let clock = self.clock_of(manager)?;
        clock.as_ref().map_or(Ok(()), |clock| clock.set(seconds))?;
        Ok(clock.is_some())
    }

    /// Returns the wall clock that a manager has of its own, where that can be had.
    pub(super) fn clock_of(&self, manager: &str) -> Result<Option<WallClock>> {
        match self.scene {
            Scene::Rows => WallClock::following(&self.folder.path().join(format!("{manager}.clock"))),
            Scene::Story | Scene::Racks => Ok(None),
        }
    }
}
