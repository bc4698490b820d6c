//! The book against a simple one that looks at every address, and its cost when the pool is full.

use proptest::prelude::*;

use super::*;
use crate::core::address::taken::looks;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const LEASE: Duration = Duration::from_secs(60);

const fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

fn pool(size: u8, reservations: &[(u8, u8)]) -> Pool {
    let reservations = reservations.iter().map(|(n, at)| (mac(*n), host(*at))).collect();
    Pool { server: host(1), first: host(1), last: host(size), lease: LEASE, reservations }
}

fn book(size: u8) -> AddressBook {
    AddressBook::new(pool(size, &[]))
}

fn mac(n: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, n])
}

fn take(book: &mut AddressBook, n: u8, now: Timestamp) -> Option<Ipv4Addr> {
    let address = book.choose(mac(n), now)?;
    book.lease(mac(n), address, now.plus(LEASE));
    Some(address)
}

#[test]
fn every_device_gets_its_own_until_the_pool_is_used_up() {
    let mut book = book(5);
    let given: BTreeSet<_> = (1..=4).filter_map(|n| take(&mut book, n, NOW)).collect();
    assert_eq!(given.len(), 4);
    assert!(!given.contains(&host(1)), "the station's own address");
    assert_eq!((take(&mut book, 9, NOW), book.has_room(NOW)), (None, false));
    assert!(book.has_room(NOW.plus(LEASE)), "a lease is over");
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
fn a_claim_is_on_a_tenant_while_the_lease_lasts_and_on_a_free_address_after_it() {
    let mut book = book(200);
    let address = take(&mut book, 1, NOW).unwrap();
    assert_eq!(book.claim(address, mac(1), NOW), Claim::Fair, "its own device");
    assert_eq!(book.claim(host(1), mac(2), NOW), Claim::Fair, "the station's own");
    assert_eq!(book.claim(Ipv4Addr::new(10, 0, 1, 1), mac(2), NOW), Claim::Fair, "outside of the pool");
    assert_eq!(book.claim(address, mac(2), NOW), Claim::OnTenant(mac(1)));
    let over = NOW.plus(LEASE);
    assert_eq!(book.claim(address, mac(1), over), Claim::Fair, "it had it last");
    assert_eq!(book.claim(address, mac(2), over), Claim::OnFree);
    book.set_aside(address, AddressBook::quarantine_until(over));
    assert_eq!(book.claim(address, mac(2), over), Claim::Fair, "known already");
    assert_eq!(book.claim(address, mac(2), over.plus(QUARANTINE / 2)), Claim::OnFree);
    assert_ne!(book.choose(mac(1), over), Some(address));
}

#[test]
fn a_reservation_is_kept_for_its_device() {
    let mut book = AddressBook::new(pool(5, &[(7, 3)]));
    for n in 1..=3 {
        assert_ne!(take(&mut book, n, NOW), Some(host(3)));
    }
    assert_eq!(book.choose(mac(7), NOW), Some(host(3)));
    assert_eq!(book.claim(host(3), mac(2), NOW), Claim::OnTenant(mac(7)), "leased or not");
    assert_eq!(book.claim(host(3), mac(7), NOW), Claim::Fair);
}

#[test]
fn a_full_pool_of_65000_answers_with_a_handful_of_looks() {
    let wide = |n: u32| {
        let [_, b, c, d] = n.to_be_bytes();
        Mac::new([6, 0, 0, b, c, d])
    };
    let (first, last) = (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 255, 254));
    let reservations = (0..100u8).map(|n| (mac(n), Ipv4Addr::new(10, 1, n, 77))).collect();
    let mut book = AddressBook::new(Pool { server: first, first, last, lease: LEASE, reservations });
    let free = u32::from(last) - u32::from(first) - 100;
    let mut most = 0;
    for n in 0..free {
        let (address, looks) = looks::during(|| book.choose(wide(n), NOW).unwrap());
        most = most.max(looks);
        book.lease(wide(n), address, NOW.plus(LEASE));
    }
    let (none, looks) = looks::during(|| book.choose(Mac::new([4; 6]), NOW));
    assert_eq!((none, most.max(looks)), (None, 2), "two looks whatever is left");
    let (lapsed, looks) = looks::during(|| book.choose(Mac::new([4; 6]), NOW.plus(LEASE)));
    assert!(lapsed.is_some() && looks == 2);
}

/// The book as one would write it first: it looks at every address.
struct Simple {
    pool: Pool,
    by_address: BTreeMap<Ipv4Addr, Entry>,
    quarantine: BTreeMap<Ipv4Addr, Timestamp>,
}

impl Simple {
    fn address_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.by_address.iter().find(|(_, entry)| entry.mac == mac).map(|(address, _)| *address)
    }

    fn choose(&self, mac: Mac, now: Timestamp) -> Option<Ipv4Addr> {
        if let Some(reserved) = self.pool.reservations.get(&mac) {
            return Some(*reserved);
        }
        let (first, last) = (u32::from(self.pool.first), u32::from(self.pool.last));
        let size = last - first + 1;
        let start = u32::try_from(hash(mac) % u64::from(size)).unwrap();
        let mut round = (0..size).map(|step| Ipv4Addr::from(first + (start + step) % size));
        let lapsed = || {
            let over =
                |(address, entry): &(&Ipv4Addr, &Entry)| entry.until <= now && self.is_ours_to_give(**address, now);
            self.by_address.iter().filter(over).min_by_key(|(_, entry)| entry.until).map(|(address, _)| *address)
        };
        self.address_of(mac)
            .filter(|address| self.may_have(mac, *address, now))
            .or_else(|| round.find(|at| !self.by_address.contains_key(at) && self.is_ours_to_give(*at, now)))
            .or_else(lapsed)
    }

    fn may_have(&self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> bool {
        let theirs = self.by_address.get(&address).is_some_and(|entry| entry.mac != mac && entry.until > now);
        match self.pool.reservations.get(&mac) {
            Some(reserved) => *reserved == address,
            None => self.is_ours_to_give(address, now) && !theirs,
        }
    }

    fn is_ours_to_give(&self, address: Ipv4Addr, now: Timestamp) -> bool {
        (self.pool.first..=self.pool.last).contains(&address)
            && address != self.pool.server
            && self.quarantine.get(&address).is_none_or(|until| *until <= now)
            && !self.pool.reservations.values().any(|reserved| *reserved == address)
    }

    fn lease(&mut self, mac: Mac, address: Ipv4Addr, until: Timestamp) {
        self.by_address.retain(|_, entry| entry.mac != mac);
        self.by_address.insert(address, Entry { mac, until });
        self.quarantine.remove(&address);
    }

    fn set_aside(&mut self, address: Ipv4Addr, until: Timestamp) {
        self.by_address.remove(&address);
        self.quarantine.insert(address, until);
    }
}

proptest! {
    #[test]
    fn the_book_says_the_same_as_the_simple_one(
        size in 2u8..12,
        steps in prop::collection::vec((0u8..7, 0u8..14, 0u8..16, 0u64..90), 0..120),
    ) {
        let pool = pool(size, &[(3, 4), (5, 9)]);
        let mut simple = Simple { pool: pool.clone(), by_address: BTreeMap::new(), quarantine: BTreeMap::new() };
        let (mut book, mut now) = (AddressBook::new(pool), NOW);
        for (deed, n, at, seconds) in steps {
            let (client, address, until) = (mac(n), host(at), now.plus(Duration::from_secs(seconds)));
            match deed {
                0 | 1 => if let Some(address) = book.choose(client, now) {
                    simple.lease(client, address, until);
                    book.lease(client, address, until);
                },
                // Another server's choice, or that of a configuration before this one.
                2 => {
                    simple.lease(client, address, until);
                    book.lease(client, address, until);
                }
                3 => {
                    if let Some(entry) = simple.by_address.get_mut(&address).filter(|entry| entry.mac == client) {
                        entry.until = now;
                    }
                    book.release(client, address, now);
                }
                4 => {
                    simple.set_aside(address, until);
                    book.set_aside(address, until);
                }
                5 => book.forget_quarantine(now),
                _ => now = until,
            }
            for n in 0..14 {
                let who = mac(n);
                prop_assert_eq!(book.choose(who, now), simple.choose(who, now));
                prop_assert_eq!(book.address_of(who), simple.address_of(who));
                for at in 0..16 {
                    prop_assert_eq!(book.may_have(who, host(at), now), simple.may_have(who, host(at), now));
                }
            }
            prop_assert_eq!(book.has_room(now), simple.choose(Mac::new([0; 6]), now).is_some());
        }
    }
}
