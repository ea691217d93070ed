//! The harness proves itself: a fault that it makes must be seen, and only where it was made.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vouch_tests::{
    api::Client,
    netns::{Addresses, Carriage, Carrier, Cut, Host, Lab, Pace, Role, must_skip},
    paths,
    process::{Process, is_gone},
    wait,
};
use vouch_types::Network;

const LIMIT: Duration = Duration::from_secs(10);

/// Two managers and a compute node, all in reach of one another.
fn lab() -> Result<(Lab, [Host; 3])> {
    let mut lab = Lab::new()?;
    let m1 = lab.add("m1", Role::Plain, Addresses::ending_with(1))?;
    let m2 = lab.add("m2", Role::Plain, Addresses::ending_with(2))?;
    let n1 = lab.add("n1", Role::Compute, Addresses::ending_with(11))?;
    for network in Network::ALL {
        for to in [&m2, &n1] {
            reached(&m1, to.addresses.on(network))?;
        }
    }
    Ok((lab, [m1, m2, n1]))
}

fn reached(from: &Host, to: std::net::Ipv4Addr) -> Result<()> {
    wait::until(format!("{} reaches {to}", from.name), LIMIT, || from.reaches(to).then_some(()))?;
    Ok(())
}

#[test]
fn a_cut_between_two_addresses_stops_them_alone_and_a_heal_ends_it() -> Result<()> {
    if must_skip("a_cut_between_two_addresses_stops_them_alone_and_a_heal_ends_it") {
        return Ok(());
    }
    let (lab, [m1, m2, n1]) = lab()?;
    let cut = Cut::between(&[m1.addresses.management], &[m2.addresses.management]);
    lab.cut(&cut)?;
    ensure!(!m1.reaches(m2.addresses.management), "the cut lets packets through");
    ensure!(!m2.reaches(m1.addresses.management), "the cut lets packets through the other way");
    ensure!(m1.reaches(m2.addresses.service), "the cut of one network has cut the other");
    ensure!(m1.reaches(n1.addresses.management), "the cut has cut a third machine");
    lab.heal(&cut)?;
    ensure!(m1.reaches(m2.addresses.management), "the heal has not healed");
    Ok(())
}

#[test]
fn a_cut_of_a_nodes_agent_leaves_alone_the_vm_on_the_same_bridge() -> Result<()> {
    if must_skip("a_cut_of_a_nodes_agent_leaves_alone_the_vm_on_the_same_bridge") {
        return Ok(());
    }
    let (mut lab, [m1, m2, n1]) = lab()?;
    let vm = lab.add_behind(&n1, "w1", Addresses::ending_with(201))?;
    reached(&vm, m1.addresses.management)?;
    let managers: Vec<_> =
        [&m1, &m2].iter().flat_map(|host| [host.addresses.management, host.addresses.service]).collect();
    let cut = Cut::between(&[n1.addresses.management, n1.addresses.service], &managers);
    lab.cut(&cut)?;
    for manager in &managers {
        ensure!(!n1.reaches(*manager), "the node still reaches {manager}");
        ensure!(vm.reaches(*manager), "the VM doesn't reach {manager} any more");
    }
    ensure!(vm.reaches(n1.addresses.management), "the VM doesn't reach its own node any more");
    lab.heal_all()?;
    ensure!(n1.reaches(m1.addresses.management), "the heal has not healed");
    Ok(())
}

#[test]
fn a_node_without_carrier_is_silent_on_that_network_only_and_its_local_bridge_works() -> Result<()> {
    if must_skip("a_node_without_carrier_is_silent_on_that_network_only_and_its_local_bridge_works") {
        return Ok(());
    }
    let (mut lab, [m1, _, n1]) = lab()?;
    let vm = lab.add_behind(&n1, "w1", Addresses::ending_with(201))?;
    reached(&vm, n1.addresses.management)?;
    lab.carrier(&n1, Network::Management, Carrier::Down)?;
    ensure!(!m1.reaches(n1.addresses.management), "the node is reached without carrier");
    ensure!(m1.reaches(n1.addresses.service), "the service network has gone too");
    ensure!(vm.reaches(n1.addresses.management), "the bridge in the node has gone too");
    lab.carrier(&n1, Network::Management, Carrier::Up)?;
    reached(&m1, n1.addresses.management)
}

#[test]
fn a_switch_that_carries_nothing_stops_all_on_its_network_and_nothing_within_a_node() -> Result<()> {
    if must_skip("a_switch_that_carries_nothing_stops_all_on_its_network_and_nothing_within_a_node") {
        return Ok(());
    }
    let (mut lab, [m1, m2, n1]) = lab()?;
    let vm = lab.add_behind(&n1, "w1", Addresses::ending_with(201))?;
    reached(&vm, m1.addresses.management)?;
    reached(&vm, n1.addresses.management)?;
    lab.carry(Network::Management, Carriage::Nothing)?;
    for to in [m2.addresses, n1.addresses, vm.addresses] {
        ensure!(!m1.reaches(to.management), "the dead network carries packets to {}", to.management);
        ensure!(m1.reaches(to.service), "the other network is dead as well");
    }
    ensure!(vm.reaches(n1.addresses.management), "what stays within the node does not go through the switch");
    lab.carry(Network::Management, Carriage::Whole)?;
    reached(&m1, m2.addresses.management)?;
    Ok(())
}

#[test]
fn a_held_pace_makes_packets_late_and_loses_none() -> Result<()> {
    if must_skip("a_held_pace_makes_packets_late_and_loses_none") {
        return Ok(());
    }
    let (lab, [m1, m2, _]) = lab()?;
    lab.pace(Network::Management, Pace::Held)?;
    // Three echoes of full size: the bucket holds one packet of that size, and the pace is 250 bytes a second.
    let mut ping = m1.command("ping");
    ping.args(["-n", "-q", "-c", "3", "-i", "0.1", "-s", "1400", "-w", "20"]).arg(m2.addresses.management.to_string());
    let mut late = Process::start("ping", ping.stdin(Stdio::null()), &paths::logs("held-pace")?)?;
    wait::while_for(Duration::from_secs(2), || match late.ended()? {
        None => Ok(()),
        Some(status) => Err(anyhow::anyhow!("the echoes were not held: {status}; {}", late.log()?)),
    })?;
    lab.pace(Network::Management, Pace::AtOnce)?;
    // Anything that is sent makes the switch hand out what it held.
    reached(&m1, m2.addresses.management)?;
    reached(&m2, m1.addresses.management)?;
    wait::until_ok("the echoes are answered", LIMIT, || late.ended()?.context("it still waits"))?;
    ensure!(late.log()?.contains(" 0% packet loss"), "echoes were lost: {}", late.log()?);
    Ok(())
}

#[test]
fn a_dropped_lab_leaves_no_process_and_no_namespace() -> Result<()> {
    if must_skip("a_dropped_lab_leaves_no_process_and_no_namespace") {
        return Ok(());
    }
    let logs = tempfile::tempdir()?;
    let (lab, [_, _, n1]) = lab()?;
    // A process that the harness doesn't hold: the shell ends, its child stays, as a guest's QEMU does.
    let mut shell = Process::start("shell", n1.command("sh").args(["-c", "sleep 600 & echo $!"]), logs.path())?;
    let (number, _) = wait::until("the child's pid", LIMIT, || shell.log().ok()?.trim().parse::<u32>().ok())?;
    wait::until("the shell has ended", LIMIT, || shell.ended().ok().flatten())?;
    ensure!(lab.pids(&n1)?.contains(&number), "the child is not in the node's namespace");
    let namespaces = lab.namespaces().to_vec();
    drop(lab);
    ensure!(is_gone(number), "the child has survived the lab");
    for namespace in namespaces {
        ensure!(!Path::new("/run/netns").join(&namespace).exists(), "{namespace} has survived the lab");
    }
    Ok(())
}

#[test]
fn power_off_kills_all_on_one_machine_and_nothing_on_another() -> Result<()> {
    if must_skip("power_off_kills_all_on_one_machine_and_nothing_on_another") {
        return Ok(());
    }
    let logs = tempfile::tempdir()?;
    let (lab, [m1, m2, _]) = lab()?;
    let mut one = Process::start("one", m1.command("sleep").arg("600"), logs.path())?;
    let mut other = Process::start("other", m2.command("sleep").arg("600"), logs.path())?;
    wait::until("both have entered", LIMIT, || {
        (lab.pids(&m1).ok()? == [one.pid()] && lab.pids(&m2).ok()? == [other.pid()]).then_some(())
    })?;
    lab.power_off(&m1)?;
    ensure!(one.ended()?.is_some(), "a process has survived the power cut");
    other.must_run()
}

#[test]
fn the_client_reaches_an_api_on_the_loopback_of_a_machine_with_its_token() -> Result<()> {
    if must_skip("the_client_reaches_an_api_on_the_loopback_of_a_machine_with_its_token") {
        return Ok(());
    }
    let (_lab, [m1, _, _]) = lab()?;
    // A listener that is opened in the namespace stays there: any thread may then serve it.
    let namespace = fs::File::open(Path::new("/run/netns").join(&m1.namespace))?;
    let listener = std::thread::spawn(move || -> Result<TcpListener> {
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&namespace),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )?;
        Ok(TcpListener::bind("127.0.0.1:0")?)
    })
    .join()
    .expect("the thread only binds")?;
    let port = listener.local_addr()?.port();
    let server = std::thread::spawn(move || -> Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone()?);
        while reader.read_line(&mut head)? > 2 {}
        stream.write_all(b"HTTP/1.1 503 No\r\nContent-Type: application/json\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"why\":\"no\"}")?;
        Ok(head)
    });
    let client = Client::new(format!("http://127.0.0.1:{port}"), "secret\n").on(&m1);
    let reply = client.get("/v1/vms")?;
    ensure!(reply.status == 503 && reply.body["why"] == "no", "{reply:?}");
    let head = server.join().expect("the thread only serves")?;
    ensure!(head.starts_with("GET /v1/vms HTTP/1.1"), "{head}");
    ensure!(head.to_lowercase().contains("authorization: bearer secret\r\n"), "{head}");
    Ok(())
}
