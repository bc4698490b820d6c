//! How long to wait before the next attempt: from a tenth of a second to half a minute, never in step with others.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that held for so long was a good one. One that breaks at once is a failure too: two stations of one
/// name would otherwise throw each other out ten times a second.
const GOOD: Duration = Duration::from_secs(10);

/// Doubles with each failure in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A connection has ended after so long; after a good one the next failure is the first again.
    pub fn held(&mut self, time: Duration) {
        if time >= GOOD {
            self.failures = 0;
        }
    }

    /// The wait after one more failure: between half and the whole of the doubled time, so that stations that lost
    /// their broker together do not come back together.
    pub fn wait(&mut self) -> Duration {
        // The standard library's hasher is keyed at random; one roll of dice needs no crate.
        let dice = RandomState::new().build_hasher().finish();
        self.wait_by(dice)
    }

    fn wait_by(&mut self, dice: u64) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let share = u32::try_from(dice % 501).expect("a remainder of 501 fits");
        full * (500 + share) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_a_tenth_of_a_second_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let longest: Vec<Duration> = (0..12).map(|_| backoff.wait_by(500)).collect();
        assert_eq!(longest[0], Duration::from_millis(100));
        assert_eq!(longest[1], Duration::from_millis(200));
        assert_eq!(longest[8], Duration::from_millis(25_600));
        assert_eq!(longest[9], LONGEST);
        assert_eq!(longest[11], LONGEST);
        backoff.held(GOOD - Duration::from_millis(1));
        assert_eq!(backoff.wait_by(500), LONGEST);
        backoff.held(GOOD);
        assert_eq!(backoff.wait_by(0), Duration::from_millis(50));
    }

    #[test]
    fn a_broker_that_is_away_for_years_does_not_overflow_the_count() {
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.wait_by(500), LONGEST);
        assert!(backoff.wait() <= LONGEST);
    }
}
