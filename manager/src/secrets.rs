//! Secrets that every leader can find again: nothing is lost with a leader.
//!
//! The CA's key and the grant key are replicated in the clear: each manager's log, state and snapshots hold them, which
//! is why the data folder is closed to everybody but its owner. Of a watcher's one-time secret only the hash is
//! replicated, and yet whoever has the grant key can make it again.

use ring::hmac;
use sha2::{Digest as _, Sha256};
use vouch_types::WatcherId;
use vouch_types::command::ClusterSecrets;
use vouch_wire::sign::{GrantSigner, SignError};

use crate::seams::Rng;

/// Stands before the watcher's number in what its one-time secret is made of.
const WATCHER_CONTEXT: &[u8] = b"vouch watcher secret v1";
/// DER around the seed and the public key of an Ed25519 key (PKCS #8 version 2, RFC 5958 and RFC 8410).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x51, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PKCS8_MIDDLE: [u8; 3] = [0x81, 0x21, 0x00];

/// Returns the one-time secret of a watcher: HMAC-SHA256 (RFC 2104) over its number, keyed by the cluster's grant key.
///
/// Numbers are never used again, so no two watchers share one; whether it was redeemed is what the log says.
pub(crate) fn watcher_secret(secrets: &ClusterSecrets, watcher: WatcherId) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &Sha256::digest(&secrets.grant_key));
    let mut context = hmac::Context::with_key(&key);
    context.update(WATCHER_CONTEXT);
    context.update(&watcher.get().to_be_bytes());
    let mut secret = [0; 32];
    secret.copy_from_slice(context.sign().as_ref());
    secret
}

/// Returns the hash of a secret, as it is replicated.
pub(crate) fn hash_of(secret: &[u8]) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}

/// Returns a new signing key for grants, made of this source's random bytes.
///
/// # Errors
/// [`SignError::Key`] when the bytes make no key.
pub(crate) fn new_grant_key(rng: &dyn Rng) -> Result<GrantSigner, SignError> {
    use ring::signature::{Ed25519KeyPair, KeyPair};
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| SignError::Key(e.to_string()))?;
    let der = [&PKCS8_HEAD[..], &seed, &PKCS8_MIDDLE, pair.public_key().as_ref()].concat();
    GrantSigner::from_pkcs8(&der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::SeededRng;
    use vouch_types::NextCa;

    fn secrets(seed: u64) -> ClusterSecrets {
        let key = new_grant_key(&SeededRng::new(seed)).unwrap();
        ClusterSecrets {
            ca_certificate: String::new(),
            ca_key: String::new(),
            grant_key: key.pkcs8().to_vec(),
            grant_public_key: key.public_key().to_vec(),
            next_ca: NextCa::None,
        }
    }

    #[test]
    fn every_leader_finds_the_same_secret_and_no_two_watchers_share_one() {
        let (one, two) = (WatcherId::new(1), WatcherId::new(2));
        assert_eq!(watcher_secret(&secrets(7), one), watcher_secret(&secrets(7), one));
        assert_ne!(watcher_secret(&secrets(7), one), watcher_secret(&secrets(7), two));
        assert_ne!(watcher_secret(&secrets(7), one), watcher_secret(&secrets(8), one));
    }
}
