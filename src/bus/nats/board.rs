//! What the station says of itself in key-value buckets: presence, birth certificate, projects, jobs; and the alarms
//! of what it may not do there.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bus::birth::{Absence, Birth, Session};
use crate::bus::nats::connection::Trouble;
use crate::bus::nats::kv::Kv;
use crate::bus::nats::settings::Settings;
use crate::bus::nats::streams::{self, JOBS, PROJECTS, STATIONS};
use crate::bus::states::{Change, Place, States};
use crate::core::observation::{Input, Observation};
use crate::ledger::Ledger;

/// NATS has no Will: who has not been heard for three of these is away.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What changes more often is told once in this time.
const PACE: Duration = Duration::from_secs(1);
const LAST_CALL: Duration = Duration::from_secs(2);

pub struct Board {
    ledger: Ledger,
    station: String,
    birth: Birth,
    /// How many copies of the streams are made; none by us if somebody else makes them.
    replicas: Option<usize>,
    states: States,
    denied: Alarm,
    unusual: Alarm,
}

/// One alarm, and whether it stands; unknown at first, because a former process may have left it.
struct Alarm {
    code: &'static str,
    stands: Option<bool>,
}

impl Alarm {
    async fn set(&mut self, ledger: &Ledger, detail: Option<&str>) {
        if self.stands.replace(detail.is_some()) == Some(detail.is_some()) {
            return;
        }
        let code = self.code.to_owned();
        let alarm = match detail {
            Some(detail) => Observation::AlarmRaised { code, detail: detail.to_owned() },
            None => Observation::AlarmCleared { code },
        };
        if let Err(error) = ledger.submit(Input::Observed(alarm)).await {
            warn!(%error, code = self.code, "cannot write down an alarm");
            self.stands = None;
        }
    }
}

impl Board {
    pub fn new(ledger: Ledger, birth: Birth, settings: &Settings) -> Self {
        Self {
            station: ledger.identity().station.clone(),
            birth,
            replicas: settings.manage_streams.then_some(settings.replicas),
            states: States::new(ledger.clone()),
            denied: Alarm { code: "bus.denied.nats", stands: None },
            unusual: Alarm { code: "bus.stream.nats", stands: None },
            ledger,
        }
    }

    /// The station may not do something: requests, presence or state are cut short until somebody acts.
    pub async fn denied(&mut self, reason: &str) {
        let detail = format!("NATS does not let the station take requests or tell its state: {reason}");
        self.denied.set(&self.ledger, Some(&detail)).await;
    }

    async fn trouble(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Refused(reason) => self.denied(reason).await,
            Trouble::Away(why) => debug!(why, "state waits for the NATS server"),
        }
    }

    /// Makes the stream and the buckets; tells what is otherwise with those that are there.
    async fn prepare(&mut self, kv: &Kv) -> Result<(), Trouble> {
        let Some(replicas) = self.replicas else {
            return Ok(());
        };
        let mut told = Vec::new();
        for wanted in streams::all(replicas) {
            told.extend(streams::prepare(&kv.context, &kv.news, wanted).await?);
        }
        let detail = told.join("; ");
        self.unusual.set(&self.ledger, (!told.is_empty()).then_some(&detail)).await;
        Ok(())
    }

    /// Tells the state of the station until the connection is over.
    pub async fn run(&mut self, kv: &Kv, session: &Session, over: &CancellationToken) {
        self.states.restart();
        let (mut beat, mut pace) = (interval(HEARTBEAT), interval(PACE));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // After a failure the rest waits for the next heartbeat.
        let (mut works, mut tidy, mut prepared, mut settled) = (false, false, false, false);
        loop {
            let told = tokio::select! {
                () = over.cancelled() => return,
                denied = kv.news.denied(""), if self.denied.stands != Some(true) => {
                    self.denied(&denied).await;
                    continue;
                }
                _ = beat.tick() => over.run_until_cancelled(self.heartbeat(kv, session, &mut prepared)).await,
                _ = pace.tick(), if works => over.run_until_cancelled(self.tell(kv)).await,
            };
            match told {
                None => return,
                Some(Ok(())) if works && settled == prepared => {}
                Some(Ok(())) => {
                    (works, settled) = (true, prepared);
                    self.states.restart();
                    let Some(tidied) = over.run_until_cancelled(self.tidy(kv, tidy)).await else {
                        return;
                    };
                    tidy |= tidied.is_ok();
                    self.note(tidied, prepared && !kv.news.lacks()).await;
                }
                Some(told @ Err(_)) => {
                    // What was to be taken away just now may still be there.
                    (works, tidy) = (false, false);
                    self.note(told, false).await;
                }
            }
        }
    }

    /// An alarm when something is refused; it is over when all is told and nothing is.
    async fn note(&mut self, told: Result<(), Trouble>, is_well: bool) {
        match told {
            Ok(()) if is_well => self.denied.set(&self.ledger, None).await,
            Ok(()) => {}
            Err(trouble) => self.trouble(&trouble).await,
        }
    }

    async fn heartbeat(&mut self, kv: &Kv, session: &Session, prepared: &mut bool) -> Result<(), Trouble> {
        if !*prepared {
            match self.prepare(kv).await {
                Ok(()) => *prepared = true,
                // Who may not make or see streams may find them there all the same.
                Err(trouble) => self.trouble(&trouble).await,
            }
        }
        self.presence(kv, session).await
    }

    async fn presence(&self, kv: &Kv, session: &Session) -> Result<(), Trouble> {
        kv.put(STATIONS, &format!("{}.info", self.station), self.birth.info()).await?;
        kv.put(STATIONS, &self.station, session.online()).await
    }

    /// Tells what stands otherwise than told.
    async fn tell(&mut self, kv: &Kv) -> Result<(), Trouble> {
        let changes = match self.states.changes().await {
            Ok(changes) => changes,
            Err(error) => {
                debug!(%error, "cannot read how projects and jobs stand");
                return Ok(());
            }
        };
        for Change { place, body, .. } in changes {
            let (bucket, id) = match &place {
                Place::Project(id) => (PROJECTS, id.as_str()),
                Place::Job(id) => (JOBS, id.as_str()),
            };
            let key = format!("{}.{id}", self.station);
            match body {
                Some(body) => kv.put(bucket, &key, body).await?,
                None => kv.purge(bucket, &key).await?,
            }
        }
        Ok(())
    }

    /// Takes away projects that went while nobody could be told.
    async fn tidy(&self, kv: &Kv, is_tidy: bool) -> Result<(), Trouble> {
        if is_tidy {
            return Ok(());
        }
        let Ok(projects) = self.ledger.projects().await else {
            return Ok(());
        };
        let there: BTreeSet<&str> = projects.iter().map(|project| project.id.as_str()).collect();
        for gone in kv.keys(PROJECTS, &self.station).await?.iter().filter(|key| !there.contains(key.as_str())) {
            kv.purge(PROJECTS, &format!("{}.{gone}", self.station)).await?;
        }
        Ok(())
    }

    /// Says that the station goes.
    pub async fn goodbye(&self, kv: &Kv, session: &Session) {
        let goodbye = kv.put(STATIONS, &self.station, session.offline(Absence::Shutdown));
        if !matches!(timeout(LAST_CALL, goodbye).await, Ok(Ok(()))) {
            debug!("the goodbye did not get out");
        }
    }
}
