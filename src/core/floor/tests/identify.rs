//! Which one is it? Only a device that can blink is asked to.

use super::*;

const ASK: &str = r#"{"device":"020000000001"}"#;

impl World {
    fn asked(&mut self, params: &str) -> Result<(), String> {
        match self.order("device.identify", params) {
            Ok(Answer::Reply(_)) => Ok(()),
            Err(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    /// What a device hears when it says how far it is.
    fn is_to_blink(&mut self, session: SessionId) -> bool {
        let told = Observation::Progressed { session, token: token(), step: StepName::Write, bytes: 1 };
        match self.tell(told) {
            Ok(Answer::Identify) => true,
            Ok(Answer::Noted) => false,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_device_in_its_script_blinks_for_as_long_as_it_was_asked_to() {
    let mut world = World::ready();
    let session = world.script(1).unwrap();
    world.report(session, Reported::StepStarted { step: StepName::Write }).unwrap();
    assert!(!world.is_to_blink(session));
    world.asked(r#"{"device":"020000000001","seconds":10}"#).unwrap();
    assert!(world.is_to_blink(session));
    world.pass(9);
    assert!(world.is_to_blink(session));
    world.pass(2);
    assert!(!world.is_to_blink(session));
    world.asked(ASK).unwrap();
    world.asked(r#"{"device":"020000000001","seconds":0}"#).unwrap();
    assert!(!world.is_to_blink(session), "asked to stop");
}

#[test]
fn where_nobody_would_blink_the_answer_is_no() {
    let mut world = World::ready();
    assert_eq!(world.asked(ASK), Err("not_found".to_owned()));
    world.discover(1);
    assert_eq!(world.asked(ASK), Err("not_reachable".to_owned()), "it only boots");
    let session = world.script(1).unwrap();
    assert_eq!(world.asked(ASK), Err("not_reachable".to_owned()), "its script has not said a word");
    world.report(session, Reported::StepStarted { step: StepName::Write }).unwrap();
    world.asked(ASK).unwrap();
    world.pass(25);
    assert_eq!(world.asked(ASK), Err("not_reachable".to_owned()), "it fell silent");
    assert_eq!(world.asked(r#"{"device":"020000000001","seconds":301}"#), Err("invalid_params".to_owned()));
    world.report(session, failure("write.medium")).unwrap();
    assert_eq!(world.asked(ASK), Err("not_reachable".to_owned()), "it is over");
}
