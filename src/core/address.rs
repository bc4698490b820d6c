//! The address book: which device has which address, kept beyond the lease so that a device finds its own again.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::device::Mac;
use crate::core::time::Timestamp;

/// How long an address stays unused after a client found somebody else on it.
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBook {
    pool: Pool,
    by_mac: HashMap<Mac, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, Entry>,
    quarantine: BTreeMap<Ipv4Addr, Timestamp>,
}

impl AddressBook {
    pub fn new(pool: Pool) -> Self {
        Self { pool, by_mac: HashMap::new(), by_address: BTreeMap::new(), quarantine: BTreeMap::new() }
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
        self.address_of(mac)
            .filter(|address| self.may_have(mac, *address, now))
            .or_else(|| self.fresh(mac, now))
            .or_else(|| self.lapsed(now))
    }

    /// True if the address lies in the pool and belongs to nobody else.
    pub fn may_have(&self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> bool {
        let theirs = self.by_address.get(&address).is_some_and(|entry| entry.mac != mac && entry.until > now);
        match self.pool.reservations.get(&mac) {
            Some(reserved) => *reserved == address,
            None => self.is_ours_to_give(address, now) && !theirs,
        }
    }

    /// True while the lease has more than half of its time left: no need to write it down again.
    pub fn is_fresh(&self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> bool {
        self.by_address
            .get(&address)
            .is_some_and(|entry| entry.mac == mac && entry.until > now.plus(self.pool.lease / 2))
    }

    pub fn lease(&mut self, mac: Mac, address: Ipv4Addr, until: Timestamp) {
        if let Some(previous) = self.by_mac.insert(mac, address).filter(|previous| *previous != address) {
            self.by_address.remove(&previous);
        }
        if let Some(evicted) =
            self.by_address.insert(address, Entry { mac, until }).filter(|evicted| evicted.mac != mac)
        {
            self.by_mac.remove(&evicted.mac);
        }
        self.quarantine.remove(&address);
    }

    /// The client gives it back. The book keeps who had it.
    pub fn release(&mut self, mac: Mac, address: Ipv4Addr, at: Timestamp) {
        if let Some(entry) = self.by_address.get_mut(&address).filter(|entry| entry.mac == mac) {
            entry.until = at;
        }
    }

    pub fn quarantine_until(now: Timestamp) -> Timestamp {
        now.plus(QUARANTINE)
    }

    pub fn set_aside(&mut self, address: Ipv4Addr, until: Timestamp) {
        if let Some(entry) = self.by_address.remove(&address) {
            self.by_mac.remove(&entry.mac);
        }
        self.quarantine.insert(address, until);
    }

    /// True if an address that we give out is held by somebody to whom it was not given. What is set aside already
    /// is not said again before half of that time is over.
    pub fn is_taken_by(&self, address: Ipv4Addr, by: Mac, now: Timestamp) -> bool {
        (self.pool.first..=self.pool.last).contains(&address)
            && address != self.pool.server
            && self.mac_of(address) != Some(by)
            && !self.pool.reservations.values().any(|reserved| *reserved == address)
            && self.quarantine.get(&address).is_none_or(|until| *until <= now.plus(QUARANTINE / 2))
    }

    fn is_ours_to_give(&self, address: Ipv4Addr, now: Timestamp) -> bool {
        (self.pool.first..=self.pool.last).contains(&address)
            && address != self.pool.server
            && self.quarantine.get(&address).is_none_or(|until| *until <= now)
            && !self.pool.reservations.values().any(|reserved| *reserved == address)
    }

    /// The first address never used, from a place that the MAC decides: a lost database gives the same answers.
    fn fresh(&self, mac: Mac, now: Timestamp) -> Option<Ipv4Addr> {
        let (first, last) = (u32::from(self.pool.first), u32::from(self.pool.last));
        let size = u64::from(last.checked_sub(first)?) + 1;
        let start = hash(mac) % size;
        (0..size)
            .filter_map(|step| u32::try_from((start + step) % size).ok())
            .map(|offset| Ipv4Addr::from(first + offset))
            .find(|address| !self.by_address.contains_key(address) && self.is_ours_to_give(*address, now))
    }

    fn lapsed(&self, now: Timestamp) -> Option<Ipv4Addr> {
        self.by_address
            .iter()
            .filter(|(address, entry)| entry.until <= now && self.is_ours_to_give(**address, now))
            .min_by_key(|(_, entry)| entry.until)
            .map(|(address, _)| *address)
    }
}

/// FNV-1a: the same on every machine and version, unlike the standard library's hasher.
fn hash(mac: Mac) -> u64 {
    mac.bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn book(size: u8) -> AddressBook {
        AddressBook::new(Pool {
            server: Ipv4Addr::new(10, 0, 0, 1),
            first: Ipv4Addr::new(10, 0, 0, 1),
            last: Ipv4Addr::new(10, 0, 0, size),
            lease: Duration::from_secs(60),
            reservations: BTreeMap::new(),
        })
    }

    fn mac(n: u8) -> Mac {
        Mac::new([2, 0, 0, 0, 0, n])
    }

    fn take(book: &mut AddressBook, n: u8, now: Timestamp) -> Option<Ipv4Addr> {
        let address = book.choose(mac(n), now)?;
        book.lease(mac(n), address, now.plus(Duration::from_secs(60)));
        Some(address)
    }

    #[test]
    fn every_device_gets_its_own_until_the_pool_is_used_up() {
        let mut book = book(5);
        let given: std::collections::BTreeSet<_> = (1..=4).filter_map(|n| take(&mut book, n, NOW)).collect();
        assert_eq!(given.len(), 4);
        assert!(!given.contains(&Ipv4Addr::new(10, 0, 0, 1)), "the station's own address");
        assert_eq!(take(&mut book, 9, NOW), None);
    }

    #[test]
    fn a_device_finds_its_address_again_even_after_the_lease() {
        let mut book = book(200);
        let first = take(&mut book, 1, NOW);
        assert_eq!(book.choose(mac(1), NOW.plus(Duration::from_secs(86_400))), first);
    }

    #[test]
    fn an_address_whose_lease_ran_out_goes_to_another_when_there_is_no_fresh_one() {
        let mut book = book(3);
        let (one, _) = (take(&mut book, 1, NOW), take(&mut book, 2, NOW.plus(Duration::from_secs(5))));
        let later = NOW.plus(Duration::from_secs(61));
        assert_eq!(take(&mut book, 3, later), one);
        assert_eq!(book.address_of(mac(1)), None);
    }

    #[test]
    fn a_declined_address_is_left_alone_for_a_while() {
        let mut book = book(200);
        let address = take(&mut book, 1, NOW).unwrap();
        book.set_aside(address, AddressBook::quarantine_until(NOW));
        assert_ne!(book.choose(mac(1), NOW), Some(address));
        assert_eq!(book.choose(mac(1), NOW.plus(QUARANTINE)), Some(address));
    }

    #[test]
    fn an_address_is_taken_by_whom_it_was_not_given_to() {
        let mut book = book(200);
        let address = take(&mut book, 1, NOW).unwrap();
        assert!(!book.is_taken_by(address, mac(1), NOW), "its own device");
        assert!(!book.is_taken_by(Ipv4Addr::new(10, 0, 0, 1), mac(2), NOW), "the station's own");
        assert!(!book.is_taken_by(Ipv4Addr::new(10, 0, 1, 1), mac(2), NOW), "outside of the pool");
        assert!(book.is_taken_by(address, mac(2), NOW));
        book.set_aside(address, AddressBook::quarantine_until(NOW));
        assert!(!book.is_taken_by(address, mac(2), NOW), "known already");
        assert!(book.is_taken_by(address, mac(2), NOW.plus(QUARANTINE / 2)));
        assert_ne!(book.choose(mac(1), NOW), Some(address));
    }

    #[test]
    fn a_reservation_is_kept_for_its_device() {
        let mut book = book(5);
        book.pool.reservations.insert(mac(7), Ipv4Addr::new(10, 0, 0, 3));
        for n in 1..=3 {
            assert_ne!(take(&mut book, n, NOW), Some(Ipv4Addr::new(10, 0, 0, 3)));
        }
        assert_eq!(book.choose(mac(7), NOW), Some(Ipv4Addr::new(10, 0, 0, 3)));
    }
}
