//! The bus: events out, requests in, over MQTT 5 and NATS.
//!
//! Each bus is a follower of the journal with its own cursor (`relay`), and one more way to the one handler of
//! requests (`commands`). A bus that is down is normal: its cursor waits, provisioning never does.
//! Start reading at `relay`, then `transport`; the rest is the two libraries.

mod backoff;
pub mod birth;
mod commands;
mod counts;
#[cfg(feature = "embedded-broker")]
pub mod embedded;
pub mod mqtt;
pub mod nats;
mod progress;
mod relay;
pub mod states;
#[cfg(test)]
mod tests;
mod topic;
mod transport;
pub mod visit;

use std::net::SocketAddr;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bus::birth::Birth;
use crate::bus::relay::Source;
use crate::bus::topic::{NameError, Subjects, Topics};
use crate::ledger::Ledger;

/// Which buses the station speaks on. Its name and root are the ledger's identity.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the operator side of HTTP is, for the birth certificate.
    pub rest: Option<String>,
    pub mqtt: Mqtt,
    /// The group of a Sparkplug export beside our own topics.
    pub sparkplug: Option<String>,
    pub nats: Option<nats::Settings>,
    /// Events a second to a bus that was away; without a number as fast as it takes them.
    pub catch_up: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub enum Mqtt {
    #[default]
    Off,
    /// A broker in this process.
    #[cfg(feature = "embedded-broker")]
    Embedded(embedded::Settings),
    Broker(mqtt::Settings),
}

/// Everything that can fail at start has not failed; nothing is served yet.
pub struct Bus {
    ledger: Ledger,
    topics: Topics,
    subjects: Subjects,
    birth: Birth,
    mqtt: Option<mqtt::Settings>,
    nats: Option<nats::Settings>,
    catch_up: Option<u32>,
    #[cfg(feature = "embedded-broker")]
    broker: Option<embedded::Broker>,
}

impl Bus {
    /// Binds the embedded broker and reads every file that the configuration names. Whether a broker elsewhere is
    /// there is not asked: it may come later.
    pub async fn bind(settings: Settings, ledger: Ledger) -> Result<Self, BindError> {
        let identity = ledger.identity();
        let topics = Topics::new(&identity.root, &identity.station)?;
        let subjects = Subjects::new(&identity.station)?;
        let birth = Birth::new(ledger.clone(), settings.rest);
        if let Some(nats) = &settings.nats {
            nats.check()?;
        }
        let mut bus = Self {
            ledger,
            topics,
            subjects,
            birth,
            mqtt: None,
            nats: settings.nats,
            catch_up: settings.catch_up,
            #[cfg(feature = "embedded-broker")]
            broker: None,
        };
        match settings.mqtt {
            Mqtt::Off => {}
            #[cfg(feature = "embedded-broker")]
            Mqtt::Embedded(settings) => {
                let broker = embedded::Broker::bind(&settings).await?;
                let address = broker.address();
                bus.mqtt = Some(mqtt::Settings::plain(&address.ip().to_string(), address.port()));
                bus.broker = Some(broker);
            }
            Mqtt::Broker(settings) => bus.mqtt = Some(settings),
        }
        if let Some(mqtt) = &mut bus.mqtt {
            mqtt.sparkplug = settings.sparkplug;
            mqtt.check()?;
        }
        Ok(bus)
    }

    /// Where the embedded broker listens, if there is one.
    #[cfg(feature = "embedded-broker")]
    pub fn broker(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(embedded::Broker::address)
    }

    /// Where the embedded broker listens, if there is one.
    #[cfg(not(feature = "embedded-broker"))]
    pub const fn broker(&self) -> Option<SocketAddr> {
        None
    }

    /// The names of the buses that are on, as the ledger knows them.
    pub fn sinks(&self) -> Vec<String> {
        let mqtt = self.mqtt.as_ref().map(|_| mqtt::SINK);
        let nats = self.nats.as_ref().map(|_| nats::SINK);
        mqtt.into_iter().chain(nats).map(str::to_owned).collect()
    }

    /// Serves until `stop`; then sends what is left (for three seconds at most), says goodbye, and ends.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        let mut buses = JoinSet::new();
        let source = Source { ledger: self.ledger, catch_up: self.catch_up };
        if let Some(settings) = self.mqtt {
            buses.spawn(mqtt::run(settings, source.clone(), self.topics, self.birth.clone(), stop.clone()));
        }
        if let Some(settings) = self.nats {
            buses.spawn(nats::run(settings, source, self.subjects, self.birth, stop.clone()));
        }
        #[cfg(feature = "embedded-broker")]
        if let Some(broker) = self.broker {
            // The broker ends after those who speak through it.
            let last = CancellationToken::new();
            let ended = broker.run(last.clone());
            tokio::pin!(ended);
            tokio::select! {
                fault = &mut ended => return fault.map_err(Fault::Embedded),
                joined = all(&mut buses) => joined?,
            }
            last.cancel();
            return ended.await.map_err(Fault::Embedded);
        }
        all(&mut buses).await?;
        stop.cancelled().await;
        Ok(())
    }
}

async fn all(buses: &mut JoinSet<()>) -> Result<(), Fault> {
    while let Some(ended) = buses.join_next().await {
        ended?;
    }
    Ok(())
}

/// The bus cannot be set up as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Mqtt(#[from] mqtt::FileError),
    #[error(transparent)]
    Nats(#[from] nats::SettingsError),
    #[cfg(feature = "embedded-broker")]
    #[error(transparent)]
    Embedded(#[from] embedded::BindError),
}

/// The bus ended unasked.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[cfg(feature = "embedded-broker")]
    #[error(transparent)]
    Embedded(#[from] embedded::Fault),
    #[error("a task of the bus ended")]
    Task(#[from] tokio::task::JoinError),
}
