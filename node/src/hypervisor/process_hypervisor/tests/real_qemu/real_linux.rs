//! The guest image of the whole-system tests (`cargo xtask image guest`) on the driver `qemu`: what a real kernel shows
//! when it idles and when it panics. Skipped where the image was not built.

use super::*;
use crate::progress::WINDOW;

/// The port at which the guest's shell takes lines.
const SHELL: &str = "shell.sock";

/// Boots Linux on the machine that a kernel gets by default, without a network card.
async fn boot_linux() -> Option<Guest> {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/images/guest");
    let image = std::env::var_os("CARGO_TARGET_DIR").map_or(image, |t| Path::new(&t).join("images/guest"));
    if !image.join("manifest.json").is_file() {
        eprintln!("SKIPPED: no guest image; `cargo xtask image guest` makes it");
        return None;
    }
    if !has_qemu() {
        return None;
    }
    let alone = ONE_GUEST.lock().await;
    let bed = bed("qemu", "");
    let shell = format!("socket,id=shell,path={},server=on,wait=off", bed.dir.path().join(SHELL).display());
    let text = format!(
        "memory_mib = 128\nkernel = {:?}\ninitrd = {:?}\nappend = \"console=ttyS0 quiet mitigations=off\"\n\
         extra_args = [\"-chardev\", {shell:?}, \"-device\", \"virtserialport,chardev=shell,name=vouch.test.0\"]\n",
        image.join("vmlinux"),
        image.join("initramfs.cpio"),
    );
    let guest = start(bed, &text, alone).await;
    guest.state(HypervisorState::Running).await;
    Some(guest)
}

impl Guest {
    /// Has the guest's shell run a line. Before the guest is up the line waits in the port.
    async fn shell(&self, line: &str) -> UnixStream {
        let mut port = UnixStream::connect(self.bed.dir.path().join(SHELL)).await.unwrap();
        port.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        port
    }

    /// Has it run one, and waits until it has.
    async fn shell_done(&self, line: &str) {
        let mut lines = BufReader::new(self.shell(line).await).lines();
        let done = async { while !lines.next_line().await.unwrap().expect("the port stands").starts_with("exit") {} };
        timeout(LONG, done).await.expect("the guest's shell answers");
    }
}

#[tokio::test]
async fn an_idle_linux_works_and_its_panic_is_told_by_pvpanic() {
    let Some(guest) = boot_linux().await else { return };
    // Its boot is work, and counts for one window more: it is idle once it has slept for longer than that.
    guest.shell_done(&format!("sleep {}", WINDOW.as_secs() + 1)).await;
    let mut words = Vec::new();
    guest
        .until("twenty words", |v| {
            words.push(v.progress);
            words.len() >= 20
        })
        .await;
    assert!(!words.iter().any(|w| w.is_stuck()), "an idle guest never looks stuck: {words:?}");
    let _port = guest.shell("echo c > /proc/sysrq-trigger").await;
    guest.state(HypervisorState::Panicked).await;
    assert!(guest.process.is_alive());
}

#[tokio::test]
async fn a_panic_that_nobody_can_tell_is_a_spin() {
    let Some(guest) = boot_linux().await else { return };
    guest.shell_done("rmmod pvpanic_pci").await;
    let _port = guest.shell("echo 0 > /proc/sys/kernel/panic; echo c > /proc/sysrq-trigger").await;
    let starved = |v: &VmView| v.counters.steal_per_mille.is_some_and(|s| s >= 200);
    let mut reads = 0;
    let view = guest
        .until("a spin", |v| {
            reads += 1;
            v.progress == Progress::Spinning || (reads > 60 && v.progress == Progress::Unknown && starved(v))
        })
        .await;
    assert_eq!(view.state, HypervisorState::Running, "QEMU knows of nothing");
    if view.progress == Progress::Unknown {
        eprintln!("SKIPPED: this machine is too busy to tell what a guest of it does");
    }
}
