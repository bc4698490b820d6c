//! The embedded MQTT broker, so that a newcomer needs no other program. Loopback only, and without passwords for that
//! reason. Nothing depends on its memory: the journal is the source of truth.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{
    AuthConfig, AuthMethod, BrokerConfig, ChangeOnlyDeliveryConfig, EchoSuppressionConfig, RateLimitConfig,
    ServerDeliveryStrategy, StorageBackend, StorageConfig,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The largest packet that clients may send: more than an event and more than a request, so that a request that is
/// too large gets its 413 from us.
const MAX_PACKET: usize = 1024 * 1024;
/// How long it keeps the session of a client that is away.
const SESSION_EXPIRY: Duration = Duration::from_secs(14 * 24 * 3600);
/// Events that wait for one client that is away: a shift of a busy station.
const MAX_QUEUED: usize = 100_000;
const MAX_QUEUED_BYTES: usize = 256 * 1024 * 1024;
/// How long open connections may take to end.
const LAST_CALL: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// On loopback.
    pub listen: SocketAddr,
    /// Where it keeps retained messages and the queues of clients that are away.
    pub folder: PathBuf,
}

/// A broker that has its socket and serves nobody yet.
pub struct Broker {
    inner: MqttBroker,
    address: SocketAddr,
}

impl Broker {
    pub async fn bind(settings: &Settings) -> Result<Self, BindError> {
        let Settings { listen, folder } = settings;
        if !listen.ip().is_loopback() {
            return Err(BindError::NotLoopback(*listen));
        }
        // The broker says only in prose why it has no socket; so the question is asked here first.
        TcpListener::bind(listen).await.map_err(|source| bind_error(*listen, source))?;
        let inner = MqttBroker::with_config(config(*listen, folder.clone()))
            .await
            .map_err(|error| BindError::Broker { listen: *listen, reason: error.to_string() })?;
        let address = inner
            .local_addr()
            .ok_or_else(|| BindError::Broker { listen: *listen, reason: "it has no socket".to_owned() })?;
        Ok(Self { inner, address })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Fault> {
        let handle = self.inner.shutdown_handle();
        let run = self.inner.run();
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => return Err(Fault(ended.map_or_else(|error| error.to_string(), |()| "it stopped by itself".to_owned()))),
            () = stop.cancelled() => handle.shutdown(),
        }
        // Dropping `run` ends what is left.
        let _ = tokio::time::timeout(LAST_CALL, run).await;
        Ok(())
    }
}

fn bind_error(listen: SocketAddr, source: std::io::Error) -> BindError {
    if source.kind() == std::io::ErrorKind::AddrInUse {
        BindError::Taken { listen, url: format!("mqtt://{listen}") }
    } else {
        BindError::Socket { listen, source }
    }
}

/// Every field stands here: the defaults listen on all interfaces, admit anyone, and write to the working directory.
fn config(listen: SocketAddr, folder: PathBuf) -> BrokerConfig {
    BrokerConfig {
        bind_addresses: vec![listen],
        max_clients: 1000,
        session_expiry_interval: SESSION_EXPIRY,
        max_packet_size: MAX_PACKET,
        topic_alias_maximum: 0,
        retain_available: true,
        maximum_qos: 2,
        wildcard_subscription_available: true,
        subscription_identifier_available: true,
        shared_subscription_available: true,
        max_subscriptions_per_client: 1000,
        max_retained_messages: 100_000,
        max_retained_message_size: MAX_PACKET,
        client_channel_capacity: 10_000,
        max_outbound_inflight: 64,
        drain_batch: 64,
        server_keep_alive: None,
        server_receive_maximum: None,
        response_information: None,
        auth_config: AuthConfig {
            allow_anonymous: true,
            password_file: None,
            acl_file: None,
            auth_method: AuthMethod::None,
            auth_data: None,
            scram_file: None,
            jwt_config: None,
            federated_jwt_config: None,
            rate_limit: RateLimitConfig { enabled: false, max_attempts: 0, window_secs: 0, lockout_secs: 0 },
        },
        tls_config: None,
        websocket_config: None,
        websocket_tls_config: None,
        quic_config: None,
        cluster_listener_config: None,
        storage_config: StorageConfig {
            backend: StorageBackend::File,
            base_dir: folder,
            cleanup_interval: Duration::from_secs(3600),
            enable_persistence: true,
            max_queued_messages_per_client: MAX_QUEUED,
            max_queued_bytes_per_client: MAX_QUEUED_BYTES,
        },
        change_only_delivery_config: ChangeOnlyDeliveryConfig { enabled: false, topic_patterns: Vec::new() },
        echo_suppression_config: EchoSuppressionConfig { enabled: false, property_key: String::new() },
        sys_topics_enabled: false,
        sys_topics_interval: Duration::from_secs(60),
        max_outbound_rate_per_client: 0,
        max_message_rate_per_client: 0,
        max_bandwidth_per_client: 0,
        server_delivery_strategy: ServerDeliveryStrategy::ControlOnly,
        bridges: Vec::new(),
        load_balancer: None,
        event_handler: None,
    }
}

/// Why there is no embedded broker.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("the embedded MQTT broker asks for no password and so listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    #[error(
        "cannot bind the embedded MQTT broker on {listen}: the address is taken; if a broker runs there already, \
         use it by `bus.mqtt: {{url: {url}}}`, else choose another `bus.mqtt_listen`"
    )]
    Taken { listen: SocketAddr, url: String },
    #[error("cannot bind the embedded MQTT broker on {listen}")]
    Socket { listen: SocketAddr, source: std::io::Error },
    #[error("cannot start the embedded MQTT broker on {listen}: {reason}")]
    Broker { listen: SocketAddr, reason: String },
}

/// The broker ended unasked.
#[derive(Debug, thiserror::Error)]
#[error("the embedded MQTT broker ended: {0}")]
pub struct Fault(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn it_tells_its_port_and_ends_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { listen: loopback(0), folder: folder.path().join("mqtt") };
        let broker = Broker::bind(&settings).await.unwrap();
        assert_ne!(broker.address().port(), 0);
        let stop = CancellationToken::new();
        let (ended, ()) = tokio::join!(broker.run(stop.clone()), async { stop.cancel() });
        ended.unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_says_how_to_use_the_broker_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let other = TcpListener::bind(loopback(0)).await.unwrap();
        let listen = other.local_addr().unwrap();
        let settings = Settings { listen, folder: folder.path().to_owned() };
        let error = Broker::bind(&settings).await.map(drop).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("taken") && text.contains(&format!("`bus.mqtt: {{url: mqtt://{listen}}}`")), "{text}");
    }

    #[tokio::test]
    async fn it_never_listens_beyond_loopback() {
        let settings = Settings { listen: SocketAddr::from(([0, 0, 0, 0], 0)), folder: PathBuf::new() };
        assert!(matches!(Broker::bind(&settings).await, Err(BindError::NotLoopback(_))));
    }
}
