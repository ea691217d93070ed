//! What only PID 1 of a watcher's image does: mounts, modules, cards, clock, orphans, and the end.
//!
//! The image holds this binary, the modules in the order in which they load, and the probes. There is no shell, no
//! resolver and no way in. When it cannot go on it says why on the console and ends the machine, so that the node sees
//! it gone and another takes its place.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, wait};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::system::{RebootCommand, finit_module, reboot};
use rustix::time::{ClockId, Timespec, clock_settime};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use vouch_types::watcher::WATCHER_BOOT_FW_CFG;
use vouch_types::{WallTime, WatcherBoot, WatcherLeg};

use super::netlink::Netlink;
use super::{BootError, Folders, allow_files_of, read_boot};
use crate::compiled::CompiledFolder;
use crate::logic::RunLimit;
use crate::memory;

/// Where the image keeps the precompiled probes.
const PROBES_DIR: &str = "/probes";
/// Where what is compiled is kept.
const COMPILED_DIR: &str = "/compiled";
/// The most bytes that it may have there: this folder lies in the machine's memory.
const COMPILED_MAX: u64 = 4 << 20;
/// Where the image keeps the modules, and `order`, a file with one name per line.
const MODULES_DIR: &str = "/modules";
/// How long cards, and what the node handed over, may take to appear.
const APPEAR: Duration = Duration::from_secs(10);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(20);

/// Kernel settings: datagram ICMP sockets for all, no forwarding, and each card answers for its own address alone.
const SYSCTLS: [(&str, &str); 9] = [
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv4/ip_forward", "0"),
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/default/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv4/conf/default/arp_announce", "2"),
    ("ipv4/conf/all/arp_filter", "1"),
    ("ipv4/conf/default/arp_filter", "1"),
    ("ipv4/conf/all/accept_redirects", "0"),
];

/// Why the machine is no watcher.
#[derive(Debug, Error)]
pub enum Pid1Error {
    /// A file system cannot be mounted.
    #[error("mount {target}")]
    Mount {
        /// Where.
        target: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node's word cannot be read.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A card did not appear.
    #[error("no network card {mac} within {APPEAR:?}; there are: {there}")]
    NoCard {
        /// The card's address as the node gave it.
        mac: String,
        /// The cards that are there.
        there: String,
    },
    /// A card cannot be set up.
    #[error("network card {card}: address {address}")]
    Card {
        /// The card.
        card: String,
        /// Its address.
        address: IpAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Returns where the watcher of this machine has its probes from.
pub fn folders() -> Folders<'static> {
    let compiled = CompiledFolder { path: COMPILED_DIR.as_ref(), most_bytes: COMPILED_MAX };
    Folders { shipped: PROBES_DIR.as_ref(), compiled: Some(compiled) }
}

/// Makes a watcher of this machine and returns what the node handed to it.
///
/// # Errors
/// [`Pid1Error`] names what is missing.
pub fn set_up() -> Result<WatcherBoot, Pid1Error> {
    mount_all()?;
    load_modules();
    let boot = PathBuf::from(format!("/sys/firmware/qemu_fw_cfg/by_name/{WATCHER_BOOT_FW_CFG}/raw"));
    appears(|| boot.exists().then_some(()));
    let boot = read_boot(&boot)?;
    for (key, value) in SYSCTLS {
        if let Err(error) = fs::write(format!("/proc/sys/net/{key}"), value) {
            warn!(key, %error, "kernel setting refused");
        }
    }
    set_clock(boot.stamp);
    for leg in &boot.legs {
        set_up_leg(leg)?;
    }
    let random = fs::read_to_string("/sys/class/misc/hw_random/rng_current").unwrap_or_default();
    info!(watcher_id = %boot.watcher, node_id = %boot.node, legs = boot.legs.len(), random = random.trim(), "machine set up");
    Ok(boot)
}

/// Opens the console for output, which the kernel does only when the image holds a device node.
pub fn open_console() {
    // Nobody could be told of a failure.
    let _ = mount_one("devtmpfs", "/dev");
    if let Ok(console) = fs::OpenOptions::new().read(true).write(true).open("/dev/console") {
        let _ = dup2_stdin(&console);
        let _ = dup2_stdout(&console);
        let _ = dup2_stderr(&console);
    }
}

/// Returns how many runs the memory of this machine holds, and lets the process open the files of so many.
pub fn run_limit() -> RunLimit {
    let free = memory::available().unwrap_or_default();
    let runs = RunLimit::of_memory(free);
    info!(free_kib = free / 1024, runs = runs.all(), guests_kib = runs.memory() / 1024, "memory of this machine");
    if !allow_files_of(runs) {
        return RunLimit::of_memory(0);
    }
    runs
}

/// Collects orphans for as long as the watcher runs.
pub async fn reap() {
    let Ok(mut children) = signal(SignalKind::child()) else { return };
    while children.recv().await.is_some() {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}

/// Ends the machine. The node starts watchers so that a restart ends them.
pub fn end_machine() -> ! {
    rustix::fs::sync();
    let _ = reboot(RebootCommand::Restart);
    loop {
        std::thread::park();
    }
}

fn mount_all() -> Result<(), Pid1Error> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")] {
        mount_one(kind, target).map_err(|source| Pid1Error::Mount { target, source })?;
    }
    Ok(())
}

fn mount_one(kind: &str, target: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let flags = MountFlags::NOSUID
        | MountFlags::NOEXEC
        | if kind == "devtmpfs" { MountFlags::empty() } else { MountFlags::NODEV };
    match mount(kind, target, kind, flags, None) {
        Err(rustix::io::Errno::BUSY) => Ok(()),
        other => Ok(other?),
    }
}

/// Loads what the image lists. A module that fails is told; what it was for fails by name later.
fn load_modules() {
    let order = fs::read_to_string(Path::new(MODULES_DIR).join("order")).unwrap_or_default();
    for name in order.lines().map(str::trim).filter(|name| !name.is_empty()) {
        let loaded =
            fs::File::open(Path::new(MODULES_DIR).join(name)).and_then(|file| match finit_module(file, c"", 0) {
                Err(rustix::io::Errno::EXIST) => Ok(()),
                other => Ok(other?),
            });
        if let Err(error) = loaded {
            warn!(module = name, %error, "module not loaded");
        }
    }
}

/// Sets the clock to the node's stamp if it is behind: a machine without RTC wakes up in 1970.
fn set_clock(stamp: WallTime) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let stamp = stamp.as_unix_millis();
    if now >= u128::from(stamp) {
        return;
    }
    let seconds = i64::try_from(stamp / 1000).unwrap_or_default();
    let nanos = i64::try_from(stamp % 1000 * 1_000_000).unwrap_or_default();
    if let Err(error) = clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanos }) {
        warn!(%error, "clock not set");
    }
}

fn set_up_leg(leg: &WatcherLeg) -> Result<(), Pid1Error> {
    let card = appears(|| card_of(&leg.mac)).ok_or_else(|| Pid1Error::NoCard {
        mac: leg.mac.clone(),
        there: cards().into_iter().map(|(card, mac)| format!("{card} {mac}")).collect::<Vec<_>>().join(", "),
    })?;
    let configure = || {
        let index = fs::read_to_string(format!("/sys/class/net/{card}/ifindex"))?;
        let index = index.trim().parse().map_err(io::Error::other)?;
        let mut netlink = Netlink::open()?;
        netlink.set_up(1)?;
        netlink.add_address(index, leg.address, leg.prefix_len)?;
        netlink.set_up(index)
    };
    configure().map_err(|source| Pid1Error::Card { card: card.clone(), address: leg.address, source })?;
    info!(network = %leg.network, card, address = %leg.address, "leg up");
    Ok(())
}

fn card_of(mac: &str) -> Option<String> {
    cards().into_iter().find(|(_, its)| its.eq_ignore_ascii_case(mac)).map(|(card, _)| card)
}

/// All cards with their addresses.
fn cards() -> Vec<(String, String)> {
    let folder = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    folder
        .filter_map(|card| {
            let mac = fs::read_to_string(card.path().join("address")).ok()?;
            Some((card.file_name().to_string_lossy().into_owned(), mac.trim().to_owned()))
        })
        .collect()
}

/// Looks again and again until something is there, at most [`APPEAR`].
fn appears<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        match look() {
            None if begun.elapsed() < APPEAR => std::thread::sleep(LOOK),
            found => return found,
        }
    }
}
