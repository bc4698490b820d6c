//! Where the questions to the switches come together: each switch is asked few things at a time, and what is wrong with
//! one is an alarm and nothing more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::core::device::Mac;
use crate::core::observation::{Input, Located, Observation, PowerDone};
use crate::core::slot::{PowerAction, SwitchPort};
use crate::ledger::Ledger;
use crate::switches::client::{Client, Fault, Value};
use crate::switches::lookup::{self, Port};
use crate::switches::oid;
use crate::switches::power::{self, Power};
use crate::switches::{PowerWanted, Settings, Switch};

/// Questions to one switch at the same time: a small one has a small processor.
const AT_ONCE: usize = 4;
/// A switch learns a MAC from its first frame, and its table is sometimes a little behind.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];
/// How long it is remembered how many MACs each port has.
const COUNTED: Duration = Duration::from_secs(60);

pub struct Desk {
    settings: Settings,
    ledger: Ledger,
    gates: BTreeMap<String, Semaphore>,
    counts: Mutex<HashMap<String, Counted>>,
}

/// How many MACs each port had, and when.
struct Counted {
    at: Instant,
    ports: BTreeMap<u64, usize>,
}

impl Desk {
    pub fn new(settings: Settings, ledger: Ledger) -> Self {
        let gates = settings.switches.iter().map(|switch| (switch.name.clone(), Semaphore::new(AT_ONCE))).collect();
        Self { settings, ledger, gates, counts: Mutex::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.settings.switches.is_empty()
    }

    /// Asks all switches for a device, a few times if none knows it yet, and says where it is.
    pub async fn locate(&self, mac: Mac) {
        for pause in [Duration::ZERO].into_iter().chain(AGAIN) {
            sleep(pause).await;
            let asked = self.settings.switches.iter().map(|switch| self.ports_at(switch, mac));
            let ports: Vec<SwitchPort> = join_all(asked).await.into_iter().flatten().collect();
            if !ports.is_empty() {
                self.tell(Observation::Located(Located { mac, ports })).await;
                return;
            }
        }
        tracing::debug!(%mac, "no switch knows where the device is");
    }

    /// The ports of one switch where the device may be plugged in; none when it is not there, or the switch is of no use.
    async fn ports_at(&self, switch: &Switch, mac: Mac) -> Vec<SwitchPort> {
        let Some(gate) = self.gates.get(&switch.name) else { return Vec::new() };
        let Ok(_permit) = gate.acquire().await else { return Vec::new() };
        let mut client = Client::new(switch.access.clone());
        let found = self.own_ports(switch, &mut client, mac).await;
        self.judge(&switch.name, found.as_ref().err()).await;
        found.unwrap_or_default()
    }

    async fn own_ports(&self, switch: &Switch, client: &mut Client, mac: Mac) -> Result<Vec<SwitchPort>, Fault> {
        let mut ports = Vec::new();
        for number in lookup::find(client, mac).await? {
            let port = named(switch, lookup::describe(client, number).await?);
            if !self.is_uplink(switch, client, &port).await? {
                ports.push(port);
            }
        }
        Ok(ports)
    }

    async fn is_uplink(&self, switch: &Switch, client: &mut Client, port: &SwitchPort) -> Result<bool, Fault> {
        if switch.uplinks.iter().any(|word| port.is_called(word)) {
            return Ok(true);
        }
        let fresh = |counts: &HashMap<String, Counted>| {
            let counted = counts.get(&switch.name)?;
            (counted.at.elapsed() < COUNTED).then(|| counted.ports.get(&port.number).copied().unwrap_or(0))
        };
        let known = fresh(&self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        let macs = match known {
            Some(macs) => macs,
            None => {
                let counted = count(&lookup::walked(client).await?);
                let macs = counted.get(&port.number).copied().unwrap_or(0);
                let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
                counts.insert(switch.name.clone(), Counted { at: Instant::now(), ports: counted });
                macs
            }
        };
        Ok(macs > switch.uplink_macs)
    }

    /// Switches power as it was asked for, and says what came of it.
    pub async fn power(&self, wanted: PowerWanted, when: When, stop: &CancellationToken) {
        let PowerWanted { slot, action, port, by } = wanted;
        let action = match (when, action) {
            // Its port may be without power since the station ended.
            (When::Left | When::LeftLong, PowerAction::Cycle) => PowerAction::On,
            _ => action,
        };
        let fault = match when {
            When::LeftLong if action == PowerAction::On => self.switch_power(action, &port, stop).await.err(),
            When::Late | When::LeftLong => Some("the request waited too long and was not carried out".to_owned()),
            When::Now | When::Left => self.switch_power(action, &port, stop).await.err(),
        };
        if let Some(fault) = &fault {
            tracing::warn!(%slot, ?action, fault, "power was not switched");
        }
        self.tell(Observation::PowerDone(PowerDone { slot, action, by, fault })).await;
    }

    async fn switch_power(
        &self,
        action: PowerAction,
        wanted: &SwitchPort,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let switch = self.settings.switches.iter().find(|switch| switch.name == wanted.switch);
        let switch = switch.ok_or_else(|| format!("there is no switch {} in the configuration", wanted.switch))?;
        let Some((power, access)) = &switch.power else {
            return Err(format!("power of switch {} is not to be switched from here", switch.name));
        };
        let gate = self.gates.get(&switch.name).ok_or_else(|| "there is no such switch".to_owned())?;
        let _permit = gate.acquire().await.map_err(|_| "the station stops".to_owned())?;
        let mut client = Client::new(access.clone());
        let told = match self.may_switch(switch, wanted, &mut client).await {
            Ok(port) => {
                let pause = self.pause(stop);
                turn(*power, action, &port, &mut client, pause).await.map_err(Trouble::Switch)
            }
            Err(trouble) => Err(trouble),
        };
        if let Err(Trouble::Switch(fault)) = &told {
            self.judge(&switch.name, Some(fault)).await;
        }
        told.map_err(|trouble| trouble.to_string())
    }

    /// The port as the switch numbers it, unless other switches hang on it.
    async fn may_switch(&self, switch: &Switch, wanted: &SwitchPort, client: &mut Client) -> Result<Port, Trouble> {
        let port = self.resolve(switch, wanted, client).await?;
        let found = named(switch, port.clone());
        match self.is_uplink(switch, client, &found).await? {
            true => Err(Trouble::Uplink(found.port)),
            false => Ok(port),
        }
    }

    /// Between off and on; a station that stops does not wait.
    async fn pause(&self, stop: &CancellationToken) {
        tokio::select! {
            () = sleep(self.settings.pause) => {}
            () = stop.cancelled() => {}
        }
    }

    /// A port that was seen has its number; one that only the configuration names is looked for by its word.
    async fn resolve(&self, switch: &Switch, wanted: &SwitchPort, client: &mut Client) -> Result<Port, Trouble> {
        if wanted.number > 0 {
            return Ok(lookup::describe(client, wanted.number).await?);
        }
        for number in lookup::numbers(client).await? {
            let port = lookup::describe(client, number).await?;
            if named(switch, port.clone()).is_called(&wanted.port) {
                return Ok(port);
            }
        }
        Err(Trouble::NoPort(wanted.port.clone()))
    }

    /// One alarm a switch, for as long as it is of no use.
    async fn judge(&self, switch: &str, fault: Option<&Fault>) {
        let code = format!("switch.{switch}");
        self.tell(match fault {
            Some(fault) => Observation::AlarmRaised { code, detail: format!("{switch}: {fault}") },
            None => Observation::AlarmCleared { code },
        })
        .await;
    }

    async fn tell(&self, observation: Observation) {
        if let Err(error) = self.ledger.submit(Input::Observed(observation)).await {
            tracing::debug!(%error, "what a switch has told is not recorded");
        }
    }
}

async fn turn(
    power: Power,
    action: PowerAction,
    port: &Port,
    client: &mut Client,
    pause: impl Future<Output = ()>,
) -> Result<(), Fault> {
    if action != PowerAction::On {
        power::switch(client, power, port, false).await?;
    }
    if action == PowerAction::Cycle {
        pause.await;
    }
    if action != PowerAction::Off {
        power::switch(client, power, port, true).await?;
    }
    Ok(())
}

/// When power was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    /// Too long ago to do it now.
    Late,
    /// In an earlier life of the station, which ended before it was done.
    Left,
    /// The same, and long ago.
    LeftLong,
}

/// Why power was not switched.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Switch(#[from] Fault),
    #[error("port {0} leads to another switch and is never switched off")]
    Uplink(String),
    #[error("the switch has no port called {0:?}")]
    NoPort(String),
}

fn named(switch: &Switch, port: Port) -> SwitchPort {
    SwitchPort { switch: switch.name.clone(), port: port.name, alias: port.alias, number: port.number }
}

fn count(table: &BTreeMap<Mac, std::collections::BTreeSet<u64>>) -> BTreeMap<u64, usize> {
    let mut counted = BTreeMap::new();
    for port in table.values().flatten() {
        *counted.entry(*port).or_default() += 1;
    }
    counted
}

/// A MAC in the table of a switch, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub mac: Mac,
    pub port: SwitchPort,
    pub uplink: bool,
}

/// What a switch calls itself, by one question; nothing if it has no name or does not tell it.
pub async fn greet(switch: &Switch) -> Result<Option<String>, Fault> {
    let name = Client::new(switch.access.clone()).get_one(oid::SYS_NAME.to_vec()).await?;
    Ok(match name {
        Value::Text(bytes) if !bytes.is_empty() => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    })
}

/// Everything that a switch knows, read once, and in how many packets: for `bootline switch test` and the doctor.
pub async fn survey(switch: &Switch) -> (Result<Vec<Sighting>, Fault>, u64) {
    let mut client = Client::new(switch.access.clone());
    let found = sightings(switch, &mut client).await;
    (found, client.packets())
}

async fn sightings(switch: &Switch, client: &mut Client) -> Result<Vec<Sighting>, Fault> {
    let table = lookup::walked(client).await?;
    let counted = count(&table);
    let mut ports: BTreeMap<u64, SwitchPort> = BTreeMap::new();
    for number in counted.keys() {
        ports.insert(*number, named(switch, lookup::describe(client, *number).await?));
    }
    let seen = table.into_iter().flat_map(|(mac, at)| at.into_iter().map(move |number| (mac, number)));
    let sighting = |(mac, number): (Mac, u64)| {
        let port = ports.get(&number)?.clone();
        let many = counted.get(&number).is_some_and(|macs| *macs > switch.uplink_macs);
        let uplink = many || switch.uplinks.iter().any(|word| port.is_called(word));
        Some(Sighting { mac, port, uplink })
    };
    Ok(seen.filter_map(sighting).collect())
}
