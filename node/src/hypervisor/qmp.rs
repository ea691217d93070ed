//! A small client of the QEMU Machine Protocol (QEMU reference: docs/interop/qmp-spec): greeting, capabilities,
//! commands with ids, events. It speaks; what an event means for a VM is told in `machine`.
//!
//! It must never send a command that changes a guest.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest line that QEMU may send.
pub(crate) const LINE_MAX: usize = 1024 * 1024;

/// Why talking to a monitor failed.
#[derive(Debug, Error)]
pub(crate) enum QmpError {
    #[error("monitor socket")]
    Io(#[from] io::Error),
    #[error("monitor closed")]
    Closed,
    #[error("monitor sent a line of more than {LINE_MAX} bytes")]
    LineTooLong,
    #[error("monitor sent {0}, which is no QMP")]
    Malformed(String),
}

/// Who asked for a shutdown or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initiator {
    Guest,
    Host,
}

/// What a monitor says unasked, as far as it matters here (QEMU QMP reference: run-state.json, block-core.json,
/// migration.json, job.json).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QmpEvent {
    Shutdown {
        by: Initiator,
        reason: String,
    },
    Reset {
        by: Initiator,
        reason: String,
    },
    Stop,
    Resume,
    GuestPanicked {
        action: String,
    },
    BlockIoError,
    /// The state of a migration has changed.
    Migration,
    /// A job (a backup, a snapshot) has begun, changed or ended.
    JobStatus,
    Other(String),
}

/// One line of a monitor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum QmpMessage {
    Greeting,
    Event(QmpEvent),
    Return { id: Option<u64>, value: Value },
    Error { id: Option<u64>, description: String },
}

/// Parses one line.
pub(crate) fn parse(line: &[u8]) -> Result<QmpMessage, QmpError> {
    let malformed = || QmpError::Malformed(String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned());
    let value: Value = serde_json::from_slice(line).map_err(|_| malformed())?;
    let object = value.as_object().ok_or_else(malformed)?;
    let id = object.get("id").and_then(Value::as_u64);
    if object.contains_key("QMP") {
        Ok(QmpMessage::Greeting)
    } else if let Some(name) = object.get("event").and_then(Value::as_str) {
        Ok(QmpMessage::Event(event(name, object.get("data").unwrap_or(&Value::Null))))
    } else if let Some(value) = object.get("return") {
        Ok(QmpMessage::Return { id, value: value.clone() })
    } else if let Some(error) = object.get("error") {
        let description = error.get("desc").and_then(Value::as_str).unwrap_or("no description").to_owned();
        Ok(QmpMessage::Error { id, description })
    } else {
        Err(malformed())
    }
}

fn event(name: &str, data: &Value) -> QmpEvent {
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let by = match data.get("guest").and_then(Value::as_bool) {
        Some(true) => Initiator::Guest,
        Some(false) | None => Initiator::Host,
    };
    match name {
        "SHUTDOWN" => QmpEvent::Shutdown { by, reason: text("reason") },
        "RESET" => QmpEvent::Reset { by, reason: text("reason") },
        "STOP" => QmpEvent::Stop,
        "RESUME" => QmpEvent::Resume,
        "GUEST_PANICKED" => QmpEvent::GuestPanicked { action: text("action") },
        "BLOCK_IO_ERROR" => QmpEvent::BlockIoError,
        "MIGRATION" => QmpEvent::Migration,
        "JOB_STATUS_CHANGE" => QmpEvent::JobStatus,
        other => QmpEvent::Other(other.to_owned()),
    }
}

/// An open monitor, past its greeting.
#[derive(Debug)]
pub(crate) struct QmpConnection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
    next_id: u64,
}

/// What a monitor told at its opening.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct QmpIdentity {
    /// The machine's UUID.
    pub(crate) uuid: String,
    /// Threads of its vCPUs, each once.
    pub(crate) vcpu_threads: Vec<i32>,
}

impl QmpConnection {
    /// Connects, waits for the greeting, leaves the capabilities mode and asks who is there. Events that come in
    /// between are returned, in order.
    pub(crate) async fn open(path: &Path) -> Result<(Self, QmpIdentity, Vec<QmpEvent>), QmpError> {
        let (reader, writer) = UnixStream::connect(path).await?.into_split();
        let mut qmp = Self { reader: BufReader::new(reader), writer, line: Vec::new(), next_id: 1 };
        let mut events = Vec::new();
        match qmp.next().await? {
            QmpMessage::Greeting => {}
            other => return Err(QmpError::Malformed(format!("{other:?} for a greeting"))),
        }
        qmp.call("qmp_capabilities", &mut events).await?;
        let uuid = qmp.call("query-uuid", &mut events).await?;
        let cpus = qmp.call("query-cpus-fast", &mut events).await?;
        let thread = |cpu: &Value| cpu.get("thread-id").and_then(Value::as_i64).and_then(|t| i32::try_from(t).ok());
        // Where all vCPUs share one thread (TCG with `thread=single`) it is named for each of them.
        let threads: BTreeSet<i32> = cpus.as_array().map(|c| c.iter().filter_map(thread).collect()).unwrap_or_default();
        let identity = QmpIdentity {
            uuid: uuid.get("UUID").and_then(Value::as_str).unwrap_or_default().to_owned(),
            vcpu_threads: threads.into_iter().collect(),
        };
        Ok((qmp, identity, events))
    }

    async fn call(&mut self, command: &str, events: &mut Vec<QmpEvent>) -> Result<Value, QmpError> {
        let id = self.send(command).await?;
        loop {
            match self.next().await? {
                QmpMessage::Event(event) => events.push(event),
                QmpMessage::Return { id: Some(got), value } if got == id => return Ok(value),
                QmpMessage::Error { id: Some(got), description } if got == id => {
                    return Err(QmpError::Malformed(format!("{command}: {description}")));
                }
                QmpMessage::Return { .. } | QmpMessage::Error { .. } | QmpMessage::Greeting => {}
            }
        }
    }

    /// Sends a command without arguments and returns the id that its answer will carry.
    pub(crate) async fn send(&mut self, command: &str) -> Result<u64, QmpError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = json!({ "execute": command, "id": id }).to_string();
        line.push('\n');
        self.writer.write_all(line.as_bytes()).await?;
        Ok(id)
    }

    /// Returns the next line. May be cancelled: what was read so far is kept.
    pub(crate) async fn next(&mut self) -> Result<QmpMessage, QmpError> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Err(QmpError::Closed);
            }
            let (taken, complete) = match available.iter().position(|b| *b == b'\n') {
                Some(end) => (end + 1, true),
                None => (available.len(), false),
            };
            self.line.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if self.line.len() > LINE_MAX {
                return Err(QmpError::LineTooLong);
            }
            if complete {
                let line = std::mem::take(&mut self.line);
                if !line.trim_ascii().is_empty() {
                    return parse(line.trim_ascii());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn the_events_that_matter_are_told_apart() {
        for (line, expected) in [
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
                QmpEvent::Shutdown { by: Initiator::Guest, reason: "guest-shutdown".into() },
            ),
            (
                r#"{"event": "RESET", "data": {"guest": false, "reason": "host-qmp-system-reset"}}"#,
                QmpEvent::Reset { by: Initiator::Host, reason: "host-qmp-system-reset".into() },
            ),
            (
                r#"{"event": "GUEST_PANICKED", "data": {"action": "poweroff"}}"#,
                QmpEvent::GuestPanicked { action: "poweroff".into() },
            ),
            (r#"{"event": "STOP"}"#, QmpEvent::Stop),
            (r#"{"event": "MIGRATION", "data": {"status": "setup"}}"#, QmpEvent::Migration),
            (r#"{"event": "JOB_STATUS_CHANGE", "data": {"status": "running", "id": "b"}}"#, QmpEvent::JobStatus),
            (r#"{"event": "NIC_RX_FILTER_CHANGED", "data": {}}"#, QmpEvent::Other("NIC_RX_FILTER_CHANGED".into())),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap(), QmpMessage::Event(expected));
        }
    }

    #[test]
    fn a_line_that_is_no_qmp_is_an_error_that_shows_it() {
        for line in ["", "{", "[]", "7", r#"{"hello":1}"#, "\u{1}"] {
            assert!(matches!(parse(line.as_bytes()), Err(QmpError::Malformed(_))), "{line:?}");
        }
    }

    #[tokio::test]
    async fn an_event_before_an_answer_is_kept_and_split_lines_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let fake = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            write.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n").await.unwrap();
            for answer in [
                "{\"event\": \"STOP\"}\r\n{\"return\": {}, \"id\": 1}\r\n",
                "{\"return\": {\"UUID\": \"u-u\"}, \"id\": 2}\r\n",
                "{\"return\": [{\"thread-id\": 17}, {\"thread-id\": 17}], \"id\": 3}\r\n",
            ] {
                lines.next_line().await.unwrap().unwrap();
                for part in answer.as_bytes().chunks(7) {
                    write.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let (mut qmp, identity, events) = QmpConnection::open(&path).await.unwrap();
        fake.await.unwrap();
        assert_eq!(identity, QmpIdentity { uuid: "u-u".into(), vcpu_threads: vec![17] });
        assert_eq!(events, [QmpEvent::Stop]);
        assert!(matches!(qmp.next().await, Err(QmpError::Closed)));
    }
}
