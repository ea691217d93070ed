//! Three managers with their default timing, and commands to their leader.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use vouch_manager::seams::{SystemWallClock, WallClock};
use vouch_manager::store::codec::{decode, encode};
use vouch_types::{Applied, BootId, Command as Intent, Incarnation, ManagerId, Network, NodeId, NodePath, NodeRecord};
use vouch_wire::grpc::{DialOptions, Dialler, GrpcPeerLinks};
use vouch_wire::links::PeerLink;
use vouch_wire::pki::{AdjustableTime, CertificateAuthority, PeerIdentity, client_config};
use vouch_wire::proto::{ForwardRequest, forward_request, forward_response};

use super::cluster::{Running, free_addresses, size_of_folder};
use super::load::Write;

const MEMBERS: u64 = 3;
const READY: Duration = Duration::from_secs(60);
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// A cluster of managers.
pub struct Vouch {
    links: Vec<GrpcPeerLinks>,
    leader: ManagerId,
    members: Vec<Running>,
    folders: Vec<PathBuf>,
}

impl std::fmt::Debug for Vouch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vouch").field("leader", &self.leader).finish_non_exhaustive()
    }
}

impl Vouch {
    /// Starts it in a folder, makes the cluster, and waits until somebody leads.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(program: &Path, folder: &Path, connections: usize) -> Result<Self> {
        let count = usize::try_from(MEMBERS)?;
        let addresses = free_addresses(2 * count)?;
        let (ports, apis) = addresses.split_at(count);
        let now = SystemWallClock.now();
        let ca = CertificateAuthority::generate("benchmark", now)?;
        fs::write(folder.join("ca.pem"), ca.certificate_pem())?;
        write_private(&folder.join("ca.key"), &ca.key_pem())?;
        let (mut members, mut folders, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for (i, id) in (1..=MEMBERS).map(ManagerId::new).enumerate() {
            let issued = ca.issue(&PeerIdentity::Manager(id), now, VALIDITY)?;
            fs::write(folder.join(format!("{id}.pem")), &issued.certificate_pem)?;
            write_private(&folder.join(format!("{id}.key")), &issued.key_pem)?;
            let config = folder.join(format!("{id}.toml"));
            fs::write(&config, configuration(folder, id, ports, apis, i)?)?;
            let log = folder.join(format!("{id}.log"));
            members.push(Running::start(Command::new(program).arg(&config), &log)?);
            folders.push(folder.join(id.to_string()));
            if i == 0 {
                let clock = Arc::new(AdjustableTime::at_least(now));
                let tls = client_config(&issued.identity()?, clock)?;
                links = (0..connections)
                    .map(|_| GrpcPeerLinks::new(Dialler::new(Arc::clone(&tls), DialOptions::default())))
                    .collect();
            }
        }
        for links in &links {
            for (i, at) in ports.iter().enumerate() {
                let id = ManagerId::new(u64::try_from(i)? + 1);
                links.set_addresses(id, vec![(Network::Management, *at)]);
            }
        }
        let (api, token) = (apis[0], folder.join("api.token"));
        let leader = tokio::task::spawn_blocking(move || make_cluster(api, &token)).await??;
        Ok(Self { links, leader, members, folders })
    }

    /// Returns commands of at least so many bytes, as the log holds them; with events, each makes one beside its record.
    ///
    /// # Errors
    /// When no command of that size can be made.
    pub fn writes(&self, bytes: usize, events: bool) -> Result<Write> {
        let (links, leader) = (self.links.clone(), self.leader);
        let short = encode("command", &record(0, 0, 0, 0)?)?.len();
        let padding = bytes.saturating_sub(short);
        Ok(Arc::new(move |client, number| {
            let link = links[client % links.len()].clone();
            Box::pin(async move {
                let boot = if events { number } else { 0 };
                let command = encode("command", &record(client, number, boot, padding)?)?;
                let request = ForwardRequest { request: Some(forward_request::Request::Command(command)) };
                let answer = link.forward(leader, request).await.context("vouch refused a command")?;
                match answer.response {
                    Some(forward_response::Response::Applied(applied)) => {
                        let applied: Applied = decode("applied", &applied)?;
                        ensure!(!matches!(applied, Applied::Denied(_)), "vouch denied a command: {applied:?}");
                        Ok(())
                    }
                    other => bail!("vouch answered {other:?}"),
                }
            })
        }))
    }

    /// Returns how many bytes a command has in the log.
    ///
    /// # Errors
    /// When the command cannot be made.
    pub fn command_bytes(bytes: usize) -> Result<usize> {
        let short = encode("command", &record(0, 0, 0, 0)?)?.len();
        Ok(bytes.max(short))
    }

    /// Returns the largest resident memory of a manager in KiB, and the disk that one uses in bytes.
    pub fn weight(&self) -> (u64, u64) {
        let resident = self.members.iter().filter_map(Running::resident_kib).max().unwrap_or(0);
        (resident, self.folders.iter().map(|folder| size_of_folder(folder)).max().unwrap_or(0))
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// A node that moves from rack to rack: the state keeps its last record. Only of another boot an event tells.
fn record(client: usize, number: u64, boot: u64, padding: usize) -> Result<Intent> {
    // As long for any number.
    let padding = padding + "0123456789".len();
    let node = NodeRecord {
        id: NodeId::new(&format!("bench-{client:04}"))?,
        rack: Some(format!("{number:0>padding$}")),
        relay: SocketAddr::from(([127, 0, 0, 1], 7002)),
        statement_key: vec![0; 32],
        boot: BootId::new(uuid::Uuid::from_u128(u128::from(boot))),
        incarnation: Incarnation::new(1),
        driver: "local".to_owned(),
        hosts_watchers: false,
        path: NodePath::direct(vouch_types::WallTime::default()),
        fence: None,
        modified: vouch_types::LogIndex::default(),
    };
    Ok(Intent::RecordNode { node, at: SystemWallClock.now() })
}

fn configuration(
    folder: &Path,
    id: ManagerId,
    ports: &[SocketAddr],
    apis: &[SocketAddr],
    own: usize,
) -> Result<String> {
    let at = folder.display();
    let mut text = format!(
        "id = \"{id}\"\ndata_dir = \"{at}/{id}\"\nheartbeats = false\n[listen]\nmanagement = \"{}\"\n\
         [api]\nlisten = \"{}\"\ntoken_file = \"{at}/api.token\"\n\
         [tls]\nca_certificate = \"{at}/ca.pem\"\ncertificate = \"{at}/{id}.pem\"\nkey = \"{at}/{id}.key\"\n\
         ca_key = \"{at}/ca.key\"\n",
        ports[own], apis[own]
    );
    for (i, (port, api)) in ports.iter().zip(apis).enumerate() {
        let member = ManagerId::new(u64::try_from(i)? + 1);
        writeln!(text, "[[manager]]\nid = \"{member}\"\nmanagement = \"{port}\"\napi = \"http://{api}\"")?;
    }
    Ok(text)
}

fn make_cluster(api: SocketAddr, token: &Path) -> Result<ManagerId> {
    let begun = Instant::now();
    loop {
        if let Ok(leader) = try_make(api, token) {
            return Ok(leader);
        }
        if begun.elapsed() > READY {
            return try_make(api, token).with_context(|| format!("no cluster after {READY:?}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn try_make(api: SocketAddr, token: &Path) -> Result<ManagerId> {
    let bearer = format!("Bearer {}", fs::read_to_string(token)?.trim());
    let url = format!("http://{api}/v1/cluster");
    let cluster = || -> Result<serde_json::Value> {
        Ok(ureq::get(&url).header("authorization", &bearer).call()?.body_mut().read_json()?)
    };
    if cluster()?["id"].is_null() {
        ureq::post(format!("{url}/init")).header("authorization", &bearer).send_empty()?;
    }
    let cluster = cluster()?;
    let leader = cluster["leader"].as_str().context("nobody leads")?;
    leader.parse().context("the leader's id")
}
