//! Whether anybody takes the events that the broker has acknowledged: it says so with PUBACK 0x10. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Who takes some topics only is no alarm for the others: nobody has taken anything for so long.
const SILENCE: Duration = Duration::from_secs(60);

/// What is known of those who listen.
#[derive(Debug, Default)]
pub struct Audience {
    last_taken: Option<Instant>,
    alarmed: bool,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Left,
    Came,
}

impl Audience {
    /// An event was taken by somebody, or by nobody; says when that is news.
    pub fn note(&mut self, taken: bool, now: Instant) -> Option<Turn> {
        if taken {
            let first = self.last_taken.replace(now).is_none();
            // An alarm of a former process may still stand.
            return (std::mem::take(&mut self.alarmed) || first).then_some(Turn::Came);
        }
        let silent = self.last_taken.is_none_or(|last| now.duration_since(last) >= SILENCE);
        (silent && !std::mem::replace(&mut self.alarmed, true)).then_some(Turn::Left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The alarm is an event itself and goes the same way: it must not raise or clear itself for ever.
    #[test]
    fn a_reader_of_some_topics_only_does_not_make_an_alarm_of_each_event() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut audience = Audience::default();
        assert_eq!(audience.note(false, at(0)), Some(Turn::Left));
        assert_eq!(audience.note(false, at(1)), None);
        assert_eq!(audience.note(true, at(2)), Some(Turn::Came));
        for second in 3..60 {
            assert_eq!(audience.note(second % 2 == 0, at(second)), None, "{second}");
        }
        assert_eq!(audience.note(false, at(100)), None);
        assert_eq!(audience.note(false, at(118)), Some(Turn::Left));
        assert_eq!(audience.note(false, at(119)), None);
        assert_eq!(audience.note(true, at(120)), Some(Turn::Came));
    }
}
