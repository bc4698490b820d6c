//! NATS: events in a JetStream stream, requests as a micro service, state in key-value buckets, progress on core NATS.
//! Works on nats-server 2.9.10 (Debian 12) and later.
//!
//! Two connections a station, as over MQTT: `bootline/{station}` takes requests and says who is there,
//! `bootline/{station}-evt` carries events. What one of them holds up never holds up the other.

mod board;
mod connection;
mod desk;
mod kv;
mod outlet;
mod service;
mod settings;
mod streams;
mod visit;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio_util::sync::CancellationToken;

use crate::bus::birth::Birth;
use crate::bus::relay;
use crate::bus::topic::Subjects;

pub use crate::bus::nats::settings::{AGAIN, ClientCertificate, Login, Settings, SettingsError, Tls};
pub use crate::bus::nats::visit::{Seen, visit};

/// The name of the cursor.
pub const SINK: &str = "nats";

/// Serves a server until `stop`. A server that is away is normal.
pub async fn run(settings: Settings, source: relay::Source, subjects: Subjects, birth: Birth, stop: CancellationToken) {
    let ledger = source.ledger.clone();
    let station = ledger.identity().station.clone();
    let stored = Arc::new(AtomicU64::new(0));
    let outlet = outlet::Outlet::new(settings.clone(), &station, subjects.clone(), Arc::clone(&stored));
    let desk = desk::Desk { settings, ledger: ledger.clone(), subjects, birth, stored };
    // The desk says goodbye when the last events are out.
    let farewell = CancellationToken::new();
    let events = async {
        relay::run(SINK, source, outlet, stop.clone()).await;
        farewell.cancel();
    };
    tokio::join!(events, desk.run(farewell.clone()));
}
