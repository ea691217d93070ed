//! The command lines that QEMU is started with; nothing is started.

use std::path::PathBuf;

use vouch_types::{LogIndex, ManagerId, WatcherLeg};

use super::*;
use crate::config::DriverKind;
use crate::hypervisor::run_dir::MachineId;

fn launcher() -> QemuLauncher {
    let leg = |bridge: &str| crate::config::WatcherLegConfig {
        bridge: Some(bridge.into()),
        addresses: vec!["10.1.0.200".parse().unwrap()],
        prefix_len: 24,
    };
    QemuLauncher {
        qemu: QemuConfig::default(),
        watchers: WatchersConfig {
            image_dir: Some("images/watcher".into()),
            management: Some(leg("brmgmt")),
            ..WatchersConfig::default()
        },
        run_dir: "/run/n1".into(),
        relay_port: 7002,
        host_khz: Some(2_596_134),
    }
}

fn vm(extra: &str) -> MachinePlan {
    let text = format!(
        "id = \"6f1c2a9e-0000-4000-8000-000000000001\"\nname = \"desk\"\nmemory_mib = 128\n{extra}\n[[nic]]\nnetwork = \"service\"\nbridge = \"brsvc\"\nmac = \"52:54:00:02:00:01\"\naddresses = [\"10.2.0.101\"]\n"
    );
    MachinePlan::Vm(Box::new(VmFile::parse(&text, DriverKind::Qemu).unwrap()))
}

fn line(plan: &MachinePlan) -> String {
    launcher().launch(plan, &RunDir::of(Path::new("/run/n1"), plan.id())).args.join(" ")
}

fn watcher() -> MachinePlan {
    MachinePlan::Watcher(WatcherPlan {
        watcher: WatcherId::new(3),
        placed: LogIndex::new(9),
        legs: vec![WatcherLeg {
            network: Network::Management,
            mac: "52:54:76:00:00:03".into(),
            address: "10.1.0.200".parse().unwrap(),
            prefix_len: 24,
        }],
        managers: vec![
            (ManagerId::new(1), Network::Management, "10.1.0.1:7001".parse().unwrap()),
            (ManagerId::new(1), Network::Service, "10.2.0.1:7001".parse().unwrap()),
        ],
    })
}

#[test]
fn a_kernel_boots_on_a_microvm_with_its_clock_told() {
    let line = line(&vm("kernel = \"vmlinux\"\nappend = \"vouch.eth0=10.1.0.101/24\""));
    assert!(line.contains("-M microvm,pcie=on,rtc=on -accel tcg,tb-size=32 -cpu qemu64 -m 128"));
    assert!(line.contains("-append tsc_early_khz=2596134 tsc=reliable no_timer_check vouch.eth0=10.1.0.101/24"));
    assert!(line.contains("-uuid 6f1c2a9e-0000-4000-8000-000000000001"));
    assert!(line.contains("-device virtio-net-device,netdev=s0,mac=52:54:00:02:00:01"));
    assert!(line.contains("-device pvpanic-pci"));
    assert!(line.contains("-action panic=pause,reboot=reset"), "a guest may reboot unless its file says otherwise");
}

#[test]
fn a_disk_boots_on_a_q35() {
    let line = line(&vm("disk = \"/nonexistent/a,b.img\"\non_reboot = \"stop\""));
    assert!(line.contains("-M q35"));
    assert!(line.contains("-drive file=/nonexistent/a,,b.img,if=none,id=d0,format=raw"));
    assert!(line.contains("-device virtio-blk-pci,drive=d0,werror=stop,rerror=stop"));
    assert!(line.contains("virtio-net-pci") && line.contains("-action panic=pause,reboot=shutdown"));
    assert!(line.contains("-device pvpanic "), "the one that most guests know");
}

#[test]
fn a_panic_does_what_the_file_says() {
    for (word, action) in [("pause", "panic=pause"), ("stop", "panic=shutdown"), ("continue", "panic=none")] {
        let line = line(&vm(&format!("kernel = \"k\"\non_panic = \"{word}\"")));
        assert!(line.contains(&format!("-action {action},reboot=reset")), "{line}");
    }
}

#[test]
fn a_watcher_gets_its_secret_by_a_file_and_never_starts_again_by_itself() {
    let line = line(&watcher());
    assert!(line.contains("-fw_cfg name=opt/vouch/boot,file=/run/n1/w3/boot.json"));
    assert!(line.contains("-m 256") && line.contains("-no-reboot"));
    assert!(!line.contains("string="));
}

#[test]
fn a_watcher_reaches_only_managers_and_relays_over_the_management_network() {
    let plan = watcher();
    let cards = launcher().cards(&plan);
    let rules = launcher().rules(&plan, &cards[0]);
    let endpoints = BTreeSet::from(["10.1.0.1:7001".parse().unwrap()]);
    assert_eq!(rules.reach, Reach::Only { endpoints, ports: BTreeSet::from([7002]) });
    let user = vm("kernel = \"k\"");
    assert_eq!(launcher().rules(&user, &launcher().cards(&user)[0]).reach, Reach::Any);
}

#[test]
fn the_clock_rate_is_read_in_kilohertz() {
    assert_eq!(host_khz("model name : x\ncpu MHz\t\t: 2596.134\n"), Some(2_596_134));
    assert_eq!(host_khz("cpu MHz : 2300.0\n"), Some(2_300_000));
    assert_eq!(host_khz("nothing"), None);
}

#[test]
fn a_qcow2_image_is_known_by_its_head() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"QFI\xfbrest").unwrap();
    assert_eq!(disk_format(file.path()), "qcow2");
    assert_eq!(disk_format(&PathBuf::from("/nonexistent")), "raw");
}

#[test]
fn run_folders_of_watchers_and_vms_never_meet() {
    let base = Path::new("/run/n1");
    let watcher = RunDir::of(base, MachineId::Watcher(WatcherId::new(3)));
    assert_eq!(watcher.path(), Path::new("/run/n1/w3"));
    assert_eq!(RunDir::of(base, vm("kernel = \"k\"").id()).path().file_name().unwrap().len(), 32);
}
