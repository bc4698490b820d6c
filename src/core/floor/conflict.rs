//! Two who say that one address is theirs, and a pool that is used up: what is told, and when it is over.
//!
//! A claim does not take an address from a device that has it: in the middle of a boot that would be its end, and
//! anyone on the wire could bring it about. People are told instead.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::address::{AddressBook, Claim};
use crate::core::device::Mac;
use crate::core::event::Event;
use crate::core::floor::{Decision, Fact, Floor, Note};
use crate::core::time::Timestamp;

const CONFLICT: &str = "dhcp.address_conflict";
const EXHAUSTED: &str = "dhcp.pool_exhausted";
/// A claim that is not made again for so long is over. Those who listen say the same claim again every ten minutes.
const CALM: Duration = Duration::from_secs(900);

/// Claims on addresses that have a tenant, with the time when each was heard last. In memory only: after a restart
/// they are heard again, or they are over.
#[derive(Clone, Debug, Default)]
pub struct Contests(BTreeMap<Ipv4Addr, Contest>);

#[derive(Clone, Copy, Debug)]
struct Contest {
    /// Nothing if it was the tenant who found somebody there.
    by: Option<Mac>,
    heard: Timestamp,
}

/// The tables know nothing of them, and two floors are the same when the tables say the same of them.
impl PartialEq for Contests {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Contests {
    pub(super) fn hear(&mut self, address: Ipv4Addr, by: Option<Mac>, heard: Timestamp) {
        self.0.insert(address, Contest { by, heard });
    }

    pub(super) fn settle(&mut self, address: Ipv4Addr) {
        self.0.remove(&address);
    }
}

impl Floor {
    /// Only the device that was given an address can say that it is taken: else anyone could empty the pool.
    pub(super) fn dhcp_declined(&self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> Decision {
        if self.addresses.mac_of(address) != Some(mac) {
            return Decision::noted(Vec::new());
        }
        let mut facts = vec![set_aside(address, now)];
        if self.addresses.reserved_for(address).is_some() {
            facts.extend(self.contested(address, mac, None));
        }
        Decision::noted(facts)
    }

    /// Somebody says that an address is theirs. A free one is not given out for a while.
    pub(super) fn address_in_use(&self, address: Ipv4Addr, by: Mac, now: Timestamp) -> Decision {
        Decision::noted(match self.addresses.claim(address, by, now) {
            Claim::Fair => Vec::new(),
            Claim::OnFree => vec![set_aside(address, now)],
            Claim::OnTenant(tenant) => self.contested(address, tenant, Some(by)),
        })
    }

    fn contested(&self, address: Ipv4Addr, tenant: Mac, by: Option<Mac>) -> Vec<Fact> {
        let given = if self.addresses.reserved_for(address).is_some() { "reserved for" } else { "leased to" };
        let who = by.map_or_else(|| "another machine".to_owned(), |by| by.to_string());
        let detail = format!(
            "{who} answers for {address}, which is {given} {tenant}: with one address neither of them boots reliably. \
             Find {who}, and give it an address outside of network.dhcp.range and its reservations, or none"
        );
        let mut facts = vec![Note::Contested { address, by }.into()];
        facts.extend(self.alarm(CONFLICT, &detail));
        facts
    }

    pub(super) fn pool_exhausted(&self) -> Vec<Fact> {
        self.alarm(
            EXHAUSTED,
            "every address of network.dhcp.range is in use; widen the range or shorten network.dhcp.lease",
        )
    }

    /// What is over by now, looked at once a second.
    pub(super) fn addresses_settled(&self, now: Timestamp) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut open = self.contests.0.len();
        for (address, contest) in &self.contests.0 {
            let is_calm = now.since(contest.heard) >= CALM;
            let reserved = self.addresses.reserved_for(*address);
            let tenant = reserved.or_else(|| self.addresses.tenant(*address, now));
            if tenant.is_some() && tenant != contest.by && !is_calm {
                continue;
            }
            open -= 1;
            facts.push(Note::Settled { address: *address }.into());
            if tenant.is_none() && !is_calm {
                // The lease is over, and somebody else is there.
                facts.push(set_aside(*address, now));
            }
        }
        let cleared = |code: &str| Event::AlarmCleared { code: code.to_owned() };
        if open == 0 && self.alarms.contains_key(CONFLICT) {
            facts.push(cleared(CONFLICT).into());
        }
        if self.alarms.contains_key(EXHAUSTED) && self.addresses.has_room(now) {
            facts.push(cleared(EXHAUSTED).into());
        }
        facts
    }
}

fn set_aside(address: Ipv4Addr, now: Timestamp) -> Fact {
    Note::Quarantined { address, until: AddressBook::quarantine_until(now) }.into()
}
