//! The driver `qemu`: its command lines, taps and packet filters. Supervision is in `machine` and
//! `process_hypervisor`.
//!
//! Machines are `microvm` where a kernel is given (no firmware, no PCI ROMs) and `q35` where a disk is booted. No
//! secret is ever on a command line: a watcher's boot file comes in by fw_cfg from a 0600 file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_trait::async_trait;
use tracing::warn;
use vouch_types::watcher::WATCHER_BOOT_FW_CFG;
use vouch_types::{Network, WatcherId};

use super::interfaces::{create_tap, remove_tap, tap_name};
use super::launcher::Launcher;
use super::machine::Monitor;
use super::packet_filter::{self, Reach, TapRules};
use super::run_dir::{MachinePlan, RunDir};
use super::watcher_plan::WatcherPlan;
use super::{HypervisorError, ServiceState};
use crate::config::{Config, QemuConfig, WatchersConfig};
use crate::process::Launch;
use crate::vm_file::{MachineType, OnPanic, OnReboot, VmFile};

/// Cache of translated code per machine under TCG, in MiB: small guests need no more, and QEMU's default is a quarter
/// of the host's memory.
pub const TCG_CACHE_MIB: u32 = 32;

/// What a small Linux guest boots with; `panic=1` ends it where pvpanic is not loaded yet.
const WATCHER_APPEND: &str =
    "console=ttyS0 quiet panic=1 mitigations=off cryptomgr.notests random.trust_cpu=on 8250.nr_uarts=1";

/// The driver `qemu`.
#[derive(Debug, Clone)]
pub(crate) struct QemuLauncher {
    qemu: QemuConfig,
    watchers: WatchersConfig,
    run_dir: String,
    relay_port: u16,
    host_khz: Option<u64>,
}

/// A network card, whatever it belongs to.
struct Card {
    network: Network,
    tap: String,
    bridge: String,
    mac: String,
    addresses: Vec<std::net::IpAddr>,
}

impl QemuLauncher {
    pub(crate) fn new(config: &Config) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            qemu: config.hypervisor.qemu.clone(),
            watchers: config.watchers.clone(),
            run_dir: config.run_dir().display().to_string(),
            relay_port: config.relay_advertise.unwrap_or(config.relay).port(),
            host_khz: host_khz(&cpuinfo),
        }
    }

    fn cards(&self, plan: &MachinePlan) -> Vec<Card> {
        let tap = |card| tap_name(&self.run_dir, &plan.id().to_string(), card);
        match plan {
            MachinePlan::Vm(file) => file
                .nics
                .iter()
                .enumerate()
                .map(|(i, nic)| Card {
                    network: nic.network,
                    tap: tap(i),
                    bridge: nic.bridge.clone(),
                    mac: nic.mac.clone(),
                    addresses: nic.addresses.clone(),
                })
                .collect(),
            MachinePlan::Watcher(watcher) => watcher
                .legs
                .iter()
                .enumerate()
                .map(|(i, leg)| Card {
                    network: leg.network,
                    tap: tap(i),
                    bridge: self.watchers.leg(leg.network).and_then(|l| l.bridge.clone()).unwrap_or_default(),
                    mac: leg.mac.clone(),
                    addresses: vec![leg.address],
                })
                .collect(),
        }
    }

    fn rules(&self, plan: &MachinePlan, card: &Card) -> TapRules {
        let reach = match plan {
            MachinePlan::Watcher(watcher) if card.network == Network::Management => self.watcher_reach(watcher),
            MachinePlan::Watcher(_) | MachinePlan::Vm(_) => Reach::Any,
        };
        TapRules { tap: card.tap.clone(), mac: card.mac.clone(), addresses: card.addresses.clone(), reach }
    }

    fn watcher_reach(&self, watcher: &WatcherPlan) -> Reach {
        let on_management = watcher.managers.iter().filter(|(_, network, _)| *network == Network::Management);
        let mut ports: BTreeSet<u16> = self.watchers.management_ports.iter().copied().collect();
        ports.insert(self.relay_port);
        Reach::Only { endpoints: on_management.map(|(_, _, address)| *address).collect(), ports }
    }

    /// Arguments that every machine has.
    fn base_args(&self, machine: MachineType, memory_mib: u32, cpus: u8, dir: &RunDir) -> Vec<String> {
        let tcg = self.qemu.accel == "tcg";
        let accel = if tcg { format!("tcg,tb-size={TCG_CACHE_MIB}") } else { self.qemu.accel.clone() };
        let cpu = self.qemu.cpu.clone().unwrap_or_else(|| if tcg { "qemu64" } else { "host" }.to_owned());
        let machine = match machine {
            MachineType::Microvm => "microvm,pcie=on,rtc=on",
            MachineType::Q35 => "q35,smbus=off,usb=off",
        };
        let socket = |name: &str| dir.file(name).display().to_string();
        let args = [
            "-M",
            machine,
            "-accel",
            &accel,
            "-cpu",
            &cpu,
            "-m",
            &memory_mib.to_string(),
            "-smp",
            &cpus.to_string(),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-serial",
            &format!("file:{}", socket("console.log")),
            "-pidfile",
            &socket("pid"),
            "-qmp",
            &format!("unix:{},server=on,wait=off", socket("qmp.sock")),
        ];
        args.into_iter().map(ToOwned::to_owned).collect()
    }

    fn card_args(cards: &[Card], suffix: &str) -> Vec<String> {
        let mut args = Vec::new();
        for (i, card) in cards.iter().enumerate() {
            let id = format!("{}{i}", &card.network.as_str()[..1]);
            args.push("-netdev".to_owned());
            args.push(format!("tap,id={id},ifname={},script=no,downscript=no", card.tap));
            args.push("-device".to_owned());
            args.push(format!("virtio-net-{suffix},netdev={id},mac={}", card.mac));
        }
        args
    }

    /// What a kernel needs to have a clock on a microvm under TCG, which has no PIT, HPET or PM timer to calibrate by.
    fn clock_append(&self, machine: MachineType) -> String {
        match self.host_khz {
            Some(khz) if machine == MachineType::Microvm && self.qemu.accel == "tcg" => {
                format!("tsc_early_khz={khz} tsc=reliable no_timer_check")
            }
            Some(_) | None => String::new(),
        }
    }

    fn vm_args(&self, file: &VmFile, cards: &[Card], dir: &RunDir) -> Vec<String> {
        let machine = file.machine_type();
        let suffix = match machine {
            MachineType::Microvm => "device",
            MachineType::Q35 => "pci",
        };
        let mut args = self.base_args(machine, file.memory_mib.unwrap_or_default(), file.cpus, dir);
        let mut push = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        push("-uuid", file.id.to_string());
        push("-name", format!("guest={}", file.name.replace(',', ",,")));
        push("-action", actions(file));
        if let Some(kernel) = &file.kernel {
            push("-kernel", kernel.display().to_string());
            let append = [self.clock_append(machine), file.append.clone().unwrap_or_default()];
            push("-append", append.join(" ").trim().to_owned());
        }
        if let Some(initrd) = &file.initrd {
            push("-initrd", initrd.display().to_string());
        }
        if let Some(disk) = &file.disk {
            let format = disk_format(disk);
            push("-drive", format!("file={},if=none,id=d0,format={format}", escape(&disk.display().to_string())));
            // An error of the store stops the guest before it sees it, and a resume tries again.
            push("-device", format!("virtio-blk-{suffix},drive=d0,werror=stop,rerror=stop"));
        }
        push("-device", format!("virtio-serial-{suffix}"));
        let agent = dir.file("ga.sock").display().to_string();
        push("-chardev", format!("socket,id=ga,path={},server=on,wait=off", escape(&agent)));
        push("-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0".to_owned());
        push("-device", format!("virtio-rng-{suffix}"));
        let pvpanic = match machine {
            // It has no ISA bus for it, and the kernels that boot on it know the PCI one.
            MachineType::Microvm => "pvpanic-pci",
            // More guests have a driver for the ISA one: Windows, and Linux before 5.13.
            MachineType::Q35 => "pvpanic",
        };
        push("-device", pvpanic.to_owned());
        args.extend(Self::card_args(cards, suffix));
        args.extend(file.extra_args.iter().cloned());
        args
    }

    fn watcher_args(&self, cards: &[Card], dir: &RunDir) -> Vec<String> {
        let machine = MachineType::Microvm;
        let mut args = self.base_args(machine, self.watchers.memory_mib, 1, dir);
        let mut push = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        let image = self.watchers.image_dir.clone().unwrap_or_default();
        push("-kernel", image.join("vmlinux").display().to_string());
        push("-initrd", image.join("initramfs.cpio").display().to_string());
        push("-append", format!("{WATCHER_APPEND} {}", self.clock_append(machine)));
        let boot = dir.file("boot.json").display().to_string();
        push("-fw_cfg", format!("name={WATCHER_BOOT_FW_CFG},file={}", escape(&boot)));
        push("-device", "virtio-rng-device".to_owned());
        push("-device", "pvpanic-pci".to_owned());
        args.push("-no-reboot".to_owned());
        args.extend(Self::card_args(cards, "device"));
        args
    }
}

/// Returns what QEMU is to do when a guest panics or resets itself (QEMU docs: `-action`).
fn actions(file: &VmFile) -> String {
    let panic = match file.on_panic {
        OnPanic::Pause => "pause",
        OnPanic::Stop => "shutdown",
        OnPanic::Continue => "none",
    };
    let reboot = match file.on_reboot {
        OnReboot::Restart => "reset",
        OnReboot::Stop => "shutdown",
    };
    format!("panic={panic},reboot={reboot}")
}

/// QEMU's option parser takes a comma for the end of a value unless it is doubled.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

/// Returns the format of a disk image by its head (QEMU docs: interop/qcow2, "QFI\xfb").
fn disk_format(path: &Path) -> &'static str {
    let mut head = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut f| std::io::Read::read_exact(&mut f, &mut head));
    if read.is_ok() && &head == b"QFI\xfb" { "qcow2" } else { "raw" }
}

/// Returns the host's clock rate: under TCG the guest's TSC runs at it.
fn host_khz(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find(|l| l.starts_with("cpu MHz"))?;
    let (mhz, fraction) = line.split_once(':')?.1.trim().split_once('.')?;
    let fraction: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some(mhz.parse::<u64>().ok()? * 1000 + fraction)
}

#[async_trait]
impl Launcher for QemuLauncher {
    fn driver(&self) -> &'static str {
        "qemu"
    }

    /// Each machine is spoken to by itself: there is no service between that could fail.
    fn service(&self) -> ServiceState {
        ServiceState::Answering
    }

    fn monitor(&self, plan: &MachinePlan, dir: &RunDir) -> Monitor {
        let uuid = match plan {
            MachinePlan::Vm(file) => Some(file.id.to_string()),
            MachinePlan::Watcher(_) => None,
        };
        Monitor::Qmp { socket: dir.file("qmp.sock"), uuid }
    }

    async fn prepare(&self, plan: &MachinePlan) -> Result<(), HypervisorError> {
        for card in self.cards(plan) {
            create_tap(&card.tap, &card.bridge, &card.mac).await?;
            if !self.qemu.anti_spoofing {
                continue;
            }
            match (self.rules(plan, &card).apply().await, plan) {
                (Ok(()), _) => {}
                // A user's VM is worth more than its filter; a watcher without its filter is not to be trusted.
                (Err(e), MachinePlan::Vm(_)) => warn!(
                    machine = %plan.id(),
                    tap = card.tap,
                    error = %error_chain(&e),
                    "no anti-spoofing: nft refused the rules, so this VM can send from any address"
                ),
                (Err(e), MachinePlan::Watcher(_)) => return Err(e),
            }
        }
        Ok(())
    }

    fn launch(&self, plan: &MachinePlan, dir: &RunDir) -> Launch {
        let cards = self.cards(plan);
        let args = match plan {
            MachinePlan::Vm(file) => self.vm_args(file, &cards, dir),
            MachinePlan::Watcher(_) => self.watcher_args(&cards, dir),
        };
        Launch { program: self.qemu.binary.clone(), args, nice: self.qemu.nice }
    }

    async fn clean_up(&self, plan: &MachinePlan) {
        for card in self.cards(plan) {
            if self.qemu.anti_spoofing {
                packet_filter::remove(&card.tap).await;
            }
            if let Err(e) = remove_tap(&card.tap).await {
                warn!(machine = %plan.id(), tap = card.tap, error = %error_chain(&e), "tap not removed");
            }
        }
    }

    fn ports(&self, plan: &MachinePlan) -> BTreeMap<Network, Vec<String>> {
        let mut ports: BTreeMap<Network, Vec<String>> = BTreeMap::new();
        for card in self.cards(plan) {
            ports.entry(card.network).or_default().push(card.tap);
        }
        ports
    }
}

/// Returns an error with its sources in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Returns whether a watcher with this number may be told apart from others by its MAC.
pub(crate) const fn number_fits_a_mac(watcher: WatcherId) -> bool {
    watcher.get() < 1 << 24
}

#[cfg(test)]
mod tests;
