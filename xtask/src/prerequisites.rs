//! What has to be on the machine besides Rust: Debian packages and rustup targets.
//!
//! As root on Debian the missing packages are installed; otherwise the message says exactly what is missing and what
//! to run. Nothing that is there already is touched.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::shell;

/// One program that is needed, and the Debian package that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// Needed to compile the workspace and the static watcher (the C parts of the crypto library).
pub(crate) const BUILD: &[Tool] = &[tool("cc", "build-essential"), tool("musl-gcc", "musl-tools")];
/// Needed to make the images.
pub(crate) const IMAGE: &[Tool] = &[tool("readelf", "binutils")];
/// Needed by the whole-system tests and the demo: guests, and networks to break.
pub(crate) const SYSTEM: &[Tool] = &[
    tool("qemu-system-x86_64", "qemu-system-x86"),
    tool("ip", "iproute2"),
    tool("tc", "iproute2"),
    tool("nft", "nftables"),
    tool("ping", "iputils-ping"),
    // Brings the library that gives one manager a wall clock of its own.
    tool("faketime", "faketime"),
    // Lets a manager's flushes fail.
    tool("strace", "strace"),
];

/// What the shipped probes are tested against, and what asks the managers in the form of others. Their packages start services of their own, so only CI installs them.
pub(crate) const SERVERS: &[Tool] = &[
    tool("sshd", "openssh-server"),
    tool("ssh-keygen", "openssh-client"),
    tool("nginx", "nginx-light"),
    tool("dnsmasq", "dnsmasq-base"),
    tool("qemu-system-x86_64", "qemu-system-x86"),
    tool("xrdp", "xrdp"),
    tool("freerdp-shadow-cli", "freerdp2-shadow-x11"),
    tool("Xvfb", "xvfb"),
    tool("prometheus", "prometheus"),
    BLACKBOX,
];
/// The SPICE server of QEMU, where it is a package of its own (from Debian 13 on).
const SPICE: &str = "qemu-system-modules-spice";

/// What the benchmarks measure vouch beside.
pub(crate) const PEERS: &[Tool] = &[tool("etcd", "etcd-server")];

/// Debian starts one of its own when the package is installed, on port 9115; those of tests and benchmarks are others.
const BLACKBOX: Tool = tool("prometheus-blackbox-exporter", "prometheus-blackbox-exporter");

/// What `bench probes` measures the shipped probes beside.
pub(crate) const PROBE_PEERS: &[Tool] = &[BLACKBOX, tool("fping", "fping")];

const RUST_TARGETS: &[&str] = &["wasm32-wasip2", "x86_64-unknown-linux-musl"];

/// What everything that is built takes in the target folder, and what it takes beside that while it is built.
const BUILT: u64 = 9 * GIB;
const BESIDE: u64 = 2 * GIB;
const GIB: u64 = 1 << 30;

/// Makes sure that there is room for what is going to be built: a compiler that runs out of it says so in a hundred lines
/// and not in one.
pub(crate) fn ensure_room() -> Result<()> {
    let target = shell::target();
    fs::create_dir_all(&target).with_context(|| format!("can't make {}", target.display()))?;
    let number = |text: String| text.split_whitespace().next_back().and_then(|word| word.parse::<u64>().ok());
    let free = shell::output(Command::new("df").args(["--block-size=1", "--output=avail"]).arg(&target))?;
    let built = shell::output(Command::new("du").args(["--block-size=1", "--summarize"]).arg(&target))?;
    let built = built.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let free = number(free).with_context(|| format!("df tells no number for {}", target.display()))?;
    match missing_room(free, built) {
        0 => Ok(()),
        missing => bail!(
            "{}: {} GiB are free, and the build takes {} GiB more: free {} GiB, or set CARGO_TARGET_DIR to where there is room",
            target.display(),
            free / GIB,
            (free + missing).div_ceil(GIB),
            missing.div_ceil(GIB),
        ),
    }
}

/// Returns how many bytes are missing where so many are free and so many are built already.
fn missing_room(free: u64, built: u64) -> u64 {
    (BUILT.saturating_sub(built) + BESIDE).saturating_sub(free)
}

/// Returns those of the tools that are not there.
fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().copied().filter(|tool| shell::find_program(tool.program).is_none()).collect()
}

/// Makes sure that the tools are there: installs their packages as root, else says what to run.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    install(&packages)?;
    match missing.iter().find(|tool| shell::find_program(tool.program).is_none()) {
        Some(tool) => bail!("{} was installed, but `{}` is still not there", tool.package, tool.program),
        None => Ok(()),
    }
}

/// Makes sure that the servers are there that the shipped probes are tested against: in CI installs them, elsewhere says what
/// to run.
pub(crate) fn ensure_servers() -> Result<()> {
    if in_ci() {
        ensure(SERVERS)?;
        let known =
            shell::output(Command::new("apt-cache").args(["search", "--names-only", SPICE])).unwrap_or_default();
        return if known.trim().is_empty() { Ok(()) } else { install(&[SPICE]) };
    }
    let missing: Vec<&str> = missing(SERVERS).iter().map(|tool| tool.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "missing: {}. They start services of their own, so install them by hand: apt-get install --no-install-recommends {}",
        missing.join(", "),
        missing.join(" ")
    )
}

/// Returns whether this is CI, where nothing may be left out.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Installs Debian packages as root, else says what to run.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !shell::is_root() {
        bail!("missing: {}. Run: sudo {by_hand}", packages.join(", "));
    }
    if shell::find_program("apt-get").is_none() {
        bail!("this is no Debian machine. Install what corresponds to: {by_hand}");
    }
    update_lists_if_empty()?;
    println!("installing {}", packages.join(" "));
    let apt_get = || {
        shell::output(
            Command::new("apt-get")
                .args(["install", "-y", "-qq", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    // Lists that are weeks old name package files that are gone: a second try with new lists settles it.
    if apt_get().is_err() {
        update_lists()?;
        apt_get()?;
    }
    Ok(())
}

/// Makes sure that the rustup targets of the toolchain file are there.
pub(crate) fn ensure_rust_targets() -> Result<()> {
    for target in RUST_TARGETS {
        let folder = shell::output(Command::new("rustc").current_dir(shell::workspace()).args([
            "--print",
            "target-libdir",
            "--target",
            target,
        ]))?;
        if fs::exists(folder.trim()).unwrap_or(false) {
            continue;
        }
        shell::run(Command::new("rustup").current_dir(shell::workspace()).args(["target", "add", target]))
            .with_context(|| format!("the Rust target is missing. Run: rustup target add {target}"))?;
    }
    Ok(())
}

/// Fetches apt's package lists if there are none, which only root can do.
pub(crate) fn update_lists_if_empty() -> Result<()> {
    let lists = fs::read_dir("/var/lib/apt/lists").map(|entries| {
        entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_string_lossy().contains("Packages")).count()
    });
    if lists.unwrap_or(0) > 0 {
        return Ok(());
    }
    if !shell::is_root() {
        bail!("apt has no package lists. Run: sudo apt-get update");
    }
    update_lists()
}

fn update_lists() -> Result<()> {
    println!("fetching apt's package lists");
    shell::output(Command::new("apt-get").args(["update", "-qq"])).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_has_not_begun_needs_more_room_than_one_that_is_done() {
        assert_eq!(missing_room(11 * GIB, 0), 0);
        assert_eq!(missing_room(10 * GIB, 0), GIB);
        assert_eq!(missing_room(2 * GIB, 40 * GIB), 0);
        assert_eq!(missing_room(GIB, 9 * GIB), GIB, "what is built is built again, file by file");
    }
}
