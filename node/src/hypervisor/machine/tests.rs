//! One machine with a monitor that the test plays: what it is said to do while the monitor answers, is silent, belongs
//! to somebody else or says its last words.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use vouch_types::{PauseReason, VmId};

use super::*;
use crate::process::{Launch, spawn_detached};

/// How many questions QEMU is asked when its monitor is opened.
const OPENING: usize = 3;
/// How many questions one read asks.
const READ: usize = 4;

struct Fake {
    _dir: tempfile::TempDir,
    listener: UnixListener,
    process: ProcessIdentity,
    status: watch::Receiver<MachineStatus>,
    refresh: Arc<Notify>,
}

/// A machine whose process is `sleep` and whose monitor is played by the test.
fn machine(uuid: Option<&str>) -> Fake {
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch { program: "sleep".into(), args: vec!["600".into()], nice: 0 };
    let process = spawn_detached(&launch, dir.path()).unwrap();
    let socket = dir.path().join("qmp.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (sender, status) = watch::channel(MachineStatus::unread());
    let refresh = Arc::new(Notify::new());
    let task = MachineTask {
        id: MachineId::Vm(VmId::new(uuid::Uuid::nil())),
        process,
        monitor: Monitor::Qmp { socket, uuid: uuid.map(ToOwned::to_owned) },
        status: sender,
        refresh: Arc::clone(&refresh),
        changes: Arc::new(watch::Sender::new(0)),
    };
    tokio::spawn(task.run());
    Fake { _dir: dir, listener, process, status, refresh }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.process.kill().unwrap();
    }
}

/// Answers as QEMU does, with this run state, until the stream ends or `lines` are answered.
async fn serve(stream: &mut BufReader<UnixStream>, state: &str, lines: usize) {
    for _ in 0..lines {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap() == 0 {
            return;
        }
        let request: Value = serde_json::from_str(&line).unwrap();
        let answer = match request["execute"].as_str().unwrap() {
            "query-uuid" => serde_json::json!({ "UUID": "AA" }),
            "query-status" => serde_json::json!({ "status": state, "running": true, "singlestep": false }),
            "query-blockstats" => serde_json::json!([{ "stats": { "rd_operations": 3, "wr_operations": 4 } }]),
            "query-cpus-fast" | "query-jobs" => serde_json::json!([]),
            "query-migrate" => {
                serde_json::json!({ "status": if state == "finish-migrate" { "device" } else { "none" } })
            }
            _ => serde_json::json!({}),
        };
        let reply = serde_json::json!({ "return": answer, "id": request["id"] });
        stream.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
    }
}

async fn greeted(fake: &Fake) -> BufReader<UnixStream> {
    let (stream, _) = fake.listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n").await.unwrap();
    stream
}

async fn state(fake: &mut Fake, expected: HypervisorState) {
    let seen = fake.status.wait_for(|s| s.known && s.state == expected);
    timeout(Duration::from_secs(20), seen).await.expect("the state in time").unwrap();
}

#[tokio::test]
async fn a_monitor_that_stops_answering_makes_the_state_unknown_and_one_that_goes_on_makes_it_known_again() {
    let mut fake = machine(Some("aa"));
    let mut qemu = greeted(&fake).await;
    serve(&mut qemu, "running", OPENING + READ).await;
    state(&mut fake, HypervisorState::Running).await;
    fake.refresh.notify_one();
    state(&mut fake, HypervisorState::Unknown).await;
    serve(&mut qemu, "io-error", READ).await;
    state(&mut fake, HypervisorState::Paused(PauseReason::IoError)).await;
    assert_eq!(fake.status.borrow().block_operations, Some(7), "block operations are summed");
}

#[tokio::test]
async fn an_event_is_told_at_once_and_a_kill_is_a_death() {
    let mut fake = machine(None);
    let mut qemu = greeted(&fake).await;
    serve(&mut qemu, "running", OPENING + READ).await;
    state(&mut fake, HypervisorState::Running).await;
    qemu.write_all(b"{\"event\": \"STOP\"}\n").await.unwrap();
    serve(&mut qemu, "paused", READ).await;
    state(&mut fake, HypervisorState::Paused(PauseReason::Operator)).await;
    qemu.write_all(b"{\"event\": \"RESET\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\n")
        .await
        .unwrap();
    state(&mut fake, HypervisorState::Rebooting).await;
    let killed = std::time::Instant::now();
    fake.process.kill().unwrap();
    drop(qemu);
    state(&mut fake, HypervisorState::Gone(ExitReason::Process)).await;
    assert!(killed.elapsed() < Duration::from_millis(500), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn a_migration_is_told_with_the_pause_that_ends_it() {
    let mut fake = machine(None);
    let mut qemu = greeted(&fake).await;
    serve(&mut qemu, "running", OPENING + READ).await;
    state(&mut fake, HypervisorState::Running).await;
    assert_eq!(fake.status.borrow().operation, None);
    qemu.write_all(b"{\"event\": \"MIGRATION\", \"data\": {\"status\": \"device\"}}\n").await.unwrap();
    serve(&mut qemu, "finish-migrate", READ).await;
    state(&mut fake, HypervisorState::Paused(PauseReason::Migration)).await;
    assert_eq!(fake.status.borrow().operation, Some(Operation::Migration));
}

#[tokio::test]
async fn a_qemu_that_knows_no_jobs_is_read_all_the_same() {
    let mut fake = machine(None);
    let mut qemu = greeted(&fake).await;
    serve(&mut qemu, "running", OPENING + 2).await;
    let mut line = String::new();
    qemu.read_line(&mut line).await.unwrap();
    let request: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(request["execute"], "query-jobs");
    let refusal = serde_json::json!({ "error": { "class": "CommandNotFound", "desc": "no" }, "id": request["id"] });
    qemu.write_all(format!("{refusal}\n").as_bytes()).await.unwrap();
    serve(&mut qemu, "running", 1).await;
    state(&mut fake, HypervisorState::Running).await;
}

#[tokio::test]
async fn a_shutdown_that_is_still_in_the_socket_when_the_process_ends_is_heard() {
    let mut fake = machine(None);
    let mut qemu = greeted(&fake).await;
    serve(&mut qemu, "running", OPENING + READ).await;
    state(&mut fake, HypervisorState::Running).await;
    fake.process.kill().unwrap();
    qemu.write_all(b"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\n")
        .await
        .unwrap();
    drop(qemu);
    state(&mut fake, HypervisorState::Stopped).await;
}

#[tokio::test]
async fn a_monitor_of_another_machine_is_not_adopted() {
    let mut fake = machine(Some("bb"));
    let mut qemu = greeted(&fake).await;
    serve(&mut qemu, "running", OPENING).await;
    state(&mut fake, HypervisorState::Gone(ExitReason::Unknown)).await;
    assert!(fake.process.is_alive(), "and left alone");
}

#[tokio::test]
async fn a_process_that_ends_on_purpose_says_so_in_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("exit");
    assert_eq!(end_by_file(&file, ExitReason::Process), HypervisorState::Gone(ExitReason::Process));
    std::fs::write(&file, "stopped\n").unwrap();
    assert_eq!(end_by_file(Path::new(&file), ExitReason::Process), HypervisorState::Stopped);
}
