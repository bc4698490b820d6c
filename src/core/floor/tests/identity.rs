//! Devices that are not who they were: told by an alarm, which ends with the last of them.

use super::*;

const SERIAL: &str = "identity.serial";
const ADDRESS: &str = "identity.address";

impl World {
    /// Device `n` asks for its script with this serial, from this address; the code of the refusal, if it is one.
    fn shows(&mut self, n: u8, serial: u64, address: Ipv4Addr) -> String {
        self.ids += 1;
        let ask = ScriptAsk {
            serial: Serial(serial),
            mac: Some(mac(n)),
            address,
            facts: Facts { storage_sectors: Some(1000), ..Facts::default() },
            fresh_session: SessionId(Uuid::from_u128(self.ids)),
            fresh_token: token(),
        };
        match self.tell(Observation::ScriptAsked(Box::new(ask))).unwrap() {
            Answer::Refused(refusal) => refusal.code,
            _ => String::new(),
        }
    }

    /// What was told of this alarm a second later, since the last time that this was asked.
    fn told_of(&mut self, wanted: &str) -> Vec<&'static str> {
        self.pass(1);
        let log = std::mem::take(&mut self.log);
        let told = |(_, event): (Timestamp, Event)| match event {
            Event::AlarmRaised { code, .. } if code == wanted => Some("raised"),
            Event::AlarmCleared { code } if code == wanted => Some("cleared"),
            _ => None,
        };
        log.into_iter().filter_map(told).collect()
    }

    fn boots(&mut self, n: u8, serial8: u32) {
        let identity = BootIdentity { family: Family::Pi4, revision: None, serial8: Some(Serial8(serial8)) };
        self.dhcp(n, DhcpKind::Discover, Some(identity), None);
    }
}

#[test]
fn an_exchanged_module_is_an_alarm_until_the_one_that_is_known_is_back() {
    let mut world = World::ready();
    world.provision(1);
    world.provision(2);
    assert_eq!(world.shows(1, 99, Ipv4Addr::LOCALHOST), "identity_conflict");
    assert_eq!(world.shows(2, 98, Ipv4Addr::LOCALHOST), "identity_conflict");
    assert_eq!(world.told_of(SERIAL), ["raised"], "once for both");
    assert_eq!(world.shows(1, 1, Ipv4Addr::LOCALHOST), "already_provisioned");
    assert!(world.told_of(SERIAL).is_empty(), "the other one is still there");
    world.boots(2, 98);
    assert!(world.told_of(SERIAL).is_empty(), "it says the same as before");
    world.boots(2, 2);
    assert_eq!(world.told_of(SERIAL), ["cleared"], "its bootloader shows the serial that is known");
}

#[test]
fn a_serial_that_has_moved_is_told_until_it_shows_there_in_another_boot() {
    let mut world = World::ready();
    world.provision(1);
    assert_eq!(world.shows(2, 1, Ipv4Addr::LOCALHOST), "", "it is told and written");
    assert_eq!(world.told_of(SERIAL), ["raised"]);
    assert_eq!(world.shows(2, 1, Ipv4Addr::LOCALHOST), "");
    assert!(world.told_of(SERIAL).is_empty(), "the same attempt, asked for twice, proves nothing");
    world.boots(2, 1);
    assert_eq!(world.told_of(SERIAL), ["cleared"]);
}

#[test]
fn a_device_at_the_address_of_another_is_an_alarm_until_it_calls_from_its_own() {
    let mut world = World::ready();
    let DhcpVerdict::Lease(theirs) = world.discover(2) else { panic!("no offer") };
    assert_eq!(world.shows(3, 3, theirs.address), "identity_conflict");
    assert_eq!(world.told_of(ADDRESS), ["raised"]);
    let DhcpVerdict::Lease(own) = world.discover(3) else { panic!("no offer") };
    assert!(world.told_of(ADDRESS).is_empty());
    assert_eq!(world.shows(3, 3, own.address), "");
    assert_eq!(world.told_of(ADDRESS), ["cleared"]);
}

#[test]
fn whoever_has_looked_at_a_device_ends_the_alarm_about_it() {
    let mut world = World::ready();
    world.provision(1);
    assert_eq!(world.shows(1, 99, Ipv4Addr::LOCALHOST), "identity_conflict");
    assert_eq!(world.told_of(SERIAL), ["raised"]);
    world.order("device.authorize", r#"{"device":"020000000001"}"#).unwrap();
    assert_eq!(world.told_of(SERIAL), ["cleared"]);
    assert_eq!(world.shows(1, 99, Ipv4Addr::LOCALHOST), "", "it is written now");
    assert_eq!(world.told_of(SERIAL), ["raised"], "and nothing is merged silently");
    world.boots(1, 99);
    assert_eq!(world.told_of(SERIAL), ["cleared"], "under this serial it is known from now on");
}
