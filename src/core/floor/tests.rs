//! Journeys as tables, and random walks that must keep the laws.

mod boot;
mod conflict;
mod deadlines;
mod delivery;
mod firmware;
mod identify;
mod identity;
mod labels;
mod power;
mod rules;
mod scripts;
mod shelf;
mod told;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use crate::core::address::Pool;
use crate::core::command::{Command, Envelope, Transport};
use crate::core::device::{BootIdentity, Facts, Family, Mac, Revision, Serial, Serial8};
use crate::core::event::Event;
use crate::core::floor::{Deadlines, Fact, Floor, Settings};
use crate::core::image::{Compression, Digest, Image, Survey};
use crate::core::observation::{
    Cache, DhcpAsk, DhcpKind, Evidence, Input, Observation, Report, Reported, ScriptAsk, Vitals,
};
use crate::core::plan::{SessionId, Token};
use crate::core::refusal::Refusal;
use crate::core::session::StepName;
use crate::core::time::Timestamp;
use crate::core::view::{Answer, DhcpVerdict};

const IMAGE: Digest = Digest::new([1; 32]);
const RAW: Digest = Digest::new([2; 32]);
const SIZE: u64 = 4096;

pub fn settings() -> Settings {
    Settings {
        station: "st-01".to_owned(),
        version: "0".to_owned(),
        pool: Pool {
            server: Ipv4Addr::new(10, 0, 0, 1),
            first: Ipv4Addr::new(10, 0, 0, 2),
            last: Ipv4Addr::new(10, 0, 0, 9),
            lease: Duration::from_secs(3600),
            reservations: BTreeMap::new(),
        },
        max_attempts: 3,
        deadlines: Deadlines::default(),
        line: crate::core::slot::Line::default(),
    }
}

pub struct World {
    pub floor: Floor,
    pub now: Timestamp,
    pub log: Vec<(Timestamp, Event)>,
    ids: u128,
}

impl World {
    pub fn new() -> Self {
        Self { floor: Floor::new(settings()), now: Timestamp::from_millis(1_763_791_202_113), log: Vec::new(), ids: 0 }
    }

    /// With one image and one active project.
    fn ready() -> Self {
        let mut world = Self::new();
        world.tell(Observation::ImageIngested(image())).unwrap();
        world.order("project.create", r#"{"name":"Gateway","image":"a.img","active":true}"#).unwrap();
        world
    }

    pub fn submit(&mut self, input: &Input) -> Result<Answer, Refusal> {
        let decision = self.floor.decide(input, self.now)?;
        for fact in decision.facts {
            self.floor.apply(&fact, self.now);
            if let Fact::Event(event) = fact {
                self.log.push((self.now, *event));
            }
        }
        Ok(decision.answer)
    }

    fn tell(&mut self, observation: Observation) -> Result<Answer, Refusal> {
        self.submit(&Input::Observed(observation))
    }

    fn order(&mut self, name: &str, params: &str) -> Result<Answer, Refusal> {
        self.ids += 1;
        let minted_id = format!("command-{:06}", self.ids).parse().unwrap();
        let envelope = Envelope { name: Some(name), id: None, minted_id, transport: Transport::Rest, now: self.now };
        let command = Command::parse(format!(r#"{{"params":{params}}}"#).as_bytes(), &envelope)?;
        self.submit(&Input::Commanded(Box::new(command)))
    }

    fn discover(&mut self, n: u8) -> DhcpVerdict {
        let identity = Some(BootIdentity {
            family: Family::Pi4,
            revision: Some(Revision(0xc0_3140)),
            serial8: Some(Serial8(u32::from(n))),
        });
        self.dhcp(n, DhcpKind::Discover, identity, None)
    }

    fn dhcp(
        &mut self,
        n: u8,
        kind: DhcpKind,
        identity: Option<BootIdentity>,
        requested: Option<Ipv4Addr>,
    ) -> DhcpVerdict {
        let ask = DhcpAsk { kind, mac: mac(n), identity, circuit: None, requested, anyone: false, proxy: false };
        match self.tell(Observation::Dhcp(ask)) {
            Ok(Answer::Dhcp(verdict)) => verdict,
            other => panic!("{other:?}"),
        }
    }

    fn script_with(&mut self, n: u8, facts: Facts) -> Answer {
        self.ids += 1;
        let ask = ScriptAsk {
            serial: Serial(u64::from(n)),
            mac: Some(mac(n)),
            address: Ipv4Addr::LOCALHOST,
            facts,
            fresh_session: SessionId(Uuid::from_u128(self.ids)),
            fresh_token: token(),
        };
        self.tell(Observation::ScriptAsked(Box::new(ask))).unwrap()
    }

    fn script(&mut self, n: u8) -> Result<SessionId, String> {
        match self.script_with(n, Facts { storage_sectors: Some(1000), ..Facts::default() }) {
            Answer::Session(session) => Ok(session.id),
            Answer::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    fn report(&mut self, session: SessionId, what: Reported) -> Result<(), String> {
        match self.tell(Observation::Reported(Report { session, token: token(), what, vitals: Vitals::default() })) {
            Ok(Answer::Noted) => Ok(()),
            Ok(Answer::Refused(refusal)) | Err(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    /// A whole journey that ends well.
    fn provision(&mut self, n: u8) -> SessionId {
        let session = self.script(n).unwrap();
        self.report(session, completed(StepName::Write, Evidence::default())).unwrap();
        self.report(session, completed(StepName::Verify, good())).unwrap();
        self.report(session, Reported::Finished).unwrap();
        session
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.submit(&Input::Tick).unwrap();
    }

    fn names(&self) -> Vec<&'static str> {
        self.log.iter().map(|(_, event)| event.name()).collect()
    }

    /// The events since the last time that this was asked.
    fn news(&mut self) -> Vec<&'static str> {
        let names = self.names();
        self.log.clear();
        names
    }
}

fn image() -> Image {
    Image {
        id: IMAGE,
        name: "a.img".to_owned(),
        size_bytes: 100,
        compression: Compression::Xz,
        raw_sha256: RAW,
        raw_size_bytes: SIZE,
        survey: Survey::default(),
        added_at: Timestamp::default(),
    }
}

const fn mac(n: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, n])
}

fn token() -> Token {
    "tok".parse().unwrap()
}

fn good() -> Evidence {
    Evidence { bytes: Some(SIZE), sha256: Some(RAW), cache: Some(Cache::Dropped), ..Evidence::default() }
}

fn completed(step: StepName, evidence: Evidence) -> Reported {
    Reported::StepCompleted { step, evidence }
}

fn failure(code: &str) -> Reported {
    Reported::StepFailed { step: StepName::Write, code: code.to_owned(), detail: "why".to_owned() }
}

#[test]
fn a_bare_module_is_discovered_started_written_verified_and_provisioned() {
    let mut world = World::ready();
    world.news();
    let DhcpVerdict::Lease(lease) = world.discover(1) else { panic!("no offer") };
    assert_eq!(world.dhcp(1, DhcpKind::Request, None, Some(lease.address)), DhcpVerdict::Lease(lease));
    world.provision(1);
    assert_eq!(
        world.news(),
        [
            "device.discovered",
            "device.started",
            "device.step.started",
            "device.step.completed",
            "device.step.started",
            "device.step.completed",
            "device.provisioned"
        ]
    );
}

#[test]
fn a_device_that_asks_twice_gets_the_same_session_until_it_reports() {
    let mut world = World::ready();
    let session = world.script(1).unwrap();
    assert_eq!(world.script(1), Ok(session));
    world.report(session, Reported::StepStarted { step: StepName::Write }).unwrap();
    world.news();
    assert_ne!(world.script(1), Ok(session));
    assert_eq!(world.news(), ["device.interrupted", "device.started"]);
}

#[test]
fn a_finished_device_is_not_written_again_unless_authorised_and_then_once() {
    let mut world = World::ready();
    world.provision(1);
    world.pass(100);
    world.news();
    assert_eq!(world.discover(1), DhcpVerdict::Silent, "its bootloader goes on to its next boot mode");
    assert!(
        matches!(world.dhcp(1, DhcpKind::Discover, None, None), DhcpVerdict::Lease(_)),
        "its Linux stage is answered"
    );
    assert_eq!(world.script(1), Err("already_provisioned".to_owned()));
    assert_eq!(world.news(), ["device.discovered", "device.refused"], "said once, not at DHCP and at the script");
    world.order("device.authorize", r#"{"device":"020000000001"}"#).unwrap();
    assert!(matches!(world.discover(1), DhcpVerdict::Lease(_)));
    world.provision(1);
    assert_eq!(world.script(1), Err("already_provisioned".to_owned()));
}

#[test]
fn with_nothing_to_do_there_is_no_offer_and_no_session() {
    let mut world = World::new();
    assert_eq!(world.discover(1), DhcpVerdict::Silent);
    assert_eq!(world.script(1), Err("no_project".to_owned()));
    assert_eq!(world.names(), ["device.discovered", "device.refused"]);
    world.discover(1);
    assert_eq!(world.names().len(), 2, "the same reason is told once in ten minutes");
    world.pass(601);
    world.discover(1);
    assert_eq!(world.names()[2..], ["device.discovered", "device.refused"]);
}

#[test]
fn a_stranger_is_not_answered() {
    let mut world = World::ready();
    world.news();
    assert_eq!(world.dhcp(7, DhcpKind::Discover, None, None), DhcpVerdict::Silent);
    assert_eq!(world.dhcp(7, DhcpKind::Request, None, Some(Ipv4Addr::new(10, 0, 0, 5))), DhcpVerdict::Silent);
    assert!(world.news().is_empty());
}

#[test]
fn a_boot_is_told_once_and_a_new_boot_again() {
    let mut world = World::ready();
    world.news();
    for _ in 0..4 {
        world.discover(1);
        world.pass(4);
    }
    assert_eq!(world.news(), ["device.discovered"]);
    let session = world.script(1).unwrap();
    world.report(session, Reported::StepStarted { step: StepName::Write }).unwrap();
    world.news();
    world.discover(1);
    assert_eq!(world.news(), ["device.discovered"], "a step was reported since, so this is another boot");
}

#[test]
fn no_evidence_no_pass() {
    let wrong = [
        (Evidence { sha256: Some(Digest::new([9; 32])), ..good() }, "verify.mismatch"),
        (Evidence { bytes: Some(SIZE - 512), ..good() }, "verify.size"),
        (Evidence { cache: Some(Cache::NotDropped), ..good() }, "verify.cached"),
    ];
    for (evidence, code) in wrong {
        let mut world = World::ready();
        let session = world.script(1).unwrap();
        world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
        assert_eq!(world.report(session, completed(StepName::Verify, evidence)), Err(code.to_owned()));
        assert_eq!(world.names().last(), Some(&"device.failed"));
        assert_eq!(world.report(session, Reported::Finished), Err("session_closed".to_owned()));
    }
    let mut world = World::ready();
    let session = world.script(1).unwrap();
    assert_eq!(
        world.report(session, completed(StepName::Verify, good())),
        Err("wrong_state".to_owned()),
        "nothing was written"
    );
    world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
    assert_eq!(world.report(session, Reported::Finished), Err("wrong_state".to_owned()));
    for evidence in
        [Evidence { sha256: None, ..good() }, Evidence { bytes: None, ..good() }, Evidence { cache: None, ..good() }]
    {
        assert_eq!(world.report(session, completed(StepName::Verify, evidence)), Err("invalid_params".to_owned()));
    }
}

#[test]
fn a_medium_that_cannot_take_the_image_is_refused_before_anything_is_written() {
    let mut world = World::ready();
    for (facts, code) in [
        (Facts::default(), "no_storage"),
        (Facts { storage_sectors: Some(0), ..Facts::default() }, "no_storage"),
        (Facts { storage_sectors: Some(SIZE / 512 - 1), ..Facts::default() }, "image_too_large"),
    ] {
        let Answer::Refused(refusal) = world.script_with(1, facts) else { panic!("started") };
        assert_eq!(refusal.code, code);
    }
}

#[test]
fn a_device_that_fails_three_times_is_held_until_authorised() {
    let mut world = World::ready();
    for _ in 0..3 {
        let session = world.script(1).unwrap();
        world.report(session, failure("write.medium")).unwrap();
        world.report(session, failure("write.medium")).unwrap();
    }
    assert_eq!(world.script(1), Err("attempts_used_up".to_owned()));
    let retryable: Vec<bool> = world
        .log
        .iter()
        .filter_map(|(_, event)| match event {
            Event::DeviceFailed { retryable, .. } => Some(*retryable),
            _ => None,
        })
        .collect();
    assert_eq!(retryable, [true, true, false], "a repeated report is heard once");
    world.order("device.authorize", r#"{"device":"020000000001"}"#).unwrap();
    assert!(world.script(1).is_ok());
}

#[test]
fn silence_interrupts_and_a_stalled_download_fails() {
    let mut world = World::ready();
    let session = world.script(1).unwrap();
    world.pass(119);
    assert!(world.floor.session(session).unwrap().is_open());
    world.pass(1);
    assert_eq!(world.names().last(), Some(&"device.interrupted"));

    let session = world.script(1).unwrap();
    world.tell(Observation::ImageFlow { session, bytes: 1, open: 1 }).unwrap();
    world.pass(899);
    assert!(world.floor.session(session).unwrap().is_open(), "an open download may be slow");
    world.pass(1);
    let (_, Event::DeviceFailed { code, .. }) = world.log.last().unwrap() else { panic!("{:?}", world.log.last()) };
    assert_eq!(code, "stalled");
}

#[test]
fn an_aborted_device_waits_for_its_authorisation() {
    let mut world = World::ready();
    world.script(1).unwrap();
    world.order("device.abort", r#"{"device":"02:00:00:00:00:01"}"#).unwrap();
    assert_eq!(world.names().iter().filter(|name| **name == "device.aborted").count(), 1);
    assert_eq!(world.script(1), Err("aborted".to_owned()));
    assert_eq!(world.order("device.abort", r#"{"device":"020000000001"}"#).unwrap_err().code, "wrong_state");
}

#[test]
fn one_project_without_rules_is_active_at_a_time() {
    let mut world = World::ready();
    world.order("project.create", r#"{"name":"Other","image":"a.img"}"#).unwrap();
    world.news();
    world.order("project.activate", r#"{"project":"other"}"#).unwrap();
    assert_eq!(world.news(), ["project.deactivated", "project.activated", "command.completed"]);
    assert_eq!(world.order("project.delete", r#"{"project":"other"}"#).unwrap_err().code, "wrong_state");
    assert_eq!(world.order("image.delete", r#"{"image":"a.img"}"#).unwrap_err().code, "in_use");
}

#[test]
fn identities_are_never_merged_silently() {
    let mut world = World::ready();
    world.provision(1);
    let ask = |mac: Option<Mac>, serial: u64, address| ScriptAsk {
        serial: Serial(serial),
        mac,
        address,
        facts: Facts { storage_sectors: Some(1000), ..Facts::default() },
        fresh_session: SessionId(Uuid::from_u128(77)),
        fresh_token: token(),
    };
    let code = |answer| match answer {
        Answer::Refused(refusal) => refusal.code,
        other => panic!("{other:?}"),
    };
    world.news();
    let answer = world.tell(Observation::ScriptAsked(Box::new(ask(Some(mac(1)), 99, Ipv4Addr::LOCALHOST)))).unwrap();
    assert_eq!(code(answer), "identity_conflict");
    assert_eq!(world.news(), ["station.alarm.raised", "device.refused"]);
    let DhcpVerdict::Lease(lease) = world.discover(2) else { panic!("no offer") };
    let answer = world.tell(Observation::ScriptAsked(Box::new(ask(Some(mac(3)), 3, lease.address)))).unwrap();
    assert_eq!(code(answer), "identity_conflict", "it calls from the address of another");
    let answer = world.tell(Observation::ScriptAsked(Box::new(ask(None, 2, lease.address)))).unwrap();
    let Answer::Session(session) = answer else { panic!("{answer:?}") };
    assert_eq!(session.mac, mac(2), "an empty mac is taken from the lease");
    assert_eq!(
        code(world.tell(Observation::ScriptAsked(Box::new(ask(None, 4, Ipv4Addr::LOCALHOST)))).unwrap()),
        "unknown_device"
    );
}

#[test]
fn the_place_of_a_cable_is_in_the_events_of_its_device() {
    let mut world = World::ready();
    let identity = Some(BootIdentity { family: Family::Pi4, revision: None, serial8: Some(Serial8(1)) });
    let circuit = Some("001cf0112233/0/5@1".to_owned());
    let kind = DhcpKind::Discover;
    let ask =
        DhcpAsk { kind, mac: mac(1), identity, circuit: circuit.clone(), requested: None, anyone: false, proxy: false };
    world.tell(Observation::Dhcp(ask)).unwrap();
    let session = world.provision(1);
    let session = world.floor.session(session).unwrap();
    assert_eq!(session.circuit, circuit);
    assert_eq!(session.shown()["circuit"], circuit.clone().unwrap());
    assert_eq!(world.floor.device(mac(1)).unwrap().shown()["circuit"], circuit.clone().unwrap());
    let told = |(_, event): &(Timestamp, Event)| event.device().map(|device| device.circuit.clone());
    let places: Vec<_> = world.log.iter().filter_map(told).collect();
    assert!(places.len() > 5 && places.iter().all(|place| *place == circuit), "{places:?}");
}

#[test]
fn beside_another_server_no_address_is_given_and_the_one_that_was_is_known() {
    let mut world = World::ready();
    let identity = Some(BootIdentity { family: Family::Pi5, revision: None, serial8: None });
    let ask = |kind, mac, requested| {
        Observation::Dhcp(DhcpAsk { kind, mac, identity, circuit: None, requested, anyone: false, proxy: true })
    };
    let verdict = world.tell(ask(DhcpKind::Discover, mac(1), None)).unwrap();
    assert!(matches!(verdict, Answer::Dhcp(DhcpVerdict::Proxy)), "{verdict:?}");
    let theirs = Ipv4Addr::new(192, 0, 2, 77);
    let verdict = world.tell(ask(DhcpKind::Request, mac(1), Some(theirs))).unwrap();
    assert!(matches!(verdict, Answer::Dhcp(DhcpVerdict::Silent)), "{verdict:?}");
    assert_eq!(world.floor.addresses().mac_of(theirs), Some(mac(1)));
    world.tell(ask(DhcpKind::Request, mac(2), Some(theirs))).unwrap();
    assert_eq!(world.floor.addresses().mac_of(theirs), Some(mac(1)), "a stranger's address is not noted");
}

fn report_of(step: StepName, kind: u8) -> Reported {
    match kind {
        0 => Reported::StepStarted { step },
        1 => completed(step, good()),
        2 => completed(step, Evidence::default()),
        3 => failure("write.medium"),
        _ => Reported::Finished,
    }
}

/// One random thing that may happen; numbers choose among what the world holds.
fn happen(world: &mut World, sessions: &mut Vec<SessionId>, what: (u8, u8, u8)) {
    let (kind, a, b) = what;
    let n = a % 4;
    let steps = [StepName::Write, StepName::Verify, StepName::Firmware];
    match kind {
        0 => drop(world.discover(n)),
        1 => sessions.extend(world.script(n)),
        2..=4 => {
            if let Some(session) = sessions.get(usize::from(a) % sessions.len().max(1)).copied() {
                let _ = world.report(session, report_of(steps[usize::from(b) % 3], b / 3 % 5));
            }
        }
        5 => world.pass(u64::from(b) * 4),
        6 => drop(world.order("device.authorize", &format!(r#"{{"device":"{}"}}"#, mac(n)))),
        7 => drop(world.order("device.abort", &format!(r#"{{"device":"{}"}}"#, mac(n)))),
        8 => drop(
            world.order(["project.activate", "project.deactivate"][usize::from(b % 2)], r#"{"project":"gateway"}"#),
        ),
        9 => {
            drop(world.order(
                "project.create",
                &format!(r#"{{"name":"p{n}","image":"a.img","active":true,"again":"allow"}}"#),
            ))
        }
        11 => drop(world.order("device.assign", &format!(r#"{{"device":"{}","project":"p{b}"}}"#, mac(n)))),
        12 => drop(world.order("device.unassign", &format!(r#"{{"device":"{}"}}"#, mac(n)))),
        13 => drop(world.order(
            "rules.set",
            &format!(
                r#"{{"rules":[{{"project":"p{n}","when":{{"mac":["{}"]}}}},{{"project":"gateway"}}]}}"#,
                mac(b % 4)
            ),
        )),
        _ => {
            if let Some(session) = sessions.last().copied() {
                let _ = world.tell(Observation::ImageFlow { session, bytes: u64::from(b), open: u32::from(a % 2) });
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_laws_hold(walk in prop::collection::vec((0u8..14, any::<u8>(), any::<u8>()), 1..120)) {
        let mut world = World::ready();
        let mut sessions = Vec::new();
        for what in walk {
            let (before, logged) = (world.floor.clone(), world.log.len());
            happen(&mut world, &mut sessions, what);
            if world.log.len() == logged {
                // No event: nothing that the tables hold of projects, images and outcomes has changed.
                prop_assert_eq!(&before.projects, &world.floor.projects);
                prop_assert_eq!(&before.sessions, &world.floor.sessions);
            }
        }
        let mut ends: BTreeMap<SessionId, u32> = BTreeMap::new();
        let mut fold = Floor::new(settings());
        for (at, event) in &world.log {
            let terminal = matches!(event.name(), "device.provisioned" | "device.failed" | "device.aborted" | "device.interrupted");
            if let Some(session) = event.device().and_then(|device| device.session).filter(|_| terminal) {
                *ends.entry(session).or_default() += 1;
            }
            // The wire form carries everything that the fold needs.
            let wire: Event = serde_json::from_value(serde_json::to_value(event).unwrap()).unwrap();
            prop_assert_eq!(&wire, event);
            fold.apply(&wire.into(), *at);
        }
        prop_assert!(ends.values().all(|count| *count == 1), "one outcome a session: {:?}", ends);
        prop_assert_eq!(&fold.projects, &world.floor.projects);
        prop_assert_eq!(&fold.shelf.images, &world.floor.shelf.images);
        prop_assert_eq!(&fold.rules, &world.floor.rules);
        prop_assert!(world.floor.rules.without_rules(&world.floor.projects).count() <= 1);
        for (id, session) in &world.floor.sessions {
            let folded = &fold.sessions[id];
            prop_assert_eq!((&folded.ended, &folded.done, folded.running), (&session.ended, &session.done, session.running));
            prop_assert_eq!(session.ended.is_some(), ends.contains_key(id));
        }
        for (mac, device) in &world.floor.devices {
            if let Some(folded) = fold.devices.get(mac) {
                prop_assert_eq!(
                    (folded.attempts, folded.failures, folded.finished, folded.authorized, folded.open_session),
                    (device.attempts, device.failures, device.finished, device.authorized, device.open_session)
                );
            }
        }
    }
}
