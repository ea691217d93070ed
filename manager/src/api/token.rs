//! The bearer token: made at the first start, kept in a file that only its owner may read.
//!
//! It is never logged, and compared so that the time does not tell how much of a guess was right.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::RngCore;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Bits of mode that let others than the owner at the file.
const OTHERS: u32 = 0o077;
/// The shortest token that is accepted, in characters.
const TOKEN_MIN: usize = 32;

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("api.token_file {}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("api.token_file {}: cannot be made", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error("api.token_file {}: mode {mode:03o} lets others read it; must be 600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds too little to be a secret.
    #[error("api.token_file {}: holds {length} characters; must be at least {TOKEN_MIN}", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// How many characters it holds.
        length: usize,
    },
}

/// The token, as the hash that guesses are compared with.
#[derive(Clone)]
pub struct ApiToken([u8; 32]);

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiToken(..)")
    }
}

impl ApiToken {
    /// Returns the token of this text.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads the token from its file; `None` when there is none.
    ///
    /// # Errors
    /// [`TokenError`] when the file cannot be read, is readable by others, or holds too little.
    pub fn load(path: &Path) -> Result<Option<Self>, TokenError> {
        match fs::metadata(path) {
            Ok(metadata) => {
                let mode = metadata.permissions().mode() & 0o777;
                if mode & OTHERS != 0 {
                    return Err(TokenError::Mode { path: path.to_owned(), mode });
                }
                let text =
                    fs::read_to_string(path).map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
                let token = text.trim();
                if token.len() < TOKEN_MIN {
                    return Err(TokenError::Short { path: path.to_owned(), length: token.len() });
                }
                Ok(Some(Self::new(token)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TokenError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads the token from its file, or makes both (mode 0600) when the file is not there.
    ///
    /// # Errors
    /// As for [`ApiToken::load`], and when the file cannot be made.
    pub fn load_or_make(path: &Path) -> Result<Self, TokenError> {
        if let Some(token) = Self::load(path)? {
            return Ok(token);
        }
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let token = hex::encode(bytes);
        match make(path, &token, rand::rng().next_u32()) {
            Ok(()) => Ok(Self::new(&token)),
            // Somebody else made it meanwhile.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(path)?.ok_or_else(|| TokenError::Make { path: path.to_owned(), source: e })
            }
            Err(source) => Err(TokenError::Make { path: path.to_owned(), source }),
        }
    }

    /// Returns whether `guess` is the token.
    pub fn matches(&self, guess: &str) -> bool {
        // Hashes of fixed length, compared to the end: the time tells nothing of the token.
        let guess: [u8; 32] = Sha256::digest(guess.as_bytes()).into();
        self.0.iter().zip(guess).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// Makes the file whole or not at all, beside its place first: who reads it, also after a crash, never finds an empty one.
fn make(path: &Path, token: &str, beside: u32) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{beside:08x}.new"));
    let beside = Path::new(&name);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    let made = writeln!(file, "{token}").and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(beside, path));
    fs::remove_file(beside)?;
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_made_once_with_mode_600_and_read_after_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/api.token");
        let made = ApiToken::load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(made.matches(text.trim()) && !made.matches("wrong"));
        assert!(ApiToken::load_or_make(&path).unwrap().matches(text.trim()));
    }

    #[test]
    fn those_who_make_one_file_at_once_have_one_token() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = dir.path().join(format!("{round}/api.token"));
            let start = std::sync::Barrier::new(4);
            let make = || {
                start.wait();
                ApiToken::load_or_make(&path).unwrap()
            };
            let made: Vec<ApiToken> = std::thread::scope(|scope| {
                let makers: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
                makers.into_iter().map(|maker| maker.join().unwrap()).collect()
            });
            let text = fs::read_to_string(&path).unwrap();
            assert!(made.iter().all(|token| token.matches(text.trim())), "round {round}");
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        }
    }

    #[test]
    fn a_token_file_that_others_may_read_or_that_is_empty_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let e = ApiToken::load_or_make(&path).unwrap_err().to_string();
        assert!(e.contains("api.token") && e.contains("644") && e.contains("600"), "{e}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let e = ApiToken::load_or_make(&path).unwrap_err().to_string();
        assert!(e.contains("at least 32"), "{e}");
    }
}
