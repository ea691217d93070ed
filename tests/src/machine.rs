//! A guest that the harness itself boots, to try an image apart from the product: on a compute node of a lab, with a
//! card in both networks, under TCG.
//!
//! Where vouch runs, its node starts the guests; this is only for the tests of the images.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use vouch_types::Network;

use crate::{netns::Host, paths, process::Process};

/// What to boot.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Name, at most 6 bytes: the taps bear it.
    pub name: &'a str,
    /// Which image, `watcher` or `guest`.
    pub image: &'a str,
    /// Memory of the guest in MiB.
    pub memory_mib: u32,
    /// Words for the kernel's command line, besides those that every guest gets.
    pub command_line: &'a str,
    /// Files to hand over through fw_cfg: name and content.
    pub files: &'a [(&'a str, String)],
}

/// A running guest. Dropping it kills its QEMU.
#[derive(Debug)]
pub struct Machine {
    /// Its QEMU.
    pub qemu: Process,
    console: PathBuf,
    agent: PathBuf,
}

impl Machine {
    /// Boots an image on a compute node; what the guest writes to its console goes to `NAME.console` in `logs`.
    ///
    /// # Errors
    /// Fails if the image isn't built or QEMU can't be started.
    pub fn boot(node: &Host, plan: &Plan<'_>, logs: &Path) -> Result<Self> {
        let image = paths::image(plan.image)?;
        let file = |ending: &str| logs.join(format!("{}.{ending}", plan.name));
        let (console, agent) = (file("console"), file("agent"));
        let mut qemu = node.command("qemu-system-x86_64");
        qemu.args(["-M", "microvm,pcie=on,rtc=on", "-accel", "tcg,tb-size=32", "-cpu", "qemu64", "-nodefaults"])
            .args(["-no-user-config", "-display", "none", "-no-reboot", "-m", &plan.memory_mib.to_string()])
            .args(["-device", "virtio-rng-device", "-device", "virtio-serial-device", "-device", "pvpanic-pci"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-chardev")
            .arg(format!("socket,id=agent,path={},server=on,wait=off", agent.display()))
            .args(["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"])
            .arg("-kernel")
            .arg(image.join("vmlinux"))
            .arg("-initrd")
            .arg(image.join("initramfs.cpio"))
            .arg("-append")
            .arg(format!("{} {}", command_line()?, plan.command_line));
        for network in Network::ALL {
            let tap = add_tap(node, plan.name, network)?;
            qemu.args(["-netdev", &format!("tap,id={network},ifname={tap},script=no,downscript=no")])
                .args(["-device", &format!("virtio-net-device,netdev={network},mac={}", mac(network))]);
        }
        for (number, (name, content)) in plan.files.iter().enumerate() {
            let path = file(&format!("file{number}"));
            fs::write(&path, content).with_context(|| format!("can't write {}", path.display()))?;
            qemu.args(["-fw_cfg", &format!("name={name},file={}", path.display())]);
        }
        Ok(Self { qemu: Process::start(plan.name, &mut qemu, logs)?, console, agent })
    }

    /// Returns what the guest has written to its console so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Returns the socket of its guest agent.
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// Returns the most memory that its QEMU has ever used, in KiB.
    ///
    /// # Errors
    /// Fails if QEMU is gone.
    pub fn peak_kib(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.qemu.pid())).context("QEMU is gone")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        line.trim().trim_end_matches(" kB").parse().context("VmHWM is no number")
    }
}

/// Returns a guest's card in a network: the lower one is the card of the management network.
pub fn mac(network: Network) -> &'static str {
    match network {
        Network::Management => "52:54:00:01:00:01",
        Network::Service => "52:54:00:02:00:01",
    }
}

/// Under TCG a microvm has no timer to calibrate its clock by, so the kernel is told the host's frequency.
fn command_line() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo").context("can't read /proc/cpuinfo")?;
    let mhz = text.lines().find_map(|line| line.strip_prefix("cpu MHz")).and_then(|rest| rest.split(':').nth(1));
    let mhz: f64 =
        mhz.context("/proc/cpuinfo names no frequency")?.trim().parse().context("the frequency is no number")?;
    Ok(format!(
        "console=ttyS0 quiet panic=1 mitigations=off cryptomgr.notests random.trust_cpu=on 8250.nr_uarts=1 \
         tsc_early_khz={:.0} tsc=reliable no_timer_check",
        mhz * 1000.0
    ))
}

fn add_tap(node: &Host, name: &str, network: Network) -> Result<String> {
    let (kind, bridge) = match network {
        Network::Management => ('m', "brmgmt"),
        Network::Service => ('s', "brsvc"),
    };
    let tap = format!("tap{kind}-{name}");
    for words in [format!("tuntap add {tap} mode tap"), format!("link set dev {tap} master {bridge} up")] {
        let done = Command::new("ip")
            .args(["-n", &node.namespace])
            .args(words.split(' '))
            .stdin(Stdio::null())
            .output()
            .context("can't start ip")?;
        if !done.status.success() {
            bail!("`ip {words}` on {}: {}", node.name, String::from_utf8_lossy(&done.stderr).trim());
        }
    }
    Ok(tap)
}
