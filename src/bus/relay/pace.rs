//! How fast events that are not news go out: those of a backlog, and those that are sent again. Pure but for the
//! instants that it is given.

use std::time::Duration;

use tokio::time::Instant;

/// A backlog begins here: live events are not held back.
const BEGIN: u64 = 1000;
/// And ends here, so that it does not begin anew at once.
const END: u64 = 100;
/// What was not used may be made up for within so long.
const SLACK: Duration = Duration::from_millis(100);

/// So many a second.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    gap: Duration,
    next: Option<Instant>,
}

impl Pace {
    pub fn new(per_second: u32) -> Self {
        Self { gap: Duration::from_secs(1) / per_second.max(1), next: None }
    }

    /// When the next may go.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether one may go now; if so it has gone.
    pub fn take(&mut self, now: Instant) -> bool {
        let next = self.next.unwrap_or(now);
        if next > now {
            return false;
        }
        self.next = Some(next.max(now.checked_sub(SLACK).unwrap_or(now)) + self.gap);
        true
    }
}

/// The pace of a sink that was away: its backlog must not push the live events of others aside.
#[derive(Clone, Copy, Debug)]
pub struct CatchUp {
    pace: Option<Pace>,
    behind: bool,
}

impl CatchUp {
    /// Without a number, as fast as the broker takes it.
    pub fn new(per_second: Option<u32>) -> Self {
        Self { pace: per_second.map(Pace::new), behind: false }
    }

    /// Whether one more may go now, so many events behind the newest.
    pub fn allows(&mut self, backlog: u64, now: Instant) -> bool {
        self.behind = if self.behind { backlog > END } else { backlog > BEGIN };
        match &mut self.pace {
            Some(pace) if self.behind => pace.take(now),
            _ => true,
        }
    }

    /// When the next may go, while it is not now.
    pub fn next(&self) -> Option<Instant> {
        self.pace.as_ref().filter(|_| self.behind).and_then(Pace::next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_and_what_was_not_used_is_not_saved_up() {
        let start = Instant::now();
        let mut pace = Pace::new(100);
        let gone = |pace: &mut Pace, from: u64, to: u64| {
            (from..to).filter(|ms| pace.take(start + Duration::from_millis(*ms))).count()
        };
        assert_eq!(gone(&mut pace, 0, 1000), 100);
        let after_a_pause = gone(&mut pace, 61_000, 62_000);
        assert!((100..=111).contains(&after_a_pause), "{after_a_pause}");
    }

    #[test]
    fn only_a_backlog_is_held_back() {
        let now = Instant::now();
        let mut catch_up = CatchUp::new(Some(1));
        assert!((0..1000).all(|_| catch_up.allows(BEGIN, now)));
        assert!(catch_up.allows(BEGIN + 1, now), "the first may go");
        assert!(!catch_up.allows(BEGIN, now), "a backlog ends only when it is nearly gone");
        assert!(catch_up.allows(END, now));
        let mut free = CatchUp::new(None);
        assert!((0..1000).all(|_| free.allows(1_000_000, now)));
    }
}
