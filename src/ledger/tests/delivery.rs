//! Retention, replays and what outlives a restart, with a real database.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::core::delivery::Replay;
use crate::core::observation::PowerDone;
use crate::core::slot::PowerAction;
use crate::ledger::{Keeper, Recorded, Retention, SessionFilter};

fn retention(folder: &Path, keep: Duration, cap_bytes: u64) -> Retention {
    Retention { keep, cap_bytes, low_bytes: 0, data: folder.to_owned() }
}

async fn tell(ledger: &Ledger, observation: Observation) -> Receipt {
    ledger.submit(Input::Observed(observation)).await.unwrap()
}

async fn named(ledger: &Ledger) {
    tell(ledger, Observation::SinksNamed { names: vec!["mqtt".to_owned()] }).await;
}

async fn events(ledger: &Ledger, count: u64) {
    while ledger.newest() < count {
        tell(ledger, Observation::StationStarted { version: "0".to_owned() }).await;
    }
}

/// Runs the keeper until the journal is as expected.
async fn keep(ledger: &Ledger, retention: Retention, until: impl Fn(&crate::core::delivery::Delivery) -> bool) {
    let stop = CancellationToken::new();
    let keeper = Keeper::new(ledger.clone(), retention).run(stop.clone());
    let watch = async {
        let mut delivery = ledger.delivery.clone();
        let seen = delivery.wait_for(|delivery| until(delivery));
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the keeper gets there").unwrap();
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(keeper, watch);
    ended.unwrap();
}

#[tokio::test]
async fn the_keeper_deletes_what_is_old_and_taken_and_never_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let (ledger, thread) = open(folder.path(), &clock);
    named(&ledger).await;
    with_project(&ledger).await;
    ask(&ledger, 1).await;
    events(&ledger, 500).await;
    clock.forward(Duration::from_secs(90 * 86_400 + 1));
    events(&ledger, 520).await;
    tell(&ledger, Observation::Delivered { sink: "mqtt".to_owned(), seq: 450 }).await;
    let settings = || retention(folder.path(), Duration::from_secs(90 * 86_400), 1 << 30);
    keep(&ledger, settings(), |delivery| delivery.pruned == 450).await;
    tell(&ledger, Observation::Delivered { sink: "mqtt".to_owned(), seq: 520 }).await;
    keep(&ledger, settings(), |delivery| delivery.pruned == 500).await;
    assert_eq!(ledger.events(0, 1000).await.unwrap().first().unwrap().seq, 501);
    assert_eq!(ledger.sessions(SessionFilter { limit: 10, ..SessionFilter::default() }).await.unwrap().len(), 1);
    let newest = ledger.newest();
    drop(ledger);
    thread.join().unwrap();
    let (ledger, _) = open(folder.path(), &clock);
    assert_eq!((ledger.delivery().oldest(), ledger.newest()), (501, newest));
}

#[tokio::test]
async fn at_its_cap_the_journal_loses_its_oldest_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path(), &Clock::by_hand(START));
    named(&ledger).await;
    events(&ledger, 1000).await;
    let whole: usize = ledger.events(0, 1000).await.unwrap().iter().map(|event| event.body.len()).sum();
    let cap = u64::try_from(whole / 2).unwrap();
    keep(&ledger, retention(folder.path(), Duration::from_secs(86_400), cap), |delivery| {
        delivery.bytes > 0 && delivery.bytes <= cap
    })
    .await;
    let left = ledger.events(0, 1000).await.unwrap();
    let bytes: usize = left.iter().map(|event| event.body.len()).sum();
    assert!(bytes <= whole / 2 + 4096, "{bytes} of {whole}");
    let lost: Vec<serde_json::Value> = left
        .iter()
        .filter(|event| event.name == "events.lost")
        .map(|event| serde_json::from_slice(&event.body).unwrap())
        .collect();
    let mut next = 1;
    for event in &lost {
        assert_eq!(event["data"]["from"], next, "the ranges join");
        next = event["data"]["to"].as_u64().unwrap() + 1;
    }
    assert_eq!(next, ledger.delivery().oldest());
    assert_eq!(ledger.delivery().sinks["mqtt"].acked, next - 1);
}

#[tokio::test]
async fn answers_to_commands_are_forgotten_after_two_weeks_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let (ledger, _) = open(folder.path(), &clock);
    let body = r#"{"command_id":"order-0001"}"#;
    assert!(!order(&ledger, "station.drain", body).await.replayed);
    clock.forward(Duration::from_secs(13 * 86_400));
    events(&ledger, 3).await;
    let settings = || retention(folder.path(), Duration::from_secs(86_400), 1 << 30);
    keep(&ledger, settings(), |delivery| delivery.pruned == 2).await;
    assert!(order(&ledger, "station.drain", body).await.replayed);
    clock.forward(Duration::from_secs(2 * 86_400));
    let stop = CancellationToken::new();
    let keeper = tokio::spawn(Keeper::new(ledger.clone(), settings()).run(stop.clone()));
    let mut tries = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1000 {
        tries.tick().await;
        let aged = ledger.readers.ask(|c| crate::store::inbox::find(c, "order-0001")).await.unwrap().is_none();
        if aged {
            break;
        }
    }
    stop.cancel();
    keeper.await.unwrap().unwrap();
    assert!(!order(&ledger, "station.drain", body).await.replayed, "it is a new command again");
}

#[tokio::test]
async fn a_drained_station_is_drained_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let (ledger, thread) = open(folder.path(), &clock);
    with_project(&ledger).await;
    order(&ledger, "station.drain", r#"{"params":{"reason":"inventory"}}"#).await;
    drop(ledger);
    thread.join().unwrap();
    let (ledger, _) = open(folder.path(), &clock);
    let Answer::Refused(refusal) = ask(&ledger, 1).await.answer else { panic!("taken") };
    assert_eq!(refusal.code, "draining");
    assert_eq!(ledger.delivery().drained.as_ref().unwrap().reason.as_deref(), Some("inventory"));
    order(&ledger, "station.resume", "{}").await;
    assert!(matches!(ask(&ledger, 1).await.answer, Answer::Session(_)));
    assert!(ledger.delivery().drained.is_none());
}

#[tokio::test]
async fn a_device_in_doubt_is_in_doubt_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let (ledger, thread) = open(folder.path(), &clock);
    with_project(&ledger).await;
    ask(&ledger, 1).await;
    let Observation::ScriptAsked(mut other) = script(1) else { panic!("a script is asked for") };
    other.serial = crate::core::device::Serial(99);
    tell(&ledger, Observation::ScriptAsked(other)).await;
    drop(ledger);
    thread.join().unwrap();
    let (ledger, _) = open(folder.path(), &clock);
    let standing = async || {
        ledger.submit(Input::Tick).await.unwrap();
        let alarms = ledger.alarms().await.unwrap();
        alarms.into_iter().map(|(code, _)| code).collect::<Vec<_>>()
    };
    assert_eq!(standing().await, ["identity.serial"]);
    let identity = Some(BootIdentity { family: Family::Pi4, revision: None, serial8: Some(Serial8(1)) });
    let (kind, mac) = (DhcpKind::Discover, Mac::new([2, 0, 0, 0, 0, 1]));
    let boot = DhcpAsk { kind, mac, identity, circuit: None, requested: None, anyone: false, proxy: false };
    tell(&ledger, Observation::Dhcp(boot)).await;
    assert_eq!(standing().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_replay_selects_by_range_time_kind_device_and_type() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::by_hand(START);
    let (ledger, thread) = open(folder.path(), &clock);
    named(&ledger).await;
    with_project(&ledger).await;
    ask(&ledger, 1).await;
    clock.forward(Duration::from_secs(60));
    ask(&ledger, 2).await;
    let (slot, action, by) = ("bench-1".parse().unwrap(), PowerAction::Off, "erp".to_owned());
    tell(&ledger, Observation::PowerDone(PowerDone { slot, action, by, fault: None })).await;
    order(&ledger, "label.put", r#"{"params":{"name":"plate","text":"{{ device.mac }}"}}"#).await;
    tell(&ledger, Observation::Delivered { sink: "mqtt".to_owned(), seq: ledger.newest() }).await;
    let all = ledger.events(0, 100).await.unwrap();
    let minute = START.plus(Duration::from_secs(60));
    let mut count = 0;
    for (params, wanted) in [
        (
            r#"{"from":2,"to":4}"#.to_owned(),
            Box::new(|e: &Recorded| (2..=4).contains(&e.seq)) as Box<dyn Fn(&Recorded) -> bool>,
        ),
        (r#"{"from":1,"kind":"project"}"#.to_owned(), Box::new(|e: &Recorded| e.kind == "project")),
        (r#"{"from":1,"kind":"slot"}"#.to_owned(), Box::new(|e: &Recorded| e.name == "slot.powered")),
        (r#"{"from":1,"kind":"label"}"#.to_owned(), Box::new(|e: &Recorded| e.name == "label.added")),
        (r#"{"from":1,"device":"020000000002"}"#.to_owned(), Box::new(|e: &Recorded| e.subject == "020000000002")),
        (r#"{"from":1,"types":["device.*"]}"#.to_owned(), Box::new(|e: &Recorded| e.name.starts_with("device."))),
        (format!(r#"{{"since":"{minute}"}}"#), Box::new(move |e: &Recorded| e.occurred >= minute)),
        (format!(r#"{{"from":1,"until":"{START}"}}"#), Box::new(|e: &Recorded| e.occurred <= START)),
    ] {
        let reply = order(&ledger, "events.replay", &format!(r#"{{"params":{params},"correlation_id":"po-7"}}"#)).await;
        assert_eq!(reply.code, 202, "{params}: {reply:?}");
        let job = ledger.replays().borrow().last().unwrap().clone();
        let replay: Replay = job.replay.clone().unwrap();
        let found = ledger.select(0, replay.clone(), 100).await.unwrap();
        let found: Vec<u64> = found.iter().filter(|e| replay.which.takes(&e.name)).map(|e| e.seq).collect();
        let expected: Vec<u64> = all.iter().filter(|e| wanted(e)).map(|e| e.seq).collect();
        assert!(!expected.is_empty() && found == expected, "{params}: {found:?} {expected:?}");
        count += 1;
    }
    assert!(ledger.open_jobs().await.unwrap().is_empty(), "the images' room does not see them");
    drop(ledger);
    thread.join().unwrap();
    let (ledger, _) = open(folder.path(), &clock);
    let replays = ledger.replays().borrow().clone();
    assert_eq!(replays.len(), count, "they are open after a restart too");
    let ended = tell(&ledger, Observation::ReplayEnded { job: replays[0].id.clone(), sent: 3 }).await;
    let body: serde_json::Value = serde_json::from_slice(&ended.events[0].body).unwrap();
    assert_eq!((&body["causationid"], &body["correlationid"]), (&replays[0].id.as_str().into(), &"po-7".into()));
    let job = ledger.job(replays[0].id.as_str()).await.unwrap().unwrap();
    assert_eq!((job.state.as_str(), job.replay.unwrap().sent), ("succeeded", 3));
}

#[tokio::test]
async fn what_a_long_command_comes_to_carries_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(folder.path(), &Clock::by_hand(START));
    let body = r#"{"command_id":"order-0001","correlation_id":"po-7","params":{"url":"http://127.0.0.1/a.img"}}"#;
    assert_eq!(order(&ledger, "image.add", body).await.code, 202);
    let job = ledger.open_jobs().await.unwrap().remove(0);
    let stored = crate::core::job::Job { image: Some(image().id), ..job };
    tell(&ledger, Observation::ImageStored(Box::new(stored))).await;
    let added = tell(&ledger, Observation::ImageIngested(image())).await;
    let body: serde_json::Value = serde_json::from_slice(&added.events[0].body).unwrap();
    assert_eq!(body["type"], "io.bootline.image.added.v1");
    assert_eq!((&body["causationid"], &body["correlationid"]), (&"order-0001".into(), &"po-7".into()));
}
