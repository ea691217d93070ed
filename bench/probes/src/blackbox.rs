//! blackbox_exporter from Debian, with a configuration that is written here, asked as Prometheus asks it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::load::Check;
use crate::measured::Measured;
use crate::process::{cpu_of, peak_kib};
use crate::services::{Ports, end};
use crate::targets::address;

/// Connections over which it is asked, each kept alive.
pub(crate) const CONNECTIONS: usize = 16;
/// How long it may take to start.
const READY: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_millis(500);

const CONFIG: &str = "\
modules:
  tcp:
    prober: tcp
    timeout: 1s
  icmp:
    prober: icmp
    timeout: 1s
    icmp:
      preferred_ip_protocol: ip4
";

/// The process; ends with this.
#[derive(Debug)]
pub(crate) struct Blackbox {
    child: Child,
    port: u16,
}

impl Blackbox {
    /// Starts it on loopback and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let config = folder.join("blackbox.yml");
        fs::write(&config, CONFIG).with_context(|| format!("{} cannot be written", config.display()))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = fs::File::create(folder.join("blackbox.log"))?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display())).arg("--log.level=error");
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.with_context(|| format!("{} cannot be started", program.display()))?;
        let started = Self { child, port };
        let begun = Instant::now();
        while ureq::get(format!("http://127.0.0.1:{port}/-/healthy")).call().is_err() {
            ensure!(begun.elapsed() < READY, "blackbox_exporter does not answer after {READY:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(started)
    }

    /// Asks it for so long for checks, one after another on every connection, and returns what they cost it.
    ///
    /// # Errors
    /// When it stops answering.
    pub(crate) fn measure(&self, check: Check, ports: Ports, lasts: Duration) -> Result<Measured> {
        let (up, other, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let ask = |first: usize| {
                let agent = ureq::agent();
                for number in (first..).step_by(CONNECTIONS) {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    let counted = if self.probe(&agent, check, number, ports)? { &up } else { &other };
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, anyhow::Error>(())
            };
            let asking: Vec<_> = (0..CONNECTIONS).map(|first| scope.spawn(move || ask(first))).collect();
            let counts = || (up.load(Ordering::Relaxed), other.load(Ordering::Relaxed));
            std::thread::sleep(WARM_UP);
            let measured = cpu_of(self.child.id()).and_then(|before| {
                let begun = counts();
                std::thread::sleep(lasts);
                let (ended, cpu) = (counts(), cpu_of(self.child.id())?.saturating_sub(before));
                let (runs, failed) = (ended.0 - begun.0, ended.1 - begun.1);
                Ok(Measured { runs, failed, cpu, peak_kib: Some(peak_kib(Some(self.child.id()))?) })
            });
            stop.store(true, Ordering::Relaxed);
            for asked in asking {
                match asked.join() {
                    Ok(asked) => asked?,
                    Err(_) => bail!("a client of blackbox_exporter has panicked"),
                }
            }
            measured
        })
    }

    fn probe(&self, agent: &ureq::Agent, check: Check, number: usize, ports: Ports) -> Result<bool> {
        let target = match check {
            Check::Tcp => format!("{}:{}", address(number), ports.tcp),
            Check::Icmp => address(number).to_string(),
        };
        let url = format!("http://127.0.0.1:{}/probe?module={check}&target={target}", self.port);
        let body = agent.get(url).call().context("blackbox_exporter does not answer")?.body_mut().read_to_string()?;
        Ok(body.lines().any(|line| line == "probe_success 1"))
    }
}

impl Drop for Blackbox {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
