//! Two stations of one name throw each other out of the broker, again and again. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// So many times within `WITHIN` is no accident, such as a connection that the broker had not yet missed.
const TIMES: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);

/// When another client of our id took over our session.
#[derive(Debug, Default)]
pub struct Takeovers {
    at: VecDeque<Instant>,
}

impl Takeovers {
    /// One more; true when there is a second station of this name.
    pub fn note(&mut self, now: Instant) -> bool {
        self.at.push_back(now);
        while self.at.front().is_some_and(|first| now.duration_since(*first) > WITHIN) {
            self.at.pop_front();
        }
        self.at.len() >= TIMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_minute_are_a_second_station() {
        let start = Instant::now();
        let noted = |seconds: [u64; 4]| {
            let mut takeovers = Takeovers::default();
            seconds.map(|second| takeovers.note(start + Duration::from_secs(second)))
        };
        assert_eq!(noted([0, 1, 2, 3]), [false, false, true, true]);
        assert_eq!(noted([0, 40, 80, 130]), [false; 4]);
        assert_eq!(noted([0, 40, 60, 61]), [false, false, true, true]);
    }
}
