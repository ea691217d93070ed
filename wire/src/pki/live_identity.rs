//! The identity that a running process proves itself with: exchanged as a whole when its certificate or the CAs change.
//!
//! New connections, both ways, begin with the new one; streams that stand are left alone here, and a manager closes
//! those whose CA is trusted no more. What was in use stays in use when the new one does not make TLS.

use std::sync::Arc;

use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;
use vouch_types::WallTime;

use super::tls::{ALPN_H2, client_config, server_config, server_config_without_clients};
use super::{Current, Identity, PkiError};

/// What the admin API speaks.
const ALPN_API: &[&[u8]] = &[ALPN_H2, b"http/1.1"];

/// The identity of a running process, and the TLS made of it. A cheap clone.
#[derive(Debug, Clone)]
pub struct LiveIdentity {
    clock: Arc<dyn TimeProvider>,
    identity: Current<Identity>,
    server: Current<ServerConfig>,
    client: Current<ClientConfig>,
    api: Current<ServerConfig>,
    changes: Arc<watch::Sender<u64>>,
}

impl LiveIdentity {
    /// Returns an identity in use.
    ///
    /// # Errors
    /// [`PkiError::Tls`] when certificate, key and CAs do not fit together.
    pub fn new(identity: Identity, clock: Arc<dyn TimeProvider>) -> Result<Self, PkiError> {
        Ok(Self {
            server: server_config(&identity, Arc::clone(&clock))?.into(),
            client: client_config(&identity, Arc::clone(&clock))?.into(),
            api: server_config_without_clients(&identity, Arc::clone(&clock), ALPN_API)?.into(),
            identity: Arc::new(identity).into(),
            changes: Arc::new(watch::Sender::new(0)),
            clock,
        })
    }

    /// Returns the identity of now.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.get()
    }

    /// Returns what says that another identity is in use from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns the time by which TLS judges certificates here; none when the clock tells none.
    pub fn now(&self) -> Option<WallTime> {
        let since = self.clock.current_time()?;
        Some(WallTime::from_unix_millis(since.as_secs().saturating_mul(1000)))
    }

    /// Returns the configuration of the mutually authenticated port.
    pub fn server(&self) -> Current<ServerConfig> {
        self.server.clone()
    }

    /// Returns the configuration of diallers.
    pub fn client(&self) -> Current<ClientConfig> {
        self.client.clone()
    }

    /// Returns the configuration of the admin API's port.
    pub fn api(&self) -> Current<ServerConfig> {
        self.api.clone()
    }

    /// Takes another certificate, or other CAs, into use.
    ///
    /// # Errors
    /// [`PkiError`] when it does not hold now or does not make TLS; then nothing has changed.
    pub fn replace(&self, identity: Identity) -> Result<(), PkiError> {
        if let Some(now) = self.now() {
            identity.valid_at(now)?;
        }
        let next = Self::new(identity, Arc::clone(&self.clock))?;
        // Trust before proof: nobody is shown the new certificate who could not be heard with it.
        self.client.set(next.client.get());
        self.server.set(next.server.get());
        self.api.set(next.api.get());
        self.identity.set(next.identity.get());
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}
