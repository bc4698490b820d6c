//! What stands retained at the broker, beside presence: the certificate, the projects, the long commands. And the last
//! replies to those, which go out when their work has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::AsyncClient;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::bus::birth::Birth;
use crate::bus::mqtt::letter::{self, Letter};
use crate::bus::states::{self, Progress};
use crate::bus::topic::Topics;
use crate::bus::transport::Lost;
use crate::core::observation::{Input, Observation};
use crate::core::view::JobProgress;
use crate::ledger::{Due, Ledger, SubmitError};

/// What changes more often is published once in this time.
const PACE: Duration = Duration::from_secs(1);
/// Backlog and newest sequence in the certificate are as old as this at most.
const INFO_PACE: Duration = Duration::from_secs(30);
/// States of a station that never comes back vanish after so long; those of one that is there are renewed before.
const EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
const RENEW: Duration = Duration::from_secs(24 * 3600);

/// What one connection has published.
pub struct Board<'a> {
    client: &'a AsyncClient,
    /// The largest packet that the broker takes.
    max_packet: usize,
    ledger: &'a Ledger,
    topics: &'a Topics,
    birth: &'a Birth,
    /// By topic, for as long as it does not change.
    shown: BTreeMap<String, Bytes>,
    renewed: Instant,
    info_at: Instant,
    /// The newest event that the states are made from.
    seen: Option<u64>,
    work_is_open: bool,
    reports: broadcast::Receiver<JobProgress>,
    progress: Progress,
}

impl<'a> Board<'a> {
    pub fn new(
        (client, max_packet): (&'a AsyncClient, usize),
        ledger: &'a Ledger,
        topics: &'a Topics,
        birth: &'a Birth,
    ) -> Self {
        let now = Instant::now();
        Self {
            client,
            max_packet,
            ledger,
            topics,
            birth,
            shown: BTreeMap::new(),
            renewed: now,
            info_at: now,
            seen: None,
            work_is_open: false,
            reports: ledger.job_progress(),
            progress: Progress::new(),
        }
    }

    /// Keeps everything as it is until the connection is lost.
    pub async fn keep(&mut self) -> Lost {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(lost) = self.refresh().await {
                return lost;
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), Lost> {
        self.hear();
        let newest = self.ledger.newest();
        if self.renewed.elapsed() >= RENEW {
            self.renewed = Instant::now();
            self.shown.clear();
            self.seen = None;
        }
        if self.seen != Some(newest) || self.work_is_open {
            match self.look().await? {
                Ok(()) => self.seen = Some(newest),
                Err(error) => debug!(%error, "the states on the bus are not refreshed"),
            }
        }
        if self.info_at.elapsed() >= INFO_PACE {
            self.info_at = Instant::now();
            self.show(self.topics.info(), self.birth.info(), None).await?;
        }
        Ok(())
    }

    fn hear(&mut self) {
        loop {
            match self.reports.try_recv() {
                Ok(report) => {
                    self.progress.insert(report.job.clone(), report);
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// The outer error ends the connection; the inner one is the ledger's and is tried again.
    async fn look(&mut self) -> Result<Result<(), SubmitError>, Lost> {
        let (projects, jobs, due) = match self.read().await {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        let gone: Vec<String> = self
            .shown
            .keys()
            .filter(|topic| self.topics.project_of(topic).is_some_and(|id| !projects.contains_key(id)))
            .cloned()
            .collect();
        for topic in gone {
            self.shown.remove(&topic);
            letter::state(self.client, topic, Bytes::new(), None).await?;
        }
        for (id, body) in projects {
            self.show(self.topics.project(&id), body, Some(EXPIRY)).await?;
        }
        self.work_is_open = false;
        for (id, line) in jobs {
            self.work_is_open |= line.expires_in.is_none();
            self.show(self.topics.job(id.as_str()), line.body, Some(line.expires_in.unwrap_or(EXPIRY))).await?;
        }
        for reply in due {
            if let Err(error) = self.reply(reply).await? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    async fn read(
        &mut self,
    ) -> Result<
        (BTreeMap<String, Bytes>, BTreeMap<crate::core::command::CommandId, states::JobLine>, Vec<Due>),
        SubmitError,
    > {
        let projects = states::projects(self.ledger).await?;
        let jobs = states::jobs(self.ledger, &mut self.progress).await?;
        let due = self.ledger.replies_due(crate::core::command::Transport::Mqtt.as_str()).await?;
        Ok((projects, jobs, due))
    }

    async fn show(&mut self, topic: String, body: Bytes, expiry: Option<Duration>) -> Result<(), Lost> {
        if self.shown.get(&topic) == Some(&body) {
            return Ok(());
        }
        if letter::fits(&topic, &body, self.max_packet) {
            letter::state(self.client, topic.clone(), body.clone(), expiry).await?;
        }
        self.shown.insert(topic, body);
        Ok(())
    }

    /// Sends a last reply; its row goes when the broker has it.
    async fn reply(&mut self, due: Due) -> Result<Result<(), SubmitError>, Lost> {
        let Due { n, command_id, address, correlation, body } = due;
        let correlation = (!correlation.is_empty()).then(|| Bytes::from(correlation));
        let letter = Letter { topic: address, correlation, body: body.into() };
        let sent = letter::reply(self.client, letter).await?;
        if let Err(error) = letter::seen_off(sent).await? {
            warn!(command = command_id, %error, "the MQTT broker does not take the last reply");
        }
        Ok(self.ledger.submit(Input::Observed(Observation::ReplyDelivered { n })).await.map(drop))
    }
}
