//! What is on the way to a broker and what comes next. Pure.

use std::collections::VecDeque;

use crate::ledger::Recorded;

/// A window of events on the way, and those that wait for room in it.
#[derive(Debug)]
pub struct Line {
    /// Everything up to here is acknowledged or given up for good.
    cursor: u64,
    /// Everything that is sent again up to here is acknowledged.
    again: u64,
    room: usize,
    window: VecDeque<Slot>,
    waiting: VecDeque<Recorded>,
}

#[derive(Debug)]
struct Slot {
    seq: u64,
    /// The type of a new event.
    name: String,
    lane: Lane,
    settled: bool,
}

/// News move the cursor; what is sent again lies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    News,
    Again,
}

impl Line {
    pub fn new(cursor: u64, room: usize) -> Self {
        Self { cursor, again: 0, room: room.max(1), window: VecDeque::new(), waiting: VecDeque::new() }
    }

    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    pub const fn again(&self) -> u64 {
        self.again
    }

    /// The last event that is on its way or settled.
    pub fn sent(&self) -> u64 {
        self.window.iter().rev().find(|slot| slot.lane == Lane::News).map_or(self.cursor, |slot| slot.seq)
    }

    pub fn has_room(&self) -> bool {
        self.window.len() < self.room
    }

    /// An event that is sent again takes a place of the window.
    pub fn admit(&mut self, seq: u64) {
        self.window.push_back(Slot { seq, name: String::new(), lane: Lane::Again, settled: false });
    }

    /// Something that is sent again is on the way.
    pub fn is_repeating(&self) -> bool {
        self.window.iter().any(|slot| slot.lane == Lane::Again)
    }

    /// More events, in order.
    pub fn extend(&mut self, events: Vec<Recorded>) {
        self.waiting.extend(events);
    }

    /// Takes the next event into the window, if it has room.
    pub fn step(&mut self) -> Option<Recorded> {
        if !self.has_room() {
            return None;
        }
        let event = self.waiting.pop_front()?;
        self.window.push_back(Slot { seq: event.seq, name: event.name.clone(), lane: Lane::News, settled: false });
        Some(event)
    }

    /// Which of the two an event on its way is.
    pub fn lane(&self, seq: u64) -> Option<Lane> {
        self.window.iter().find(|slot| slot.seq == seq).map(|slot| slot.lane)
    }

    /// The type of an event on its way.
    pub fn name(&self, seq: u64) -> Option<&str> {
        self.window.iter().find(|slot| slot.seq == seq).map(|slot| slot.name.as_str())
    }

    /// Marks an event as done. The cursor moves only over a front without gaps.
    pub fn settle(&mut self, seq: u64) {
        if let Some(slot) = self.window.iter_mut().find(|slot| slot.seq == seq) {
            slot.settled = true;
        }
        while let Some(slot) = self.window.pop_front_if(|slot| slot.settled) {
            match slot.lane {
                Lane::News => self.cursor = slot.seq,
                Lane::Again => self.again = slot.seq,
            }
        }
    }

    /// The journal is asked again only when what it gave is on its way, so memory holds one batch.
    pub fn is_hungry(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nothing is on the way.
    pub fn is_idle(&self) -> bool {
        self.window.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::core::time::Timestamp;

    fn event(seq: u64) -> Recorded {
        Recorded {
            seq,
            id: Uuid::from_u128(u128::from(seq)),
            name: "device.failed".to_owned(),
            kind: "device".to_owned(),
            subject: "dca632000001".to_owned(),
            occurred: Timestamp::from_millis(0),
            body: Bytes::new(),
        }
    }

    #[test]
    fn what_is_sent_again_takes_room_and_never_moves_the_cursor() {
        let mut line = Line::new(10, 3);
        line.extend((11..=20).map(event).collect());
        assert_eq!(line.step().map(|event| event.seq), Some(11));
        line.admit(4);
        assert_eq!((line.sent(), line.has_room(), line.is_repeating()), (11, true, true));
        assert_eq!(line.step().map(|event| event.seq), Some(12));
        assert!(line.step().is_none());
        for (acknowledged, cursor, again) in [(12, 10, 0), (11, 11, 0), (4, 12, 4)] {
            line.settle(acknowledged);
            assert_eq!((line.cursor(), line.again()), (cursor, again), "after {acknowledged}");
        }
    }

    #[test]
    fn the_cursor_moves_only_over_a_front_without_gaps() {
        let mut line = Line::new(10, 4);
        line.extend((11..=20).map(event).collect());
        let mut on_the_way = Vec::new();
        while let Some(event) = line.step() {
            on_the_way.push(event.seq);
        }
        assert_eq!(on_the_way, [11, 12, 13, 14]);
        for (acknowledged, cursor) in [(12, 10), (13, 10), (11, 13), (11, 13), (99, 13), (14, 14)] {
            line.settle(acknowledged);
            assert_eq!(line.cursor(), cursor, "after {acknowledged}");
        }
        assert!(line.is_idle() && !line.is_hungry());
    }
}
