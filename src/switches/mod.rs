//! Managed switches: at which port a device is, and power for it. They are asked beside the line and never delay it:
//! this room follows the journal, and reports by observations.

pub mod client;
mod desk;
pub mod lookup;
mod oid;
pub mod power;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::core::device::Mac;
use crate::core::observation::{Input, Observation};
use crate::core::slot::{PowerAction, SlotName, SwitchPort};
use crate::core::time::Timestamp;
use crate::ledger::{Ledger, Recorded, SubmitError};
use crate::switches::client::Access;
use crate::switches::desk::Desk;
use crate::switches::power::Power;

pub use crate::switches::desk::{greet, survey};

/// The name under which this room keeps its place in the journal.
const SINK: &str = "switches";
/// Events that may be read again after a crash.
const UNSAVED: u64 = 256;
/// A request for power that waited longer, over a restart perhaps, is not carried out any more.
const STALE: Duration = Duration::from_secs(60);
/// Questions under way at the same time; more devices wait their turn.
const AT_ONCE: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub switches: Vec<Switch>,
    /// How long a cycled port stays without power.
    pub pause: Duration,
}

/// One managed switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    pub name: String,
    pub access: Access,
    /// How power is switched, and by which login; nothing: never.
    pub power: Option<(Power, Access)>,
    /// Ports that lead to other switches, by name, alias or number.
    pub uplinks: Vec<String>,
    /// A port with more MACs leads to another switch too.
    pub uplink_macs: usize,
}

/// The room; without switches it has nothing to do.
pub struct Switches {
    ledger: Ledger,
    desk: Arc<Desk>,
}

/// What of an event is of interest here.
#[derive(Deserialize)]
struct Told<T> {
    data: T,
}

#[derive(Deserialize)]
struct Seen {
    mac: Mac,
}

#[derive(Deserialize)]
struct PowerWanted {
    slot: SlotName,
    action: PowerAction,
    port: SwitchPort,
    by: String,
}

impl Switches {
    pub fn new(settings: Settings, ledger: Ledger) -> Self {
        let desk = Arc::new(Desk::new(settings, ledger.clone()));
        Self { ledger, desk }
    }

    /// Does what the journal asks for, from where it left off, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        if self.desk.is_empty() {
            stop.cancelled().await;
            return Ok(());
        }
        let mut saved = self.ledger.cursor(SINK).await.map_err(Fault::Ledger)?;
        if saved == 0 {
            // Switches that are new to an old station are not asked for its past.
            saved = self.ledger.newest();
        }
        let mut seen = saved;
        let mut journal = self.ledger.follow(saved);
        let mut work = JoinSet::new();
        loop {
            let page = tokio::select! {
                () = stop.cancelled() => break,
                page = journal.next() => page.map_err(Fault::Ledger)?,
                Some(_) = work.join_next() => continue,
            };
            let mut done = false;
            for event in &page {
                done |= self.heed(event, &mut work).await;
                seen = event.seq;
            }
            if done || seen - saved >= UNSAVED {
                self.save(seen).await.map_err(Fault::Ledger)?;
                saved = seen;
            }
        }
        work.shutdown().await;
        // If this does not get through, a few events are read again at the next start.
        let _ = self.save(seen).await;
        Ok(())
    }

    async fn save(&self, seq: u64) -> Result<(), SubmitError> {
        let place = Observation::Delivered { sink: SINK.to_owned(), seq };
        self.ledger.submit(Input::Observed(place)).await.map(drop)
    }

    /// Was there something that must not be done twice?
    async fn heed(&self, event: &Recorded, work: &mut JoinSet<()>) -> bool {
        while work.len() >= AT_ONCE {
            work.join_next().await;
        }
        let desk = Arc::clone(&self.desk);
        match event.name.as_str() {
            "device.discovered" => {
                if let Ok(Told { data: Seen { mac } }) = serde_json::from_slice(&event.body) {
                    work.spawn(async move { desk.locate(mac).await });
                }
                false
            }
            "slot.power.requested" => {
                let Ok(Told { data: wanted }) = serde_json::from_slice::<Told<PowerWanted>>(&event.body) else {
                    return false;
                };
                let late = self.ledger.now().since(told_at(event)) > STALE;
                work.spawn(async move { desk.power(wanted, late).await });
                true
            }
            _ => false,
        }
    }
}

fn told_at(event: &Recorded) -> Timestamp {
    #[derive(Deserialize)]
    struct Time {
        time: Timestamp,
    }
    serde_json::from_slice::<Time>(&event.body).map_or_else(|_| Timestamp::default(), |told| told.time)
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the switches cannot read the journal")]
    Ledger(#[source] SubmitError),
}
