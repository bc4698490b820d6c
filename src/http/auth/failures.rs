//! Wrong tokens by address: after some of them the address must wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// So many wrong ones are forgiven in a minute.
const FORGIVEN: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; where there are more, the oldest are forgotten.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Failures(HashMap<IpAddr, (u32, Instant)>);

impl Failures {
    pub fn count(&mut self, peer: IpAddr, now: Instant) {
        self.0.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, (_, since))| *since).map(|(peer, _)| *peer);
            oldest.map(|peer| self.0.remove(&peer));
        }
        self.0.entry(peer.to_canonical()).or_insert((0, now)).0 += 1;
    }

    /// How long the address still has to wait.
    pub fn closed(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let (count, since) = self.0.get(&peer.to_canonical())?;
        let passed = now.duration_since(*since);
        (*count >= FORGIVEN && passed < WINDOW).then(|| WINDOW - passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_a_minute_after_ten_wrong_tokens_and_the_others_do_not() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let (bad, good): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for n in 0..10 {
            assert_eq!(failures.closed(bad, start), None, "after {n}");
            failures.count(bad, start);
        }
        assert_eq!(failures.closed(bad, start), Some(WINDOW));
        assert_eq!(failures.closed("::ffff:10.0.0.1".parse().unwrap(), start), Some(WINDOW));
        assert_eq!(failures.closed(good, start), None);
        assert_eq!(failures.closed(bad, start + WINDOW), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for n in 0..u32::try_from(MOST).unwrap() + 100 {
            failures.count(IpAddr::V4(n.into()), start + Duration::from_millis(u64::from(n)));
        }
        assert!(failures.0.len() <= MOST);
    }
}
