//! The driver `qemu` with a real QEMU: what it tells of each fault that a boot sector can show. One guest at a time, and
//! none where there is no QEMU.
//!
//! The guests are a few bytes of real-mode code in the boot sector of a disk, so that each does exactly one thing.

use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use vouch_types::{Operation, Progress};

use super::*;
use crate::hypervisor::VmView;

/// `sti; hlt; jmp`: idle, and woken by the PC's timer 18 times a second.
const IDLE: &[u8] = &[0xfb, 0xf4, 0xeb, 0xfd];
/// `cli; hlt; jmp`: halted for ever.
const HALTED: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
/// `cli; jmp $`: spins with interrupts off.
const SPINS: &[u8] = &[0xfa, 0xeb, 0xfe];
/// `mov dx, 0x505; mov al, 1; out dx, al; jmp $`: says to the ISA pvpanic device that its kernel has panicked.
const PANICS: &[u8] = &[0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xeb, 0xfe];
/// Writes 4 KiB after 4 KiB to the disk by the BIOS (`int 0x13`, `ah = 0x43`), from its first MiB on.
const WRITES: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, // ds = es = ss = 0
    0xbc, 0x00, 0x7c, 0xfb, // mov sp, 0x7c00; sti
    0xbe, 0x20, 0x7c, 0xb8, 0x00, 0x43, 0xcd, 0x13, // again: mov si, packet; mov ax, 0x4300; int 0x13
    0x83, 0x06, 0x28, 0x7c, 0x08, 0xeb, 0xf1, 0, 0, 0, 0, 0, // add word [packet.lba], 8; jmp again
    0x10, 0, 8, 0, 0, 0x7c, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, // packet: 8 sectors from 0:0x7c00 to sector 2048
];

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_millis(500);

/// Two emulated machines at once would take each other's time.
static ONE_GUEST: Mutex<()> = Mutex::const_new(());

fn has_qemu() -> bool {
    let found = Command::new("qemu-system-x86_64").arg("-version").output().is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("SKIPPED: qemu-system-x86_64 is not installed, so the driver qemu was not tried");
    }
    found
}

fn signal(process: ProcessIdentity, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), process.pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// A running guest and its node's hypervisor. Dropping it ends its QEMU.
struct Guest {
    bed: Bed,
    hypervisor: ProcessHypervisor,
    process: ProcessIdentity,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.process.kill().unwrap();
    }
}

/// Boots a disk with this code in its boot sector; `None` where there is no QEMU.
async fn boot(code: &[u8]) -> Option<Guest> {
    boot_from(bed("qemu", ""), code, |dir| dir.join("disk.img")).await
}

async fn boot_from(bed: Bed, code: &[u8], disk: impl FnOnce(&Path) -> PathBuf) -> Option<Guest> {
    if !has_qemu() {
        return None;
    }
    let alone = ONE_GUEST.lock().await;
    let disk = disk(bed.dir.path());
    let mut sector = code.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    std::fs::write(&disk, sector).unwrap();
    std::fs::OpenOptions::new().write(true).open(&disk).unwrap().set_len(64 << 20).unwrap();
    // QEMU talks to one client per monitor, and the node's has its own.
    let operator = format!("unix:{},server=on,wait=off", bed.dir.path().join("operator.sock").display());
    let text = format!("memory_mib = 32\ndisk = {disk:?}\nextra_args = [\"-qmp\", {operator:?}]\n");
    Some(start(bed, &text, alone).await)
}

/// Starts a VM whose file says this beside its id and name.
async fn start(bed: Bed, text: &str, alone: MutexGuard<'static, ()>) -> Guest {
    let text = format!("id = \"{VM}\"\nname = \"a\"\n{text}");
    let hypervisor = bed.open().await;
    hypervisor.set_vms(vec![VmFile::parse(&text, DriverKind::Qemu).unwrap()]).await;
    let process = process(&hypervisor, MachineId::Vm(vm()));
    Guest { bed, hypervisor, process, _alone: alone }
}

impl Guest {
    /// Reads on the node's beat, as the agent does, until the VM is told as wanted.
    async fn until(&self, what: &str, mut wanted: impl FnMut(&VmView) -> bool) -> VmView {
        let mut last = None;
        let wait = async {
            let mut beat = interval(BEAT);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut changes = self.hypervisor.changes();
            loop {
                let view = self.hypervisor.view().vms.remove(0);
                last = Some(view.clone());
                if wanted(&view) {
                    return view;
                }
                tokio::select! {
                    biased;
                    Ok(()) = changes.changed() => {}
                    _ = beat.tick() => self.hypervisor.refresh(BEAT).await,
                }
            }
        };
        let reached = timeout(LONG, wait).await;
        reached.unwrap_or_else(|_| panic!("{what}, and not {last:?}"))
    }

    async fn state(&self, state: HypervisorState) -> VmView {
        self.until(&format!("{state:?}"), |v| v.state == state).await
    }

    /// Speaks to QEMU as an operator would.
    async fn operator(&self, command: &str) {
        let (read, mut write) =
            UnixStream::connect(self.bed.dir.path().join("operator.sock")).await.unwrap().into_split();
        let mut lines = BufReader::new(read).lines();
        for line in ["{\"execute\": \"qmp_capabilities\", \"id\": 1}", command] {
            write.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            loop {
                let answer: serde_json::Value =
                    serde_json::from_str(&lines.next_line().await.unwrap().expect("an answer")).unwrap();
                assert!(answer.get("error").is_none(), "{command}: {answer}");
                if answer.get("return").is_some() {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_real_qemu_is_started_adopted_told_apart_when_wedged_and_its_death_seen() {
    if !has_qemu() {
        return;
    }
    let _alone = ONE_GUEST.lock().await;
    let bed = bed("qemu", "");
    let first = bed.open().await;
    let file = qemu_file(bed.dir.path());
    first.set_vms(vec![file.clone()]).await;
    let started = state(&first, HypervisorState::Paused(PauseReason::Other)).await;
    assert!(started.counters.monitor.is_some());
    let pid = process(&first, MachineId::Vm(vm()));
    // QEMU takes one client at a time, as when the first agent is gone.
    first.let_go().await;

    let second = bed.open().await;
    second.set_vms(vec![file]).await;
    assert_eq!(process(&second, MachineId::Vm(vm())), pid);
    state(&second, HypervisorState::Paused(PauseReason::Other)).await;

    signal(pid, "STOP");
    second.refresh(Duration::from_millis(1)).await;
    state(&second, HypervisorState::Unknown).await;
    signal(pid, "CONT");
    state(&second, HypervisorState::Paused(PauseReason::Other)).await;

    let killed = Instant::now();
    pid.kill().unwrap();
    state(&second, HypervisorState::Gone(ExitReason::Process)).await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    buried(&second, MachineId::Vm(vm())).await;
}

#[tokio::test]
async fn an_operators_pause_is_told_and_its_end() {
    let Some(guest) = boot(IDLE).await else { return };
    guest.state(HypervisorState::Running).await;
    guest.operator(r#"{"execute": "stop"}"#).await;
    let paused = guest.state(HypervisorState::Paused(PauseReason::Operator)).await;
    assert_eq!(paused.progress, Progress::Unknown);
    guest.operator(r#"{"execute": "cont"}"#).await;
    guest.state(HypervisorState::Running).await;
}

/// A tmpfs of one MiB; `None` where none may be mounted.
struct FullStore(PathBuf);

impl FullStore {
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "vouch-test"]).arg(&at).output();
        if done.is_ok_and(|o| o.status.success()) {
            return Some(Self(at));
        }
        eprintln!("SKIPPED: no tmpfs may be mounted here, so no disk was filled");
        None
    }
}

impl Drop for FullStore {
    fn drop(&mut self) {
        // QEMU may hold the image for a moment more.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_full_pauses_its_guest_with_the_reason() {
    let bed = bed("qemu", "");
    let Some(store) = FullStore::mount(bed.dir.path().join("store")) else { return };
    let Some(guest) = boot_from(bed, WRITES, |dir| dir.join("store/disk.img")).await else { return };
    let paused = guest.state(HypervisorState::Paused(PauseReason::IoError)).await;
    assert!(paused.counters.block_operations.is_some_and(|n| n > 100), "{:?}", paused.counters);
    drop(guest);
    drop(store);
}

#[tokio::test]
async fn a_panicked_kernel_is_told_and_the_process_stands() {
    let Some(guest) = boot(PANICS).await else { return };
    guest.state(HypervisorState::Panicked).await;
    assert!(guest.process.is_alive(), "its memory can be looked at");
    guest.operator(r#"{"execute": "system_reset"}"#).await;
    guest.operator(r#"{"execute": "cont"}"#).await;
    guest.state(HypervisorState::Rebooting).await;
    guest.state(HypervisorState::Panicked).await;
}

#[tokio::test]
async fn a_reset_is_told_as_a_reboot_that_ends_under_the_same_start() {
    let Some(guest) = boot(IDLE).await else { return };
    let before = guest.state(HypervisorState::Running).await;
    guest.operator(r#"{"execute": "system_reset"}"#).await;
    let rebooting = guest.state(HypervisorState::Rebooting).await;
    let after = guest.state(HypervisorState::Running).await;
    assert_eq!((rebooting.start, after.start), (before.start, before.start));
}

#[tokio::test]
async fn operations_are_told_while_they_last() {
    let Some(guest) = boot(IDLE).await else { return };
    let running = guest.state(HypervisorState::Running).await;
    assert_eq!(running.operation, None);
    let under = |operation: Option<Operation>| {
        let what = format!("running under {operation:?}");
        let guest = &guest;
        async move {
            guest.until(&what, |v| v.state == HypervisorState::Running && v.operation == operation).await;
        }
    };
    let target = guest.bed.dir.path().join("backup.img").display().to_string();
    let backup = serde_json::json!({
        "execute": "drive-backup",
        "arguments": { "job-id": "b", "device": "d0", "target": target, "sync": "full", "format": "raw", "speed": 1 },
    });
    guest.operator(&backup.to_string()).await;
    under(Some(Operation::Snapshot)).await;
    guest.operator(r#"{"execute": "block-job-cancel", "arguments": {"device": "b"}}"#).await;
    under(None).await;

    let speed = |bytes: u64| {
        serde_json::json!({ "execute": "migrate-set-parameters", "arguments": { "max-bandwidth": bytes } }).to_string()
    };
    let migrate = r#"{"execute": "migrate", "arguments": {"uri": "exec:cat > /dev/null"}}"#;
    // QEMU counts in tenths of a second, and takes a limit that is 0 there for none at all.
    guest.operator(&speed(1_000)).await;
    guest.operator(migrate).await;
    under(Some(Operation::Migration)).await;
    guest.operator(r#"{"execute": "migrate_cancel"}"#).await;
    under(None).await;
    guest.operator(&speed(1 << 30)).await;
    guest.operator(migrate).await;
    let moved = guest.state(HypervisorState::Paused(PauseReason::Migration)).await;
    assert_eq!(moved.state, HypervisorState::Paused(PauseReason::Migration));
}

/// Returns the words in a row that are told of a guest until `last`, or for a time that shows that they stay.
async fn words(code: &[u8], last: Progress) -> Option<Vec<Progress>> {
    let guest = boot(code).await?;
    let mut words = Vec::new();
    let view = guest
        .until("a word of its progress", |v| {
            words.push(v.progress);
            // A host that is busy with something else gives no judgement for as long as that lasts.
            let starved = v.progress == Progress::Unknown && v.counters.steal_per_mille.is_some_and(|s| s >= 200);
            words.len() >= 24 && (v.progress == last || starved)
        })
        .await;
    if view.progress == Progress::Unknown {
        eprintln!("SKIPPED: this machine is too busy to tell what a guest of it does");
        return None;
    }
    words.dedup();
    Some(words)
}

#[tokio::test]
async fn a_guest_that_spins_with_interrupts_off_is_told_to_spin() {
    let Some(words) = words(SPINS, Progress::Spinning).await else { return };
    assert_eq!(words.last(), Some(&Progress::Spinning));
    assert!(!words.contains(&Progress::Still), "{words:?}");
}

#[tokio::test]
async fn a_guest_that_halted_for_ever_is_told_to_stand_still() {
    let Some(words) = words(HALTED, Progress::Still).await else { return };
    assert_eq!(words.last(), Some(&Progress::Still));
}

#[tokio::test]
async fn an_idle_guest_is_told_to_work_and_never_anything_else() {
    let Some(words) = words(IDLE, Progress::Working).await else { return };
    assert_eq!(words, [Progress::Unknown, Progress::Working], "before the window is full, and after");
}

mod real_linux;
