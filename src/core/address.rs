//! The address book: which device has which address, kept beyond the lease so that a device finds its own again.
//!
//! Every question is answered by a few looks into ordered sets: a pool that is nearly used up is as fast as an empty one.

mod taken;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::address::taken::Taken;
use crate::core::device::Mac;
use crate::core::time::Timestamp;

/// How long an address stays unused after somebody else was found on it.
const QUARANTINE: Duration = Duration::from_secs(3600);

/// What the configuration says of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The station's own address; never given away.
    pub server: Ipv4Addr,
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
    pub lease: Duration,
    pub reservations: BTreeMap<Mac, Ipv4Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub mac: Mac,
    pub until: Timestamp,
}

/// What it means that somebody says an address is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is, or the address is none of ours to give, or it is known already.
    Fair,
    /// Nobody was given it, or nobody has it any more.
    OnFree,
    /// It was given or is reserved to this one.
    OnTenant(Mac),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBook {
    pool: Pool,
    /// Who has a reservation, by address.
    reserved: HashMap<Ipv4Addr, Mac>,
    by_mac: HashMap<Mac, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, Entry>,
    /// Of the leases that could go to another device, the one that ends first comes first.
    by_end: BTreeSet<(Timestamp, Ipv4Addr)>,
    quarantine: HashMap<Ipv4Addr, Timestamp>,
    by_release: BTreeSet<(Timestamp, Ipv4Addr)>,
    /// Of the pool: leased now or once, set aside, reserved, and the station's own.
    taken: Taken,
}

impl AddressBook {
    pub fn new(pool: Pool) -> Self {
        let reserved: HashMap<Ipv4Addr, Mac> =
            pool.reservations.iter().map(|(mac, address)| (*address, *mac)).collect();
        let mut taken = Taken::default();
        for address in reserved.keys().chain([&pool.server]) {
            taken.take(*address);
        }
        Self {
            pool,
            reserved,
            by_mac: HashMap::new(),
            by_address: BTreeMap::new(),
            by_end: BTreeSet::new(),
            quarantine: HashMap::new(),
            by_release: BTreeSet::new(),
            taken,
        }
    }

    pub const fn lease_time(&self) -> Duration {
        self.pool.lease
    }

    pub fn mac_of(&self, address: Ipv4Addr) -> Option<Mac> {
        self.by_address.get(&address).map(|entry| entry.mac)
    }

    pub fn address_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.by_mac.get(&mac).copied()
    }

    pub fn leases(&self) -> impl Iterator<Item = (Ipv4Addr, Mac)> {
        self.by_address.iter().map(|(address, entry)| (*address, entry.mac))
    }

    /// The address that this device has or would get: its reservation, the one it had, a fresh one, one whose lease
    /// ran out longest ago. Nothing when the pool is used up.
    pub fn choose(&self, mac: Mac, now: Timestamp) -> Option<Ipv4Addr> {
        if let Some(reserved) = self.pool.reservations.get(&mac) {
            return Some(*reserved);
        }
        self.address_of(mac).filter(|address| self.may_have(mac, *address, now)).or_else(|| self.newcomers(mac, now))
    }

    /// True if a device that was never here could have an address.
    pub fn has_room(&self, now: Timestamp) -> bool {
        self.newcomers(Mac::new([0; 6]), now).is_some()
    }

    fn newcomers(&self, mac: Mac, now: Timestamp) -> Option<Ipv4Addr> {
        self.fresh(mac, now).or_else(|| self.lapsed(now))
    }

    /// True if the address lies in the pool and belongs to nobody else.
    pub fn may_have(&self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> bool {
        match self.pool.reservations.get(&mac) {
            Some(reserved) => *reserved == address,
            None => {
                self.is_for_all(address)
                    && self.quarantine.get(&address).is_none_or(|until| *until <= now)
                    && self.tenant(address, now).is_none_or(|tenant| tenant == mac)
            }
        }
    }

    /// Who has the address by a lease that is not over.
    pub fn tenant(&self, address: Ipv4Addr, now: Timestamp) -> Option<Mac> {
        self.by_address.get(&address).filter(|entry| entry.until > now).map(|entry| entry.mac)
    }

    /// The device that alone may have the address.
    pub fn reserved_for(&self, address: Ipv4Addr) -> Option<Mac> {
        self.reserved.get(&address).copied()
    }

    /// True while the lease has more than half of its time left: no need to write it down again.
    pub fn is_fresh(&self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> bool {
        self.by_address
            .get(&address)
            .is_some_and(|entry| entry.mac == mac && entry.until > now.plus(self.pool.lease / 2))
    }

    pub fn lease(&mut self, mac: Mac, address: Ipv4Addr, until: Timestamp) {
        if let Some(previous) = self.by_mac.get(&mac).copied().filter(|previous| *previous != address) {
            self.forget(previous);
        }
        self.forget(address);
        self.take_back(address);
        self.by_mac.insert(mac, address);
        self.by_address.insert(address, Entry { mac, until });
        if self.is_for_all(address) {
            self.by_end.insert((until, address));
            self.taken.take(address);
        }
    }

    /// The client gives it back. The book keeps who had it.
    pub fn release(&mut self, mac: Mac, address: Ipv4Addr, at: Timestamp) {
        if self.mac_of(address) == Some(mac) {
            self.lease(mac, address, at);
        }
    }

    pub fn quarantine_until(now: Timestamp) -> Timestamp {
        now.plus(QUARANTINE)
    }

    pub fn set_aside(&mut self, address: Ipv4Addr, until: Timestamp) {
        self.forget(address);
        self.take_back(address);
        self.quarantine.insert(address, until);
        if self.is_for_all(address) {
            self.by_release.insert((until, address));
            self.taken.take(address);
        }
    }

    /// Drops what was set aside until now: it is free like any other.
    pub fn forget_quarantine(&mut self, now: Timestamp) {
        while let Some((_, address)) = self.by_release.first().copied().filter(|(until, _)| *until <= now) {
            self.take_back(address);
        }
    }

    /// What is set aside already is not said again before half of that time is over.
    pub fn claim(&self, address: Ipv4Addr, by: Mac, now: Timestamp) -> Claim {
        let holder =
            self.reserved_for(address).or_else(|| self.tenant(address, now).filter(|_| self.is_for_all(address)));
        let is_known = self.quarantine.get(&address).is_some_and(|until| *until > now.plus(QUARANTINE / 2));
        match holder {
            Some(holder) if holder != by => Claim::OnTenant(holder),
            None if self.is_for_all(address) && self.mac_of(address) != Some(by) && !is_known => Claim::OnFree,
            _ => Claim::Fair,
        }
    }

    /// In the pool, and neither the station's own nor reserved.
    fn is_for_all(&self, address: Ipv4Addr) -> bool {
        (self.pool.first..=self.pool.last).contains(&address)
            && address != self.pool.server
            && !self.reserved.contains_key(&address)
    }

    fn forget(&mut self, address: Ipv4Addr) {
        if let Some(entry) = self.by_address.remove(&address) {
            self.by_mac.remove(&entry.mac);
            self.by_end.remove(&(entry.until, address));
            self.free(address);
        }
    }

    fn take_back(&mut self, address: Ipv4Addr) {
        if let Some(until) = self.quarantine.remove(&address) {
            self.by_release.remove(&(until, address));
            self.free(address);
        }
    }

    fn free(&mut self, address: Ipv4Addr) {
        if self.is_for_all(address) {
            self.taken.give_back(address);
        }
    }

    /// The first address never used, from a place that the MAC decides: a lost database gives the same answers.
    fn fresh(&self, mac: Mac, now: Timestamp) -> Option<Ipv4Addr> {
        let (first, last) = (u32::from(self.pool.first), u32::from(self.pool.last));
        let size = u64::from(last.checked_sub(first)?) + 1;
        let start = Ipv4Addr::from(first + u32::try_from(hash(mac) % size).ok()?);
        let in_pool = |address: &Ipv4Addr| *address <= self.pool.last;
        let free = self.taken.next_free(start).filter(in_pool);
        let free = free.or_else(|| self.taken.next_free(self.pool.first).filter(in_pool));
        // What was set aside and is over: few, because each tick takes them back.
        let over = self.by_release.range(..=(now, Ipv4Addr::BROADCAST)).map(|(_, address)| *address);
        let from_start =
            |address: &Ipv4Addr| (u64::from(u32::from(*address)) + size - u64::from(u32::from(start))) % size;
        free.into_iter().chain(over).min_by_key(from_start)
    }

    fn lapsed(&self, now: Timestamp) -> Option<Ipv4Addr> {
        self.by_end.first().filter(|(until, _)| *until <= now).map(|(_, address)| *address)
    }
}

/// FNV-1a: the same on every machine and version, unlike the standard library's hasher.
fn hash(mac: Mac) -> u64 {
    mac.bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
