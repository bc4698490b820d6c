//! The boot that leads to a session: its timeline, and the warnings that go on with the device.

use super::*;
use crate::core::floor::Note;
use crate::core::observation::{FileResult, FileServed};
use crate::core::timeline::What;

fn served(name: &str, result: FileResult, at: Timestamp) -> FileServed {
    FileServed { name: name.to_owned(), bytes: 1_000_000, result, at }
}

impl World {
    fn boot_file(&mut self, address: Ipv4Addr, name: &str, result: FileResult) {
        let files = vec![served(name, result, self.now)];
        self.tell(Observation::BootFiles { address, files }).unwrap();
    }

    /// What an input writes into timelines: its kind, its name and its result.
    fn moments(&self, observation: Observation) -> Vec<(What, String, String)> {
        let decision = self.floor.decide(&Input::Observed(observation), self.now).unwrap();
        let moments = decision.facts.into_iter().filter_map(|fact| match fact {
            Fact::Note(Note::Timeline { moments, .. }) => Some(moments),
            _ => None,
        });
        moments.flatten().map(|moment| (moment.what, moment.name, moment.result)).collect()
    }
}

#[test]
fn a_boot_file_that_was_cut_off_is_a_warning_of_the_session_until_the_next_boot() {
    let mut world = World::ready();
    let DhcpVerdict::Lease(lease) = world.discover(1) else { panic!("no offer") };
    for result in [FileResult::Probed, FileResult::Missing, FileResult::Sent, FileResult::Aborted, FileResult::Aborted]
    {
        world.boot_file(lease.address, "kernel8.img", result);
    }
    let session = world.script(1).unwrap();
    let warnings = ["boot file kernel8.img was cut off after 1000000 bytes".to_owned()];
    assert_eq!(world.floor.session(session).unwrap().warnings, warnings);
    let told = world.log.iter().find_map(|(_, event)| match event {
        Event::DeviceStarted { warnings, .. } => Some(warnings.clone()),
        _ => None,
    });
    assert_eq!(told.as_deref(), Some(&warnings[..]), "the event says it too");

    // Told a second after the end of the download, when the session may have begun.
    world.boot_file(lease.address, "late.dtb", FileResult::Aborted);
    assert_eq!(world.floor.session(session).unwrap().warnings.len(), 2);

    world.pass(61);
    world.discover(1);
    assert_eq!(world.floor.device(mac(1)).unwrap().boot_warnings, [""; 0]);
    assert_eq!(world.floor.session(session).unwrap().warnings.len(), 2, "what was, was");
}

#[test]
fn a_boot_leaves_its_packets_and_texts_and_a_stranger_leaves_nothing() {
    let mut world = World::ready();
    let identity = Some(BootIdentity { family: Family::Pi4, revision: None, serial8: None });
    let ask = DhcpAsk {
        kind: DhcpKind::Discover,
        mac: mac(1),
        identity,
        requested: None,
        anyone: true,
        circuit: None,
        proxy: false,
    };
    let stranger = DhcpAsk { mac: mac(9), identity: None, ..ask.clone() };
    let first = world.moments(Observation::Dhcp(ask.clone()));
    let kinds: Vec<(What, &str)> = first.iter().map(|(what, name, _)| (*what, name.as_str())).collect();
    assert_eq!(kinds, [(What::Boot, "dhcp"), (What::Dhcp, "discover")]);
    assert!(first[1].2.starts_with("offer 10.0.0."), "{first:?}");
    assert!(matches!(world.discover(1), DhcpVerdict::Lease(_)));
    assert_eq!(world.moments(Observation::Dhcp(ask)).len(), 1, "the same boot");

    let elsewhere = Ipv4Addr::new(10, 9, 9, 9);
    let files = vec![served("a", FileResult::Aborted, world.now)];
    for input in [Observation::Dhcp(stranger), Observation::BootFiles { address: elsewhere, files }] {
        assert_eq!(world.moments(input), []);
    }
}

#[test]
fn a_config_txt_that_old_firmware_ignores_is_a_warning() {
    let mut world = World::ready();
    let DhcpVerdict::Lease(lease) = world.discover(1) else { panic!("no offer") };
    for (name, bytes, result) in [
        ("c0ffee12/config.txt", 4095, FileResult::Sent),
        ("c0ffee12/config.txt", 4096, FileResult::Missing),
        ("start4.elf", 2_000_000, FileResult::Sent),
        ("c0ffee12/config.txt", 4096, FileResult::Sent),
    ] {
        let files = vec![FileServed { bytes, ..served(name, result, world.now) }];
        world.tell(Observation::BootFiles { address: lease.address, files }).unwrap();
    }
    let warnings = &world.floor.device(mac(1)).unwrap().boot_warnings;
    assert_eq!(*warnings, ["c0ffee12/config.txt has 4096 bytes; firmware may ignore it from 4096 on"]);
}

#[test]
fn the_lines_of_a_project_are_set_changed_and_taken_away_by_command() {
    let mut world = World::ready();
    let lines = |world: &World| world.floor.boot_project(mac(1)).unwrap().config_txt;
    let update = |world: &mut World, boot: &str| {
        world.order("project.update", &format!(r#"{{"project":"gateway","boot":{boot}}}"#)).map(drop)
    };
    assert_eq!(lines(&world), None);
    update(&mut world, r#"{"config_txt":"dtoverlay=dwc2\n"}"#).unwrap();
    assert_eq!(lines(&world).as_deref(), Some("dtoverlay=dwc2\n"));
    world.order("project.update", r#"{"project":"gateway","name":"Other"}"#).unwrap();
    assert_eq!(lines(&world).as_deref(), Some("dtoverlay=dwc2\n"), "what is not named stays");
    update(&mut world, r#"{"config_txt":""}"#).unwrap();
    assert_eq!(lines(&world), None);
    let long = format!(r#"{{"config_txt":"{}"}}"#, "x".repeat(1025));
    for (boot, pointer) in [
        (r#"{"config_txt":"a\r\n"}"#, "/params/boot/config_txt"),
        (&long, "/params/boot/config_txt"),
        (r#"{"config_txt":7}"#, "/params/boot/config_txt"),
        (r#"{"cmdline_txt":"quiet"}"#, "/params/boot/cmdline_txt"),
        (r#"{"config_txt":"ok","x":1}"#, "/params/boot/x"),
        (r#""dtoverlay=dwc2""#, "/params/boot"),
    ] {
        let refusal = update(&mut world, boot).unwrap_err();
        assert_eq!(refusal.errors[0].pointer, pointer, "{boot} {refusal}");
    }
}

#[test]
fn a_device_that_would_get_no_project_boots_without_one() {
    let mut world = World::ready();
    world.provision(1);
    assert_eq!(world.floor.boot_project(mac(1)), None);
    world.order("device.authorize", r#"{"device":"020000000001"}"#).unwrap();
    assert_eq!(world.floor.boot_project(mac(1)).unwrap().id.as_str(), "gateway");
    world.order("project.deactivate", r#"{"project":"gateway"}"#).unwrap();
    assert_eq!(world.floor.boot_project(mac(1)), None);
}
