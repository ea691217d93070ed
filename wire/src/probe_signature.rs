//! Signatures under probes: Ed25519 (RFC 8032) over the digest of a component, its name and its version.
//!
//! ```text
//! "vouch probe signature v1" 0x00 | SHA-256 of the component, 32 bytes | length of the name, 1 byte | name | version
//! ```
//!
//! The context in front keeps a signature of anything else from passing for one of a probe; name and version are signed so
//! that a signature cannot be taken for another name. Keys are PEM: PKCS #8 and SubjectPublicKeyInfo (RFC 8410), as other
//! tools write them. A signature travels in a small JSON file beside the component.

use base64::Engine as _;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vouch_types::{Digest, ProbeName, ProbePublicKey};

/// Stands before everything else in what is signed.
pub const PROBE_CONTEXT: &[u8] = b"vouch probe signature v1\0";
/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;
/// The first line of a signature's file says so.
pub const FORMAT: &str = "vouch-probe-signature-1";
/// The longest file that is read as a key or a signature, in bytes.
pub const FILE_MAX: usize = 4096;

/// SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key or signature that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProbeSignatureError {
    /// No private key.
    #[error("not a private Ed25519 key: must be PEM of PKCS #8 ({0})")]
    PrivateKey(String),
    /// No public key.
    #[error("not a public Ed25519 key: must be PEM of SubjectPublicKeyInfo ({0})")]
    PublicKey(String),
    /// No file of a signature.
    #[error("not a signature file: must be what \"vouch probe sign\" writes ({0})")]
    File(String),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// The signature is of something else than what is there.
    #[error("the signature is for {what} {signed}, and this is {found}")]
    OfAnother {
        /// `name`, `version` or `sha256`.
        what: &'static str,
        /// As signed.
        signed: String,
        /// As found.
        found: String,
    },
    /// The signature does not hold for its key.
    #[error("the signature does not hold for its key {0}")]
    Wrong(ProbePublicKey),
}

/// What is signed: which component, under which name and version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedProbe<'a> {
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Its name.
    pub name: &'a ProbeName,
    /// Its version.
    pub version: &'a str,
}

impl SignedProbe<'_> {
    fn message(&self) -> Vec<u8> {
        let name = self.name.as_str().as_bytes();
        let length = u8::try_from(name.len()).expect("a name is one DNS label, of at most 63 bytes");
        [PROBE_CONTEXT, self.digest.as_bytes(), &[length], name, self.version.as_bytes()].concat()
    }

    /// Returns whether this is a signature of it with this key.
    pub fn is_signed_by(&self, key: &ProbePublicKey, signature: &[u8; SIGNATURE_LEN]) -> bool {
        UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(&self.message(), signature).is_ok()
    }
}

/// A private key for signatures under probes.
pub struct ProbeSigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for ProbeSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProbeSigningKey").field(&self.public_key()).finish()
    }
}

impl ProbeSigningKey {
    /// Makes a new key from the randomness of the system.
    ///
    /// # Errors
    /// [`ProbeSignatureError::NoRandomness`] when it gives none.
    pub fn generate() -> Result<Self, ProbeSignatureError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| ProbeSignatureError::NoRandomness)?;
        Self::from_pkcs8(document.as_ref())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, ProbeSignatureError> {
        // Other tools leave the public half out (PKCS #8 version 1).
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8);
        let pair = pair.map_err(|e| ProbeSignatureError::PrivateKey(e.to_string()))?;
        Ok(Self { pair, pkcs8: pkcs8.to_vec() })
    }

    /// Returns the key of this PEM.
    ///
    /// # Errors
    /// [`ProbeSignatureError::PrivateKey`] when it is none.
    pub fn from_pem(pem: &str) -> Result<Self, ProbeSignatureError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|e| ProbeSignatureError::PrivateKey(e.to_string()))?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// Returns the private key as PEM, for a file that its owner alone reads.
    pub fn to_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// Returns the public key.
    pub fn public_key(&self) -> ProbePublicKey {
        let bytes = <[u8; 32]>::try_from(self.pair.public_key().as_ref());
        ProbePublicKey::new(bytes.expect("a public Ed25519 key has 32 bytes"))
    }

    /// Signs.
    pub fn sign(&self, probe: &SignedProbe<'_>) -> SignatureFile {
        SignatureFile {
            format: FORMAT.to_owned(),
            name: probe.name.clone(),
            version: probe.version.to_owned(),
            sha256: probe.digest,
            public_key: self.public_key(),
            signature: hex::encode(self.pair.sign(&probe.message())),
        }
    }
}

/// Returns a public key as PEM.
pub fn public_pem(key: &ProbePublicKey) -> String {
    pem("PUBLIC KEY", &[&SPKI_HEAD[..], key.as_bytes()].concat())
}

/// Returns the public key of this PEM.
///
/// # Errors
/// [`ProbeSignatureError::PublicKey`] when it is none.
pub fn read_public_pem(pem: &str) -> Result<ProbePublicKey, ProbeSignatureError> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|e| ProbeSignatureError::PublicKey(e.to_string()))?;
    let key = der.as_ref().strip_prefix(&SPKI_HEAD[..]).and_then(|key| key.try_into().ok());
    key.map(ProbePublicKey::new).ok_or_else(|| ProbeSignatureError::PublicKey("another kind of key".to_owned()))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Returns the signature of these hexadecimal digits, or `None` if they are none.
pub fn read_signature(text: &str) -> Option<[u8; SIGNATURE_LEN]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// A signature in the file beside its component.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureFile {
    /// [`FORMAT`].
    pub format: String,
    /// Name of the probe.
    pub name: ProbeName,
    /// Version of the probe.
    pub version: String,
    /// SHA-256 of its component.
    pub sha256: Digest,
    /// The key that signed, for information: a cluster looks among those that it trusts.
    pub public_key: ProbePublicKey,
    /// The signature, 128 hexadecimal digits.
    pub signature: String,
}

impl SignatureFile {
    /// Returns the signature of this text.
    ///
    /// # Errors
    /// [`ProbeSignatureError::File`] when it is none.
    pub fn read(text: &str) -> Result<Self, ProbeSignatureError> {
        let file = |why: String| ProbeSignatureError::File(why);
        let read: Self = serde_json::from_str(text).map_err(|e| file(e.to_string()))?;
        if read.format != FORMAT {
            return Err(file(format!("format {:?}: must be {FORMAT}", read.format)));
        }
        match read_signature(&read.signature) {
            Some(_) => Ok(read),
            None => Err(file(format!("signature: must be {} hexadecimal digits", 2 * SIGNATURE_LEN))),
        }
    }

    /// Checks that it is of this probe, and holds for the key that it names.
    ///
    /// # Errors
    /// [`ProbeSignatureError`] says of what else it is, or that it does not hold.
    pub fn check(&self, probe: &SignedProbe<'_>) -> Result<(), ProbeSignatureError> {
        let of_another = |what, signed: String, found: String| ProbeSignatureError::OfAnother { what, signed, found };
        if self.name != *probe.name {
            return Err(of_another("name", self.name.to_string(), probe.name.to_string()));
        }
        if self.version != probe.version {
            return Err(of_another("version", self.version.clone(), probe.version.to_owned()));
        }
        if self.sha256 != probe.digest {
            return Err(of_another("sha256", self.sha256.to_string(), probe.digest.to_string()));
        }
        let holds = read_signature(&self.signature).is_some_and(|bytes| probe.is_signed_by(&self.public_key, &bytes));
        if holds { Ok(()) } else { Err(ProbeSignatureError::Wrong(self.public_key)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ProbeName {
        ProbeName::new(text).unwrap()
    }

    #[test]
    fn a_signature_holds_for_one_component_name_and_version_and_for_no_other() {
        let key = ProbeSigningKey::generate().unwrap();
        let (ssh, other) = (name("ssh"), name("ssh2"));
        let probe = SignedProbe { digest: Digest::new([7; 32]), name: &ssh, version: "2.0.0" };
        let file = key.sign(&probe);
        let file = SignatureFile::read(&serde_json::to_string_pretty(&file).unwrap()).unwrap();
        assert_eq!(file.check(&probe), Ok(()));
        let signature = read_signature(&file.signature).unwrap();
        assert!(probe.is_signed_by(&key.public_key(), &signature));
        for (what, another) in [
            ("sha256", SignedProbe { digest: Digest::new([8; 32]), ..probe.clone() }),
            ("version", SignedProbe { version: "2.0.1", ..probe.clone() }),
            ("name", SignedProbe { name: &other, ..probe.clone() }),
        ] {
            assert!(!another.is_signed_by(&key.public_key(), &signature), "{what}");
            let why = file.check(&another).unwrap_err().to_string();
            assert!(why.starts_with(&format!("the signature is for {what} ")), "{why}");
        }
        // The end of a name cannot become the beginning of a version.
        let moved = SignedProbe { name: &other, version: ".0.0", ..probe.clone() };
        assert!(!moved.is_signed_by(&key.public_key(), &signature));
        let stranger = ProbeSigningKey::generate().unwrap().public_key();
        assert!(!probe.is_signed_by(&stranger, &signature));
        let forged = SignatureFile { public_key: stranger, ..file };
        assert_eq!(forged.check(&probe), Err(ProbeSignatureError::Wrong(stranger)));
    }

    #[test]
    fn keys_survive_as_pem_and_one_that_openssl_wrote_is_taken() {
        let key = ProbeSigningKey::generate().unwrap();
        let back = ProbeSigningKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(back.public_key(), key.public_key());
        assert_eq!(read_public_pem(&public_pem(&key.public_key())), Ok(key.public_key()));
        // RFC 8410, section 10.3 and 10.1: a key without its public half, and that half.
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let key = ProbeSigningKey::from_pem(private).unwrap();
        assert_eq!(read_public_pem(public), Ok(key.public_key()));
        assert_eq!(public_pem(&key.public_key()), public);
    }

    #[test]
    fn what_is_no_key_or_signature_is_refused() {
        let key = ProbeSigningKey::generate().unwrap();
        let wrong = ProbeSigningKey::from_pem(&public_pem(&key.public_key())).unwrap_err().to_string();
        assert!(wrong.starts_with("not a private Ed25519 key: must be PEM of PKCS #8"), "{wrong}");
        let wrong = read_public_pem(&key.to_pem()).unwrap_err().to_string();
        assert!(wrong.starts_with("not a public Ed25519 key"), "{wrong}");
        assert!(matches!(read_public_pem("hello"), Err(ProbeSignatureError::PublicKey(_))));
        let ssh = name("ssh");
        let file = key.sign(&SignedProbe { digest: Digest::new([7; 32]), name: &ssh, version: "1" });
        for broken in [
            SignatureFile { format: "vouch-probe-signature-2".to_owned(), ..file.clone() },
            SignatureFile { signature: file.signature[2..].to_owned(), ..file.clone() },
            SignatureFile { signature: "zz".repeat(64), ..file },
        ] {
            let text = serde_json::to_string(&broken).unwrap();
            assert!(matches!(SignatureFile::read(&text), Err(ProbeSignatureError::File(_))), "{text}");
        }
        assert!(matches!(SignatureFile::read("{}"), Err(ProbeSignatureError::File(_))));
    }
}
