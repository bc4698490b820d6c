//! The newest events in memory: a thousand followers that are near the end read them from here, and only those that
//! are far behind ask the disk. The bytes of an event are shared, never copied.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use crate::ledger::Recorded;

const MOST: usize = 2048;
const MOST_BYTES: usize = 4 << 20;

#[derive(Default)]
pub struct Recent(RwLock<Shelf>);

#[derive(Default)]
struct Shelf {
    events: VecDeque<Recorded>,
    bytes: usize,
}

impl Recent {
    /// Events that are committed, in their order, before their number is announced.
    pub fn push(&self, events: &[Recorded]) {
        let mut shelf = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            shelf.bytes += event.body.len();
            shelf.events.push_back(event.clone());
        }
        while shelf.events.len() > MOST || shelf.bytes > MOST_BYTES {
            let Some(gone) = shelf.events.pop_front() else { break };
            shelf.bytes -= gone.body.len();
        }
    }

    /// Those after `seq`, at most `limit`; nothing where some of them are no longer here.
    pub fn after(&self, seq: u64, limit: usize) -> Option<Vec<Recorded>> {
        let shelf = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let first = shelf.events.front()?.seq;
        let skip = usize::try_from((seq + 1).checked_sub(first)?).ok()?;
        let found: Vec<Recorded> = shelf.events.iter().skip(skip).take(limit).cloned().collect();
        (!found.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, length: usize) -> Recorded {
        Recorded {
            seq,
            id: uuid::Uuid::nil(),
            name: "device.started".to_owned(),
            kind: "device".to_owned(),
            subject: "x".to_owned(),
            occurred: crate::core::time::Timestamp::default(),
            body: bytes::Bytes::from(vec![0; length]),
        }
    }

    fn numbers(recent: &Recent, after: u64) -> Option<Vec<u64>> {
        recent.after(after, 3).map(|events| events.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn who_is_near_reads_from_memory_and_who_is_far_does_not() {
        let recent = Recent::default();
        assert_eq!(numbers(&recent, 0), None);
        recent.push(&(11..=20).map(|seq| event(seq, 10)).collect::<Vec<_>>());
        assert_eq!(numbers(&recent, 9), None, "event 10 is not here");
        assert_eq!(numbers(&recent, 10), Some(vec![11, 12, 13]));
        assert_eq!(numbers(&recent, 18), Some(vec![19, 20]));
        assert_eq!(numbers(&recent, 20), None);
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes() {
        let recent = Recent::default();
        recent.push(&(1..=3000).map(|seq| event(seq, 1)).collect::<Vec<_>>());
        assert_eq!(numbers(&recent, 951), None);
        assert_eq!(numbers(&recent, 952), Some(vec![953, 954, 955]));
        recent.push(&(3001..=3100).map(|seq| event(seq, 64 << 10)).collect::<Vec<_>>());
        let kept = recent.0.read().unwrap().events.len();
        assert_eq!(kept, MOST_BYTES / (64 << 10));
    }
}
