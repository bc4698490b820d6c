//! Several projects at once: which device gets which, and what is held.

use serde_json::{Value, json};

use super::*;
use crate::core::project::ProjectId;

impl World {
    /// Two more projects besides `gateway`, all active once rules name them.
    fn with_rules(rules: &str) -> Self {
        let mut world = Self::ready();
        for name in ["Small", "Jumped"] {
            world.order("project.create", &format!(r#"{{"name":"{name}","image":"a.img"}}"#)).unwrap();
        }
        world.order("rules.set", &format!(r#"{{"rules":{rules}}}"#)).unwrap();
        for id in ["small", "jumped"] {
            world.order("project.activate", &format!(r#"{{"project":"{id}"}}"#)).unwrap();
        }
        world.log.clear();
        world
    }

    fn project_of(&mut self, n: u8, facts: Facts) -> Result<String, String> {
        match self.script_with(n, facts) {
            Answer::Session(session) => Ok(session.project.to_string()),
            Answer::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    fn result(&mut self, name: &str, params: &str) -> Value {
        match self.order(name, params).unwrap() {
            Answer::Reply(reply) => reply.result.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

const RULES: &str = r#"[{"project":"jumped","when":{"jumper":["0xx"]}},
                        {"project":"small","name":"up to 1 MB","when":{"storage_bytes":{"max":1000000}}}]"#;

fn facts(sectors: u64, jumper: &str) -> Facts {
    Facts { storage_sectors: Some(sectors), jumper: Some(jumper.to_owned()), ..Facts::default() }
}

#[test]
fn several_projects_are_active_at_once_and_each_device_gets_its_own() {
    let mut world = World::with_rules(RULES);
    assert_eq!(world.project_of(1, facts(1000, "011")), Ok("jumped".to_owned()));
    assert_eq!(world.project_of(2, facts(1000, "111")), Ok("small".to_owned()));
    assert_eq!(world.project_of(3, facts(9000, "111")), Ok("gateway".to_owned()), "the one without rules");
    world.order("project.deactivate", r#"{"project":"gateway"}"#).unwrap();
    assert!(matches!(world.discover(4), DhcpVerdict::Lease(_)), "its jumpers are not known yet");
    assert_eq!(world.project_of(4, facts(9000, "111")), Err("hold".to_owned()));
    world.order("rules.set", r#"{"rules":[{"project":"small","when":{"model":["CM5"]}},{"project":"jumped","when":{"mac":["dca632000000"]}}]}"#).unwrap();
    assert_eq!(world.discover(5), DhcpVerdict::Silent, "certainly nothing to do for a CM4");
    let (_, Event::DeviceRefused { code, .. }) = world.log.last().unwrap() else { panic!("{:?}", world.log.last()) };
    assert_eq!(code, "hold");
}

#[test]
fn only_one_project_without_rules_is_active() {
    let mut world = World::with_rules(RULES);
    let refusal = world.order("rules.set", r#"{"rules":[{"project":"small"}]}"#).unwrap_err();
    assert_eq!(refusal.code, "wrong_state");
    assert!(refusal.detail.starts_with("gateway, jumped would all be active"), "{refusal}");
    world.order("project.create", r#"{"name":"Other","image":"a.img","active":true}"#).unwrap();
    let active = |world: &World, id: &str| world.floor.project(&id.parse::<ProjectId>().unwrap()).unwrap().active;
    assert!(!active(&world, "gateway") && active(&world, "small") && active(&world, "other"));
    assert_eq!(world.order("project.delete", r#"{"project":"small"}"#).unwrap_err().code, "wrong_state");
    world.order("project.deactivate", r#"{"project":"small"}"#).unwrap();
    assert_eq!(world.order("project.delete", r#"{"project":"small"}"#).unwrap_err().code, "in_use");
}

#[test]
fn wrong_rules_change_nothing_and_name_their_place() {
    let mut world = World::with_rules(RULES);
    let before = world.floor.clone();
    for (rules, pointer) in [
        (r#"[{"project":"none"}]"#, "/params/rules/0/project"),
        (r#"[{"project":"small","when":{"model":["CM9"]}}]"#, "/params/rules"),
        (r#"[{"project":"small","name":"a\nb"}]"#, "/params/rules/0/name"),
    ] {
        let refusal = world.order("rules.set", &format!(r#"{{"rules":{rules}}}"#)).unwrap_err();
        assert_eq!(refusal.errors[0].pointer, pointer, "{refusal}");
    }
    let many = vec![json!({"project": "small"}); 201];
    assert!(world.order("rules.set", &json!({"rules": many}).to_string()).is_err());
    assert_eq!(world.floor, before);
}

#[test]
fn rules_test_says_which_rule_takes_a_device_and_why() {
    let mut world = World::with_rules(RULES);
    world.discover(1);
    let open = world.result("rules.test", r#"{"device":"020000000001"}"#);
    assert_eq!(open["choice"], json!({"by": "undecided", "projects": ["jumped", "small", "gateway"]}));
    let told = world.result("rules.test", r#"{"device":"020000000001","jumper":"111","storage_bytes":512000}"#);
    assert_eq!(told["choice"], json!({"by": "rule", "rule": 1, "project": "small"}));
    assert_eq!(told["rules"][0]["holds"], "no");
    assert_eq!(
        told["rules"][0]["conditions"],
        json!([{"field": "jumper", "holds": "no", "wanted": ["0xx"], "known": "111"}])
    );
    let tried = world.result("rules.test", r#"{"device":"020000000001","rules":[{"project":"jumped"}]}"#);
    assert_eq!(tried["choice"]["project"], "jumped");
    world.provision(1);
    let again = world.result("rules.test", r#"{"device":"020000000001","jumper":"111","storage_bytes":512000}"#);
    assert_eq!(again["refusal"]["code"], "already_provisioned");
    assert_eq!(world.floor.rules().rules.len(), 2, "a test changes nothing");
}

#[test]
fn an_assignment_precedes_the_rules_and_allows_one_more_attempt() {
    let mut world = World::with_rules(RULES);
    world.order("device.assign", r#"{"device":"02:00:00:00:00:01","project":"small"}"#).unwrap();
    assert_eq!(world.names(), ["device.assigned", "command.completed"]);
    assert_eq!(world.project_of(1, facts(9000, "011")), Ok("small".to_owned()), "before it was ever seen");
    let session = world.floor.device(mac(1)).unwrap().open_session.unwrap();
    world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
    world.report(session, completed(StepName::Verify, good())).unwrap();
    world.report(session, Reported::Finished).unwrap();
    assert_eq!(world.project_of(1, facts(9000, "011")), Err("already_provisioned".to_owned()));
    world.order("device.assign", r#"{"device":"020000000001","project":"small"}"#).unwrap();
    assert_eq!(world.project_of(1, facts(9000, "011")), Ok("small".to_owned()));
    world.order("device.unassign", r#"{"device":"020000000001"}"#).unwrap();
    assert_eq!(world.floor.device(mac(1)).unwrap().assigned, None);
    assert!(world.order("device.assign", r#"{"device":"020000000001","project":"none"}"#).is_err());
    assert!(world.order("device.assign", r#"{"device":"ffffffffffff","project":"small"}"#).is_err());
}

#[test]
fn the_image_follows_the_size_of_the_storage() {
    let mut world = World::ready();
    let large = Image { id: Digest::new([7; 32]), name: "large.img".to_owned(), ..image() };
    world.tell(Observation::ImageIngested(large)).unwrap();
    let sized = r#"{"project":"gateway","image":"large.img","sizes":[{"up_to_bytes":1024000,"image":"a.img"}],
                    "status_led":{"gpio":21,"on_success":false}}"#;
    world.order("project.update", sized).unwrap();
    for (n, sectors, image) in [(1, 2000, IMAGE), (2, 2001, Digest::new([7; 32]))] {
        let Answer::Session(session) = world.script_with(n, facts(sectors, "111")) else { panic!("refused") };
        assert_eq!(session.plan.image, image);
        assert_eq!(session.plan.status_led.map(|led| led.gpio.to_string()).as_deref(), Some("21"));
    }
    assert_eq!(world.order("image.delete", r#"{"image":"a.img"}"#).unwrap_err().code, "in_use");
    world.order("project.update", r#"{"project":"gateway","status_led":null,"sizes":[]}"#).unwrap();
    let project = world.floor.project(&"gateway".parse().unwrap()).unwrap();
    assert!(project.status_led.is_none() && project.sizes.is_empty());
    for wrong in [
        r#"{"project":"gateway","status_led":{"gpio":58}}"#,
        r#"{"project":"gateway","sizes":[{"up_to_bytes":1,"image":"none"}]}"#,
        r#"{"project":"gateway","sizes":[{"up_to_bytes":1,"image":"a.img"},{"up_to_bytes":1,"image":"a.img"}]}"#,
    ] {
        assert!(world.order("project.update", wrong).is_err(), "{wrong}");
    }
}
