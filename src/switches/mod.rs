//! Managed switches: at which port a device is, and power for it. They are asked beside the line and never delay it:
//! this room follows the journal, and reports by observations.

pub mod client;
mod desk;
pub mod lookup;
mod oid;
pub mod power;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::core::device::Mac;
use crate::core::observation::{Input, Observation};
use crate::core::slot::{PowerAction, SlotName, SwitchPort};
use crate::core::time::Timestamp;
use crate::ledger::{EventFilter, Ledger, Recorded, SubmitError};
use crate::switches::client::Access;
use crate::switches::desk::{Desk, When};
use crate::switches::power::Power;
use crate::switches::queue::Queue;

pub use crate::switches::desk::{greet, survey};

/// The name under which this room keeps its place in the journal.
const SINK: &str = "switches";
/// Events that may be read again after a crash.
const UNSAVED: u64 = 256;
/// A request for power that waited longer, over a restart perhaps, is not carried out any more.
const STALE: Duration = Duration::from_secs(60);
/// Questions under way at the same time; more devices wait their turn.
const AT_ONCE: usize = 64;
/// When the station stops, ports that are without power in the middle of a cycle get it back in this time.
const FINISH: Duration = Duration::from_secs(5);
/// Events read at once.
const PAGE: u32 = 500;

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
struct Place {
    slot: SlotName,
}

#[derive(Clone, Deserialize)]
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
            self.save(saved).await.map_err(Fault::Ledger)?;
        }
        let mut power = Queue::new(Arc::clone(&self.desk), stop.clone());
        let began = self.resume(saved, &mut power).await.map_err(Fault::Ledger)?;
        let mut seen = saved;
        let mut journal = self.ledger.follow(saved);
        let mut work = JoinSet::new();
        loop {
            let page = tokio::select! {
                () = stop.cancelled() => break,
                page = journal.next() => page.map_err(Fault::Ledger)?,
                Some(_) = work.join_next() => continue,
                true = power.next() => continue,
            };
            for event in &page {
                match event.name.as_str() {
                    "device.discovered" => self.locate(event, &mut work).await,
                    "slot.power.requested" if event.seq > began => self.switch_power(event, &mut power).await,
                    _ => {}
                }
                seen = event.seq;
            }
            let done = power.done_up_to(seen);
            if done >= saved + UNSAVED {
                self.save(done).await.map_err(Fault::Ledger)?;
                saved = done;
            }
        }
        work.shutdown().await;
        if timeout(FINISH, power.finish()).await.is_err() {
            tracing::warn!("power of some ports is not as it should be; the next start sees to it");
        }
        // If this does not get through, a few events are read again at the next start.
        let _ = self.save(power.done_up_to(seen)).await;
        Ok(())
    }

    /// What an earlier life of the station was asked for and has not finished; where in the journal this life begins.
    async fn resume(&self, saved: u64, power: &mut Queue) -> Result<u64, SubmitError> {
        let (mut read, mut began) = (saved, saved);
        // For one place they end in the order in which they were asked for.
        let mut open: HashMap<SlotName, VecDeque<(u64, PowerWanted, When)>> = HashMap::new();
        let mut left: Vec<(u64, PowerWanted, When)> = Vec::new();
        loop {
            let page =
                self.ledger.find_events(EventFilter { after: read, limit: PAGE, ..EventFilter::default() }).await?;
            let Some(last) = page.last() else { break };
            read = last.seq;
            for event in &page {
                match event.name.as_str() {
                    "station.started" => {
                        began = event.seq;
                        left = open.values().flatten().cloned().collect();
                    }
                    "slot.power.requested" => {
                        if let Some(wanted) = told::<PowerWanted>(event) {
                            let when = if self.is_late(event) { When::LeftLong } else { When::Left };
                            open.entry(wanted.slot.clone()).or_default().push_back((event.seq, wanted, when));
                        }
                    }
                    "slot.powered" | "slot.power.failed" => {
                        if let Some(Place { slot }) = told(event) {
                            open.get_mut(&slot).and_then(VecDeque::pop_front);
                        }
                    }
                    _ => {}
                }
            }
        }
        left.sort_unstable_by_key(|(seq, ..)| *seq);
        for (seq, wanted, when) in left {
            power.begin(seq, wanted, when).await;
        }
        Ok(began)
    }

    async fn save(&self, seq: u64) -> Result<(), SubmitError> {
        let place = Observation::Delivered { sink: SINK.to_owned(), seq };
        self.ledger.submit(Input::Observed(place)).await.map(drop)
    }

    async fn locate(&self, event: &Recorded, work: &mut JoinSet<()>) {
        while work.len() >= AT_ONCE {
            work.join_next().await;
        }
        if let Some(Seen { mac }) = told(event) {
            let desk = Arc::clone(&self.desk);
            work.spawn(async move { desk.locate(mac).await });
        }
    }

    async fn switch_power(&self, event: &Recorded, power: &mut Queue) {
        if let Some(wanted) = told(event) {
            let when = if self.is_late(event) { When::Late } else { When::Now };
            power.begin(event.seq, wanted, when).await;
        }
    }

    fn is_late(&self, event: &Recorded) -> bool {
        self.ledger.now().since(told_at(event)) > STALE
    }
}

/// What an event says, as far as it matters here.
fn told<T: DeserializeOwned>(event: &Recorded) -> Option<T> {
    serde_json::from_slice::<Told<T>>(&event.body).ok().map(|told| told.data)
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
