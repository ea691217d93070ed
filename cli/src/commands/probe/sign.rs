//! Signatures under probes, without a cluster: keys are made, components signed, signature files compared.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use vouch_probe_kit::ProbeFile;
use vouch_types::ProbeName;
use vouch_wire::probe_signature::{FILE_MAX, ProbeSigningKey, SignatureFile, SignedProbe, public_pem};

use super::run::open;
use super::runtime;
use crate::args::Global;
use crate::exit::{CliError, Exit};
use crate::output::Output;

/// Makes a key pair: the private half in a file that its owner alone reads, the public half beside it.
///
/// # Errors
/// A file that is there already, or cannot be written.
pub fn keygen(global: &Global, file: &Path) -> Result<(), CliError> {
    let public = beside(file, "pub");
    for path in [file, public.as_path()] {
        if path.exists() {
            let text = format!("{}: is there already: name another file, or remove it", path.display());
            return Err(CliError::text(Exit::Usage, text));
        }
    }
    let key = ProbeSigningKey::generate().map_err(|e| CliError::new(Exit::Failed, e))?;
    crate::private_file::write(file, key.to_pem().as_bytes())?;
    write(&public, &public_pem(&key.public_key()))?;
    let told = serde_json::json!({ "key": file, "public": public, "public_key": key.public_key() });
    Output::new(global).show(&told, |_| {
        format!(
            "private key  {}\npublic key   {}\nTrust it: vouch probe key add NAME {}\n",
            file.display(),
            public.display(),
            public.display()
        )
    })
}

/// Signs a component under the name and version that it gives itself.
///
/// # Errors
/// A component that does not say who it is, or a key that cannot be used.
pub fn sign(global: &Global, file: &Path, key: &Path) -> Result<(), CliError> {
    let pem = read_text(key)?;
    let key = ProbeSigningKey::from_pem(&pem)
        .with_context(|| format!("--key {}", key.display()))
        .map_err(|e| CliError::new(Exit::Usage, e))?;
    let opened = open(file)?;
    let (name, version) = said(&opened)?;
    let signature = key.sign(&SignedProbe { digest: opened.digest, name: &name, version: &version });
    let path = beside(file, "sig");
    let mut text = serde_json::to_string_pretty(&signature)?;
    text.push('\n');
    write(&path, &text)?;
    Output::new(global).show(&signature, |_| {
        format!("probe {name} {version} signed, with the public key {}\n{}\n", signature.public_key, path.display())
    })
}

fn said(file: &ProbeFile) -> Result<(ProbeName, String), CliError> {
    let described = runtime()?.block_on(async { file.probe.describe().await.cloned() });
    let described = described.map_err(|e| CliError::new(Exit::Failed, e))?;
    let name = ProbeName::new(&described.name).map_err(|e| CliError::new(Exit::Failed, e))?;
    Ok((name, described.version))
}

/// What was found out about a signature file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SignatureReport {
    /// The file.
    pub file: String,
    /// The key that it names.
    pub public_key: Option<String>,
    /// Why it does not fit the component, unless it does.
    pub misfit: Option<String>,
}

/// Compares the signature file of a component with it: the named one, else that beside the component if there is one.
///
/// # Errors
/// A named file that cannot be read.
pub fn compare(
    component: &Path,
    named: Option<&Path>,
    probe: &SignedProbe<'_>,
) -> Result<Option<(SignatureReport, Option<SignatureFile>)>, CliError> {
    let path = named.map_or_else(|| beside(component, "sig"), Path::to_path_buf);
    if named.is_none() && !path.exists() {
        return Ok(None);
    }
    let text = read_text(&path)?;
    let report = |public_key, misfit| SignatureReport { file: path.display().to_string(), public_key, misfit };
    let read = match SignatureFile::read(&text) {
        Ok(read) => read,
        Err(e) => return Ok(Some((report(None, Some(e.to_string())), None))),
    };
    let misfit = read.check(probe).err().map(|e| e.to_string());
    Ok(Some((report(Some(read.public_key.to_string()), misfit), Some(read))))
}

/// Returns the text of a small file.
///
/// # Errors
/// One that cannot be read, or is too large to be a key or a signature.
pub(super) fn read_text(path: &Path) -> Result<String, CliError> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        let most = u64::try_from(FILE_MAX).unwrap_or(u64::MAX);
        let read = File::open(path)?.take(most + 1).read_to_string(&mut text)?;
        if read > FILE_MAX {
            return Err(std::io::Error::other(format!("more than {FILE_MAX} bytes: is no key and no signature")));
        }
        Ok(text)
    };
    read().with_context(|| format!("{}: cannot be read", path.display())).map_err(|e| CliError::new(Exit::NotFound, e))
}

/// Writes a file that is no secret.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    Ok(std::fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))?)
}

/// Returns the path of a file with another ending behind its own.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}
