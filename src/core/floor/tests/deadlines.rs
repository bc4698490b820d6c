//! The time that each step has, and who is gone.

use super::*;

impl World {
    /// `seconds` pass, and every 100 of them the device says that its step has come to `bytes`.
    fn pulse(&mut self, session: SessionId, step: StepName, bytes: impl Fn(u64) -> u64, seconds: u64) {
        for at in (100..=seconds).step_by(100) {
            self.pass(100);
            let _ = self.tell(Observation::Progressed { session, token: token(), step, bytes: bytes(at) });
        }
    }

    fn begun(&mut self, step: StepName) -> SessionId {
        let session = self.script(1).unwrap();
        self.report(session, Reported::StepStarted { step }).unwrap();
        session
    }

    fn last_code(&self) -> (&'static str, String) {
        match self.log.last() {
            Some((_, Event::DeviceFailed { code, .. })) => ("failed", code.clone()),
            Some((_, Event::DeviceInterrupted { code, .. })) => ("interrupted", code.clone()),
            _ => ("open", String::new()),
        }
    }
}

#[test]
fn a_device_that_tells_and_falls_silent_is_gone_though_its_image_is_open() {
    let mut world = World::ready();
    let session = world.begun(StepName::Write);
    world.tell(Observation::ImageFlow { session, bytes: 1, open: 1 }).unwrap();
    world.pulse(session, StepName::Write, |at| at, 600);
    world.pass(119);
    assert_eq!(world.last_code().0, "open");
    world.pass(1);
    assert_eq!(world.last_code(), ("interrupted", "silent".to_owned()));
}

#[test]
fn a_device_that_lives_and_moves_no_byte_stalls_in_the_write_and_in_the_read_back() {
    for step in [StepName::Write, StepName::Verify] {
        let mut world = World::ready();
        let session = world.script(1).unwrap();
        if step == StepName::Verify {
            world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
        }
        world.report(session, Reported::StepStarted { step }).unwrap();
        world.pulse(session, step, |at| at, 2000);
        assert_eq!(world.last_code().0, "open", "{step:?}: it may take as long as it moves");
        world.pulse(session, step, |_| 2000, 800);
        assert_eq!(world.last_code().0, "open", "{step:?}");
        world.pulse(session, step, |_| 2000, 200);
        assert_eq!(world.last_code(), ("failed", "stalled".to_owned()), "{step:?}");
    }
}

#[test]
fn a_step_of_scripts_has_two_minutes_beyond_what_its_scripts_may_take() {
    let mut world = World::ready();
    for (name, background) in [("Before", false), ("Beside", true)] {
        let put = format!(r#"{{"name":"{name}","text":"true","timeout_s":500,"background":{background}}}"#);
        world.order("script.put", &put).unwrap();
    }
    world.order("project.update", r#"{"project":"gateway","scripts":{"preinstall":["before","beside"]}}"#).unwrap();
    let session = world.begun(StepName::Preinstall);
    world.pulse(session, StepName::Preinstall, |_| 0, 600);
    assert_eq!(world.last_code().0, "open");
    world.pass(20);
    assert_eq!(
        world.last_code(),
        ("failed", "step.timeout".to_owned()),
        "the one beside counts where it is waited for"
    );
}
