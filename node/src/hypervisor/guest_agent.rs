//! A client of the QEMU guest agent (QEMU reference: docs/interop/qemu-ga-ref), one per VM, one question at a time.
//!
//! The channel is a byte stream with no notion of a connection to the guest: what an earlier question left behind may
//! still come. So each stream begins, at its opening and after each timeout, with `guest-sync-delimited` and a random
//! id: everything up to a 0xFF byte is thrown away (the agent answers the 0xFF that we send with an error line of its
//! own), and the id must match. Only read-only commands are ever sent.

use std::io;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use vouch_types::AgentQuestion;

use super::AgentReply;
use super::agent_stream::{AgentStream, Heard, NotAnAgent, REPLY_MAX};

/// How many bytes are read at once.
const READ: usize = 4096;

#[derive(Debug)]
struct Channel {
    stream: UnixStream,
    said: AgentStream,
}

/// Since when the agent owes an answer, whoever asked.
#[derive(Debug, Default)]
struct Unanswered(std::sync::Mutex<Option<Instant>>);

impl Unanswered {
    /// Notes that the agent is asked now; what it owes from before, it still owes.
    fn begin(&self) {
        self.since().get_or_insert_with(Instant::now);
    }

    /// Notes that it has answered, or that the question is lost.
    fn end(&self) {
        *self.since() = None;
    }

    /// Returns what is told at the end of a question that had `timeout` and got no answer: an agent is told as silent that
    /// owes one for half of that time at least, be it to another who asked first.
    fn told(&self, timeout: Duration) -> AgentReply {
        match *self.since() {
            Some(since) if since.elapsed() >= timeout / 2 => AgentReply::Silent,
            _ => AgentReply::NotPut("questions of others took its time".to_owned()),
        }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to one VM's guest agent.
#[derive(Debug)]
pub struct GuestAgent {
    path: PathBuf,
    channel: Mutex<Option<Channel>>,
    unanswered: Unanswered,
}

impl GuestAgent {
    /// Returns the way over this socket. Nothing is opened before the first question.
    pub fn new(path: PathBuf) -> Self {
        Self { path, channel: Mutex::new(None), unanswered: Unanswered::default() }
    }

    /// Asks, and waits for the answer no longer than `timeout`, a wait for questions of others included.
    ///
    /// Several watchers ask the same agent, each at its own times, and one that is silent holds each question to its end:
    /// so its silence counts for those who wait meanwhile, or whoever always comes second would never hear of it.
    pub async fn ask(&self, question: AgentQuestion, timeout: Duration) -> AgentReply {
        let deadline = Instant::now() + timeout;
        let Ok(mut slot) = timeout_at(deadline, self.channel.lock()).await else {
            return self.unanswered.told(timeout);
        };
        let mut channel = match slot.take() {
            Some(channel) => channel,
            None => match timeout_at(deadline, UnixStream::connect(&self.path)).await {
                Ok(Ok(stream)) => Channel { stream, said: AgentStream::default() },
                Ok(Err(e)) => return AgentReply::Unavailable(format!("agent socket: {e}")),
                Err(_) => return AgentReply::Unavailable("agent socket: no connection in time".to_owned()),
            },
        };
        self.unanswered.begin();
        match timeout_at(deadline, channel.exchange(question)).await {
            Ok(Ok(reply)) => {
                self.unanswered.end();
                *slot = Some(channel);
                AgentReply::Reply(reply)
            }
            // The next question opens the stream anew.
            Ok(Err(unheard)) => {
                self.unanswered.end();
                match unheard {
                    Unheard::TooLong => AgentReply::TooLong,
                    Unheard::NotAnAgent(_) => AgentReply::Silent,
                    Unheard::Socket(error) => AgentReply::Unavailable(format!("agent socket: {error}")),
                }
            }
            Err(_) => {
                *slot = Some(channel);
                self.unanswered.told(timeout)
            }
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
enum Unheard {
    /// The agent answers, with more than is taken.
    #[error("an answer of more than {REPLY_MAX} bytes")]
    TooLong,
    /// What came is not what an agent says.
    #[error("no agent: {0}")]
    NotAnAgent(#[from] NotAnAgent),
    /// The socket failed or was closed.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

impl Channel {
    async fn exchange(&mut self, question: AgentQuestion) -> Result<String, Unheard> {
        if !self.said.is_in_step() {
            let mut random = [0; 4];
            SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("the system has no random numbers"))?;
            let sync = self.said.synchronise(u32::from_be_bytes(random));
            self.stream.write_all(&sync).await?;
            while self.hear().await? != Heard::InStep {}
        }
        let asked = self.said.ask(question.as_str());
        self.stream.write_all(&asked).await?;
        loop {
            match self.hear().await {
                Ok(Heard::Answer(reply)) => return Ok(reply),
                Ok(Heard::InStep) => {}
                // It is in step: somebody lives there.
                Err(Unheard::NotAnAgent(NotAnAgent::TooLong)) => return Err(Unheard::TooLong),
                Err(other) => return Err(other),
            }
        }
    }

    /// Reads until something has come.
    async fn hear(&mut self) -> Result<Heard, Unheard> {
        let mut buffer = [0; READ];
        loop {
            if let Some(heard) = self.said.hear()? {
                return Ok(heard);
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => self.said.push(&buffer[..count]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use serde_json::Value;
    use tokio::net::UnixListener;
    use tokio::time::sleep;
    use vouch_types::AgentQuery;

    use super::*;

    const SENTINEL: u8 = 0xff;
    const LONG: Duration = Duration::from_secs(20);

    /// Answers as qemu-ga does to the end of the stream: first the error for the stray 0xFF, then whatever `stale` is, then
    /// the sync.
    async fn answer(stream: &mut UnixStream, stale: &[u8]) {
        answer_first(usize::MAX, stream, stale).await;
    }

    /// The same for so many lines.
    async fn answer_first(mut lines: usize, stream: &mut UnixStream, stale: &[u8]) {
        let mut asked = Vec::new();
        while lines > 0 {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap() == 0 {
                return;
            }
            asked.push(byte[0]);
            if byte[0] != b'\n' {
                continue;
            }
            lines -= 1;
            let line = std::mem::take(&mut asked);
            let text = String::from_utf8_lossy(&line).replace('\u{fffd}', "");
            let value: Value = serde_json::from_str(&text).unwrap();
            match value["execute"].as_str().unwrap() {
                "guest-sync-delimited" => {
                    assert_eq!(line[0], SENTINEL);
                    stream.write_all(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray '\xef\xbf\xbd'\"}}\n").await.unwrap();
                    stream.write_all(stale).await.unwrap();
                    let reply = format!("{{\"return\": {}}}\n", value["arguments"]["id"]);
                    stream.write_all(&[&[SENTINEL], reply.as_bytes()].concat()).await.unwrap();
                }
                "guest-ping" => stream.write_all(b"{\"return\": {}}\n").await.unwrap(),
                _ => stream
                    .write_all(b"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"disabled\"}}\n")
                    .await
                    .unwrap(),
            }
        }
    }

    fn listener() -> (tempfile::TempDir, UnixListener, GuestAgent) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ga.sock");
        let listener = UnixListener::bind(&path).unwrap();
        (dir, listener, GuestAgent::new(path))
    }

    #[tokio::test]
    async fn the_stray_error_line_and_stale_answers_before_the_sentinel_are_thrown_away() {
        let (_dir, listener, agent) = listener();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, b"{\"return\": {}}\n\xff{\"return\": 5}\n{\"return\":").await;
        });
        assert_eq!(agent.ask(AgentQuestion::Ping, LONG).await, AgentReply::Reply("{\"return\":{}}".into()));
        assert_eq!(agent.ask(AgentQuestion::Ping, LONG).await, AgentReply::Reply("{\"return\":{}}".into()));
        let AgentReply::Reply(info) = agent.ask(AgentQuery::Info.into(), LONG).await else {
            panic!("an error is an answer")
        };
        assert!(info.contains("CommandNotFound"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_silent_is_silent_to_each_who_asks_at_the_same_time() {
        let (_dir, _listener, agent) = listener();
        let always_second = async {
            for _ in 0..3 {
                sleep(LONG / 10).await;
                assert_eq!(agent.ask(AgentQuestion::Ping, LONG).await, AgentReply::Silent);
            }
        };
        let always_first = async {
            for _ in 0..3 {
                assert_eq!(agent.ask(AgentQuestion::Ping, LONG).await, AgentReply::Silent);
                sleep(LONG / 10).await;
            }
        };
        tokio::join!(always_first, always_second);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_had_too_little_time_to_answer_is_not_told_as_silent() {
        let (_dir, listener, agent) = listener();
        let not_put = AgentReply::NotPut("questions of others took its time".to_owned());
        // Answers the first question late, and none after it.
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            sleep(LONG * 3 / 4).await;
            answer_first(2, &mut stream, b"").await;
            pending::<()>().await;
        };
        let asks = async {
            let (first, second, third) = tokio::join!(
                agent.ask(AgentQuestion::Ping, LONG),
                agent.ask(AgentQuestion::Ping, LONG),
                agent.ask(AgentQuestion::Ping, LONG / 4),
            );
            assert!(matches!(first, AgentReply::Reply(_)), "{first:?}");
            assert_eq!(second, not_put, "it had a quarter of its time");
            assert_eq!(third, AgentReply::Silent, "nothing came in the whole of its time");
        };
        tokio::select! { () = answers => unreachable!("it waits for ever"), () = asks => {} }
    }

    #[tokio::test]
    async fn an_agent_that_is_silent_is_told_from_one_that_cannot_be_asked() {
        let (dir, listener, agent) = listener();
        assert_eq!(agent.ask(AgentQuestion::Ping, Duration::from_millis(50)).await, AgentReply::Silent);
        let (stream, _) = listener.accept().await.unwrap();
        drop((stream, listener));
        std::fs::remove_file(dir.path().join("ga.sock")).unwrap();
        assert!(matches!(agent.ask(AgentQuestion::Ping, LONG).await, AgentReply::Unavailable(_)));
    }

    #[tokio::test]
    async fn an_answer_that_comes_after_its_timeout_is_not_taken_for_the_next_one() {
        let (_dir, listener, agent) = listener();
        assert_eq!(agent.ask(AgentQuestion::Ping, Duration::from_millis(20)).await, AgentReply::Silent);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, b"").await;
        });
        assert_eq!(agent.ask(AgentQuestion::Ping, LONG).await, AgentReply::Reply("{\"return\":{}}".into()));
    }

    #[tokio::test]
    async fn an_agent_that_answers_with_more_than_is_taken_is_not_silent() {
        let (_dir, listener, agent) = listener();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                answer_first(1, &mut stream, b"").await;
                while stream.read_u8().await.unwrap() != b'\n' {}
                let long = format!("{{\"return\": \"{}\"}}\n", "x".repeat(REPLY_MAX));
                // The other side may hang up before its end.
                let _ = stream.write_all(long.as_bytes()).await;
            }
        });
        assert_eq!(agent.ask(AgentQuery::NetworkInterfaces.into(), LONG).await, AgentReply::TooLong);
        assert_eq!(agent.ask(AgentQuery::Info.into(), LONG).await, AgentReply::TooLong, "it is asked anew");
    }

    #[tokio::test]
    async fn the_rest_of_an_answer_that_was_too_long_is_not_in_the_way_of_the_next_question() {
        let (_dir, listener, agent) = listener();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, &[b'x'; 2 * REPLY_MAX]).await;
        });
        assert_eq!(agent.ask(AgentQuestion::Ping, LONG).await, AgentReply::Reply("{\"return\":{}}".into()));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let (_dir, listener, agent) = listener();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        });
        assert_eq!(agent.ask(AgentQuestion::Ping, LONG).await, AgentReply::Silent);
    }
}
