//! Tap interfaces of machines: made, joined to a bridge, removed; their carrier and counters read.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;

use sha2::{Digest, Sha256};

use super::launcher::run_command;
use super::{HypervisorError, LinkState};

/// Returns the name of a machine's tap: at most 15 bytes, different for every machine, card and run folder.
pub(crate) fn tap_name(run_dir: &str, machine: &str, card: usize) -> String {
    let digest = Sha256::digest(format!("{run_dir}\n{machine}\n{card}"));
    format!("vt{}{card}", hex::encode(&digest[..5]))
}

/// Makes a tap on a bridge, anew if it is there from a former start.
///
/// The tap's own MAC is the guest's with `fe` for its first byte: a bridge without an address of its own takes the
/// lowest of its ports', and the node would change its MAC with every machine that comes or goes.
pub(crate) async fn create_tap(name: &str, bridge: &str, guest_mac: &str) -> Result<(), HypervisorError> {
    if exists(name) {
        remove_tap(name).await?;
    }
    let mac = host_mac(guest_mac);
    run_command("ip", &["tuntap", "add", "dev", name, "mode", "tap"], None).await?;
    run_command("ip", &["link", "set", "dev", name, "address", &mac], None).await?;
    run_command("ip", &["link", "set", "dev", name, "master", bridge, "up"], None).await
}

fn host_mac(guest_mac: &str) -> String {
    format!("fe{}", guest_mac.get(2..).unwrap_or_default())
}

/// Removes a tap.
pub(crate) async fn remove_tap(name: &str) -> Result<(), HypervisorError> {
    run_command("ip", &["link", "del", "dev", name], None).await
}

/// Returns whether an interface is there.
pub(crate) fn exists(name: &str) -> bool {
    flags(name).is_ok()
}

/// Returns whether an interface is up and has carrier.
pub(crate) fn link_state(name: &str) -> LinkState {
    let both = libc::IFF_UP | libc::IFF_RUNNING;
    match flags(name) {
        Ok(flags) if i32::from(flags) & both == both => LinkState::Up,
        Ok(_) | Err(_) => LinkState::Down,
    }
}

#[expect(unsafe_code, reason = "no safe wrapper for SIOCGIFFLAGS, and sysfs may show another network namespace")]
fn flags(name: &str) -> io::Result<i16> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: an ifreq of zeros is valid; its name is filled below and stays terminated.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the descriptor is open, and the kernel writes no more than one ifreq.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after SIOCGIFFLAGS the union holds the flags.
    Ok(unsafe { request.ifr_ifru.ifru_flags })
}

/// Returns packets received and sent per interface, as the host counts them.
pub(crate) fn packets() -> BTreeMap<String, (u64, u64)> {
    std::fs::read_to_string("/proc/thread-self/net/dev").map(|text| parse_packets(&text)).unwrap_or_default()
}

fn parse_packets(text: &str) -> BTreeMap<String, (u64, u64)> {
    let parse = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some((name.trim().to_owned(), (fields.get(1)?.parse().ok()?, fields.get(9)?.parse().ok()?)))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tap_names_fit_and_differ() {
        let name = tap_name("/var/lib/vouch/n1/run", "vm 6f1c2a9e-0000-4000-8000-000000000001", 0);
        assert!(name.len() <= 15, "{name}");
        assert_ne!(name, tap_name("/var/lib/vouch/n2/run", "vm 6f1c2a9e-0000-4000-8000-000000000001", 0));
    }

    #[test]
    fn a_tap_never_has_the_lowest_mac_of_its_bridge() {
        assert_eq!(host_mac("52:54:00:01:00:01"), "fe:54:00:01:00:01");
    }

    #[test]
    fn packet_counters_are_read() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n  vt0: 100 7 0 0 0 0 0 0 200 9 0 0 0 0 0 0\n";
        assert_eq!(parse_packets(text)["vt0"], (7, 9));
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_link() {
        assert!(!exists("vtnotthere"));
        assert_eq!(link_state("vtnotthere"), LinkState::Down);
        assert!(exists("lo"));
    }
}
