//! Events that are sent again, dead letters that are given up, and a station that takes no new sessions.

use serde_json::{Value, json};

use crate::core::command::{Command, CommandId};
use crate::core::delivery::{Drained, EventsDiscard, EventsReplay, Replay, Sink, StationDrain, Which};
use crate::core::event::Event;
use crate::core::floor::{Fact, Floor, Note};
use crate::core::job::{Asked, Job, JobState};
use crate::core::observation::Observation;
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;

/// The kind of the job.
pub const KIND: &str = "events.replay";
/// Events a second, unless the request says otherwise.
const RATE: u32 = 100;
const FASTEST: u32 = 10_000;
const MOST_REPLAYS: usize = 16;
const MOST_TYPES: usize = 32;
const KINDS: [&str; 10] =
    ["device", "project", "image", "firmware", "rule", "script", "label", "slot", "station", "command"];

type Effect = (Vec<Fact>, Value);

impl Floor {
    /// The open ones, the oldest first.
    pub fn replays(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.shelf.jobs.values().filter(|job| job.replay.is_some()).cloned().collect();
        jobs.sort_by_key(|job| (job.started_at, job.id.clone()));
        jobs
    }

    pub(super) fn plan_replay(&self, wanted: &EventsReplay, command: &Command, now: Timestamp) -> Result<Job, Refusal> {
        let (name, sink) = self.replay_sink(wanted)?;
        let (from, to) = self.replay_range(wanted, &name, sink)?;
        let rate = wanted.rate.unwrap_or(RATE);
        if !(1..=FASTEST).contains(&rate) {
            return Err(Refusal::invalid("/params/rate", format!("{rate} events a second; from 1 to {FASTEST}")));
        }
        if self.shelf.jobs.values().filter(|job| job.replay.is_some()).count() >= MOST_REPLAYS {
            return Err(Refusal::new(503, "busy", format!("{MOST_REPLAYS} replays wait already")).retryable());
        }
        let replay = Replay { sink: name.clone(), from, to, which: which(wanted)?, rate, reached: 0, sent: 0 };
        Ok(Job {
            id: command.id.clone(),
            kind: KIND.to_owned(),
            name,
            url: None,
            sha256: None,
            image: None,
            size_bytes: None,
            state: JobState::Running,
            error: None,
            started_at: now,
            begun_at: None,
            ended_at: None,
            asked: Some(Asked::of(command)),
            replay: Some(replay),
        })
    }

    fn replay_sink(&self, wanted: &EventsReplay) -> Result<(String, &Sink), Refusal> {
        let mut buses = self.delivery.sinks.iter().filter(|(_, sink)| sink.bus && sink.enabled);
        let (name, sink) = match &wanted.sink {
            Some(name) => {
                let known = self.delivery.sinks.get_key_value(name).filter(|(_, sink)| sink.bus);
                let (name, sink) = known.ok_or_else(|| Refusal::not_found("sink", name))?;
                if !sink.enabled {
                    return Err(Refusal::new(409, "wrong_state", format!("sink {name} is turned off")));
                }
                (name, sink)
            }
            None => match (buses.next(), buses.next()) {
                (Some(only), None) => only,
                (None, _) => return Err(Refusal::new(409, "wrong_state", "no bus is turned on")),
                (Some(_), Some(_)) => {
                    return Err(Refusal::invalid("/params/sink", "there is more than one bus; which one?"));
                }
            },
        };
        Ok((name.clone(), sink))
    }

    /// What is not kept cannot be sent again, and what is still to come will come by itself.
    fn replay_range(&self, wanted: &EventsReplay, name: &str, sink: &Sink) -> Result<(u64, u64), Refusal> {
        let (oldest, newest) = (self.delivery.oldest(), self.delivery.newest);
        let kept = format!("events {oldest} to {newest} are kept");
        let gone = |what: String| Err(Refusal::new(410, "gone", format!("{what}; {kept}")));
        if wanted.from.is_none() && wanted.since.is_none() && !wanted.dead_letters {
            return Err(Refusal::invalid("/params", "from which event on? give from or since"));
        }
        let from = wanted.from.unwrap_or(oldest);
        let to = wanted.to.unwrap_or(newest);
        if from == 0 || from > to {
            return Err(Refusal::invalid("/params/from", format!("{from} to {to} is no range; {kept}")));
        }
        if from > newest || wanted.to.is_some_and(|to| to > newest) {
            let beyond = from.max(to);
            return Err(Refusal::new(404, "not_found", format!("there is no event {beyond}; {kept}")));
        }
        if from < oldest {
            return gone(format!("event {from} is not kept any more"));
        }
        if let (Some(since), Some(at)) = (wanted.since, self.delivery.oldest_at.filter(|_| oldest > 1))
            && since < at
        {
            return gone(format!("of {since} nothing is kept, the oldest event is of {at}"));
        }
        if from > sink.acked {
            let detail = format!("event {from} is still on its way to {name}, which has read up to {}", sink.acked);
            return Err(Refusal::new(409, "wrong_state", detail));
        }
        Ok((from, to.min(sink.acked)))
    }

    /// The job that an observation is about, if a command began it: what follows from it follows from the command.
    pub fn cause_of(&self, observation: &Observation) -> Option<&Job> {
        let of_command = |job: &&Job| job.kind != "image.upload";
        match observation {
            Observation::ImageIngested(image) => {
                self.shelf.jobs.values().filter(of_command).find(|job| job.image == Some(image.id))
            }
            Observation::ImageStored(job) => self.shelf.jobs.get(job.id.as_str()).filter(of_command),
            Observation::JobFailed { job, .. } | Observation::ReplayEnded { job, .. } => {
                self.shelf.jobs.get(job.as_str()).filter(of_command)
            }
            _ => None,
        }
    }

    pub(super) fn replay_moved(&self, id: &CommandId, reached: u64, sent: u64) -> Vec<Fact> {
        let Some(job) = self.shelf.jobs.get(id.as_str()) else { return Vec::new() };
        let Some(replay) = job.replay.as_ref().filter(|replay| (replay.reached, replay.sent) != (reached, sent)) else {
            return Vec::new();
        };
        let replay = Some(Replay { reached, sent, ..replay.clone() });
        vec![Note::Job(Box::new(Job { replay, ..job.clone() })).into()]
    }

    /// The audit of a long command has a second entry, which says how it ended.
    pub(super) fn replay_ended(&self, id: &CommandId, sent: u64, now: Timestamp) -> Vec<Fact> {
        let Some(job) = self.shelf.jobs.get(id.as_str()) else { return Vec::new() };
        let Some(replay) = &job.replay else { return Vec::new() };
        let replay = Replay { reached: replay.to, sent, ..replay.clone() };
        self.end_job(&Job { replay: Some(replay), ..job.clone() }, JobState::Succeeded, None, now)
    }

    pub(super) fn discard(&self, wanted: &EventsDiscard) -> Result<Effect, Refusal> {
        let name = &wanted.sink;
        let sink = self.delivery.sinks.get(name).ok_or_else(|| Refusal::not_found("sink", name))?;
        let gone: Vec<u64> = match wanted.sequence {
            Some(seq) if sink.dead.contains(&seq) => vec![seq],
            Some(seq) => return Err(Refusal::not_found("dead letter", format!("{seq} of {name}"))),
            None => sink.dead.iter().copied().collect(),
        };
        let note = |seq: &u64| Note::DeadLetterGone { sink: name.clone(), seq: *seq }.into();
        Ok((gone.iter().map(note).collect(), json!({"sink": name, "discarded": gone.len()})))
    }

    /// A second time changes nothing.
    pub(super) fn drain(&self, wanted: &StationDrain, command: &Command, now: Timestamp) -> Effect {
        let (by, reason) = (command.actor.id.clone(), wanted.reason.clone());
        let open = self.sessions.values().filter(|session| session.is_open()).count();
        let drained = self.delivery.drained.clone();
        let facts = match drained {
            Some(_) => Vec::new(),
            None => vec![Event::StationDrained { by: by.clone(), reason: reason.clone() }.into()],
        };
        let drained = drained.unwrap_or(Drained { by, reason, at: now });
        (facts, json!({"drained": drained, "open_sessions": open}))
    }

    pub(super) fn resume(&self, command: &Command) -> Effect {
        let facts = match self.delivery.drained {
            Some(_) => vec![Event::StationResumed { by: command.actor.id.clone() }.into()],
            None => Vec::new(),
        };
        (facts, json!({"drained": null}))
    }

    /// A drained station begins nothing. It may go on in a moment, so a device that asks may ask again.
    pub(super) fn taking(&self) -> Result<(), Refusal> {
        let Some(drained) = &self.delivery.drained else { return Ok(()) };
        let why = drained.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        let detail = format!("the station takes no new devices: drained by {}{why} at {}", drained.by, drained.at);
        Err(Refusal::new(503, "draining", detail).retryable())
    }
}

fn which(wanted: &EventsReplay) -> Result<Which, Refusal> {
    if let Some(kind) = wanted.kind.as_ref().filter(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(Refusal::invalid("/params/kind", format!("{kind:?} is none of {}", KINDS.join(", "))));
    }
    if wanted.types.len() > MOST_TYPES {
        let detail = format!("{} types; at most {MOST_TYPES}", wanted.types.len());
        return Err(Refusal::invalid("/params/types", detail));
    }
    let plain = |term: &String| {
        let name = term.strip_suffix(".*").unwrap_or(term);
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_')
    };
    if let Some(index) = wanted.types.iter().position(|term| !plain(term)) {
        let detail = format!("{:?} is neither a type nor a prefix such as device.*", wanted.types[index]);
        return Err(Refusal::invalid(&format!("/params/types/{index}"), detail));
    }
    Ok(Which {
        since: wanted.since,
        until: wanted.until,
        kind: wanted.kind.clone(),
        device: wanted.device,
        types: wanted.types.clone(),
        dead_letters: wanted.dead_letters,
    })
}
