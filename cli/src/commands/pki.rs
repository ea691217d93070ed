//! `vouch pki`: the CA of a cluster and its certificates, as PEM files that only their owner may read.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use vouch_manager::seams::{SystemWallClock, WallClock};
use vouch_wire::pki::{CertificateAuthority, PeerIdentity};

use crate::args::{PkiCommand, PkiRole};
use crate::exit::{CliError, Exit};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Runs a command of this group.
///
/// # Errors
/// A file that exists or cannot be made, or an id that breaks its rule.
pub fn run(command: &PkiCommand) -> Result<(), CliError> {
    match command {
        PkiCommand::Init { dir } => {
            make_ca(dir)?;
            tell(&format!("made {} and {}", dir.join("ca.pem").display(), dir.join("ca.key").display()))
        }
        PkiCommand::Issue { dir, role, id, days } => {
            let owner = owner(*role, id).map_err(|e| CliError::new(Exit::Usage, e))?;
            issue(dir, &owner, id, DAY * *days)?;
            let (certificate, key) = (dir.join(format!("{id}.pem")), dir.join(format!("{id}.key")));
            tell(&format!("made {} and {} for {}", certificate.display(), key.display(), owner.server_name()))
        }
    }
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
