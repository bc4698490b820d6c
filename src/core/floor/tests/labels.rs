//! Labels: what is queued when, what fails, what expires, and that nothing of it stops a device unasked.

use serde_json::{Value, json};

use super::*;
use crate::core::label::MOST_JOBS;

impl World {
    /// One printer, one label, and a project that prints it.
    fn with_label(label: &str) -> Self {
        let mut settings = settings();
        settings.line.printers.insert("zebra".parse().unwrap(), Duration::from_secs(3600));
        let mut world = Self { floor: Floor::new(settings), ..Self::new() };
        world.tell(Observation::ImageIngested(image())).unwrap();
        world.order("label.put", r#"{"name":"Plate","text":"{{ device.mac }}\n"}"#).unwrap();
        let project = format!(r#"{{"name":"Gateway","image":"a.img","active":true,"labels":[{label}]}}"#);
        world.order("project.create", &project).unwrap();
        world.log.clear();
        world
    }

    /// Data of the last event of this name.
    fn last(&self, name: &str) -> Value {
        let event = self.log.iter().rev().find(|(_, event)| event.name() == name);
        let (_, event) = event.unwrap_or_else(|| panic!("no {name} in {:?}", self.names()));
        json!(event)["data"].clone()
    }

    fn waiting(&self) -> Vec<u64> {
        self.floor.labels().jobs.keys().copied().collect()
    }

    fn printed(&mut self, job: u64) {
        self.tell(Observation::LabelPrinted { job, output: None }).unwrap();
    }
}

fn code(result: Result<Answer, Refusal>) -> String {
    result.err().map(|refusal| refusal.code).unwrap_or_default()
}

#[test]
fn a_label_is_queued_when_the_project_says_and_numbers_are_never_given_twice() {
    let mut world = World::with_label(r#"{"label":"plate","on":"preinstall","printer":"zebra"}"#);
    world.script(1).unwrap();
    assert_eq!(world.names().last(), Some(&"label.queued"));
    assert_eq!(world.last("label.queued")["job"], 1);
    world.printed(1);
    assert!(world.waiting().is_empty());
    world.printed(1);
    assert_eq!(world.names().iter().filter(|name| **name == "label.printed").count(), 1, "said twice, told once");
    world.script(2).unwrap();
    assert_eq!(world.waiting(), [2]);

    let mut world = World::with_label(r#"{"label":"plate","on":"passed","printer":"zebra"}"#);
    world.provision(1);
    let names = world.names();
    assert_eq!(names[names.len() - 2..], ["device.provisioned", "label.queued"]);
    let told = world.last("label.queued");
    assert_eq!((&told["required"], &told["reprint"], &told["revision"]), (&json!(false), &json!(false), &json!(1)));
}

#[test]
fn a_label_that_cannot_be_queued_is_told_and_stops_nobody() {
    let mut world = World::with_label(r#"{"label":"plate","on":"passed"}"#);
    world.provision(1);
    let failed = world.last("label.failed");
    assert_eq!((&failed["code"], &failed["job"]), (&json!("label.no_printer"), &Value::Null));
    assert!(failed["advice"].as_str().unwrap().contains("printer"), "{failed}");
    assert!(world.names().contains(&"device.provisioned"));
}

#[test]
fn what_is_not_printed_in_time_is_given_up_with_the_reason() {
    let mut world = World::with_label(r#"{"label":"plate","on":"passed","printer":"zebra"}"#);
    world.provision(1);
    let detail = "zebra (tcp 127.0.0.1:9): connection refused".to_owned();
    world.tell(Observation::AlarmRaised { code: "printer.zebra".to_owned(), detail }).unwrap();
    world.pass(3599);
    assert_eq!(world.waiting(), [1]);
    world.pass(1);
    assert!(world.waiting().is_empty());
    let failed = world.last("label.failed");
    assert_eq!((&failed["code"], &failed["job"]), (&json!("label.expired"), &json!(1)));
    assert!(failed["detail"].as_str().unwrap().contains("connection refused"), "{failed}");
    assert!(world.floor.alarms().contains_key("printer.zebra"), "it is over with the next label that is printed");
    world.order("label.print", r#"{"label":"plate","device":"020000000001","printer":"zebra"}"#).unwrap();
    world.printed(2);
    assert!(world.floor.alarms().is_empty());
}

#[test]
fn a_session_fails_for_its_label_only_where_the_project_says_so() {
    for (on_failure, outcome) in [("warn", "device.provisioned"), ("fail", "device.failed")] {
        let label = format!(r#"{{"label":"plate","on":"preinstall","printer":"zebra","on_failure":"{on_failure}"}}"#);
        let mut world = World::with_label(&label);
        let session = world.script(1).unwrap();
        let (code, detail) = ("label.template".to_owned(), "line 1: no".to_owned());
        world.tell(Observation::LabelFailed { job: 1, code, detail }).unwrap();
        let open = world.floor.session(session).unwrap().is_open();
        assert_eq!(open, on_failure == "warn");
        if open {
            world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
            world.report(session, completed(StepName::Verify, good())).unwrap();
            world.report(session, Reported::Finished).unwrap();
        } else {
            let failed = world.last("device.failed");
            assert_eq!((&failed["code"], &failed["retryable"]), (&json!("label.failed"), &json!(true)));
            assert!(failed["advice"].is_string() && failed["detail"].as_str().unwrap().contains("line 1"), "{failed}");
        }
        assert_eq!(world.names().last(), Some(&outcome));
    }
}

#[test]
fn a_session_does_not_pass_before_the_label_that_it_must_have() {
    let label = r#"{"label":"plate","on":"preinstall","printer":"zebra","on_failure":"fail"}"#;
    for in_time in [true, false] {
        let mut world = World::with_label(label);
        let session = world.script(1).unwrap();
        if in_time {
            world.printed(1);
        }
        world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
        world.report(session, completed(StepName::Verify, good())).unwrap();
        let told = world.report(session, Reported::Finished);
        let last = world.names().last().copied();
        match in_time {
            true => assert_eq!((told, last), (Ok(()), Some("device.provisioned"))),
            false => assert_eq!((told, last), (Err("label.failed".to_owned()), Some("device.failed"))),
        }
    }
    // Without a printer it fails at once.
    let mut world = World::with_label(r#"{"label":"plate","on":"preinstall","on_failure":"fail"}"#);
    let session = world.script(1).unwrap();
    assert_eq!(world.names().last(), Some(&"device.failed"));
    assert!(!world.floor.session(session).unwrap().is_open());
}

#[test]
fn bad_requests_say_what_is_wrong_and_change_nothing() {
    let mut world = World::with_label(r#"{"label":"plate","on":"passed","printer":"zebra"}"#);
    world.script(1).unwrap();
    let before = world.floor.clone();
    for (name, params, status, part) in [
        ("label.put", json!({"name": "x", "text": "a\n{{ mac | nope }}"}), 400, "line 2"),
        ("label.put", json!({"name": "x", "text": "a\n\n{% if %}"}), 400, "line 3"),
        ("label.put", json!({"name": "x", "text": "x".repeat((48 << 10) + 1)}), 400, "49152"),
        ("label.put", json!({"name": "!", "text": "x"}), 400, "id"),
        ("label.delete", json!({"label": "plate"}), 409, "project gateway"),
        ("label.delete", json!({"label": "nothing"}), 404, "nothing"),
        ("label.print", json!({"label": "plate", "printer": "zebra"}), 400, "device or a session"),
        ("label.print", json!({"label": "none", "device": "020000000001", "printer": "zebra"}), 404, "none"),
        ("label.print", json!({"label": "plate", "device": "020000000077", "printer": "zebra"}), 404, "020000000077"),
        ("label.print", json!({"label": "plate", "device": "020000000001", "printer": "brady"}), 409, "brady"),
        ("label.print", json!({"label": "plate", "device": "020000000001"}), 409, "no printer"),
        ("project.update", json!({"project": "gateway", "labels": [{"label": "x", "on": "passed"}]}), 400, "label x"),
        (
            "project.update",
            json!({"project": "gateway", "labels": [{"label": "plate", "on": "passed", "printer": "brady"}]}),
            400,
            "brady",
        ),
        (
            "project.update",
            json!({"project": "gateway", "labels": [{"label": "plate", "on": "passed", "on_failure": "fail"}]}),
            400,
            "preinstall",
        ),
    ] {
        let refusal = world.order(name, &params.to_string()).expect_err(name);
        assert_eq!(refusal.status, status, "{name}: {refusal}");
        assert!(refusal.detail.contains(part), "{name}: {refusal}");
    }
    assert!(world.floor == before);
}

#[test]
fn a_queue_is_bounded_and_a_label_that_waits_keeps_its_text() {
    let mut world = World::with_label(r#"{"label":"plate","on":"passed","printer":"zebra"}"#);
    world.script(1).unwrap();
    let print = r#"{"label":"plate","device":"020000000001","printer":"zebra","reprint":true}"#;
    for _ in 0..MOST_JOBS {
        world.order("label.print", print).unwrap();
    }
    assert_eq!(code(world.order("label.print", print)), "label.queue_full");
    assert_eq!(world.last("label.queued")["reprint"], true);
    world.order("project.update", r#"{"project":"gateway","labels":[]}"#).unwrap();
    assert_eq!(code(world.order("label.delete", r#"{"label":"plate"}"#)), "in_use");
    world.pass(3600);
    world.order("label.delete", r#"{"label":"plate"}"#).unwrap();
}
