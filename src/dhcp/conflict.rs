//! Looks ahead whether the addresses of the pool are free, so that no client waits for it: asks for one after the other
//! by ARP, and listens to what the others say of themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    pub reserved: BTreeMap<Ipv4Addr, Mac>,
}

/// Between two probes: a pool of 250 is known in a quarter of a minute. Thirty broadcasts while a network card is being
/// opened were seen to deafen U-Boot (2023.01, virtio) for good, so that a boot loader must never wait among many.
const FIRST_ROUND: Duration = Duration::from_millis(50);
/// Later, when the answers are known and only newcomers matter.
const LATER_ROUNDS: Duration = Duration::from_millis(100);
/// After the link was down, or worse.
const PAUSE: Duration = Duration::from_secs(5);

impl Watch {
    pub async fn run(self, stop: CancellationToken) {
        let mut claims = Claims::new(Instant::now());
        let mut round = self.addresses();
        let mut ticks = pace(FIRST_ROUND);
        let mut looks = pace(PATIENCE / 4);
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
                        round = self.addresses();
                        ticks = pace(LATER_ROUNDS);
                    }
                },
                _ = looks.tick() => if claims.liars_are_gone(Instant::now()) {
                    self.tell(Observation::AlarmCleared { code: PROXY_ARP.to_owned() }).await;
                },
            }
        }
    }

    /// The pool, and what is reserved beside it.
    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + Send + use<> {
        let pool = (u32::from(*self.pool.start())..=u32::from(*self.pool.end())).map(Ipv4Addr::from);
        let beside: Vec<Ipv4Addr> =
            self.reserved.keys().copied().filter(|address| !self.pool.contains(address)).collect();
        pool.chain(beside)
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
        let reserved = self.reserved.get(&address);
        let is_ours = self.pool.contains(&address) || reserved.is_some();
        if is_tenant || reserved == Some(&by) || by == self.ether.mac() || address == self.server || !is_ours {
            return;
        }
        let observation = match claims.judge(address, by, Instant::now()) {
            Judgement::Known => return,
            Judgement::Taken => {
                warn!(%address, %by, "somebody has an address of network.dhcp that was not given to them");
                Observation::AddressInUse { address, by }
            }
            Judgement::AnswersForAll => Observation::AlarmRaised {
                code: PROXY_ARP.to_owned(),
                detail: format!(
                    "{by} answers arp for many addresses of network.dhcp.range, as a router with proxy arp does; \
                     its answers are not believed any more: switch that off on the provisioning network"
                ),
            },
        };
        self.tell(observation).await;
    }

    async fn tell(&self, observation: Observation) {
        if let Err(error) = self.ledger.submit(Input::Observed(observation)).await {
            debug!(%error, "what was heard of addresses is not recorded");
        }
    }
}

fn pace(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Who has claimed what.
struct Claims {
    by_mac: HashMap<Mac, BTreeSet<Ipv4Addr>>,
    said: HashMap<Ipv4Addr, Instant>,
    /// When somebody answered for all, until that is over. At first the start: an alarm may be left of the last run.
    last_lie: Option<Instant>,
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
/// A liar that is not heard for so long is gone: meanwhile it was asked for hundreds of addresses.
const PATIENCE: Duration = Duration::from_secs(120);
const PROXY_ARP: &str = "dhcp.proxy_arp";
/// Liars could fill the memory with addresses of Ethernet.
const REMEMBERED: usize = 4096;

impl Claims {
    fn new(now: Instant) -> Self {
        Self { by_mac: HashMap::new(), said: HashMap::new(), last_lie: Some(now) }
    }

    fn judge(&mut self, address: Ipv4Addr, by: Mac, now: Instant) -> Judgement {
        if self.by_mac.len() >= REMEMBERED {
            self.by_mac.clear();
            self.said.clear();
        }
        let claimed = self.by_mac.entry(by).or_default();
        if claimed.len() > HONEST {
            self.last_lie = Some(now);
            return Judgement::Known;
        }
        claimed.insert(address);
        if claimed.len() > HONEST {
            self.last_lie = Some(now);
            return Judgement::AnswersForAll;
        }
        if self.said.get(&address).is_some_and(|at| now.duration_since(*at) < SAID) {
            return Judgement::Known;
        }
        self.said.insert(address, now);
        Judgement::Taken
    }

    /// True once when nobody has answered for all for long enough.
    fn liars_are_gone(&mut self, now: Instant) -> bool {
        let gone = self.last_lie.is_some_and(|at| now.duration_since(at) >= PATIENCE);
        if gone {
            self.last_lie = None;
            self.by_mac.retain(|_, claimed| claimed.len() <= HONEST);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_said_once_in_ten_minutes() {
        let now = Instant::now();
        let mut claims = Claims::new(now);
        let (address, by) = (Ipv4Addr::new(10, 0, 0, 7), Mac::new([2; 6]));
        assert_eq!(claims.judge(address, by, now), Judgement::Taken);
        assert_eq!(claims.judge(address, by, now), Judgement::Known);
        assert_eq!(claims.judge(address, by, now + SAID), Judgement::Taken);
    }

    #[test]
    fn a_router_that_answers_for_everyone_does_not_empty_the_pool() {
        let now = Instant::now();
        let mut claims = Claims::new(now);
        let judged: Vec<Judgement> =
            (0..100).map(|n| claims.judge(Ipv4Addr::new(10, 0, 0, n), Mac::new([2; 6]), now)).collect();
        assert_eq!(judged.iter().filter(|said| **said == Judgement::Taken).count(), HONEST);
        assert_eq!(judged.iter().filter(|said| **said == Judgement::AnswersForAll).count(), 1);
    }

    #[test]
    fn a_router_that_is_silent_for_two_minutes_is_believed_again() {
        let now = Instant::now();
        let mut claims = Claims::new(now);
        let mut ask = |n, at| claims.judge(Ipv4Addr::new(10, 0, 0, n), Mac::new([2; 6]), at);
        assert!((0..100).any(|n| ask(n, now) == Judgement::AnswersForAll));
        let later = now + PATIENCE / 2;
        assert_eq!(ask(100, later), Judgement::Known);
        assert!(!claims.liars_are_gone(now + PATIENCE), "it was heard since");
        assert!(claims.liars_are_gone(later + PATIENCE));
        assert!(!claims.liars_are_gone(later + PATIENCE * 2), "said once");
        assert_eq!(claims.judge(Ipv4Addr::new(10, 0, 1, 1), Mac::new([2; 6]), later + PATIENCE), Judgement::Taken);
    }

    #[test]
    fn an_alarm_that_is_left_of_the_last_run_is_cleared() {
        let now = Instant::now();
        let mut claims = Claims::new(now);
        assert!(!claims.liars_are_gone(now));
        assert!(claims.liars_are_gone(now + PATIENCE));
    }
}
