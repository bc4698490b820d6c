//! What may go of the journal, what is lost, what is an alarm; replays, dead letters, and a drained station.

use serde_json::Value;

use super::*;
use crate::core::delivery::{Extent, LAG_EVENTS, SinkState};
use crate::core::floor::Note;

const CAP: u64 = 1000;

/// A station of two buses with so many events, of which mqtt has taken all and nats some.
fn station(events: u64, nats: u64) -> World {
    let mut world = World::new();
    let names = vec!["mqtt".to_owned(), "nats".to_owned()];
    world.tell(Observation::SinksNamed { names }).unwrap();
    while world.floor.delivery().newest < events {
        world.tell(Observation::StationStarted { version: "0".to_owned() }).unwrap();
    }
    world.tell(Observation::Delivered { sink: "mqtt".to_owned(), seq: events }).unwrap();
    world.tell(Observation::Delivered { sink: "nats".to_owned(), seq: nats }).unwrap();
    world.log.clear();
    world
}

fn extent(aged: u64, bytes: u64) -> Extent {
    Extent { aged, oldest_rows: 200, bytes, cap_bytes: CAP, free_bytes: 100, low_bytes: 50, ..Extent::default() }
}

fn measured(world: &mut World, extent: Extent) -> Vec<String> {
    world.log.clear();
    world.tell(Observation::JournalMeasured(extent)).unwrap();
    world.log.iter().map(|(_, event)| serde_json::to_string(event).unwrap()).collect()
}

#[test]
fn what_is_old_goes_when_the_slowest_has_it_and_earlier_when_space_is_short() {
    // Old up to, bytes, nats has: the journal begins after.
    for (aged, bytes, nats, pruned) in
        [(0, 0, 300, 0), (150, 0, 300, 150), (150, 0, 40, 40), (0, 799, 300, 0), (0, 800, 300, 200), (0, 800, 40, 40)]
    {
        let mut world = station(300, nats);
        measured(&mut world, extent(aged, bytes));
        assert_eq!(world.floor.delivery().pruned, pruned, "{aged} {bytes} {nats}");
        assert_eq!(world.floor.cursor("nats"), nats);
    }
}

#[test]
fn at_the_cap_the_oldest_go_and_who_has_missed_them_is_told() {
    let mut world = station(300, 40);
    let told = measured(&mut world, extent(0, CAP + 1));
    let lost = r#"{"type":"events.lost","data":{"sink":"nats","from":41,"to":200,"reason":"size"}}"#;
    assert!(told.contains(&lost.to_owned()), "{told:?}");
    assert_eq!(told.iter().filter(|event| event.contains("events.lost")).count(), 1, "mqtt has them all");
    assert_eq!((world.floor.delivery().pruned, world.floor.cursor("nats")), (200, 200));
}

#[test]
fn a_sink_that_is_turned_off_holds_nothing_and_hears_of_the_gap_when_it_is_back() {
    let mut world = station(300, 40);
    world.tell(Observation::SinksNamed { names: vec!["mqtt".to_owned()] }).unwrap();
    measured(&mut world, extent(150, 0));
    assert_eq!(world.floor.delivery().pruned, 150);
    assert!(!world.floor.delivery().sinks["nats"].enabled);
    world.log.clear();
    world.tell(Observation::SinksNamed { names: vec!["mqtt".to_owned(), "nats".to_owned()] }).unwrap();
    let lost = Event::EventsLost { sink: "nats".to_owned(), from: 41, to: 150, reason: "disabled".to_owned() };
    assert_eq!(world.log.iter().map(|(_, event)| event).collect::<Vec<_>>(), [&lost]);
    assert_eq!(world.floor.cursor("nats"), 150);
}

#[test]
fn lag_storage_and_disk_are_alarms_that_clear_by_themselves() {
    let mut world = station(LAG_EVENTS + 40, 40);
    let alarms = |world: &World| world.floor.alarms().keys().cloned().collect::<Vec<_>>();
    measured(&mut world, extent(0, 0));
    assert_eq!(alarms(&world), ["events.lag.nats"]);
    world.tell(Observation::Delivered { sink: "nats".to_owned(), seq: 9_000 }).unwrap();
    measured(&mut world, extent(0, 0));
    assert_eq!(alarms(&world), Vec::<String>::new());
    // Few events, the first of them an hour old.
    let waiting = BTreeMap::from([("nats".to_owned(), world.now)]);
    world.now = world.now.plus(Duration::from_secs(3600));
    measured(&mut world, Extent { waiting, ..extent(0, 0) });
    assert_eq!(alarms(&world), ["events.lag.nats"]);
    measured(&mut world, Extent { free_bytes: 49, ..extent(0, 0) });
    assert_eq!(alarms(&world), ["disk.low"], "nothing waits any more, but the disk is full");
    measured(&mut world, extent(0, 0));
    assert_eq!(alarms(&world), Vec::<String>::new());
    let mut world = station(300, 40);
    measured(&mut world, extent(0, 800));
    assert_eq!(alarms(&world), ["events.storage"]);
    world.tell(Observation::Delivered { sink: "nats".to_owned(), seq: 300 }).unwrap();
    measured(&mut world, extent(0, 800));
    assert_eq!(alarms(&world), Vec::<String>::new(), "what all have can go, so nothing is in danger");
}

#[test]
fn a_dead_letter_is_told_once_and_its_own_telling_is_not() {
    let mut world = station(10, 10);
    let dead = |seq, name: &str| Observation::DeadLettered {
        sink: "nats".to_owned(),
        seq,
        name: name.to_owned(),
        reason: "too large".to_owned(),
    };
    world.tell(dead(5, "device.started")).unwrap();
    world.tell(dead(5, "device.started")).unwrap();
    world.tell(dead(11, "events.deadlettered")).unwrap();
    assert_eq!(world.log.len(), 1);
    assert_eq!(world.floor.delivery().sinks["nats"].dead.iter().copied().collect::<Vec<_>>(), [5, 11]);
    world.tell(Observation::Redelivered { sink: "nats".to_owned(), seq: 5 }).unwrap();
    world.order("events.discard", r#"{"sink":"nats","sequence":11}"#).unwrap();
    assert!(world.floor.delivery().sinks["nats"].dead.is_empty());
    let error = world.order("events.discard", r#"{"sink":"nats","sequence":11}"#).unwrap_err();
    assert_eq!(error.status, 404);
}

#[test]
fn how_a_sink_fares_is_known_and_the_same_again_is_no_news() {
    let mut world = station(10, 10);
    let stalled = Observation::SinkChanged {
        sink: "nats".to_owned(),
        state: SinkState::Stalled,
        reason: Some("NotAuthorized".to_owned()),
    };
    let decision = world.floor.decide(&Input::Observed(stalled.clone()), world.now).unwrap();
    assert!(matches!(decision.facts.as_slice(), [Fact::Note(Note::SinkSet { .. })]));
    world.tell(stalled.clone()).unwrap();
    assert!(world.floor.decide(&Input::Observed(stalled), world.now).unwrap().facts.is_empty());
    let shown = world.floor.delivery().shown();
    assert_eq!((shown[1].state, shown[1].reason.as_deref()), (SinkState::Stalled, Some("NotAuthorized")));
}

#[test]
fn a_replay_is_a_job_over_what_is_kept_and_taken() {
    let mut world = station(300, 250);
    measured(&mut world, extent(100, 0));
    for (params, status, says) in [
        (r#"{"from":101,"to":200}"#, 400, "which one"),
        (r#"{"sink":"kafka","from":101}"#, 404, "kafka"),
        (r#"{"sink":"mqtt"}"#, 400, "from or since"),
        (r#"{"sink":"mqtt","from":100}"#, 410, "events 101 to 300 are kept"),
        (r#"{"sink":"mqtt","from":301}"#, 400, "no range"),
        (r#"{"sink":"mqtt","from":200,"to":301}"#, 404, "no event 301"),
        (r#"{"sink":"mqtt","from":200,"to":150}"#, 400, "no range"),
        (r#"{"sink":"nats","from":251}"#, 409, "on its way to nats"),
        (r#"{"sink":"mqtt","from":101,"rate":0}"#, 400, "/params/rate"),
        (r#"{"sink":"mqtt","from":101,"kind":"devices"}"#, 400, "/params/kind"),
        (r#"{"sink":"mqtt","from":101,"types":["device.*","x y"]}"#, 400, "/params/types/1"),
        (r#"{"sink":"mqtt","from":101,"device":"nobody"}"#, 400, "/params/device"),
    ] {
        let refusal = world.order("events.replay", params).unwrap_err();
        assert_eq!(refusal.status, status, "{params}: {refusal}");
        assert!(refusal.detail.contains(says), "{params}: {refusal}");
    }
    let Ok(Answer::Reply(reply)) = world.order("events.replay", r#"{"sink":"nats","from":150}"#) else { panic!() };
    assert_eq!((reply.code, reply.is_final), (202, false));
    let replays = world.floor.replays();
    let replay = replays[0].replay.as_ref().unwrap();
    assert_eq!((replay.from, replay.to), (150, 250), "what nats has not taken comes by itself");
    world.log.clear();
    world.tell(Observation::ReplayEnded { job: replays[0].id.clone(), sent: 101 }).unwrap();
    assert!(world.floor.replays().is_empty());
    let [(_, Event::CommandCompleted { command_id, status, .. })] = world.log.as_slice() else { panic!() };
    assert_eq!((command_id.as_str(), status.as_str()), (replays[0].id.as_str(), "succeeded"));
    world.order("events.replay", r#"{"sink":"nats","from":150}"#).unwrap();
    let job = world.floor.replays()[0].id.clone();
    world.order("job.cancel", &format!(r#"{{"job":"{job}"}}"#)).unwrap();
    assert!(world.floor.replays().is_empty());
}

#[test]
fn events_of_every_kind_can_be_sent_again_alone() {
    let mut world = station(300, 300);
    for kind in ["device", "project", "image", "firmware", "rule", "script", "slot", "label", "station", "command"] {
        let params = format!(r#"{{"sink":"mqtt","from":1,"kind":"{kind}"}}"#);
        world.order("events.replay", &params).unwrap_or_else(|refusal| panic!("{kind}: {refusal}"));
        let replays = world.floor.replays();
        let found = replays
            .iter()
            .filter_map(|job| job.replay.as_ref())
            .any(|replay| replay.which.kind.as_deref() == Some(kind));
        assert!(found, "{kind}");
    }
    let refusal = world.order("events.replay", r#"{"sink":"mqtt","from":1,"kind":"slots"}"#).unwrap_err();
    assert!(refusal.detail.contains("label, slot"), "it says which kinds there are: {refusal}");
}

#[test]
fn a_drained_station_begins_nothing_finishes_what_runs_and_resumes() {
    let mut world = World::ready();
    let running = world.script(1).unwrap();
    world.order("station.drain", r#"{"reason":"inventory"}"#).unwrap();
    world.order("station.drain", "{}").unwrap();
    let told = world.log.iter().filter(|(_, event)| event.name() == "station.drained").count();
    assert_eq!(told, 1, "a second time changes nothing");
    assert_eq!(world.discover(2), DhcpVerdict::Silent);
    let Answer::Refused(refusal) = world.script_with(3, Facts::default()) else { panic!() };
    assert_eq!((refusal.status, refusal.code.as_str(), refusal.retryable), (503, "draining", true));
    assert!(refusal.detail.contains("inventory"), "{refusal}");
    assert_eq!(world.script(1).unwrap(), running, "the running one keeps its script");
    world.order("station.resume", "{}").unwrap();
    assert!(world.script(3).is_ok());
    assert_ne!(world.discover(2), DhcpVerdict::Silent);
}

/// Each command of the station, and params with which it would do something.
const ORDERS: [(&str, &str); 42] = [
    ("project.create", r#"{"name":"New","image":"a.img","active":true}"#),
    ("project.update", r#"{"project":"gateway","name":"Other"}"#),
    ("project.activate", r#"{"project":"spare"}"#),
    ("project.deactivate", r#"{"project":"gateway"}"#),
    ("project.delete", r#"{"project":"spare"}"#),
    ("project.get", r#"{"project":"gateway"}"#),
    ("project.list", "{}"),
    ("image.list", "{}"),
    ("image.add", r#"{"url":"http://127.0.0.1/x.img"}"#),
    ("image.delete", r#"{"image":"b.img"}"#),
    ("firmware.list", "{}"),
    ("firmware.add", r#"{"path":"pieeprom.bin"}"#),
    ("firmware.delete", r#"{"firmware":"pieeprom.bin"}"#),
    ("job.cancel", r#"{"job":"job-00000001"}"#),
    ("device.get", r#"{"device":"020000000001"}"#),
    ("device.authorize", r#"{"device":"020000000001"}"#),
    ("device.abort", r#"{"device":"020000000001"}"#),
    ("device.assign", r#"{"device":"020000000009","project":"gateway"}"#),
    ("device.unassign", r#"{"device":"020000000001"}"#),
    ("device.power_cycle", r#"{"device":"020000000001"}"#),
    ("slot.list", "{}"),
    ("slot.power", r#"{"slot":"bench-9","action":"off"}"#),
    ("slot.release", r#"{"slot":"bench-9"}"#),
    ("device.identify", r#"{"device":"020000000001"}"#),
    ("script.put", r#"{"name":"hello","text":"echo hello"}"#),
    ("script.delete", r#"{"script":"bye"}"#),
    ("script.list", "{}"),
    ("label.put", r#"{"name":"plate","text":"{{ device.mac }}"}"#),
    ("label.delete", r#"{"label":"old"}"#),
    ("label.list", "{}"),
    ("label.print", r#"{"label":"old","device":"020000000001"}"#),
    ("rules.set", r#"{"rules":[]}"#),
    ("rules.get", "{}"),
    ("rules.test", r#"{"device":"020000000001"}"#),
    ("station.info", "{}"),
    ("station.drain", "{}"),
    ("station.resume", "{}"),
    ("events.replay", r#"{"from":1}"#),
    ("events.discard", r#"{"sink":"mqtt"}"#),
    (
        "token.create",
        r#"{"name":"erp","role":"viewer","sha256":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"}"#,
    ),
    ("token.revoke", r#"{"token":"nobody"}"#),
    ("token.list", "{}"),
];

#[test]
fn a_dry_run_of_any_command_says_what_would_be_and_changes_nothing() {
    assert_eq!(ORDERS.map(|(name, _)| name), crate::core::command::NAMES);
    let mut world = World::ready();
    world.tell(Observation::SinksNamed { names: vec!["mqtt".to_owned()] }).unwrap();
    let other = Image { id: Digest::new([9; 32]), name: "b.img".to_owned(), ..image() };
    world.tell(Observation::ImageIngested(other)).unwrap();
    world.order("project.create", r#"{"name":"Spare","image":"a.img"}"#).unwrap();
    world.order("script.put", r#"{"name":"bye","text":"echo bye"}"#).unwrap();
    world.order("label.put", r#"{"name":"old","text":"{{ device.mac }}"}"#).unwrap();
    world.script(1).unwrap();
    world.tell(Observation::Delivered { sink: "mqtt".to_owned(), seq: 3 }).unwrap();
    let (before, events) = (world.floor.clone(), world.log.len());
    let mut carried_out = Vec::new();
    for (name, params) in ORDERS {
        let body = format!(r#"{{"dry_run":true,"params":{params}}}"#);
        let minted_id = format!("dry-run-{}", name.replace('.', "-")).parse().unwrap();
        let envelope = Envelope { name: Some(name), id: None, minted_id, transport: Transport::Rest, now: world.now };
        let command = Command::parse(body.as_bytes(), &envelope).unwrap_or_else(|error| panic!("{name}: {error}"));
        match world.submit(&Input::Commanded(Box::new(command))) {
            Ok(Answer::Reply(reply)) => {
                let result = reply.result.unwrap();
                assert_eq!((reply.code, reply.is_final, &result["dry_run"]), (200, true, &Value::Bool(true)), "{name}");
                assert!(!result["would"].is_null(), "{name}");
                carried_out.push(name);
            }
            Err(refusal) => assert!(matches!(refusal.status, 404 | 409), "{name}: {refusal}"),
            Ok(other) => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!((world.floor == before, world.log.len()), (true, events));
    assert_eq!(
        carried_out.len(),
        ORDERS.len() - 8,
        "no firmware is there to delete, no job to cancel, no slot, no power, no token, no printer, nobody who would blink: {carried_out:?}"
    );
}

#[test]
fn a_revision_to_match_is_refused_where_there_is_none() {
    let mut world = World::ready();
    world.order("script.put", r#"{"name":"bye","text":"echo bye"}"#).unwrap();
    for (name, params, status) in [
        ("project.get", r#"{"project":"gateway"}"#, Some(412)),
        ("script.delete", r#"{"script":"bye"}"#, Some(412)),
        ("rules.set", r#"{"rules":[]}"#, Some(412)),
        ("image.delete", r#"{"image":"a.img"}"#, Some(400)),
        ("station.drain", "{}", Some(400)),
    ] {
        let body = format!(r#"{{"if_match":7,"params":{params}}}"#);
        let minted_id = "command-0001".parse().unwrap();
        let envelope = Envelope { name: Some(name), id: None, minted_id, transport: Transport::Rest, now: world.now };
        let command = Command::parse(body.as_bytes(), &envelope).unwrap();
        let refusal = world.submit(&Input::Commanded(Box::new(command))).err().map(|refusal| refusal.status);
        assert_eq!(refusal, status, "{name}");
    }
}
