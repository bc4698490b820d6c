//! What the station says of itself in key-value buckets: presence, birth certificate, projects, jobs; and the alarms
//! of what it may not do there.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bus::birth::{Absence, Birth, Session};
use crate::bus::counts::Counts;
use crate::bus::jobs::Jobs;
use crate::bus::nats::connection::Trouble;
use crate::bus::nats::kv::Kv;
use crate::bus::nats::streams::{JOBS, PROJECTS, STATIONS};
use crate::core::observation::{Input, Observation};
use crate::ledger::Ledger;

/// NATS has no Will: who has not been heard for three of these is away.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LAST_CALL: Duration = Duration::from_secs(2);

pub struct Board {
    ledger: Ledger,
    station: String,
    birth: Birth,
    counts: Counts,
    jobs: Jobs,
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
    pub fn new(ledger: Ledger, birth: Birth) -> Self {
        Self {
            station: ledger.identity().station.clone(),
            birth,
            counts: Counts::new(ledger.clone()),
            jobs: Jobs::new(ledger.clone()),
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

    pub async fn trouble(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Refused(reason) => self.denied(reason).await,
            Trouble::Away(why) => debug!(why, "state waits for the NATS server"),
        }
    }

    /// Streams that are there with other settings than ours.
    pub async fn unusual(&mut self, told: &[String]) {
        let detail = told.join("; ");
        self.unusual.set(&self.ledger, (!told.is_empty()).then_some(&detail)).await;
    }

    /// Tells the state of the station until the connection is over.
    pub async fn run(&mut self, kv: &Kv, session: &Session, over: &CancellationToken) {
        self.counts.restart();
        self.jobs.restart();
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // After a failure the rest waits for the next heartbeat.
        let (mut works, mut tidy) = (false, false);
        loop {
            let told = tokio::select! {
                () = over.cancelled() => return,
                denied = kv.news.denied(""), if self.denied.stands != Some(true) => {
                    self.denied(&denied).await;
                    continue;
                }
                _ = beat.tick() => over.run_until_cancelled(self.presence(kv, session)).await,
                changed = self.counts.next(), if works => {
                    over.run_until_cancelled(projects(kv, &self.station, changed)).await
                }
                changed = self.jobs.next(), if works => {
                    over.run_until_cancelled(jobs(kv, &self.station, changed)).await
                }
            };
            match told {
                None => return,
                Some(Ok(())) if works => {}
                Some(Ok(())) => {
                    works = true;
                    self.counts.restart();
                    self.jobs.restart();
                    let Some(tidied) = over.run_until_cancelled(self.tidy(kv, tidy)).await else {
                        return;
                    };
                    tidy |= tidied.is_ok();
                    self.note(kv, tidied).await;
                }
                Some(told @ Err(_)) => {
                    works = false;
                    self.note(kv, told).await;
                }
            }
        }
    }

    /// An alarm when something is refused; it is over when all is told and nothing is.
    async fn note(&mut self, kv: &Kv, told: Result<(), Trouble>) {
        match told {
            Ok(()) if !kv.news.lacks() => self.denied.set(&self.ledger, None).await,
            Ok(()) => {}
            Err(trouble) => self.trouble(&trouble).await,
        }
    }

    async fn presence(&self, kv: &Kv, session: &Session) -> Result<(), Trouble> {
        kv.put(STATIONS, &format!("{}.info", self.station), self.birth.info()).await?;
        kv.put(STATIONS, &self.station, session.online()).await
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

async fn projects(kv: &Kv, station: &str, changed: Vec<crate::bus::counts::Changed>) -> Result<(), Trouble> {
    for project in changed {
        let key = format!("{station}.{}", project.id);
        match project.body {
            Some(body) => kv.put(PROJECTS, &key, body).await?,
            None => kv.purge(PROJECTS, &key).await?,
        }
    }
    Ok(())
}

async fn jobs(kv: &Kv, station: &str, changed: Vec<crate::bus::jobs::Changed>) -> Result<(), Trouble> {
    for job in changed {
        kv.put(JOBS, &format!("{station}.{}", job.id), job.body).await?;
    }
    Ok(())
}
