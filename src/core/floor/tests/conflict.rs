//! Two with one address, and a pool that is used up: raised once, and over when it is over.

use super::*;

const CONFLICT: &str = "dhcp.address_conflict";
const EXHAUSTED: &str = "dhcp.pool_exhausted";

impl World {
    fn leased(&mut self, n: u8) -> Ipv4Addr {
        let verdict = self.discover(n);
        let DhcpVerdict::Lease(lease) = verdict else { panic!("{verdict:?}") };
        lease.address
    }

    fn claimed(&mut self, address: Ipv4Addr, by: Mac) {
        self.tell(Observation::AddressInUse { address, by }).unwrap();
    }

    /// Raised and cleared alarms since the last time that this was asked.
    fn alarms(&mut self) -> Vec<(bool, String)> {
        let log = std::mem::take(&mut self.log);
        let told = |(_, event)| match event {
            Event::AlarmRaised { code, .. } => Some((true, code)),
            Event::AlarmCleared { code } => Some((false, code)),
            _ => None,
        };
        log.into_iter().filter_map(told).collect()
    }
}

fn raised(code: &str) -> Vec<(bool, String)> {
    vec![(true, code.to_owned())]
}

fn cleared(code: &str) -> Vec<(bool, String)> {
    vec![(false, code.to_owned())]
}

#[test]
fn a_claim_does_not_move_a_device_in_the_middle_of_its_boot() {
    let mut world = World::ready();
    let address = world.leased(1);
    world.alarms();
    world.claimed(address, mac(99));
    world.claimed(address, mac(99));
    let (_, Event::AlarmRaised { detail, .. }) = &world.log[0] else { panic!("{:?}", world.log) };
    for part in [address.to_string(), mac(1).to_string(), mac(99).to_string()] {
        assert!(detail.contains(&part), "{detail}");
    }
    assert_eq!(world.alarms(), raised(CONFLICT));
    let identity = Some(BootIdentity { family: Family::Pi4, revision: None, serial8: None });
    let renewed = world.dhcp(1, DhcpKind::Request, identity, Some(address));
    assert!(matches!(renewed, DhcpVerdict::Lease(lease) if lease.address == address), "{renewed:?}");
    assert_eq!(world.leased(1), address);

    world.pass(899);
    assert_eq!(world.alarms(), []);
    world.claimed(address, mac(99));
    world.pass(899);
    assert_eq!(world.alarms(), [], "it is still there");
    world.pass(1);
    assert_eq!(world.alarms(), cleared(CONFLICT), "not heard for a quarter of an hour");
    assert_eq!(world.leased(1), address);
}

#[test]
fn when_the_lease_is_over_the_claimed_address_is_left_alone() {
    let mut world = World::ready();
    let address = world.leased(1);
    world.claimed(address, mac(99));
    world.alarms();
    world.tell(Observation::DhcpReleased { mac: mac(1), address }).unwrap();
    world.pass(1);
    assert_eq!(world.alarms(), cleared(CONFLICT));
    assert_ne!(world.leased(1), address);
}

#[test]
fn a_claim_of_the_tenant_itself_and_of_a_free_address_is_no_alarm() {
    let mut world = World::ready();
    let address = world.leased(1);
    world.alarms();
    world.claimed(address, mac(1));
    world.claimed(Ipv4Addr::new(10, 0, 0, 200), mac(99));
    let free = (2..=9).map(|n| Ipv4Addr::new(10, 0, 0, n)).find(|free| *free != address).unwrap();
    world.claimed(free, mac(99));
    assert_eq!(world.alarms(), []);
    let identity = Some(BootIdentity { family: Family::Pi4, revision: None, serial8: None });
    assert_eq!(world.dhcp(2, DhcpKind::Request, identity, Some(free)), DhcpVerdict::Silent, "a stranger");
    let given: Vec<Ipv4Addr> = (2..=7).map(|n| world.leased(n)).collect();
    assert!(!given.contains(&free), "{given:?}");
}

#[test]
fn somebody_on_a_reserved_address_is_told_and_the_reservation_stands() {
    let mut world = World::ready();
    let reserved = Ipv4Addr::new(10, 0, 0, 5);
    let mut settings = settings();
    settings.pool.reservations.insert(mac(1), reserved);
    let project = world.floor.projects.values().next().unwrap().clone();
    world.floor = Floor::new(settings);
    world.floor.learn_image(image());
    world.floor.learn_project(project);
    world.alarms();
    world.claimed(reserved, mac(1));
    assert_eq!(world.alarms(), []);
    world.claimed(reserved, mac(99));
    assert_eq!(world.alarms(), raised(CONFLICT));
    assert_eq!(world.leased(1), reserved);
    world.pass(900);
    assert_eq!(world.alarms(), cleared(CONFLICT));

    world.tell(Observation::DhcpDeclined { mac: mac(1), address: reserved }).unwrap();
    assert_eq!(world.alarms(), raised(CONFLICT), "its own device found somebody there");
    assert_eq!(world.leased(1), reserved);
}

#[test]
fn an_address_that_its_tenant_declines_goes_to_nobody() {
    let mut world = World::ready();
    let address = world.leased(1);
    world.alarms();
    world.tell(Observation::DhcpDeclined { mac: mac(2), address }).unwrap();
    assert_eq!(world.leased(1), address, "only the tenant can say so");
    world.tell(Observation::DhcpDeclined { mac: mac(1), address }).unwrap();
    let identity = Some(BootIdentity { family: Family::Pi4, revision: None, serial8: None });
    assert_eq!(world.dhcp(1, DhcpKind::Request, identity, Some(address)), DhcpVerdict::Nak);
    assert_ne!(world.leased(1), address);
    assert_eq!(world.alarms(), []);
}

#[test]
fn a_used_up_pool_raises_one_alarm_until_there_is_room() {
    let mut world = World::ready();
    let addresses: Vec<Ipv4Addr> = (1..=8).map(|n| world.leased(n)).collect();
    world.alarms();
    assert_eq!(world.discover(9), DhcpVerdict::Silent);
    assert_eq!(world.discover(10), DhcpVerdict::Silent);
    assert_eq!(world.alarms(), raised(EXHAUSTED));
    world.leased(1);
    world.pass(1);
    assert_eq!(world.alarms(), [], "who has an address keeps it, and there is still none for another");
    world.tell(Observation::DhcpReleased { mac: mac(3), address: addresses[2] }).unwrap();
    world.pass(1);
    assert_eq!(world.alarms(), cleared(EXHAUSTED));
    assert_eq!(world.leased(9), addresses[2]);
    assert_eq!(world.discover(10), DhcpVerdict::Silent);
    assert_eq!(world.alarms(), raised(EXHAUSTED));
    world.pass(3600);
    assert_eq!(world.alarms(), cleared(EXHAUSTED), "the leases are over");
}

/// Fault 9 of the predecessor: an offer that was not kept for whom it was made, a thousand leases at most, and an answer
/// to everyone. Its downloads are in `tests/it/legacy.rs`.
#[test]
fn two_thousand_neighbours_at_once_each_keep_what_they_were_offered_and_a_stranger_gets_nothing() {
    let mut settings = settings();
    (settings.pool.first, settings.pool.last) = (Ipv4Addr::new(10, 0, 1, 0), Ipv4Addr::new(10, 0, 16, 255));
    let mut world = World { floor: Floor::new(settings), ..World::new() };
    world.tell(Observation::ImageIngested(image())).unwrap();
    world.order("project.create", r#"{"name":"Gateway","image":"a.img","active":true}"#).unwrap();
    let asked = |mac: Mac, kind, identity, requested| {
        Observation::Dhcp(DhcpAsk { kind, mac, identity, circuit: None, requested, anyone: false, proxy: false })
    };
    let macs: Vec<Mac> =
        (0..2000_u16).map(|n| Mac::new([2, 0, 0, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect();
    let identity = Some(BootIdentity { family: Family::Pi4, revision: None, serial8: None });
    let mut offered = Vec::new();
    for mac in &macs {
        let answer = world.tell(asked(*mac, DhcpKind::Discover, identity, None)).unwrap();
        let Answer::Dhcp(DhcpVerdict::Lease(lease)) = answer else { panic!("{mac}: {answer:?}") };
        offered.push(lease.address);
    }
    assert_eq!(offered.iter().collect::<std::collections::BTreeSet<_>>().len(), macs.len(), "no address twice");
    for (mac, address) in macs.iter().zip(&offered) {
        let answer = world.tell(asked(*mac, DhcpKind::Request, identity, Some(*address))).unwrap();
        assert!(
            matches!(answer, Answer::Dhcp(DhcpVerdict::Lease(lease)) if lease.address == *address),
            "{mac} is refused {address}, which it was offered: {answer:?}"
        );
    }
    let stranger = world.tell(asked(Mac::new([2, 0, 0, 9, 9, 9]), DhcpKind::Discover, None, None)).unwrap();
    assert!(matches!(stranger, Answer::Dhcp(DhcpVerdict::Silent)), "{stranger:?}");
}
