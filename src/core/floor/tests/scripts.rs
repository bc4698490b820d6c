//! Scripts of the site in a session: in their order, each with its end, and nothing secret in an event.

use super::*;
use crate::core::floor::Note;
use crate::core::script::ScriptRun;

impl World {
    /// A project with one script before the write and one after it.
    fn with_scripts(on_failure: &str) -> Self {
        let mut world = Self::ready();
        for name in ["Before", "After"] {
            let put = format!(r#"{{"name":"{name}","text":"true","on_failure":"{on_failure}"}}"#);
            world.order("script.put", &put).unwrap();
        }
        let scripts = r#"{"project":"gateway","scripts":{"preinstall":["before"],"postinstall":["after"]}}"#;
        world.order("project.update", scripts).unwrap();
        world.log.clear();
        world
    }

    fn ran(&mut self, session: SessionId, step: StepName, script: &str, exit: u8) -> Result<(), String> {
        let run = ScriptRun { script: script.parse().unwrap(), exit, duration_s: 1, timed_out: false };
        self.report(session, completed(step, Evidence { scripts: vec![run], ..Evidence::default() }))
    }
}

fn wrong<T>(result: Result<T, String>) -> String {
    result.err().unwrap_or_default()
}

#[test]
fn a_session_passes_after_the_last_of_its_scripts_and_in_no_other_order() {
    let mut world = World::with_scripts("fail");
    let session = world.script(1).unwrap();
    let started = |step| Reported::StepStarted { step };
    assert_eq!(wrong(world.report(session, started(StepName::Write))), "wrong_state", "the script comes first");
    assert_eq!(wrong(world.report(session, completed(StepName::Preinstall, Evidence::default()))), "invalid_params");
    world.ran(session, StepName::Preinstall, "before", 0).unwrap();
    world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
    world.report(session, completed(StepName::Verify, good())).unwrap();
    assert_eq!(wrong(world.report(session, Reported::Finished)), "wrong_state", "the last script has not run");
    world.ran(session, StepName::Postinstall, "after", 0).unwrap();
    world.report(session, Reported::Finished).unwrap();
    assert_eq!(world.names().last(), Some(&"device.provisioned"));
}

#[test]
fn a_script_that_must_not_fail_fails_the_session_whatever_the_device_makes_of_it() {
    for (on_failure, answer, last) in
        [("fail", "script.failed", "device.failed"), ("warn", "", "device.step.completed")]
    {
        let mut world = World::with_scripts(on_failure);
        let session = world.script(1).unwrap();
        assert_eq!(wrong(world.ran(session, StepName::Preinstall, "before", 3)), answer);
        assert_eq!(world.names().last(), Some(&last));
    }
}

#[test]
fn a_script_that_is_used_is_not_deleted_and_keeps_its_text_for_the_session() {
    let mut world = World::with_scripts("fail");
    let delete = r#"{"script":"before"}"#;
    assert_eq!(world.order("script.delete", delete).unwrap_err().code, "in_use");
    let session = world.script(1).unwrap();
    world.order("project.update", r#"{"project":"gateway","scripts":{}}"#).unwrap();
    let refusal = world.order("script.delete", delete).unwrap_err();
    assert!(refusal.detail.contains(&session.to_string()), "{refusal}");
    world.order("script.put", r#"{"name":"Before","text":"false"}"#).unwrap();
    assert_eq!(world.floor.session(session).unwrap().plan.scripts.preinstall[0].revision, 1);
    world.order("device.abort", r#"{"device":"020000000001"}"#).unwrap();
    world.order("script.delete", delete).unwrap();
    for put in [r#"{"name":"!","text":"x"}"#, r#"{"name":"a","text":" "}"#, r#"{"name":"a","text":"x","timeout_s":0}"#]
    {
        assert_eq!(world.order("script.put", put).unwrap_err().code, "invalid_params", "{put}");
    }
    assert!(world.order("project.update", r#"{"project":"gateway","scripts":{"preinstall":["none"]}}"#).is_err());
}

#[test]
fn secrets_reach_the_session_and_no_event_and_leave_it_with_its_end() {
    let mut world = World::ready();
    let assign = r#"{"device":"020000000001","variables":{"HOSTNAME":"gw-7"},"secrets":{"KEY":"hunter2"}}"#;
    world.order("device.assign", assign).unwrap();
    let session = world.script(1).unwrap();
    let secrets =
        |world: &World| world.floor.session(session).unwrap().data.secrets.values().cloned().collect::<Vec<_>>();
    assert_eq!(secrets(&world), ["hunter2"]);
    world.provision(1);
    assert_eq!(secrets(&world), [""; 0]);
    let told = serde_json::to_string(&world.log.iter().map(|(_, event)| event).collect::<Vec<_>>()).unwrap();
    assert!(told.contains("gw-7") && told.contains("KEY") && !told.contains("hunter2"), "{told}");
    assert!(
        !format!("{:?}", Note::DataAssigned { mac: mac(1), data: world.floor.device(mac(1)).unwrap().data.clone() })
            .contains("hunter2")
    );
    for wrong in [
        r#"{"device":"020000000001"}"#,
        r#"{"device":"020000000001","variables":{"PATH":"/"}}"#,
        r#"{"device":"020000000001","variables":{"A":"1"},"secrets":{"A":"2"}}"#,
    ] {
        assert!(world.order("device.assign", wrong).is_err(), "{wrong}");
    }
}
