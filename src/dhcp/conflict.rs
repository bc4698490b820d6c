//! Looks ahead whether the addresses of the pool are free, so that no client waits for it: asks for one after the other
//! by ARP, and listens to what the others say of themselves.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::core::device::Mac;
use crate::core::observation::{Input, Observation};
use crate::dhcp::arp;
use crate::dhcp::ether::{BROADCAST, Carries, Ether};
use crate::ledger::Ledger;

/// The watch over one pool.
pub struct Watch {
    pub ether: Arc<Ether>,
    pub ledger: Ledger,
    pub server: Ipv4Addr,
    pub pool: RangeInclusive<Ipv4Addr>,
}

/// Between two probes: a pool of 250 is known a second after the start, one of 65,000 after four minutes.
const FIRST_ROUND: Duration = Duration::from_millis(4);
/// Later, when the answers are known and only newcomers matter.
const LATER_ROUNDS: Duration = Duration::from_millis(100);
/// After the link was down, or worse.
const PAUSE: Duration = Duration::from_secs(5);

impl Watch {
    pub async fn run(self, stop: CancellationToken) {
        let mut claims = Claims::default();
        let mut round = addresses(&self.pool);
        let mut ticks = pace(FIRST_ROUND);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                heard = self.ether.arp() => match heard {
                    Ok(packet) => {
                        if let Some((address, by)) = arp::claim(&packet) {
                            self.claimed(address, by, &mut claims).await;
                        }
                    }
                    Err(error) => {
                        debug!(%error, "cannot listen to arp");
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = tokio::time::sleep(PAUSE) => {}
                        }
                    }
                },
                _ = ticks.tick() => match round.find(|address| self.is_worth_asking(*address)) {
                    Some(address) => self.probe(address),
                    None => {
                        round = addresses(&self.pool);
                        ticks = pace(LATER_ROUNDS);
                    }
                },
            }
        }
    }

    /// Whoever was given an address has it; nobody is asked.
    fn is_worth_asking(&self, address: Ipv4Addr) -> bool {
        address != self.server && self.ledger.tenant(address).is_none()
    }

    fn probe(&self, address: Ipv4Addr) {
        if let Err(error) = self.ether.send(BROADCAST, Carries::Arp, &arp::probe(self.ether.mac(), address)) {
            debug!(%error, %address, "cannot ask whether the address is free");
        }
    }

    async fn claimed(&self, address: Ipv4Addr, by: Mac, claims: &mut Claims) {
        let is_tenant = self.ledger.tenant(address).is_some_and(|tenant| tenant.mac == by);
        if is_tenant || by == self.ether.mac() || address == self.server || !self.pool.contains(&address) {
            return;
        }
        let observation = match claims.judge(address, by, Instant::now()) {
            Judgement::Known => return,
            Judgement::Taken => {
                warn!(%address, %by, "somebody has an address of network.dhcp.range; it is not given out for an hour");
                Observation::AddressInUse { address, by }
            }
            Judgement::AnswersForAll => Observation::AlarmRaised {
                code: "dhcp.proxy_arp".to_owned(),
                detail: format!(
                    "{by} answers arp for many addresses of network.dhcp.range, as a router with proxy arp does; \
                     its answers are not believed any more: switch that off on the provisioning network"
                ),
            },
        };
        if let Err(error) = self.ledger.submit(Input::Observed(observation)).await {
            debug!(%error, %address, "a conflict of addresses is not recorded");
        }
    }
}

fn pace(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn addresses(pool: &RangeInclusive<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> + Send + use<> {
    (u32::from(*pool.start())..=u32::from(*pool.end())).map(Ipv4Addr::from)
}

/// Who has claimed what.
#[derive(Default)]
struct Claims {
    by_mac: HashMap<Mac, BTreeSet<Ipv4Addr>>,
    said: HashMap<Ipv4Addr, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Known,
    Taken,
    AnswersForAll,
}

/// More addresses than this have no honest owner.
const HONEST: usize = 16;
/// So long one address is not spoken of again; less than half of its quarantine.
const SAID: Duration = Duration::from_secs(600);
/// Liars could fill the memory with addresses of Ethernet.
const REMEMBERED: usize = 4096;

impl Claims {
    fn judge(&mut self, address: Ipv4Addr, by: Mac, now: Instant) -> Judgement {
        if self.by_mac.len() >= REMEMBERED {
            self.by_mac.clear();
        }
        let claimed = self.by_mac.entry(by).or_default();
        if claimed.len() > HONEST {
            return Judgement::Known;
        }
        claimed.insert(address);
        if claimed.len() > HONEST {
            return Judgement::AnswersForAll;
        }
        if self.said.get(&address).is_some_and(|at| now.duration_since(*at) < SAID) {
            return Judgement::Known;
        }
        self.said.insert(address, now);
        Judgement::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_said_once_in_ten_minutes() {
        let (mut claims, now) = (Claims::default(), Instant::now());
        let (address, by) = (Ipv4Addr::new(10, 0, 0, 7), Mac::new([2; 6]));
        assert_eq!(claims.judge(address, by, now), Judgement::Taken);
        assert_eq!(claims.judge(address, by, now), Judgement::Known);
        assert_eq!(claims.judge(address, by, now + SAID), Judgement::Taken);
    }

    #[test]
    fn a_router_that_answers_for_everyone_does_not_empty_the_pool() {
        let (mut claims, now) = (Claims::default(), Instant::now());
        let judged: Vec<Judgement> =
            (0..100).map(|n| claims.judge(Ipv4Addr::new(10, 0, 0, n), Mac::new([2; 6]), now)).collect();
        assert_eq!(judged.iter().filter(|said| **said == Judgement::Taken).count(), HONEST);
        assert_eq!(judged.iter().filter(|said| **said == Judgement::AnswersForAll).count(), 1);
    }
}
