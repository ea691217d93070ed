//! `vouch pki`: the CA of a cluster and its certificates, as PEM files that only their owner may read; and the rotation
//! of the CA of a running cluster.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use vouch_manager::api::ca_view::{CaStepRequest, CaView};
use vouch_manager::seams::{SystemWallClock, WallClock};
use vouch_wire::pki::{CertificateAuthority, PeerIdentity};

use crate::args::{Global, PkiCommand, PkiRole, PkiStepArgs};
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output::{Output, table};

const CA_PATH: &str = "/v1/cluster/ca";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Runs a command of this group.
///
/// # Errors
/// A file that exists or cannot be made, an id that breaks its rule, or what the managers said.
pub fn run(global: &Global, command: &PkiCommand) -> Result<(), CliError> {
    let step = |path: &str, args: &PkiStepArgs| -> Result<CaView, CliError> {
        let request = CaStepRequest { without: args.without.clone() };
        Client::new(global)?.post(path, serde_json::to_vec(&request).context("the request")?)
    };
    let ca = match command {
        PkiCommand::Init { dir } => return init(dir),
        PkiCommand::Issue { dir, role, id, days } => return issue_for(dir, *role, id, *days),
        PkiCommand::Show { pem } => {
            let ca: CaView = Client::new(global)?.get(CA_PATH)?;
            if *pem {
                return Ok(std::io::stdout().write_all(ca.ca_certificates.as_bytes())?);
            }
            ca
        }
        PkiCommand::Rotate => Client::new(global)?.post(&format!("{CA_PATH}/rotate"), Vec::new())?,
        PkiCommand::Switch(args) => step(&format!("{CA_PATH}/switch"), args)?,
        PkiCommand::Finish(args) => step(&format!("{CA_PATH}/finish"), args)?,
    };
    Output::new(global).show(&ca, |_| tell_ca(&ca))
}

/// Returns the CAs for people.
pub fn tell_ca(ca: &CaView) -> String {
    let rows = ca.cas.iter().map(|one| {
        vec![one.digest.clone(), if one.signs { "signs" } else { "trusted" }.to_owned(), one.expires.rfc3339.clone()]
    });
    let mut text = table(&["ca", "role", "expires"], rows);
    let next = match (ca.stage.as_str(), ca.behind.is_empty()) {
        ("spreading", true) => "everybody trusts the new CA: go on with \"vouch pki switch\"".to_owned(),
        ("spreading", false) => format!("not seen yet to trust the new CA: {}", ca.behind.join(", ")),
        ("renewing", true) => "everybody has a certificate of the new CA: go on with \"vouch pki finish\"".to_owned(),
        ("renewing", false) => format!("not seen yet with a certificate of the new CA: {}", ca.behind.join(", ")),
        _ => "no rotation is under way".to_owned(),
    };
    text.push_str(&format!("\n{next}\n"));
    text
}

fn init(dir: &Path) -> Result<(), CliError> {
    make_ca(dir)?;
    tell(&format!("made {} and {}", dir.join("ca.pem").display(), dir.join("ca.key").display()))
}

fn issue_for(dir: &Path, role: PkiRole, id: &str, days: u32) -> Result<(), CliError> {
    let owner = owner(role, id).map_err(|e| CliError::new(Exit::Usage, e))?;
    issue(dir, &owner, id, DAY * days)?;
    let (certificate, key) = (dir.join(format!("{id}.pem")), dir.join(format!("{id}.key")));
    tell(&format!("made {} and {} for {}", certificate.display(), key.display(), owner.server_name()))
}

fn tell(line: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn owner(role: PkiRole, id: &str) -> anyhow::Result<PeerIdentity> {
    match role {
        PkiRole::Manager => id.parse().map(PeerIdentity::Manager).context("--id"),
        PkiRole::Node => id.parse().map(PeerIdentity::Node).context("--id"),
    }
}

/// Makes a CA in a folder: `ca.pem` and `ca.key`.
///
/// # Errors
/// When one of them exists, or cannot be made.
pub fn make_ca(dir: &Path) -> anyhow::Result<CertificateAuthority> {
    fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    let ca = CertificateAuthority::generate("vouch cluster CA", SystemWallClock.now())?;
    write_private(&dir.join("ca.key"), &ca.key_pem())?;
    write_private(&dir.join("ca.pem"), ca.certificate_pem())?;
    Ok(ca)
}

/// Makes a certificate and its key, signed by the CA of the folder: `NAME.pem` and `NAME.key`.
///
/// # Errors
/// When there is no CA, one of them exists, or cannot be made.
pub fn issue(dir: &Path, owner: &PeerIdentity, name: &str, validity: Duration) -> anyhow::Result<()> {
    let read = |file: &str| {
        let path = dir.join(file);
        fs::read_to_string(&path)
            .with_context(|| format!("{}: cannot be read (make it with vouch pki init)", path.display()))
    };
    let ca = CertificateAuthority::from_pem(&read("ca.pem")?, &read("ca.key")?)?;
    let issued = ca.issue(owner, SystemWallClock.now(), validity)?;
    write_private(&dir.join(format!("{name}.key")), &issued.key_pem)?;
    write_private(&dir.join(format!("{name}.pem")), &issued.certificate_pem)
}

/// Makes a file that its owner alone may read.
///
/// # Errors
/// When it exists, or cannot be made.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("{}: cannot be made (existing files are never replaced)", path.display()))
}
