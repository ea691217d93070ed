//! The images by themselves: each boots on a compute node of a lab and does what it is for.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vouch_tests::{
    machine::{Machine, Plan, mac},
    netns::{Addresses, Host, Lab, Role, must_skip},
    paths, wait,
};
use vouch_types::{
    ManagerId, Network, NodeId, WallTime, WatcherBoot, WatcherId, WatcherLeg, watcher::WATCHER_BOOT_FW_CFG,
};

/// A boot takes 3 s here; the rest is for machines with other things to do.
const BOOT: Duration = Duration::from_secs(60);

/// X.224 Connection Request that asks for TLS or CredSSP (MS-RDPBCGR 2.2.1.1).
const RDP_REQUEST: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0];

#[test]
fn the_guest_answers_ping_speaks_rdp_and_its_agent_answers() -> Result<()> {
    if must_skip("the_guest_answers_ping_speaks_rdp_and_its_agent_answers") {
        return Ok(());
    }
    let logs = paths::logs("guest-image")?;
    let mut lab = Lab::new()?;
    let node = lab.add("n1", Role::Compute, Addresses::ending_with(11))?;
    let plan = Plan {
        name: "guest",
        image: "guest",
        memory_mib: 128,
        command_line: "vouch.eth0=10.1.0.101/24 vouch.eth1=10.2.0.101/24",
        files: &[],
    };
    let mut guest = Machine::boot(&node, &plan, &logs)?;
    let addresses = Addresses::ending_with(101);
    for network in Network::ALL {
        let address = addresses.on(network);
        wait::until(format!("ping answered over {network}"), BOOT, || node.reaches(address).then_some(()))?;
    }
    let server = SocketAddr::from((addresses.service, 3389));
    let (answer, _) = wait::until_ok("xrdp confirms the connection", BOOT, || ask_rdp(&node, server))?;
    // TPKT version 3, Connection Confirm, and a negotiation response that selects TLS.
    ensure!(answer[0] == 3 && answer[5] == 0xd0, "no Connection Confirm: {answer:02x?}");
    ensure!(answer[11] == 2 && answer[15] == 1, "TLS is not selected: {answer:02x?}");
    wait::until_ok("guest-ping answered", BOOT, || agent_ping(guest.agent()))?;
    guest.qemu.must_run()
}

#[test]
fn the_watcher_loads_its_probes_without_compiling_and_sets_up_its_legs() -> Result<()> {
    if must_skip("the_watcher_loads_its_probes_without_compiling_and_sets_up_its_legs") {
        return Ok(());
    }
    let logs = paths::logs("watcher-image")?;
    let mut lab = Lab::new()?;
    let node = lab.add("n1", Role::Compute, Addresses::ending_with(11))?;
    let addresses = Addresses::ending_with(201);
    let leg = |network| WatcherLeg {
        network,
        mac: mac(network).to_owned(),
        address: addresses.on(network).into(),
        prefix_len: 24,
    };
    // There is no cluster to join: the watcher gets as far as asking for its identity, which is behind what is asserted.
    let manager = SocketAddr::from((node.addresses.management, 7001));
    let boot = WatcherBoot {
        watcher: WatcherId::new(1),
        node: NodeId::new("n1")?,
        secret: "00".repeat(32),
        ca_certificate: String::new(),
        managers: vec![(ManagerId::new(1), Network::Management, manager)],
        legs: Network::ALL.map(leg).to_vec(),
        stamp: WallTime::default(),
    };
    let plan = Plan {
        name: "watch",
        image: "watcher",
        memory_mib: 256,
        command_line: "",
        files: &[(WATCHER_BOOT_FW_CFG, serde_json::to_string(&boot)?)],
    };
    let watcher = Machine::boot(&node, &plan, &logs)?;
    let loaded = || watcher.console().lines().find(|line| line.contains("probes loaded")).map(plain);
    let (line, _) = wait::until("the watcher says that its probes are loaded", BOOT, loaded)
        .with_context(|| format!("its console: {}", watcher.console()))?;
    ensure!(line.contains("compilations=0"), "the compiler ran in the watcher: {line}");
    let console = plain(&watcher.console());
    for network in Network::ALL {
        ensure!(console.contains(&format!("leg up network={network}")), "no leg on {network}: {console}");
    }
    ensure!(console.contains("random=\"virtio_rng"), "no entropy from the host: {console}");
    ensure!(!console.contains("module not loaded"), "{console}");
    Ok(())
}

/// Returns text without the colours of the log.
fn plain(text: &str) -> String {
    let mut words = text.split('\u{1b}');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| text + word.split_once('m').map_or(word, |(_, rest)| rest))
}

/// Sends a Connection Request from a machine of the lab and returns the answer's 19 bytes.
fn ask_rdp(from: &Host, server: SocketAddr) -> Result<[u8; 19]> {
    let namespace = std::fs::File::open(Path::new("/run/netns").join(&from.namespace))?;
    let ask = move || -> Result<[u8; 19]> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&RDP_REQUEST)?;
        let mut answer = [0; 19];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    std::thread::spawn(ask).join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

/// Synchronises with the guest agent and pings it.
fn agent_ping(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":4711}}\n")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    // What comes before the sentinel is the agent's word about the stray byte that was sent to it.
    let mut before = Vec::new();
    reader.read_until(0xff, &mut before)?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if !line.contains("4711") {
        bail!("the agent answered {line:?} to the synchronisation");
    }
    stream.write_all(b"{\"execute\":\"guest-ping\"}\n")?;
    line.clear();
    reader.read_line(&mut line)?;
    ensure!(line.trim() == "{\"return\": {}}", "the agent answered {line:?} to the ping");
    Ok(())
}
