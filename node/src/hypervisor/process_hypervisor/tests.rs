//! Real processes: the drivers with stand-ins, and in `real_qemu` the driver `qemu` with a real QEMU where there is one.

use std::path::Path;

use vouch_types::{Operation, PauseReason, Progress, WatcherLegs};

use super::*;
use crate::hypervisor::local::SILENT_FILE;
use crate::hypervisor::{ServiceState, VmView, WatcherView};
use crate::local_word::LocalWord;

const VM: &str = "6f1c2a9e-0000-4000-8000-000000000001";

struct Bed {
    dir: tempfile::TempDir,
    config: Config,
    store: NodeStore,
    boot: BootId,
}

fn bed(driver: &str, extra: &str) -> Bed {
    let dir = tempfile::Builder::new().prefix("vn").tempdir().unwrap();
    let text = format!(
        "id = \"n1\"\ndata_dir = {:?}\nrelay = \"127.0.0.1:7002\"\n[tls]\nca_certificate = \"c\"\ncertificate = \"c\"\nkey = \"k\"\n[[manager]]\nid = \"m1\"\nmanagement = \"127.0.0.1:1\"\n[hypervisor]\ndriver = \"{driver}\"\nvm_dir = {:?}\n{extra}",
        dir.path().join("d"),
        dir.path().join("vms"),
    );
    let config = Config::parse(&text).unwrap();
    let store = NodeStore::open(&config.data_dir).unwrap();
    Bed { dir, config, store, boot: BootId::new(uuid::Uuid::from_u128(1)) }
}

impl Bed {
    async fn open(&self) -> ProcessHypervisor {
        ProcessHypervisor::open(&self.config, self.boot, self.store.clone()).await.unwrap()
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }
}

fn vm() -> VmId {
    VM.parse().unwrap()
}

fn process(hypervisor: &ProcessHypervisor, id: MachineId) -> ProcessIdentity {
    match hypervisor.inner.machines()[&id].record.life {
        MachineLife::Running(process) => process,
        MachineLife::Starting | MachineLife::Ended(_) => panic!("{id} runs"),
    }
}

async fn state(hypervisor: &ProcessHypervisor, wanted: HypervisorState) -> VmView {
    let mut changes = hypervisor.changes();
    let wait = async {
        loop {
            let vms = hypervisor.view().vms;
            if let Some(view) = vms.into_iter().find(|v| v.state == wanted) {
                return view;
            }
            changes.changed().await.unwrap();
        }
    };
    timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("{:?}, not {wanted:?}", hypervisor.view()))
}

/// Waits until the end of a machine is written down.
async fn buried(hypervisor: &ProcessHypervisor, id: MachineId) {
    let wait = async {
        while !hypervisor.inner.machines().get(&id).is_none_or(|m| matches!(m.record.life, MachineLife::Ended(_))) {
            tokio::task::yield_now().await;
        }
        drop(hypervisor.inner.steps.lock().await);
    };
    timeout(Duration::from_secs(30), wait).await.unwrap();
}

fn local_file() -> VmFile {
    let text = format!("id = \"{VM}\"\nname = \"a\"\n[local]\naddress = \"127.0.10.1\"\nrdp_port = 5\n");
    VmFile::parse(&text, DriverKind::Local).unwrap()
}

fn other_file() -> VmFile {
    VmFile::parse(
        "id = \"6f1c2a9e-0000-4000-8000-000000000002\"\nname = \"b\"\n[local]\naddress = \"127.0.10.2\"\nrdp_port = 5\n",
        DriverKind::Local,
    )
    .unwrap()
}

#[tokio::test]
async fn a_local_vm_survives_its_agent_and_a_kill_is_a_death_that_is_not_undone() {
    let mut bed = bed("local", "");
    bed.config.hypervisor.local.binary = Some(bed.script("vm", "exec sleep 600"));
    let first = bed.open().await;
    first.set_vms(vec![local_file()]).await;
    let started = state(&first, HypervisorState::Running).await;
    let pid = process(&first, MachineId::Vm(vm()));

    let second = bed.open().await;
    assert_eq!(process(&second, MachineId::Vm(vm())), pid, "adopted, not started anew");
    second.set_vms(vec![local_file()]).await;
    let killed = std::time::Instant::now();
    pid.kill().unwrap();
    let gone = state(&second, HypervisorState::Gone(ExitReason::Process)).await;
    assert!(killed.elapsed() < Duration::from_millis(500), "{:?}", killed.elapsed());
    assert_eq!(gone.start, started.start);
    buried(&second, MachineId::Vm(vm())).await;

    second.set_vms(vec![local_file()]).await;
    assert_eq!(second.view().vms[0].state, gone.state, "not restarted by itself");
    second.set_vms(Vec::new()).await;
    assert!(second.view().vms.is_empty(), "forgotten with its file");
    second.set_vms(vec![local_file()]).await;
    let again = state(&second, HypervisorState::Running).await;
    assert!(again.start > started.start, "its file put back starts it");
    process(&second, MachineId::Vm(vm())).kill().unwrap();
}

#[tokio::test]
async fn a_local_vm_is_told_as_it_says_of_itself() {
    let mut bed = bed("local", "");
    bed.config.hypervisor.local.binary = Some(bed.script("vm", "exec sleep 600"));
    let hypervisor = bed.open().await;
    hypervisor.set_vms(vec![local_file()]).await;
    let silent = state(&hypervisor, HypervisorState::Running).await;
    assert_eq!((silent.progress, silent.operation), (Progress::Unknown, None), "it has said nothing");
    let dir = RunDir::of(&hypervisor.inner.base, MachineId::Vm(vm()));
    let hung = LocalWord { progress: Progress::Still, operation: Some(Operation::Snapshot), ..LocalWord::NOTHING };
    hung.write(dir.path()).unwrap();
    hypervisor.refresh(Duration::from_secs(30)).await;
    let told = state(&hypervisor, HypervisorState::Running).await;
    assert_eq!((told.progress, told.operation), (Progress::Still, Some(Operation::Snapshot)));
    LocalWord { state: HypervisorState::Paused(PauseReason::IoError), ..hung }.write(dir.path()).unwrap();
    hypervisor.refresh(Duration::from_secs(30)).await;
    let paused = state(&hypervisor, HypervisorState::Paused(PauseReason::IoError)).await;
    assert_eq!(paused.progress, Progress::Unknown, "it does not execute, so it cannot get on");
    process(&hypervisor, MachineId::Vm(vm())).kill().unwrap();
}

#[tokio::test]
async fn while_the_hypervisors_service_is_silent_a_vm_is_told_as_last_known_and_nothing_is_stated_of_it() {
    let mut bed = bed("local", "");
    bed.config.hypervisor.local.binary = Some(bed.script("vm", "exec sleep 600"));
    let hypervisor = bed.open().await;
    hypervisor.set_vms(vec![local_file()]).await;
    let running = state(&hypervisor, HypervisorState::Running).await;
    assert_eq!((hypervisor.service(), running.overdue), (ServiceState::Answering, false));
    let silent = bed.config.run_dir().join(SILENT_FILE);
    std::fs::write(&silent, "").unwrap();
    let dir = RunDir::of(&hypervisor.inner.base, MachineId::Vm(vm()));
    let paused = HypervisorState::Paused(PauseReason::Operator);
    LocalWord { state: paused, ..LocalWord::NOTHING }.write(dir.path()).unwrap();
    hypervisor.refresh(Duration::from_secs(30)).await;
    let told = hypervisor.view().vms.remove(0);
    assert_eq!(hypervisor.service(), ServiceState::Silent);
    assert_eq!((told.state, told.overdue), (HypervisorState::Running, true));
    assert_eq!(hypervisor.read_vm(vm(), Duration::from_secs(60), Duration::from_secs(30)).await, None);
    std::fs::remove_file(silent).unwrap();
    hypervisor.refresh(Duration::from_secs(30)).await;
    state(&hypervisor, paused).await;
    process(&hypervisor, MachineId::Vm(vm())).kill().unwrap();
}

#[tokio::test]
async fn a_vm_that_went_while_no_agent_looked_is_gone_for_an_unknown_reason() {
    let mut bed = bed("local", "");
    bed.config.hypervisor.local.binary = Some(bed.script("vm", "exec sleep 600"));
    {
        let first = bed.open().await;
        first.set_vms(vec![local_file()]).await;
        state(&first, HypervisorState::Running).await;
        // The record as an agent leaves it that is killed before the VM ends.
        let dir = RunDir::of(&first.inner.base, MachineId::Vm(vm()));
        let record = std::fs::read(dir.file("state.json")).unwrap();
        process(&first, MachineId::Vm(vm())).kill().unwrap();
        buried(&first, MachineId::Vm(vm())).await;
        std::fs::write(dir.file("state.json"), record).unwrap();
    }
    let second = bed.open().await;
    assert_eq!(second.view().vms[0].state, HypervisorState::Gone(ExitReason::Unknown));

    bed.boot = BootId::new(uuid::Uuid::from_u128(2));
    let rebooted = bed.open().await;
    assert!(rebooted.view().vms.is_empty());
    rebooted.set_vms(vec![local_file()]).await;
    state(&rebooted, HypervisorState::Running).await;
    process(&rebooted, MachineId::Vm(vm())).kill().unwrap();
}

#[tokio::test]
async fn a_vm_that_cannot_be_started_is_told_as_gone_and_the_others_run() {
    let mut bed = bed("local", "");
    bed.config.hypervisor.local.binary = Some("/nonexistent/vouch".into());
    let hypervisor = bed.open().await;
    hypervisor.set_vms(vec![local_file()]).await;
    let failed = &hypervisor.view().vms[0];
    assert_eq!(failed.state, HypervisorState::Gone(ExitReason::Process));
    assert_eq!(failed.start, bed.store.with(|m| m.last_start));
}

#[tokio::test]
async fn a_start_that_failed_is_told_under_an_id_of_its_own_even_if_no_id_can_be_written_down() {
    let mut bed = bed("local", "");
    bed.config.hypervisor.local.binary = Some(bed.script("vm", "exec sleep 600"));
    let hypervisor = bed.open().await;
    hypervisor.set_vms(vec![local_file()]).await;
    let first = state(&hypervisor, HypervisorState::Running).await.start;
    // The next write of `node.json` fails: its temporary file is taken by a folder.
    let blocker = bed.config.data_dir.join("node.new");
    std::fs::create_dir(&blocker).unwrap();
    let other = other_file();
    hypervisor.set_vms(vec![local_file(), other.clone()]).await;
    let failed = state(&hypervisor, HypervisorState::Gone(ExitReason::Process)).await;
    assert_eq!(failed.spec.id, other.id);
    assert!(failed.start > first, "not the start of the VM that runs");
    std::fs::remove_dir(&blocker).unwrap();
    hypervisor.set_vms(vec![local_file()]).await;
    hypervisor.set_vms(vec![local_file(), other.clone()]).await;
    let again = hypervisor.view().vms.into_iter().find(|v| v.spec.id == other.id).unwrap();
    assert!(again.start > failed.start, "nor is a failed start's id used again");
    process(&hypervisor, MachineId::Vm(vm())).kill().unwrap();
    process(&hypervisor, MachineId::Vm(other.id)).kill().unwrap();
}

#[tokio::test]
async fn a_vm_whose_monitor_was_never_heard_is_named_with_its_description_in_an_unknown_state() {
    let mut bed = bed("qemu", "");
    // A QEMU that never opens its monitor.
    bed.config.hypervisor.qemu.binary = bed.script("qemu", "exec sleep 600");
    let first = bed.open().await;
    let file = qemu_file(bed.dir.path());
    first.set_vms(vec![file.clone()]).await;
    let vms = first.view().vms;
    assert_eq!(vms.len(), 1, "a full report names it from its start on");
    assert_eq!((&vms[0].spec, vms[0].state), (&file.spec(), HypervisorState::Unknown));
    let never_read = first.read_vm(vm(), Duration::ZERO, Duration::from_millis(1)).await;
    assert_eq!(never_read, None, "nothing is stated of it");
    let pid = process(&first, MachineId::Vm(vm()));
    first.let_go().await;

    let rebooted = ProcessHypervisor::open(&bed.config, BootId::new(uuid::Uuid::from_u128(2)), bed.store.clone());
    let rebooted = rebooted.await.unwrap();
    rebooted.set_vms(vec![file]).await;
    assert_eq!(rebooted.view().vms.len(), 1, "nor does a reboot of the node take it away");
    process(&rebooted, MachineId::Vm(vm())).kill().unwrap();
    pid.kill().unwrap();
}

#[tokio::test]
async fn a_damaged_record_concerns_its_machine_alone_and_starts_nothing_twice() {
    let mut bed = bed("local", "");
    // Writes its pid, as a VM of the driver does, and its command line names its folder.
    bed.config.hypervisor.local.binary = Some(bed.script("vm", "echo $$ > pid; exec tail -f \"$5/pid\""));
    let other = other_file();
    let id = MachineId::Vm(vm());
    let first = bed.open().await;
    first.set_vms(vec![local_file(), other.clone()]).await;
    let (pid, other_pid) = (process(&first, id), process(&first, MachineId::Vm(other.id)));
    let dir = RunDir::of(&first.inner.base, id);
    let written = async {
        while dir.process_by_pid_file().is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), written).await.unwrap();
    let start = first.view().vms[0].start;
    first.let_go().await;
    std::fs::write(dir.file("state.json"), "{").unwrap();

    let second = bed.open().await;
    second.set_vms(vec![local_file(), other.clone()]).await;
    assert_eq!(process(&second, MachineId::Vm(other.id)), other_pid, "the other one is adopted");
    assert_eq!(process(&second, id), pid, "it is taken over and not started again");
    assert!(second.view().vms[0].start > start, "its former start is forgotten with the record");
    second.let_go().await;

    std::fs::write(dir.file("state.json"), "{").unwrap();
    pid.kill().unwrap();
    timeout(Duration::from_secs(30), pid.exited()).await.unwrap().unwrap();
    let third = bed.open().await;
    third.set_vms(vec![local_file(), other.clone()]).await;
    let gone = state(&third, HypervisorState::Gone(ExitReason::Unknown)).await;
    assert_eq!(gone.spec.id, vm());
    other_pid.kill().unwrap();
}

fn order(placed: u64) -> WatcherOrder {
    WatcherOrder {
        watcher: WatcherId::new(3),
        placed: vouch_types::LogIndex::new(placed),
        secret: vec![7; 32],
        ca_certificate: "pem".into(),
        managers: Vec::new(),
    }
}

#[tokio::test]
async fn a_watcher_is_created_once_survives_the_agent_and_gives_its_address_back() {
    use std::os::unix::fs::PermissionsExt;
    let extra = "[watchers]\nenabled = true\nprobes_dir = \"p\"\n[watchers.management]\naddresses = [\"127.0.9.1\"]\nprefix_len = 8\n";
    let mut bed = bed("local", extra);
    bed.config.watchers.binary = bed.script("watcher", "exec sleep 600");
    let id = MachineId::Watcher(WatcherId::new(3));
    let first = bed.open().await;
    first.create_watcher(order(9)).await.unwrap();
    let pid = process(&first, id);
    first.create_watcher(order(9)).await.unwrap();
    assert_eq!(process(&first, id), pid);
    assert!(matches!(first.create_watcher(order(10)).await, Err(HypervisorError::OtherPlacement { .. })));
    let boot = RunDir::of(&first.inner.base, id).file("boot.json");
    assert_eq!(std::fs::metadata(&boot).unwrap().permissions().mode() & 0o777, 0o600);
    let other = WatcherOrder { watcher: WatcherId::new(4), ..order(9) };
    assert!(matches!(first.create_watcher(other.clone()).await, Err(HypervisorError::NoAddress { .. })));

    let second = bed.open().await;
    assert_eq!(second.view().watchers[0].state, HypervisorState::Running);
    second.destroy_watcher(WatcherId::new(3)).await.unwrap();
    assert!(!pid.is_alive() && second.view().watchers.is_empty() && !boot.exists());
    second.destroy_watcher(WatcherId::new(3)).await.unwrap();
    second.create_watcher(other).await.expect("the address is free again");
    second.destroy_watcher(WatcherId::new(4)).await.unwrap();
}

#[tokio::test]
async fn a_watcher_whose_record_is_damaged_is_told_as_unknown_and_its_place_is_not_given_away() {
    let extra = "[watchers]\nenabled = true\nprobes_dir = \"p\"\n[watchers.management]\naddresses = [\"127.0.9.1\"]\nprefix_len = 8\n";
    let mut bed = bed("local", extra);
    // Its command line names its boot file, as a watcher's does.
    bed.config.watchers.binary = bed.script("watcher", "exec tail -f \"$3\"");
    let watcher = WatcherId::new(3);
    let first = bed.open().await;
    first.create_watcher(order(9)).await.unwrap();
    let pid = process(&first, MachineId::Watcher(watcher));
    let dir = RunDir::of(&first.inner.base, MachineId::Watcher(watcher));
    first.let_go().await;
    std::fs::write(dir.file("state.json"), "{").unwrap();

    let second = bed.open().await;
    assert_eq!(
        second.view().watchers,
        [WatcherView { watcher, state: HypervisorState::Unknown, legs: WatcherLegs::new() }]
    );
    for refused in [second.create_watcher(order(10)).await, second.destroy_watcher(watcher).await] {
        let Err(HypervisorError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("state.json") && why.contains("damaged"), "{why}");
    }
    let other = WatcherOrder { watcher: WatcherId::new(4), ..order(9) };
    assert!(matches!(second.create_watcher(other.clone()).await, Err(HypervisorError::NoAddress { .. })));
    assert!(pid.is_alive());

    pid.kill().unwrap();
    timeout(Duration::from_secs(30), pid.exited()).await.unwrap().unwrap();
    let third = bed.open().await;
    assert!(third.view().watchers.is_empty(), "nothing of it is left");
    third.create_watcher(other).await.expect("its address is free again");
    third.destroy_watcher(WatcherId::new(4)).await.unwrap();
}

fn qemu_file(dir: &Path) -> VmFile {
    let disk = dir.join("disk.img");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let text = format!("id = \"{VM}\"\nname = \"a\"\nmemory_mib = 16\ndisk = {disk:?}\nextra_args = [\"-S\"]\n");
    VmFile::parse(&text, DriverKind::Qemu).unwrap()
}

mod real_qemu;
