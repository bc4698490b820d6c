//! Power that nobody asks for: for a device that does not come up, with limits, and never where it would do harm.

use serde_json::{Value, json};

use super::*;
use crate::core::observation::{Located, PowerDone};
use crate::core::slot::{AutomaticCycle, PowerAction, SwitchPort};

impl World {
    /// A switch with power, and a station that may cycle it unasked.
    fn powered() -> Self {
        let mut settings = settings();
        settings.line.powered.insert("sw1".to_owned());
        settings.line.automatic =
            Some(AutomaticCycle { after: Duration::from_secs(120), times: 2, pause: Duration::from_secs(60) });
        let mut world = Self { floor: Floor::new(settings), ..Self::new() };
        world.tell(Observation::ImageIngested(image())).unwrap();
        world.order("project.create", r#"{"name":"Gateway","image":"a.img","active":true}"#).unwrap();
        world.log.clear();
        world
    }

    /// It is seen, and the switch knows where.
    fn plugged(&mut self, n: u8, number: u64) {
        self.discover(n);
        self.located(n, number);
    }

    fn located(&mut self, n: u8, number: u64) {
        let port = SwitchPort { switch: "sw1".to_owned(), port: number.to_string(), alias: None, number };
        self.tell(Observation::Located(Located { mac: mac(n), ports: vec![port] })).unwrap();
    }

    /// `seconds` pass, one by one as in the station.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(1);
        }
    }

    /// Data of the requests for power so far.
    fn requests(&self) -> Vec<Value> {
        let asked = self.log.iter().filter(|(_, event)| event.name() == "slot.power.requested");
        asked.map(|(_, event)| json!(event)["data"].clone()).collect()
    }

    fn done(&mut self, number: u64, fault: Option<&str>) {
        let slot = format!("sw1-{number}").parse().unwrap();
        let (action, by) = (PowerAction::Cycle, "bootline".to_owned());
        let done = PowerDone { slot, action, by, fault: fault.map(str::to_owned) };
        self.tell(Observation::PowerDone(done)).unwrap();
    }

    fn alarm(&self) -> Option<&String> {
        self.floor.alarms().get("slot.sw1-3")
    }
}

#[test]
fn a_device_that_never_asks_for_its_script_is_cycled_so_often_and_then_an_alarm_tells_it_once() {
    let mut world = World::powered();
    world.plugged(1, 3);
    world.wait(119);
    assert!(world.requests().is_empty(), "it has its time");
    world.wait(1);
    let asked = world.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(
        (&asked[0]["slot"], &asked[0]["action"], &asked[0]["device"], &asked[0]["by"], &asked[0]["reason"]),
        (&json!("sw1-3"), &json!("cycle"), &json!(mac(1)), &json!("bootline"), &json!("stuck"))
    );
    world.done(3, None);
    world.wait(119);
    assert_eq!(world.requests().len(), 1, "it may come up now");
    world.wait(1);
    assert_eq!(world.requests().len(), 2);
    world.done(3, Some("the switch does not answer"));
    world.wait(120);
    assert_eq!(world.requests().len(), 2, "two are all");
    let told = world.alarm().unwrap();
    assert!(told.contains(&mac(1).to_string()) && told.contains("2 times"), "{told}");
    world.wait(1000);
    assert_eq!(world.names().iter().filter(|name| **name == "station.alarm.raised").count(), 1, "told once");

    world.located(1, 3);
    assert!(world.alarm().is_some(), "to be there is not enough");
    world.script(1).unwrap();
    assert_eq!(world.alarm(), None, "it has its script");
    let device = world.floor.device(mac(1)).unwrap();
    assert!(device.awaited.is_nothing(), "and everything begins anew: {device:?}");
}

#[test]
fn without_the_wish_nothing_is_ever_cycled() {
    let mut world = World::powered();
    let mut settings = settings();
    settings.line = crate::core::slot::Line { automatic: None, ..world.floor.settings().line.clone() };
    world.floor.settings = settings;
    world.plugged(1, 3);
    world.wait(1000);
    assert!(world.requests().is_empty() && world.floor.device(mac(1)).unwrap().awaited.is_nothing());
}

#[test]
fn a_device_that_starts_over_and_over_is_stuck_too() {
    let mut world = World::powered();
    world.plugged(1, 3);
    for _ in 0..3 {
        world.wait(61);
        world.plugged(1, 3);
    }
    assert!(world.names().iter().filter(|name| **name == "device.discovered").count() > 2);
    assert_eq!(world.requests().len(), 1);
}

#[test]
fn an_attempt_that_may_be_tried_again_gets_power_for_it_and_one_that_may_not_does_not() {
    let mut world = World::powered();
    for attempt in 1..=3 {
        world.plugged(1, 3);
        let session = world.script(1).unwrap();
        world.report(session, failure("write.medium")).unwrap();
        world.wait(120);
        let asked = world.requests();
        assert_eq!(asked.len(), attempt.min(2), "the third failure holds it");
        assert_eq!(asked.last().unwrap()["reason"], "retry");
        world.done(3, None);
    }
    assert_eq!(world.alarm(), None);
    let mut world = World::powered();
    world.plugged(1, 3);
    world.script(1).unwrap();
    world.wait(120);
    assert_eq!(world.names().last(), Some(&"device.interrupted"), "silent");
    world.wait(120);
    assert_eq!(world.requests().len(), 1);
}

#[test]
fn whoever_is_refused_finished_aborted_or_has_its_script_is_left_alone() {
    let mut world = World::powered();
    world.plugged(1, 3);
    world.provision(1);
    world.wait(300);
    // It boots from what was written, and is met with silence.
    world.plugged(1, 3);
    world.wait(300);
    world.plugged(1, 3);
    world.wait(300);
    world.plugged(2, 4);
    world.script(2).unwrap();
    world.order("device.abort", r#"{"device":"020000000002"}"#).unwrap();
    world.wait(300);
    world.plugged(3, 5);
    let Answer::Refused(_) = world.script_with(3, Facts::default()) else { panic!("it has no storage") };
    world.wait(300);
    world.plugged(4, 6);
    let session = world.script(4).unwrap();
    for _ in 0..10 {
        world.tell(Observation::Progressed { session, token: token(), step: StepName::Write, bytes: 1 }).unwrap();
        world.wait(60);
    }
    world.order("station.drain", "{}").unwrap();
    world.plugged(5, 7);
    world.wait(300);
    assert!(world.requests().is_empty(), "{:?}", world.requests());
}

#[test]
fn a_place_that_is_off_closed_unknown_or_being_switched_is_left_alone() {
    let mut world = World::powered();
    world.discover(1);
    world.wait(300);
    assert!(world.requests().is_empty(), "nobody knows where it is");
    let off = PowerDone { slot: "sw1-3".parse().unwrap(), action: PowerAction::Off, by: "me".to_owned(), fault: None };
    world.tell(Observation::PowerDone(off.clone())).unwrap();
    world.located(1, 3);
    world.wait(300);
    assert!(world.requests().is_empty(), "its power is off");
    world.tell(Observation::PowerDone(PowerDone { action: PowerAction::On, ..off })).unwrap();
    world.wait(119);
    world.order("slot.power", r#"{"slot":"sw1-3","action":"cycle"}"#).unwrap();
    world.wait(599);
    assert_eq!(world.requests().len(), 1, "somebody else's request is under way");
    world.wait(1);
    assert_eq!(world.requests().len(), 2, "and was lost");

    let mut world = World::powered();
    let slot = "sw1-3".parse().unwrap();
    world.plugged(1, 3);
    let quarantined: Fact = Event::SlotQuarantined { slot, failures: 5 }.into();
    world.floor.apply(&quarantined, world.now);
    world.wait(300);
    assert!(world.requests().is_empty() && world.alarm().is_none());
}

#[test]
fn power_is_never_taken_from_the_one_that_came_after() {
    let mut world = World::powered();
    world.plugged(1, 3);
    let session = world.script(1).unwrap();
    world.report(session, failure("write.medium")).unwrap();
    world.wait(30);
    // Another module is put into the socket, and works there for a long time.
    world.plugged(2, 3);
    let session = world.script(2).unwrap();
    for _ in 0..10 {
        world.tell(Observation::Progressed { session, token: token(), step: StepName::Write, bytes: 1 }).unwrap();
        world.wait(60);
    }
    assert!(world.requests().is_empty());
    world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
    world.report(session, completed(StepName::Verify, good())).unwrap();
    world.report(session, Reported::Finished).unwrap();
    world.wait(600);
    assert!(world.requests().is_empty(), "what has passed stays in peace as well");

    // One of which nobody knows yet where it is could be there.
    let mut world = World::powered();
    world.plugged(1, 3);
    world.wait(100);
    world.script(2).unwrap();
    world.wait(59);
    assert!(world.requests().is_empty());
    world.wait(1);
    assert_eq!(world.requests().len(), 1);
}

#[test]
fn one_port_of_a_switch_comes_after_the_other() {
    let mut world = World::powered();
    for n in 1..=4 {
        world.plugged(n, n.into());
    }
    for count in 1..=4 {
        world.wait(if count == 1 { 120 } else { 1 });
        assert_eq!(world.requests().len(), count);
    }
}

#[test]
fn a_restart_forgets_neither_the_count_nor_who_is_awaited() {
    let mut world = World::powered();
    world.plugged(1, 3);
    world.wait(120);
    world.done(3, None);
    let stored = serde_json::to_string(world.floor.device(mac(1)).unwrap()).unwrap();
    let slots = serde_json::to_string(world.floor.slots()).unwrap();
    let mut later = World::powered();
    later.now = world.now.plus(Duration::from_secs(300));
    later.floor.learn_slots(serde_json::from_str(&slots).unwrap());
    later.floor.learn_awaited(serde_json::from_str(&stored).unwrap(), later.now);
    later.wait(119);
    assert!(later.requests().is_empty(), "the station was away, not the device");
    later.wait(1);
    assert_eq!(later.requests().len(), 1);
    later.done(3, None);
    later.wait(120);
    assert!(later.requests().len() == 1 && later.alarm().is_some(), "one before and one after make two");
}

/// What `device.identify` says: by what, or why not.
fn identified(world: &mut World, n: u8, seconds: u16) -> Result<Value, String> {
    match world.order("device.identify", &format!(r#"{{"device":"{}","seconds":{seconds}}}"#, mac(n))) {
        Ok(Answer::Reply(reply)) => Ok(reply.result.unwrap()["by"].clone()),
        Err(refusal) if refusal.code == "not_reachable" => Err(refusal.detail),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_that_runs_no_script_is_shown_by_its_port_and_one_that_does_by_its_led() {
    let mut world = World::powered();
    world.plugged(1, 3);
    assert_eq!(identified(&mut world, 1, 15), Ok(json!("port")));
    let asked = world.requests().remove(0);
    assert_eq!(
        (&asked["reason"], &asked["action"], &asked["device"]),
        (&json!("identify"), &json!("cycle"), &json!(mac(1)))
    );
    let busy = identified(&mut world, 1, 15).unwrap_err();
    assert!(busy.contains("being switched"), "{busy}");
    world.done(3, None);
    assert!(world.floor.device(mac(1)).unwrap().awaited.cycles == 0, "somebody asked for it");
    let ended = identified(&mut world, 1, 0).unwrap_err();
    assert!(ended.contains("nothing blinks"), "{ended}");

    let session = world.script(1).unwrap();
    world.report(session, Reported::StepStarted { step: StepName::Write }).unwrap();
    assert_eq!(identified(&mut world, 1, 15), Ok(json!("led")));
    world.pass(25);
    let silent = identified(&mut world, 1, 15).unwrap_err();
    assert!(silent.contains("not heard"), "what may be writing keeps its power: {silent}");
    assert_eq!(world.requests().len(), 1);
}

#[test]
fn a_port_shows_nobody_where_that_would_harm_or_not_be_seen() {
    let mut world = World::powered();
    world.plugged(1, 3);
    world.plugged(2, 3);
    world.script(2).unwrap();
    let other = identified(&mut world, 1, 15).unwrap_err();
    assert!(other.contains(&mac(2).to_string()), "{other}");
    world.discover(3);
    let nowhere = identified(&mut world, 3, 15).unwrap_err();
    assert!(nowhere.contains("runs no script") && nowhere.contains("not known in which slot"), "{nowhere}");
    let port = SwitchPort { switch: "sw2".to_owned(), port: "9".to_owned(), alias: None, number: 9 };
    world.tell(Observation::Located(Located { mac: mac(3), ports: vec![port] })).unwrap();
    let powerless = identified(&mut world, 3, 15).unwrap_err();
    assert!(powerless.contains("sw2"), "{powerless}");
    let slot = "sw1-5".parse().unwrap();
    world.plugged(4, 5);
    world
        .tell(Observation::PowerDone(PowerDone { slot, action: PowerAction::Off, by: "me".to_owned(), fault: None }))
        .unwrap();
    assert!(identified(&mut world, 4, 15).unwrap_err().contains("is off"));
    assert!(world.requests().is_empty());
}

#[test]
fn an_eeprom_that_may_be_half_written_keeps_its_power() {
    let mut world = World::powered();
    world.plugged(1, 3);
    let session = world.script(1).unwrap();
    let firmware = serde_json::from_value(json!({
        "image": IMAGE, "version": "2026-08-04", "chip": "bcm2711", "sha256": RAW, "size_bytes": 524_288
    }));
    world.floor.sessions.get_mut(&session).unwrap().plan.firmware = Some(firmware.unwrap());
    world.wait(120);
    assert_eq!(world.names().last(), Some(&"device.interrupted"));
    world.wait(600);
    assert!(world.requests().is_empty());
    let why = identified(&mut world, 1, 15).unwrap_err();
    assert!(why.contains("EEPROM"), "{why}");
}

/// One random thing that may happen to three modules at two sockets.
fn stir(world: &mut World, (kind, a, b): (u8, u8, u8)) {
    let (n, number) = (a % 3 + 1, u64::from(b % 2) + 3);
    let open = world.floor.device(mac(n)).and_then(|device| device.open_session);
    match (kind, open) {
        (0 | 1, _) => world.plugged(n, number),
        (2, _) => drop(world.script(n)),
        (3, Some(session)) => drop(world.report(session, failure("write.medium"))),
        (4 | 5, Some(session)) => {
            drop(world.tell(Observation::Progressed {
                session,
                token: token(),
                step: StepName::Write,
                bytes: a.into(),
            }));
        }
        (6, _) => world.done(number, (a > 200).then_some("no answer")),
        (7, _) => drop(world.order("device.abort", &format!(r#"{{"device":"{}"}}"#, mac(n)))),
        (8, _) => drop(world.order("device.authorize", &format!(r#"{{"device":"{}"}}"#, mac(n)))),
        (9, _) => {
            let action = [PowerAction::Off, PowerAction::On][usize::from(a % 2)];
            let slot = format!("sw1-{number}").parse().unwrap();
            let done = PowerDone { slot, action, by: "me".to_owned(), fault: None };
            world.tell(Observation::PowerDone(done)).unwrap();
        }
        _ => world.pass(u64::from(b)),
    }
}

proptest! {
    #[test]
    fn whatever_happens_power_stays_where_somebody_works(walk in prop::collection::vec((0u8..16, any::<u8>(), any::<u8>()), 1..150)) {
        let mut world = World::powered();
        for what in walk {
            let (before, logged, at) = (world.floor.clone(), world.log.len(), world.now);
            stir(&mut world, what);
            let mut switched = 0;
            for (now, event) in &world.log[logged..] {
                let Event::SlotPowerRequested { slot, device: Some(mac), by, .. } = event else { continue };
                switched += 1;
                prop_assert_eq!(by, "bootline");
                let state = before.slots().get(slot).cloned().unwrap_or_default();
                prop_assert!(!state.off && !state.quarantined);
                prop_assert!(state.power.is_none_or(|news| !news.pending || now.since(news.at) >= Duration::from_secs(600)));
                prop_assert!(before.sessions.values().all(|session| !session.is_open() || session.slot.as_ref() != Some(slot)));
                let device = before.device(*mac).unwrap();
                prop_assert!(device.awaited.cycles < 2 && device.open_session.is_none());
                prop_assert!(device.awaited.since.is_some_and(|(since, _)| now.since(since) >= Duration::from_secs(120)));
            }
            prop_assert!(switched <= 1, "one a switch and tick, {at}");
        }
    }
}
