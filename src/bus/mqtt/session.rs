//! What this end remembers of the MQTT session between two connections: nothing.

use futures_util::future::BoxFuture;
use rumqttc::{PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey};

/// How long the broker keeps requests for a station that is away, in seconds.
pub const SESSION_EXPIRY: u32 = 7 * 24 * 3600;
/// Messages of the desk on the way at once.
pub const WINDOW: u16 = 64;

/// The session state that a fresh client has of its own: none. What we have sent at `QoS` 1 and was not acknowledged is
/// sent again from the ledger, so there is nothing to remember, and the broker's half (requests that wait for us) is
/// welcome. Without a store rumqttc refuses to resume a session that another process began.
#[derive(Debug)]
pub struct Nothing {
    pub client_id: String,
}

type Done<'a, T> = BoxFuture<'a, Result<T, SessionStoreError>>;

impl SessionStore for Nothing {
    fn load<'a>(&'a self, _: &'a SessionStoreKey) -> Done<'a, Option<PersistedSession>> {
        Box::pin(std::future::ready(Ok(Some(PersistedSession {
            format_version: 1,
            client_id: self.client_id.clone(),
            clean_start: false,
            session_expiry_interval: Some(SESSION_EXPIRY),
            outgoing_inflight_upper_limit: Some(WINDOW),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        }))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Done<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Done<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
