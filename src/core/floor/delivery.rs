//! Sinks and the journal: how far each has read, what may go, what is lost, and what somebody must hear of.

use crate::core::delivery::{Delivery, Extent, LAG_EVENTS, LAG_MS, Sink, SinkState};
use crate::core::event::Event;
use crate::core::floor::{Decision, Fact, Floor, Note};
use crate::core::observation::Observation;
use crate::core::time::Timestamp;

/// The alarm of a journal that grows because a sink does not read on.
const STORAGE: &str = "events.storage";
/// The alarm of a disk that the journal shares with images and others.
const DISK: &str = "disk.low";

impl Floor {
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    pub fn learn_delivery(&mut self, delivery: Delivery) {
        self.delivery = delivery;
    }

    /// When the oldest event that is kept happened.
    pub fn learn_oldest_at(&mut self, at: Option<Timestamp>) {
        self.delivery.oldest_at = at;
    }

    pub(super) fn delivery_observed(&self, observation: &Observation, now: Timestamp) -> Vec<Fact> {
        match observation {
            Observation::SinksNamed { names } => self.sinks_named(names, now),
            Observation::SinkChanged { sink, state, reason } => self.sink_changed(sink, *state, reason.as_ref(), now),
            Observation::DeadLettered { sink, seq, name, reason } => self.dead_lettered(sink, *seq, name, reason),
            Observation::Redelivered { sink, seq } => {
                let dead = self.delivery.sinks.get(sink).is_some_and(|sink| sink.dead.contains(seq));
                let gone = dead.then(|| Note::DeadLetterGone { sink: sink.clone(), seq: *seq }.into());
                gone.into_iter().collect()
            }
            Observation::JournalMeasured(extent) => self.journal_measured(extent, now),
            Observation::InboxAged { before } => vec![Note::InboxAged { before: *before }.into()],
            Observation::ReplayMoved { job, reached, sent } => self.replay_moved(job, *reached, *sent),
            Observation::ReplayEnded { job, sent } => self.replay_ended(job, *sent, now),
            _ => Vec::new(),
        }
    }

    /// The buses that the configuration turns on. Whatever is not among them is off, which is somebody's wish, and
    /// holds the journal no longer. One that comes back and finds a gap hears of it.
    fn sinks_named(&self, names: &[String], now: Timestamp) -> Vec<Fact> {
        let mut facts = Vec::new();
        for name in names {
            let known = self.delivery.sinks.get(name);
            let mut sink = known.cloned().unwrap_or_default();
            let before = self.delivery.pruned;
            if sink.acked < before {
                if known.is_some() {
                    facts.push(lost(name, sink.acked + 1, before, "disabled"));
                }
                sink.acked = before;
            }
            let sink = Sink { bus: true, enabled: true, state: SinkState::Down, reason: None, since: now, ..sink };
            facts.push(Note::SinkSet { name: name.clone(), sink }.into());
        }
        let gone = self.delivery.sinks.iter().filter(|(name, sink)| sink.bus && sink.enabled && !names.contains(name));
        for (name, sink) in gone {
            let sink = Sink { enabled: false, state: SinkState::Down, reason: None, since: now, ..sink.clone() };
            facts.push(Note::SinkSet { name: name.clone(), sink }.into());
            facts.extend(self.cleared(&format!("events.lag.{name}")));
            facts.extend(self.cleared(&format!("bus.refused.{name}")));
        }
        facts
    }

    fn sink_changed(&self, name: &str, state: SinkState, reason: Option<&String>, now: Timestamp) -> Vec<Fact> {
        let Some(sink) = self.delivery.sinks.get(name) else { return Vec::new() };
        if (sink.state, sink.reason.as_ref()) == (state, reason) {
            return Vec::new();
        }
        let since = if sink.state == state { sink.since } else { now };
        let sink = Sink { state, reason: reason.cloned(), since, ..sink.clone() };
        vec![Note::SinkSet { name: name.to_owned(), sink }.into()]
    }

    /// A cursor never moves back.
    pub(super) fn delivered(&self, sink: &str, seq: u64) -> Decision {
        if seq <= self.cursor(sink) {
            return Decision::noted(Vec::new());
        }
        Decision::noted(vec![Note::CursorMoved { sink: sink.to_owned(), seq }.into()])
    }

    /// A sink will never take this event, so the line goes on without it. Told once, also after a crash in between;
    /// of the telling itself nothing is told, or there would be no end.
    fn dead_lettered(&self, sink: &str, seq: u64, name: &str, reason: &str) -> Vec<Fact> {
        if self.delivery.sinks.get(sink).is_some_and(|sink| sink.dead.contains(&seq)) {
            return Vec::new();
        }
        let note = Note::DeadLetter { sink: sink.to_owned(), seq, reason: reason.to_owned() };
        let mut facts: Vec<Fact> = vec![note.into()];
        if name != "events.deadlettered" {
            let told = Event::EventsDeadlettered { sink: sink.to_owned(), sequence: seq, reason: reason.to_owned() };
            facts.push(told.into());
        }
        facts
    }

    fn journal_measured(&self, extent: &Extent, now: Timestamp) -> Vec<Fact> {
        let mut facts = self.pruned(extent);
        facts.extend(self.lag(extent, now));
        facts.extend(self.room(extent));
        if extent.bytes != self.delivery.bytes {
            facts.push(Note::JournalMeasured { bytes: extent.bytes }.into());
        }
        facts
    }

    /// Of what all have read, goes what is old; earlier when space is short. Only at the cap goes what somebody has
    /// not read, and that is told.
    fn pruned(&self, extent: &Extent) -> Vec<Fact> {
        let held = self.delivery.held();
        let short = extent.bytes >= share(extent.cap_bytes, 80);
        let free = extent.aged.max(if short { extent.oldest_rows } else { 0 }).min(held);
        let through = if extent.bytes > extent.cap_bytes { free.max(extent.oldest_rows) } else { free };
        let through = through.min(self.delivery.newest);
        if through <= self.delivery.pruned {
            return Vec::new();
        }
        let mut facts = Vec::new();
        for (name, sink) in self.delivery.sinks.iter().filter(|(_, sink)| sink.enabled && sink.acked < through) {
            facts.push(lost(name, sink.acked + 1, through, "size"));
            facts.push(Note::CursorMoved { sink: name.clone(), seq: through }.into());
        }
        facts.push(Note::JournalPruned { through }.into());
        facts
    }

    /// Half of the limit clears, so that a sink at the limit does not flap.
    fn lag(&self, extent: &Extent, now: Timestamp) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (name, sink) in self.delivery.sinks.iter().filter(|(_, sink)| sink.bus && sink.enabled) {
            let behind = self.delivery.backlog(sink);
            let late = extent.waiting.get(name).map_or(0, |since| now.millis() - since.millis());
            let code = format!("events.lag.{name}");
            if behind >= LAG_EVENTS || late >= LAG_MS {
                let minutes = late / 60_000;
                let why = sink.reason.as_deref().unwrap_or("it is slow");
                let detail = format!("{behind} events wait for {name}, the next since {minutes} minutes: {why}");
                facts.extend(self.alarm(&code, &detail));
            } else if behind < LAG_EVENTS / 2 && late < LAG_MS / 2 {
                facts.extend(self.cleared(&code));
            }
        }
        facts
    }

    fn room(&self, extent: &Extent) -> Vec<Fact> {
        let mut facts = Vec::new();
        let (mib, cap) = (extent.bytes >> 20, extent.cap_bytes >> 20);
        let slowest = self.delivery.sinks.iter().filter(|(_, sink)| sink.enabled).min_by_key(|(_, sink)| sink.acked);
        let held = self.delivery.held();
        if extent.bytes >= share(extent.cap_bytes, 80) && held < extent.oldest_rows {
            let who = slowest.map_or("nobody", |(name, _)| name.as_str());
            let detail = format!(
                "events take {mib} of {cap} MiB, and {who} has not read them; at {cap} MiB the oldest are lost to it"
            );
            facts.extend(self.alarm(STORAGE, &detail));
        } else if extent.bytes < share(extent.cap_bytes, 75) || held >= extent.oldest_rows {
            facts.extend(self.cleared(STORAGE));
        }
        if extent.free_bytes < extent.low_bytes {
            let (free, low) = (extent.free_bytes >> 20, extent.low_bytes >> 20);
            let detail = format!("{free} MiB are left on the disk of the data folder; below {low} MiB is an alarm");
            facts.extend(self.alarm(DISK, &detail));
        } else if extent.free_bytes >= share(extent.low_bytes, 110) {
            facts.extend(self.cleared(DISK));
        }
        facts
    }

    pub(super) fn cleared(&self, code: &str) -> Vec<Fact> {
        match self.alarms.contains_key(code) {
            true => vec![Event::AlarmCleared { code: code.to_owned() }.into()],
            false => Vec::new(),
        }
    }

    /// Notes of this part.
    pub(super) fn apply_delivery(&mut self, note: &Note) {
        match note {
            Note::SinkSet { name, sink } => {
                self.delivery.sinks.insert(name.clone(), sink.clone());
            }
            Note::CursorMoved { sink, seq } => {
                // A part of the station names itself by its first word; a bus is named by the configuration.
                let fresh = || Sink { enabled: true, ..Sink::default() };
                self.delivery.sinks.entry(sink.clone()).or_insert_with(fresh).acked = *seq;
            }
            Note::DeadLetter { sink, seq, .. } => {
                let fresh = || Sink { enabled: true, ..Sink::default() };
                self.delivery.sinks.entry(sink.clone()).or_insert_with(fresh).dead.insert(*seq);
            }
            Note::DeadLetterGone { sink, seq } => {
                if let Some(sink) = self.delivery.sinks.get_mut(sink) {
                    sink.dead.remove(seq);
                }
            }
            Note::JournalPruned { through } => self.delivery.pruned = *through,
            Note::JournalMeasured { bytes } => self.delivery.bytes = *bytes,
            _ => {}
        }
    }
}

fn share(whole: u64, percent: u64) -> u64 {
    whole / 100 * percent
}

fn lost(sink: &str, from: u64, to: u64, reason: &str) -> Fact {
    Event::EventsLost { sink: sink.to_owned(), from, to, reason: reason.to_owned() }.into()
}
