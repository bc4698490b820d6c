//! What stands retained at the broker, beside presence: the certificate, the projects, the long commands. And the last
//! replies to those, which go out when their work has ended.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::AsyncClient;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::bus::birth::Birth;
use crate::bus::mqtt::letter::{self, Letter};
use crate::bus::states::{Change, Place, States};
use crate::bus::topic::Topics;
use crate::bus::transport::Lost;
use crate::core::command::Transport;
use crate::core::observation::{Input, Observation};
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
    states: States,
    renewed: Instant,
    info_at: Instant,
    info: Option<Bytes>,
    /// The newest event at which nobody waited for a last reply.
    answered: Option<u64>,
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
            states: States::new(ledger.clone()),
            renewed: now,
            info_at: now,
            info: None,
            answered: None,
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
        if self.renewed.elapsed() >= RENEW {
            self.renewed = Instant::now();
            self.states.restart();
        }
        let worked = self.states.work_is_open();
        if let Err(error) = self.look().await? {
            debug!(%error, "the states on the bus are not refreshed");
        }
        let newest = self.ledger.newest();
        if worked || self.answered != Some(newest) {
            match self.answer().await? {
                Ok(()) => self.answered = Some(newest),
                Err(error) => debug!(%error, "last replies wait"),
            }
        }
        if self.info_at.elapsed() >= INFO_PACE {
            self.info_at = Instant::now();
            let info = self.birth.info();
            if self.info.as_ref() != Some(&info) {
                self.tell(self.topics.info(), info.clone(), None).await?;
                self.info = Some(info);
            }
        }
        Ok(())
    }

    /// The outer error ends the connection; the inner one is the ledger's and is tried again.
    async fn look(&mut self) -> Result<Result<(), SubmitError>, Lost> {
        let changes = match self.states.changes().await {
            Ok(changes) => changes,
            Err(error) => return Ok(Err(error)),
        };
        for Change { place, body, expires_in } in changes {
            let topic = match &place {
                Place::Project(id) => self.topics.project(id.as_str()),
                Place::Job(id) => self.topics.job(id.as_str()),
            };
            let expiry = body.as_ref().map(|_| expires_in.unwrap_or(EXPIRY));
            self.tell(topic, body.unwrap_or_default(), expiry).await?;
        }
        Ok(Ok(()))
    }

    /// Last replies wait for the end of their work, which is an event.
    async fn answer(&mut self) -> Result<Result<(), SubmitError>, Lost> {
        let due = match self.ledger.replies_due(Transport::Mqtt.as_str()).await {
            Ok(due) => due,
            Err(error) => return Ok(Err(error)),
        };
        for reply in due {
            if let Err(error) = self.reply(reply).await? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    async fn tell(&self, topic: String, body: Bytes, expiry: Option<Duration>) -> Result<(), Lost> {
        match letter::fits(&topic, &body, self.max_packet) {
            true => letter::state(self.client, topic, body, expiry).await,
            false => Ok(()),
        }
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
