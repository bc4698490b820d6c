//! Projects with EEPROM firmware: what they may ask for, and the order of what happens to a device.

use crate::core::command::Status;
use crate::core::firmware::{Chip, Firmware, FirmwareSeen};
use crate::core::floor::tests::*;

const FIRMWARE: Digest = Digest::new([3; 32]);
const EDITED: Digest = Digest::new([4; 32]);
const STOCK: &str = "[all]\nBOOT_UART=0\n";
const NETBOOT: &str = "[all]\nBOOT_UART=0\nBOOT_ORDER=0xf2461\n";
const BUILT: u32 = 1_785_801_600;

fn firmware(id: Digest, name: &str, bootconf: &str) -> Firmware {
    Firmware {
        id,
        name: name.to_owned(),
        size_bytes: 512 << 10,
        chip: Chip::Bcm2711,
        version: "2026-08-04 8ba17717".to_owned(),
        built: Some(BUILT),
        bootconf: bootconf.to_owned(),
        room_bytes: 100,
        added_at: Timestamp::default(),
    }
}

impl World {
    /// With an image and a firmware that is not used yet.
    fn with_firmware() -> Self {
        let mut world = Self::new();
        world.tell(Observation::ImageIngested(image())).unwrap();
        world.tell(Observation::FirmwareIngested(firmware(FIRMWARE, "pieeprom.bin", STOCK))).unwrap();
        world
    }

    fn create(&mut self, firmware: &str) -> Result<(), Refusal> {
        let params = format!(r#"{{"name":"Gateway","image":"a.img","active":true,"firmware":{firmware}}}"#);
        self.order("project.create", &params).map(drop)
    }

    /// With a project that sets a boot order, and the sum of the image that comes of it.
    fn flashing(more: &str) -> Self {
        let mut world = Self::with_firmware();
        let order = r#""image":"pieeprom.bin","settings":{"BOOT_ORDER":"0xf2461"}"#;
        world.create(&format!("{{{order}{more}}}")).unwrap();
        world.edited();
        world.discover(1);
        world.news();
        world
    }

    fn edited(&mut self) {
        let edited = Observation::FirmwareEdited { firmware: FIRMWARE, bootconf: NETBOOT.to_owned(), sha256: EDITED };
        self.tell(edited).unwrap();
    }
}

fn flashed(sha256: Digest, built_before: u32, skipped: bool) -> Reported {
    let firmware = Some(FirmwareSeen {
        version_before: Some("before".to_owned()),
        built_before: Some(built_before),
        version_after: Some("after".to_owned()),
        skipped,
    });
    completed(StepName::Firmware, Evidence { sha256: Some(sha256), firmware, ..Evidence::default() })
}

#[test]
fn the_eeprom_comes_before_the_medium_and_nothing_passes_without_it() {
    let mut world = World::flashing("");
    let session = world.script(1).unwrap();
    let write = completed(StepName::Write, Evidence::default());
    assert_eq!(world.report(session, write.clone()), Err("wrong_state".to_owned()));
    assert_eq!(world.report(session, completed(StepName::Verify, good())), Err("wrong_state".to_owned()));
    assert_eq!(world.report(session, Reported::Finished), Err("wrong_state".to_owned()));
    world.report(session, Reported::StepStarted { step: StepName::Firmware }).unwrap();
    assert_eq!(world.report(session, write.clone()), Err("wrong_state".to_owned()), "it is not done yet");
    for _ in 0..2 {
        world.report(session, flashed(EDITED, BUILT - 1, false)).unwrap();
    }
    world.report(session, write).unwrap();
    world.report(session, completed(StepName::Verify, good())).unwrap();
    world.report(session, Reported::Finished).unwrap();
    let Some((_, Event::StepCompleted { firmware: Some(seen), .. })) = world.log.get(2) else {
        panic!("{:?}", world.log)
    };
    assert_eq!((seen.version_before.as_deref(), seen.version_after.as_deref()), (Some("before"), Some("after")));
    assert_eq!(world.names().last(), Some(&"device.provisioned"));
    let shown = world.floor.session(session).unwrap().shown();
    assert_eq!(shown["firmware"]["sha256"], EDITED.to_string());
    assert_eq!(shown["firmware"]["version"], "2026-08-04 8ba17717");
    assert_eq!(shown["steps"][0]["firmware"]["version_before"], "before");
}

#[test]
fn a_plan_without_firmware_has_no_such_step() {
    let mut world = World::ready();
    let session = world.script(1).unwrap();
    let started = Reported::StepStarted { step: StepName::Firmware };
    assert_eq!(world.report(session, started), Err("wrong_state".to_owned()));
    world.provision(2);
    let mut world = World::flashing("");
    let session = world.script(1).unwrap();
    world.report(session, flashed(EDITED, BUILT, true)).unwrap();
    world.report(session, completed(StepName::Write, Evidence::default())).unwrap();
    let again = Reported::StepStarted { step: StepName::Firmware };
    world.report(session, again).unwrap();
    assert_eq!(world.floor.session(session).unwrap().current_step(), None, "a repeated report changes nothing");
}

#[test]
fn what_the_eeprom_does_not_prove_fails_the_session() {
    for (report, more, code) in [
        (flashed(FIRMWARE, BUILT, false), "", "firmware.mismatch"),
        (flashed(FIRMWARE, BUILT, true), "", "firmware.mismatch"),
        (flashed(EDITED, BUILT + 1, false), "", "firmware.downgrade"),
    ] {
        let mut world = World::flashing(more);
        let session = world.script(1).unwrap();
        assert_eq!(world.report(session, report), Err(code.to_owned()));
        assert_eq!(world.names().last(), Some(&"device.failed"));
    }
    let mut world = World::flashing("");
    let session = world.script(1).unwrap();
    let silent = completed(StepName::Firmware, Evidence::default());
    assert_eq!(world.report(session, silent), Err("invalid_params".to_owned()));
    let mut world = World::flashing(r#","allow_downgrade":true"#);
    let session = world.script(1).unwrap();
    world.report(session, flashed(EDITED, BUILT + 1, false)).unwrap();
}

#[test]
fn a_firmware_step_may_take_ten_minutes_of_life_and_two_of_silence() {
    let started = Reported::StepStarted { step: StepName::Firmware };
    let mut world = World::flashing("");
    let session = world.script(1).unwrap();
    world.report(session, started.clone()).unwrap();
    for _ in 0..6 {
        world.pass(100);
        let pulse = Observation::Progressed { session, token: token(), step: StepName::Firmware, bytes: 0 };
        let _ = world.tell(pulse);
    }
    let Some((_, Event::DeviceFailed { code, .. })) = world.log.last() else { panic!("{:?}", world.names()) };
    assert_eq!(code, "firmware.timeout");
    let mut world = World::flashing("");
    let session = world.script(1).unwrap();
    world.report(session, started).unwrap();
    world.pass(121);
    assert_eq!(world.names().last(), Some(&"device.interrupted"));
}

#[test]
fn a_project_that_would_cut_its_modules_off_is_refused_unless_forced() {
    for (firmware, code) in [
        (r#"{"image":"pieeprom.bin"}"#, "firmware_no_network"),
        (r#"{"image":"pieeprom.bin","settings":{"BOOT_ORDER":"0xf41"}}"#, "firmware_no_network"),
        (r#"{"image":"pieeprom.bin","bootconf":"[cm4]\nBOOT_ORDER=0xf2461\n"}"#, "firmware_no_network"),
        (r#"{"image":"none.bin"}"#, "not_found"),
        (r#"{"image":"pieeprom.bin","bootconf":"A=1","settings":{"A":1}}"#, "invalid_params"),
        (r#"{"image":"pieeprom.bin","settings":{"A":"1\nB=2"}}"#, "invalid_params"),
        (r#"{"image":"pieeprom.bin","settings":{"a=":"1"}}"#, "invalid_params"),
        (r#"{"image":"pieeprom.bin","settings":{"A":[1]}}"#, "invalid_params"),
        (r#"{"image":"pieeprom.bin","bootconf":"A=ü"}"#, "invalid_params"),
        (r#"{"image":"pieeprom.bin","allow_revisions":["CM9"]}"#, "invalid_params"),
        (r#"{"image":"pieeprom.bin","allow_revisions":["CM4","CM5"]}"#, "firmware_chip"),
        (r#"{"image":"pieeprom.bin","colour":"red"}"#, "invalid_params"),
    ] {
        let mut world = World::with_firmware();
        world.news();
        let refusal = world.create(firmware).unwrap_err();
        assert_eq!(refusal.code, code, "{firmware}");
        assert!(world.news().is_empty(), "{firmware}");
    }
    let long = format!(r#"{{"image":"pieeprom.bin","bootconf":"{}BOOT_ORDER=0xf12\n"}}"#, "#".repeat(90));
    let refusal = World::with_firmware().create(&long).unwrap_err();
    assert_eq!(
        (refusal.code.as_str(), refusal.errors[0].pointer.as_str()),
        ("firmware_too_long", "/params/firmware/bootconf")
    );
    World::with_firmware().create(r#"{"image":"pieeprom.bin","force_boot_order":true}"#).unwrap();
    World::with_firmware().create(r#"{"image":"pieeprom.bin","settings":{"BOOT_ORDER":18}}"#).unwrap();
}

#[test]
fn an_update_changes_keeps_or_takes_out_the_firmware() {
    let mut world = World::flashing("");
    let id = "gateway".parse().unwrap();
    world.order("project.update", r#"{"project":"gateway","name":"Gateway 2"}"#).unwrap();
    assert!(world.floor.project(&id).unwrap().firmware.is_some());
    let refused = world.order("project.update", r#"{"project":"gateway","firmware":{"image":"pieeprom.bin"}}"#);
    assert_eq!(refused.unwrap_err().code, "firmware_no_network");
    world.order("project.update", r#"{"project":"gateway","firmware":null}"#).unwrap();
    assert!(world.floor.project(&id).unwrap().firmware.is_none());
    world.provision(1);
}

#[test]
fn a_board_that_the_project_does_not_allow_is_refused() {
    // Device 1 has shown revision c03140, a CM4.
    for (allowed, code) in [
        ("", None),
        (r#","allow_revisions":["CM4"]"#, None),
        (r#","allow_revisions":["c03140"]"#, None),
        (r#","allow_revisions":["4B","c03141"]"#, Some("firmware_revision")),
    ] {
        let mut world = World::flashing(allowed);
        assert_eq!(world.script(1).err().as_deref(), code, "{allowed}");
        let unknown = if allowed.is_empty() { None } else { Some("firmware_revision") };
        assert_eq!(world.script(2).err().as_deref(), unknown, "{allowed}: it never showed its revision");
    }
    let mut world = World::flashing("");
    let identity = Some(BootIdentity { family: Family::Pi5, revision: None, serial8: None });
    world.dhcp(5, DhcpKind::Discover, identity, None);
    assert_eq!(world.script(5), Err("firmware_chip".to_owned()));
}

#[test]
fn a_device_waits_without_a_trace_until_its_firmware_is_made() {
    let mut world = World::with_firmware();
    world.create(r#"{"image":"pieeprom.bin","settings":{"BOOT_ORDER":"0xf2461"}}"#).unwrap();
    world.news();
    let ask = ScriptAsk {
        serial: Serial(1),
        mac: Some(mac(1)),
        address: Ipv4Addr::LOCALHOST,
        facts: Facts { storage_sectors: Some(1000), ..Facts::default() },
        fresh_session: SessionId(Uuid::from_u128(1)),
        fresh_token: token(),
    };
    let refusal = world.tell(Observation::ScriptAsked(Box::new(ask))).unwrap_err();
    assert_eq!((refusal.status, refusal.code.as_str(), refusal.retryable), (503, "firmware_not_ready", true));
    assert!(world.news().is_empty());
    world.edited();
    world.script(1).unwrap();
}

#[test]
fn firmware_in_use_is_kept_and_other_firmware_goes() {
    let mut world = World::flashing("");
    let delete = |world: &mut World| world.order("firmware.delete", r#"{"firmware":"pieeprom.bin"}"#).map(drop);
    assert_eq!(delete(&mut world).unwrap_err().code, "in_use");
    let session = world.script(1).unwrap();
    world.order("project.update", r#"{"project":"gateway","firmware":null}"#).unwrap();
    assert_eq!(delete(&mut world).unwrap_err().code, "in_use", "a session has it in its plan");
    world.report(session, failure("write.medium")).unwrap();
    delete(&mut world).unwrap();
    assert_eq!(delete(&mut world).unwrap_err().code, "not_found");
    assert_eq!(world.names()[world.names().len() - 2..], ["firmware.removed", "command.completed"]);
}

#[test]
fn the_same_firmware_again_is_the_same_and_a_name_of_two_names_none() {
    let mut world = World::with_firmware();
    world.news();
    world.tell(Observation::FirmwareIngested(firmware(FIRMWARE, "other.bin", STOCK))).unwrap();
    assert!(world.news().is_empty());
    world.tell(Observation::FirmwareIngested(firmware(EDITED, "pieeprom.bin", NETBOOT))).unwrap();
    let refusal = world.create(r#"{"image":"pieeprom.bin"}"#).unwrap_err();
    assert_eq!(refusal.errors[0].pointer, "/params/firmware/image");
    world.create(&format!(r#"{{"image":"{EDITED}"}}"#)).unwrap();
    world.script(1).unwrap();
}

#[test]
fn a_file_to_take_in_is_asked_for_and_answered_before_it_is_done() {
    let mut world = World::new();
    let Ok(Answer::Reply(reply)) = world.order("firmware.add", r#"{"path":"cm4/pieeprom.bin"}"#) else {
        panic!("no reply")
    };
    assert_eq!((reply.status, reply.is_final, reply.code), (Status::Accepted, false, 202));
    assert_eq!(world.news(), ["firmware.requested", "command.completed"]);
    assert!(world.order("firmware.add", r#"{"path":""}"#).is_err());
    let Ok(Answer::Reply(reply)) = world.order("firmware.list", "{}") else { panic!("no reply") };
    assert_eq!(reply.result.unwrap()["firmware"], serde_json::json!([]));
}
