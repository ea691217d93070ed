//! A VM of the driver `local`: a process that answers as a guest would, for trying vouch out without one.
//!
//! It speaks the X.224 connection negotiation of RDP on a loopback address and the QEMU guest-agent protocol on a Unix
//! socket. There is no operating system in it, and it is never called a VM anywhere but in the word `local-vm`. A
//! control socket in its run folder takes lines, so that tests and users can break it: see [`Command`]. What a
//! hypervisor would say of it stands in the file `word.json` of the same folder.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use vouch_types::VmId;

use crate::local_word::{self, LocalWord};

mod mode;

pub use mode::Command;
use mode::{Agent, Life, Mode, Rdp};

/// The longest TPKT that is read.
const TPKT_MAX: usize = 512;
/// The longest line of the agent or control socket.
const LINE_MAX: usize = 64 * 1024;
/// How long an RDP client may hold its connection.
const RDP_CONNECTION_MAX: Duration = Duration::from_secs(60);

/// What a local VM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalVmOptions {
    /// Its UUID.
    pub id: VmId,
    /// Its address on loopback.
    pub address: IpAddr,
    /// Where it speaks X.224.
    pub rdp_port: u16,
    /// Folder of its sockets `ga.sock` and `control.sock`, and its files `pid`, `word.json` and `exit`.
    pub run_dir: PathBuf,
}

/// Why a local VM ended or did not start.
#[derive(Debug, Error)]
pub enum LocalVmError {
    /// A socket could not be opened.
    #[error("local VM: cannot listen on {what}")]
    Listen {
        /// Which.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("local VM: {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was told to panic.
    #[error("local VM: panicked as it was told")]
    Panicked,
}

/// Runs a local VM until it is told to end or killed.
///
/// # Errors
/// [`LocalVmError`] when it cannot listen, or was told to panic.
pub async fn run(options: LocalVmOptions) -> Result<(), LocalVmError> {
    let file = |name: &str| options.run_dir.join(name);
    let write = |name: &str, text: String| {
        std::fs::write(file(name), text).map_err(|source| LocalVmError::File { path: file(name), source })
    };
    let say = |word: LocalWord| {
        word.write(&options.run_dir).map_err(|source| LocalVmError::File { path: file(local_word::FILE), source })
    };
    write("pid", std::process::id().to_string())?;
    say(Mode::WELL.word)?;
    let address = SocketAddr::new(options.address, options.rdp_port);
    let rdp = listen_tcp(address).await?;
    let agent = listen_unix(file("ga.sock"))?;
    let control = listen_unix(file("control.sock"))?;
    let (mode, mut watching) = watch::channel(Mode::WELL);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_rdp(address, rdp, mode.subscribe()));
    tasks.spawn(serve_agent(agent, mode.subscribe()));
    tasks.spawn(serve_control(control, mode));
    let mut said = Mode::WELL.word;
    // The control socket is served as long as this runs, so there is always somebody who could change the mode.
    while watching.changed().await.is_ok() {
        let Mode { life, word, .. } = *watching.borrow_and_update();
        match life {
            Life::Running if word == said => {}
            Life::Running => {
                say(word)?;
                said = word;
            }
            Life::ShutDown => break,
            Life::Panicked => {
                write("exit", "panicked\n".to_owned())?;
                return Err(LocalVmError::Panicked);
            }
        }
    }
    write("exit", "stopped\n".to_owned())
}

async fn listen_tcp(address: SocketAddr) -> Result<TcpListener, LocalVmError> {
    TcpListener::bind(address).await.map_err(|source| LocalVmError::Listen { what: address.to_string(), source })
}

fn listen_unix(path: PathBuf) -> Result<UnixListener, LocalVmError> {
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).map_err(|source| LocalVmError::Listen { what: path.display().to_string(), source })
}

async fn serve_rdp(address: SocketAddr, listener: TcpListener, mut mode: watch::Receiver<Mode>) {
    let mut listener = Some(listener);
    loop {
        if mode.borrow_and_update().rdp == Rdp::Closed {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        tokio::select! {
            biased;
            changed = mode.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => if let Ok(stream) = accepted {
                let mode = mode.clone();
                tokio::spawn(tokio::time::timeout(RDP_CONNECTION_MAX, negotiate(stream, mode)));
            },
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Answers one X.224 connection request (MS-RDPBCGR 2.2.1.1, 2.2.1.2) and waits for the client to go.
async fn negotiate(mut stream: TcpStream, mut mode: watch::Receiver<Mode>) -> io::Result<()> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[0] != 3 || !(11..=TPKT_MAX).contains(&length) {
        return Ok(());
    }
    let mut body = vec![0; length - head.len()];
    stream.read_exact(&mut body).await?;
    // A wedged server has the request and does nothing with it.
    if mode.wait_for(|m| m.rdp != Rdp::Wedged).await.is_err() {
        return Ok(());
    }
    if let Some(answer) = connection_confirm(&body) {
        stream.write_all(&answer).await?;
        let mut rest = [0; 256];
        while stream.read(&mut rest).await? > 0 {}
    }
    Ok(())
}

/// Returns the connection confirm for the body of a connection request: TLS when it was asked for, else plain RDP.
fn connection_confirm(request: &[u8]) -> Option<Vec<u8>> {
    if request.get(1)? & 0xf0 != 0xe0 {
        return None;
    }
    let negotiation = &request[request.len().saturating_sub(8)..];
    let asked = match negotiation {
        [0x01, _, 0x08, 0x00, p0, p1, p2, p3] => u32::from_le_bytes([*p0, *p1, *p2, *p3]),
        // Without a negotiation request the confirm has no answer to one either.
        _ => return Some(vec![0x03, 0x00, 0x00, 0x0b, 0x06, 0xd0, 0x00, 0x00, 0x12, 0x34, 0x00]),
    };
    let selected = (asked & 1).to_le_bytes();
    let mut confirm = vec![0x03, 0x00, 0x00, 0x13, 0x0e, 0xd0, 0x00, 0x00, 0x12, 0x34, 0x00, 0x02, 0x00, 0x08, 0x00];
    confirm.extend(selected);
    Some(confirm)
}

async fn serve_agent(listener: UnixListener, mode: watch::Receiver<Mode>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer_agent(stream, mode.clone()));
    }
}

async fn answer_agent(stream: UnixStream, mut mode: watch::Receiver<Mode>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut read).take(LINE_MAX as u64).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if mode.wait_for(|m| m.agent == Agent::Serving).await.is_err() {
            return Ok(());
        }
        write.write_all(&agent_answer(&line)).await?;
    }
}

/// Returns what qemu-ga says to one line, its complaint about the sentinel byte included.
fn agent_answer(line: &[u8]) -> Vec<u8> {
    let error = |class: &str, desc: &str| json!({ "error": { "class": class, "desc": desc } }).to_string() + "\n";
    let mut answer = Vec::new();
    let mut rest = line;
    while let Some((0xff, tail)) = rest.split_first() {
        answer.extend(error("GenericError", "JSON parse error, stray '\u{fffd}'").into_bytes());
        rest = tail;
    }
    let Ok(request) = serde_json::from_slice::<Value>(rest) else {
        answer.extend(error("GenericError", "JSON parse error").into_bytes());
        return answer;
    };
    let id = &request["arguments"]["id"];
    match request["execute"].as_str().unwrap_or_default() {
        "guest-sync-delimited" => {
            answer.push(0xff);
            answer.extend(format!("{}\n", json!({ "return": id })).into_bytes());
        }
        "guest-sync" => answer.extend(format!("{}\n", json!({ "return": id })).into_bytes()),
        "guest-ping" => answer.extend(b"{\"return\": {}}\n"),
        "guest-info" => {
            let info = json!({ "return": { "version": "local-vm", "supported_commands": [] } });
            answer.extend(format!("{info}\n").into_bytes());
        }
        other => {
            answer.extend(error("CommandNotFound", &format!("The command {other} has not been found")).into_bytes())
        }
    }
    answer
}

async fn serve_control(listener: UnixListener, mode: watch::Sender<Mode>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = obey(stream, &mode).await;
    }
}

async fn obey(stream: UnixStream, mode: &watch::Sender<Mode>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        match Command::parse(&line) {
            Some(command) => {
                // The answer goes out first: `shutdown` and `panic` end the process.
                write.write_all(b"ok\n").await?;
                mode.send_modify(|m| *m = m.after(command));
            }
            None => write.write_all(format!("error: {line:?} is no command\n").as_bytes()).await?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vouch_types::{AgentQuestion, Progress};

    use super::*;
    use crate::hypervisor::AgentReply;
    use crate::hypervisor::guest_agent::GuestAgent;

    const REQUEST: [u8; 19] = [3, 0, 0, 0x13, 0x0e, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0x0b, 0, 0, 0];

    async fn control(dir: &std::path::Path, command: &str) -> String {
        let mut stream = UnixStream::connect(dir.join("control.sock")).await.unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.unwrap();
        line
    }

    async fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_local_vm_answers_as_a_guest_and_breaks_when_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let options = LocalVmOptions {
            id: "6f1c2a9e-0000-4000-8000-000000000001".parse().unwrap(),
            address: "127.0.0.1".parse().unwrap(),
            rdp_port: free_port().await,
            run_dir: dir.path().to_path_buf(),
        };
        let address = SocketAddr::new(options.address, options.rdp_port);
        let vm = tokio::spawn(run(options));
        while !dir.path().join("control.sock").exists() {
            tokio::task::yield_now().await;
        }
        let mut rdp = TcpStream::connect(address).await.unwrap();
        rdp.write_all(&REQUEST).await.unwrap();
        let mut confirm = [0; 19];
        rdp.read_exact(&mut confirm).await.unwrap();
        assert_eq!((confirm[5], confirm[11], confirm[15]), (0xd0, 2, 1), "a confirm that selects TLS");
        let agent = GuestAgent::new(dir.path().join("ga.sock"));
        let long = Duration::from_secs(10);
        assert_eq!(agent.ask(AgentQuestion::Ping, long).await, AgentReply::Reply("{\"return\":{}}".into()));

        assert_eq!(control(dir.path(), "hang").await, "ok\n");
        assert_eq!(agent.ask(AgentQuestion::Ping, Duration::from_millis(100)).await, AgentReply::Silent);
        while LocalWord::read(&dir.path().join(local_word::FILE)).progress != Progress::Still {
            tokio::task::yield_now().await;
        }
        let mut wedged = TcpStream::connect(address).await.expect("a wedged server still accepts");
        wedged.write_all(&REQUEST).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(100), wedged.read_u8()).await;
        assert!(answer.is_err(), "and never answers");

        assert_eq!(control(dir.path(), "stop-rdp").await, "ok\n");
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(control(dir.path(), "explode").await.starts_with("error: \"explode\""));
        assert_eq!(control(dir.path(), "panic").await, "ok\n");
        assert!(matches!(vm.await.unwrap(), Err(LocalVmError::Panicked)));
        assert_eq!(std::fs::read_to_string(dir.path().join("exit")).unwrap(), "panicked\n");
    }

    #[test]
    fn a_request_without_negotiation_gets_a_plain_confirm() {
        assert_eq!(connection_confirm(&[6, 0xe0, 0, 0, 0, 0, 0]).unwrap().len(), 11);
        assert_eq!(connection_confirm(&[0x0e, 0xd0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0]), None, "no request");
    }
}
