//! The ledger with a real database and a clock moved by hand.

mod delivery;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use crate::core::address::Pool;
use crate::core::command::{Envelope, Status, Transport};
use crate::core::delivery::{Extent, SinkState};
use crate::core::device::{BootIdentity, Facts, Family, Mac, Serial8};
use crate::core::firmware::{Chip, Firmware, FirmwareSeen};
use crate::core::floor::{Deadlines, Settings};
use crate::core::image::{Compression, Digest, Image, Survey};
use crate::core::observation::{
    Cache, ConsoleLine, DhcpAsk, DhcpKind, Evidence, FileResult, FileServed, Input, Observation, Report, Reported,
    ScriptAsk, Vitals,
};
use crate::core::plan::SessionId;
use crate::core::session::StepName;
use crate::core::time::Timestamp;
use crate::core::view::{Answer, DhcpVerdict};
use crate::ledger::writer::Writer;
use crate::ledger::{Clock, Ledger, Receipt, SubmitError};

const START: Timestamp = Timestamp::from_millis(1_763_791_202_113);

fn settings() -> Settings {
    Settings {
        station: "st-01".to_owned(),
        version: "0.0.0".to_owned(),
        pool: Pool {
            server: Ipv4Addr::new(10, 0, 0, 1),
            first: Ipv4Addr::new(10, 0, 0, 2),
            last: Ipv4Addr::new(10, 0, 0, 200),
            lease: Duration::from_secs(3600),
            reservations: BTreeMap::new(),
        },
        max_attempts: 3,
        deadlines: Deadlines::default(),
        line: crate::core::slot::Line::default(),
    }
}

fn open(folder: &Path, clock: &Clock) -> (Ledger, std::thread::JoinHandle<()>) {
    Ledger::open(&folder.join("bootline.db"), "", settings(), clock.clone()).unwrap()
}

fn image() -> Image {
    Image {
        id: Digest::new([1; 32]),
        name: "a.img".to_owned(),
        size_bytes: 1024,
        compression: Compression::Raw,
        raw_sha256: Digest::new([1; 32]),
        raw_size_bytes: 1024,
        survey: Survey::default(),
        added_at: START,
    }
}

fn firmware(n: u8) -> Firmware {
    Firmware {
        id: Digest::new([n; 32]),
        name: format!("pieeprom-{n}.bin"),
        size_bytes: 512 << 10,
        chip: Chip::Bcm2711,
        version: "2026-08-04".to_owned(),
        built: Some(1_785_801_600),
        bootconf: "BOOT_ORDER=0xf12\n".to_owned(),
        room_bytes: 4076,
        added_at: START,
    }
}

async fn order(ledger: &Ledger, name: &str, body: &str) -> crate::core::command::Reply {
    let minted_id = uuid::Uuid::now_v7().to_string().parse().unwrap();
    let envelope = Envelope { name: Some(name), id: None, minted_id, transport: Transport::Rest, now: ledger.now() };
    ledger.command(body.as_bytes(), &envelope).await
}

async fn with_project(ledger: &Ledger) {
    ledger.submit(Input::Observed(Observation::ImageIngested(image()))).await.unwrap();
    let reply = order(ledger, "project.create", r#"{"params":{"name":"Gateway","image":"a.img","active":true}}"#).await;
    assert_eq!(reply.status, Status::Succeeded, "{reply:?}");
}

async fn ask(ledger: &Ledger, n: u8) -> Receipt {
    ledger.submit(Input::Observed(script(n))).await.unwrap()
}

fn script(n: u8) -> Observation {
    Observation::ScriptAsked(Box::new(ScriptAsk {
        serial: crate::core::device::Serial(u64::from(n)),
        mac: Some(Mac::new([2, 0, 0, 0, 0, n])),
        address: Ipv4Addr::new(127, 0, 0, 1),
        facts: Facts { storage_sectors: Some(1000), ..Facts::default() },
        fresh_session: SessionId(uuid::Uuid::now_v7()),
        fresh_token: "tok".parse().unwrap(),
    }))
}

#[tokio::test]
async fn a_follower_hears_the_past_and_the_present_by_the_same_code() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path(), &Clock::by_hand(START));
    with_project(&ledger).await;
    let mut follower = ledger.follow(0);
    let past = follower.next().await.unwrap();
    let names: Vec<&str> = past.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["image.added", "project.created", "project.activated", "command.completed"]);
    ask(&ledger, 1).await;
    let present = follower.next().await.unwrap();
    assert_eq!(present[0].seq, past.last().unwrap().seq + 1);
    let body: serde_json::Value = serde_json::from_slice(&present.last().unwrap().body).unwrap();
    assert_eq!(body["type"], "io.bootline.device.started.v1");
    assert_eq!(body["subject"], "device/020000000001");
    assert_eq!(body["sequence"], format!("{:020}", present.last().unwrap().seq));
    assert!(!String::from_utf8_lossy(&present.last().unwrap().body).contains("tok\""), "the token stays private");
}

#[tokio::test]
async fn an_open_session_survives_a_restart_and_its_device_may_finish() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let (ledger, thread) = open(folder.path(), &clock);
    with_project(&ledger).await;
    let Answer::Session(session) = ask(&ledger, 1).await.answer else { panic!("no session") };
    drop(ledger);
    thread.join().unwrap();

    let (ledger, _) = open(folder.path(), &clock);
    let report = |what| {
        let report = Report { session: session.id, token: session.token.clone(), what, vitals: Vitals::default() };
        ledger.submit(Input::Observed(Observation::Reported(report)))
    };
    report(Reported::StepCompleted { step: StepName::Write, evidence: Evidence::default() }).await.unwrap();
    let seen = Evidence {
        bytes: Some(1024),
        sha256: Some(Digest::new([1; 32])),
        cache: Some(Cache::Dropped),
        scripts: Vec::new(),
        firmware: None,
        warnings: Vec::new(),
    };
    report(Reported::StepCompleted { step: StepName::Verify, evidence: seen }).await.unwrap();
    let receipt = report(Reported::Finished).await.unwrap();
    assert_eq!(receipt.events[0].name, "device.provisioned");
    let again = report(Reported::Finished).await.unwrap();
    assert!(again.events.is_empty(), "the same report again changes nothing");
}

#[tokio::test]
async fn who_has_an_address_is_known_with_the_project_that_it_would_get() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let (ledger, thread) = open(folder.path(), &clock);
    with_project(&ledger).await;
    let ask = DhcpAsk {
        kind: DhcpKind::Discover,
        mac: Mac::new([2, 0, 0, 0, 0, 1]),
        identity: Some(BootIdentity { family: Family::Pi5, revision: None, serial8: Some(Serial8(7)) }),
        circuit: None,
        requested: None,
        anyone: false,
        proxy: false,
    };
    let verdict = ledger.submit(Input::Observed(Observation::Dhcp(ask))).await.unwrap().answer;
    let Answer::Dhcp(DhcpVerdict::Lease(lease)) = verdict else { panic!("{verdict:?}") };
    let project = |ledger: &Ledger| ledger.tenant(lease.address).unwrap().project;
    let tenant = ledger.tenant(lease.address).unwrap();
    assert_eq!((tenant.serial8, tenant.family), (Some(Serial8(7)), Some(Family::Pi5)));
    assert_eq!(project(&ledger).unwrap().id.as_str(), "gateway");
    let lines = r#"{"params":{"project":"gateway","boot":{"config_txt":"a=1"}}}"#;
    order(&ledger, "project.update", lines).await;
    assert_eq!(project(&ledger).unwrap().config_txt.as_deref(), Some("a=1"));
    order(&ledger, "project.create", r#"{"params":{"name":"Other","image":"a.img","active":true}}"#).await;
    assert_eq!(project(&ledger).unwrap().id.as_str(), "other");
    order(&ledger, "project.deactivate", r#"{"params":{"project":"other"}}"#).await;
    assert_eq!(project(&ledger), None);
    order(&ledger, "project.activate", r#"{"params":{"project":"gateway"}}"#).await;
    drop(ledger);
    thread.join().unwrap();
    let (ledger, _) = open(folder.path(), &clock);
    // The thread has published its tenants before it answers anyone.
    ledger.submit(Input::Tick).await.unwrap();
    assert_eq!(project(&ledger).unwrap().config_txt.as_deref(), Some("a=1"), "also after a restart");
}

#[tokio::test]
async fn the_same_command_again_gets_the_same_answer_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let body = r#"{"command_id":"order-0001","params":{"name":"Gateway","image":"a.img"}}"#;
    let (ledger, thread) = open(folder.path(), &clock);
    ledger.submit(Input::Observed(Observation::ImageIngested(image()))).await.unwrap();
    let first = order(&ledger, "project.create", body).await;
    assert_eq!((first.status, first.replayed), (Status::Succeeded, false));
    drop(ledger);
    thread.join().unwrap();

    let (ledger, _) = open(folder.path(), &clock);
    let newest = ledger.newest();
    let second = order(&ledger, "project.create", body).await;
    assert!(second.replayed);
    assert_eq!(second.result, first.result);
    assert_eq!(ledger.newest(), newest);
    let other =
        order(&ledger, "project.create", r#"{"command_id":"order-0001","params":{"name":"Other","image":"a.img"}}"#)
            .await;
    assert_eq!((other.code, other.error.unwrap().code.as_str()), (422, "idempotency_mismatch"));
}

#[tokio::test]
async fn a_request_that_is_refused_leaves_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path(), &Clock::by_hand(START));
    for (name, body, code) in [
        ("project.activate", r#"{"params":{"project":"nobody"}}"#, "not_found"),
        ("project.create", r#"{"params":{"name":"x","image":"nothing"}}"#, "not_found"),
        ("project.create", r#"{"params":{"name":"x","image":"y","verify":false}}"#, "invalid_params"),
        ("project.list", r#"{"expires_at":"2020-01-01T00:00:00Z"}"#, "expired"),
        ("device.authorize", r#"{"params":{"device":"020000000001"}}"#, "not_found"),
    ] {
        let reply = order(&ledger, name, body).await;
        assert_eq!(reply.error.map(|problem| problem.code).as_deref(), Some(code), "{body}");
    }
    assert_eq!(ledger.newest(), 0);
}

#[tokio::test]
async fn what_cannot_be_written_has_not_happened() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path(), &Clock::by_hand(START));
    with_project(&ledger).await;
    let before = ledger.newest();
    let other = rusqlite::Connection::open(folder.path().join("bootline.db")).unwrap();
    // A full disk, played by a table that takes no more rows.
    other
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
        .unwrap();
    let refused = order(&ledger, "project.deactivate", r#"{"params":{"project":"gateway"}}"#).await;
    assert_eq!(refused.code, 503);
    assert!(!ledger.is_healthy());
    other.execute_batch("DROP TRIGGER full").unwrap();
    let reply = order(&ledger, "project.get", r#"{"params":{"project":"gateway"}}"#).await;
    assert_eq!(reply.result.unwrap()["project"]["active"], true, "the floor forgot what was not written");
    let done = order(&ledger, "project.deactivate", r#"{"params":{"project":"gateway"}}"#).await;
    assert_eq!(done.status, Status::Succeeded);
    assert_eq!(ledger.newest(), before + 2);
    assert!(ledger.is_healthy());
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_a_late_report_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path(), &Clock::by_hand(START));
    with_project(&ledger).await;
    let Answer::Session(session) = ask(&ledger, 1).await.answer else { panic!("no session") };
    let report = |token: &str, what| {
        let report = Report { session: session.id, token: token.parse().unwrap(), what, vitals: Vitals::default() };
        ledger.submit(Input::Observed(Observation::Reported(report)))
    };
    let Err(SubmitError::Refused(refusal)) = report("other", Reported::Finished).await else { panic!("taken") };
    assert_eq!(refusal.code, "bad_token");
    let failure =
        Reported::StepFailed { step: StepName::Write, code: "write.download".to_owned(), detail: String::new() };
    report("tok", failure).await.unwrap();
    let newest = ledger.newest();
    let late = report("tok", Reported::StepStarted { step: StepName::Write }).await.unwrap();
    let Answer::Refused(refusal) = late.answer else { panic!("taken") };
    assert_eq!((refusal.status, refusal.code.as_str()), (409, "session_closed"));
    assert_eq!(ledger.newest(), newest);
}

#[tokio::test]
async fn the_clock_ends_a_session_that_nobody_hears_of() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let (ledger, _) = open(folder.path(), &clock);
    with_project(&ledger).await;
    ask(&ledger, 1).await;
    clock.forward(Duration::from_secs(119));
    assert!(ledger.submit(Input::Tick).await.unwrap().events.is_empty());
    clock.forward(Duration::from_secs(1));
    assert_eq!(ledger.submit(Input::Tick).await.unwrap().events[0].name, "device.interrupted");
}

/// A random input; numbers choose among few devices, so that they meet.
fn input_of((kind, a, b): (u8, u8, u8), sessions: &[SessionId]) -> Input {
    let mac = Mac::new([2, 0, 0, 0, 0, a % 4]);
    let address = Ipv4Addr::new(10, 0, 0, 2 + b % 8);
    let identity = Some(BootIdentity { family: Family::Pi4, revision: None, serial8: Some(Serial8(u32::from(a % 4))) });
    let session = sessions.get(usize::from(b) % sessions.len().max(1)).copied().unwrap_or(SessionId(uuid::Uuid::nil()));
    let step = [StepName::Firmware, StepName::Write, StepName::Verify][usize::from(b % 3)];
    let evidence = Evidence {
        bytes: Some(1024),
        sha256: Some(Digest::new([1; 32])),
        cache: Some(Cache::Direct),
        scripts: Vec::new(),
        firmware: Some(FirmwareSeen { version_before: Some("x".to_owned()), ..FirmwareSeen::default() }),
        warnings: Vec::new(),
    };
    let report = |what| {
        Observation::Reported(Report { session, token: "tok".parse().unwrap(), what, vitals: Vitals::default() })
    };
    let dhcp = |kind, identity, requested| {
        Observation::Dhcp(DhcpAsk { kind, mac, identity, circuit: None, requested, anyone: false, proxy: false })
    };
    Input::Observed(match kind {
        0 => dhcp(DhcpKind::Discover, identity, None),
        1 => dhcp(DhcpKind::Request, None, Some(address)),
        2 => Observation::DhcpReleased { mac, address },
        3 => Observation::DhcpDeclined { mac, address },
        4 => script(a % 4),
        5 => report(Reported::StepStarted { step }),
        6 => report(Reported::StepCompleted { step, evidence }),
        7 => report(Reported::Finished),
        8 => report(Reported::StepFailed { step, code: "write.medium".to_owned(), detail: String::new() }),
        9 => Observation::Delivered { sink: "mqtt".to_owned(), seq: u64::from(b) },
        10 => Observation::AlarmRaised { code: format!("a{}", b % 2), detail: "x".to_owned() },
        11 => Observation::AlarmCleared { code: format!("a{}", b % 2) },
        12 => {
            let file = FileServed { name: format!("f{b}"), bytes: 7, result: FileResult::Aborted, at: START };
            Observation::BootFiles { address, files: vec![file] }
        }
        13 => {
            let lines = vec![ConsoleLine { at: START, text: "x".to_owned() }; usize::from(b % 3)];
            Observation::ConsoleText { mac, lines }
        }
        15 => Observation::FirmwareIngested(firmware(8 + b % 2)),
        16 => Observation::FirmwareEdited {
            firmware: Digest::new([7 + b % 3; 32]),
            bootconf: format!("A={}\n", a % 3),
            sha256: Digest::new([1; 32]),
        },
        17..=21 => delivery_of((kind, a, b)),
        _ => return Input::Tick,
    })
}

/// What happens to sinks and the journal.
fn delivery_of((kind, a, b): (u8, u8, u8)) -> Observation {
    match kind {
        17 => Observation::SinksNamed { names: vec![["mqtt", "nats"][usize::from(b % 2)].to_owned()] },
        18 => Observation::SinkChanged {
            sink: "mqtt".to_owned(),
            state: [SinkState::Up, SinkState::Stalled][usize::from(b % 2)],
            reason: (b % 3 == 0).then(|| "x".to_owned()),
        },
        19 => Observation::DeadLettered {
            sink: ["mqtt", "nats"][usize::from(a % 2)].to_owned(),
            seq: u64::from(b % 8),
            name: "device.started".to_owned(),
            reason: "x".to_owned(),
        },
        20 => Observation::Redelivered { sink: "mqtt".to_owned(), seq: u64::from(b % 8) },
        _ => Observation::JournalMeasured(Extent {
            aged: u64::from(b % 16),
            oldest_rows: u64::from(b % 16),
            cap_bytes: 1000,
            ..Extent::default()
        }),
    }
}

proptest! {
    #[test]
    fn the_tables_say_what_the_floor_knows(walk in prop::collection::vec((0u8..23, any::<u8>(), any::<u8>()), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::by_hand(START);
        let connection = crate::store::open(&folder.path().join("x.db")).unwrap();
        let mut writer = Writer::with(connection, settings(), clock.clone());
        writer.handle(Input::Observed(Observation::ImageIngested(image()))).unwrap();
        writer.handle(Input::Observed(Observation::FirmwareIngested(firmware(7)))).unwrap();
        let body = br#"{"params":{"name":"Gateway","image":"a.img","active":true,"again":"allow","firmware":{"image":"pieeprom-7.bin","bootconf":"A=1\n","force_boot_order":true}}}"#;
        let minted_id = "command-0001".parse().unwrap();
        let envelope = Envelope { name: Some("project.create"), id: None, minted_id, transport: Transport::Rest, now: START };
        writer.handle(Input::Commanded(Box::new(crate::core::command::Command::parse(body, &envelope).unwrap()))).unwrap();
        let mut sessions = Vec::new();
        for what in walk {
            if what.0 == 14 {
                clock.forward(Duration::from_secs(u64::from(what.1)));
            }
            if let Ok(Receipt { answer: Answer::Session(session), .. }) = writer.handle(input_of(what, &sessions)) {
                sessions.push(session.id);
            }
        }
        let mut read = crate::store::tables::load(&writer.connection, settings(), clock.now()).unwrap();
        for n in 0..4 {
            let device = crate::store::tables::device(&writer.connection, Mac::new([2, 0, 0, 0, 0, n])).unwrap();
            device.into_iter().for_each(|device| read.learn_device(device));
        }
        for id in sessions {
            let session = crate::store::tables::session(&writer.connection, id).unwrap();
            session.into_iter().for_each(|session| read.learn_session(session));
        }
        prop_assert_eq!(read, writer.floor);
    }
}
