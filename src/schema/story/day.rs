//! What happens on that day.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::core::device::{BootIdentity, Facts, Family, Mac, Revision, Serial, Serial8};
use crate::core::event::Event;
use crate::core::firmware::{Chip, Firmware, FirmwareSeen};
use crate::core::image::{Compression, Digest, Image, Partition, PartitionTable, Scheme, Survey};
use crate::core::label::Printers;
use crate::core::observation::{
    Cache, DhcpAsk, DhcpKind, Evidence, FileResult, FileServed, Located, Observation, PowerDone, Report, Reported,
    ScriptAsk, Vitals,
};
use crate::core::plan::{SessionId, StepName, Token};
use crate::core::script::ScriptRun;
use crate::core::slot::{PowerAction, SlotName, SwitchPort};
use crate::core::view::Answer;
use crate::ledger::cloudevent::Cause;
use crate::schema::story::Story;

/// The module that runs through most of the day.
pub const DEVICE: Mac = Mac::new([0xdc, 0xa6, 0x32, 0x01, 0x02, 0x03]);
const SERIAL: Serial = Serial(0x1000_0000_a1b2_c3d4);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 2);
const RAW_BYTES: u64 = 3_221_225_472;
/// The newest firmware of 2026.
const BUILT: u32 = 1_785_801_600;

fn digest(byte: u8) -> Digest {
    Digest::new([byte; 32])
}

fn token() -> Token {
    "token-of-the-story".parse().unwrap_or_else(|wrong| panic!("{wrong}"))
}

pub fn printers() -> Printers {
    let name = |text: &str| text.parse().unwrap_or_else(|wrong| panic!("{wrong}"));
    Printers::from([(name("zebra-1"), Duration::from_secs(3600))])
}

impl Story {
    pub fn day(&mut self) {
        self.tell_of(Observation::SinksNamed { names: vec!["mqtt".to_owned()] });
        self.tell_of(Observation::StationStarted { version: "1.0.0".to_owned() });
        self.stock();
        self.plan();
        self.provision();
        self.again();
        self.look();
        self.trouble();
        self.power();
        self.admit();
        self.labels();
        self.clear();
        self.tell_of(Observation::StationStopping { reason: "SIGTERM".to_owned() });
    }

    /// Images and firmware come in.
    fn stock(&mut self) {
        let partition = |index, kind: &str, start_bytes, size_bytes| Partition {
            index,
            kind: kind.to_owned(),
            start_bytes,
            size_bytes,
            name: None,
        };
        let partitions = vec![partition(1, "0c", 4 << 20, 256 << 20), partition(2, "83", 260 << 20, 2_948_595_712)];
        for (byte, name) in [(0x1a, "gateway-3.2.img.xz"), (0x1b, "bench.img.xz")] {
            self.tell_of(Observation::ImageIngested(Image {
                id: digest(byte),
                name: name.to_owned(),
                size_bytes: 734_003_200,
                compression: Compression::Xz,
                raw_sha256: digest(0x2a),
                raw_size_bytes: RAW_BYTES,
                survey: Survey {
                    partitions: Some(PartitionTable { scheme: Scheme::Mbr, partitions: partitions.clone() }),
                    zero_bytes: 1 << 30,
                },
                added_at: self.now,
            }));
        }
        for (byte, name) in [(0x3a, "pieeprom-2026-08-04.bin"), (0x3b, "pieeprom-old.bin")] {
            self.tell_of(Observation::FirmwareIngested(Firmware {
                id: digest(byte),
                name: name.to_owned(),
                size_bytes: 512 << 10,
                chip: Chip::Bcm2711,
                version: "2026-08-04 8ba17717".to_owned(),
                built: Some(BUILT),
                bootconf: "[all]\nBOOT_UART=0\nBOOT_ORDER=0xf2461\n".to_owned(),
                room_bytes: 2024,
                added_at: self.now,
            }));
        }
        self.tell_of(Observation::ImageRejected {
            name: "broken.img.xz".to_owned(),
            code: "broken_xz".to_owned(),
            detail: "the file ends in the middle of a block".to_owned(),
            sha256: Some(digest(0x1c)),
        });
        self.tell_of(Observation::FirmwareRejected {
            name: "notes.txt".to_owned(),
            code: "not_an_eeprom_image".to_owned(),
            detail: "12 bytes are no EEPROM image".to_owned(),
            sha256: Some(digest(0x3c)),
        });
        let url = "https://images.example.com/gateway-3.3.img.xz";
        self.ask("image.add", &json!({"url": url, "sha256": digest(0x1d)}));
        self.ask("job.cancel", &json!({"job": "erp-4711-0001"}));
        self.ask("firmware.add", &json!({"path": "pieeprom-2026-09-01.bin", "sha256": digest(0x3d)}));
    }

    /// Projects, rules, scripts and what one device is told.
    fn plan(&mut self) {
        for (name, text) in [("Check antenna", "iw dev wlan0 info"), ("Print label", "echo \"label $PRODUCT_SERIAL\"")]
        {
            let name_and_text = json!({"name": name, "text": text, "on_failure": "warn", "timeout_s": 60});
            self.ask("script.put", &name_and_text);
        }
        self.ask("script.put", &json!({"name": "Old", "text": "true"}));
        self.ask(
            "project.create",
            &json!({
                "name": "Gateway 3", "image": "gateway-3.2.img.xz",
                "sizes": [{"up_to_bytes": 8_000_000_000_u64, "image": "bench.img.xz"}],
                "firmware": {"image": "pieeprom-2026-08-04.bin", "allow_revisions": ["CM4"]},
                "scripts": {"preinstall": ["check-antenna"], "postinstall": ["print-label"]},
                "data_file": "bootline.json", "status_led": {"gpio": 17}, "again": "refuse",
                "boot": {"config_txt": "dtoverlay=dwc2"},
            }),
        );
        self.ask("project.create", &json!({"name": "Bench", "image": "bench.img.xz", "again": "allow"}));
        self.ask("project.activate", &json!({"project": "gateway-3"}));
        let rules = json!({"rules": [{
            "project": "bench", "name": "Hall 2",
            "when": {"mac": ["dca63201f*"], "model": ["CM4"], "memory_mb": {"min": 2048}, "jumper": ["0xx"]},
        }]});
        self.ask("rules.set", &rules);
        self.ask(
            "device.assign",
            &json!({
                "device": "dc:a6:32:01:02:03", "project": "gateway-3",
                "variables": {"PRODUCT_SERIAL": "GW3-000123"}, "secrets": {"VPN_KEY": "kept-to-the-device"},
            }),
        );
    }

    /// The whole journey of one module.
    fn provision(&mut self) {
        self.discover(DEVICE, SERIAL);
        self.tell_of(Observation::Located(Located { mac: DEVICE, ports: vec![Self::port()] }));
        let file = |name: &str, result| FileServed { name: name.to_owned(), bytes: 2_250_000, result, at: self.now };
        let files = vec![file("start4.elf", FileResult::Sent), file("recovery.elf", FileResult::Missing)];
        self.tell_of(Observation::BootFiles { address: ADDRESS, files });
        let session = self.script(DEVICE, SERIAL);
        self.session = Some(session);
        self.ask("device.get", &json!({"device": DEVICE}));
        let run = |script: &str| ScriptRun {
            script: script.parse().unwrap_or_else(|wrong| panic!("{wrong}")),
            exit: 0,
            duration_s: 2,
            timed_out: false,
        };
        let firmware = FirmwareSeen {
            version_before: Some("2023-01-11 8ba17717".to_owned()),
            built_before: Some(1_673_395_200),
            version_after: Some("2026-08-04 8ba17717".to_owned()),
            skipped: false,
        };
        let seen = Evidence { sha256: Some(digest(0x3a)), firmware: Some(firmware), ..Evidence::default() };
        self.step(session, StepName::Firmware, seen);
        let ran = |script| Evidence { scripts: vec![run(script)], ..Evidence::default() };
        self.step(session, StepName::Preinstall, ran("check-antenna"));
        self.step(session, StepName::Write, Evidence { bytes: Some(RAW_BYTES), ..Evidence::default() });
        let verified = Evidence {
            bytes: Some(RAW_BYTES),
            sha256: Some(digest(0x2a)),
            cache: Some(Cache::Dropped),
            ..Evidence::default()
        };
        self.step(session, StepName::Verify, verified);
        self.step(session, StepName::Postinstall, ran("print-label"));
        self.report(session, Reported::Finished);
    }

    /// The same module comes back, is allowed, and is taken off the line.
    fn again(&mut self) {
        self.pass(Duration::from_secs(900));
        let refused = self.tell_of(self.asking(DEVICE, SERIAL));
        debug_assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
        self.ask("device.authorize", &json!({"device": DEVICE}));
        let session = self.script(DEVICE, SERIAL);
        self.report(session, Reported::StepStarted { step: StepName::Firmware });
        self.ask("device.identify", &json!({"device": DEVICE, "seconds": 20}));
        self.ask("device.abort", &json!({"device": DEVICE}));
        self.ask("device.unassign", &json!({"device": DEVICE}));
    }

    /// Everything that only reads.
    fn look(&mut self) {
        let nothing = json!({});
        for name in ["project.list", "image.list", "firmware.list", "script.list", "rules.get", "station.info"] {
            self.ask(name, &nothing);
        }
        self.ask("project.get", &json!({"project": "gateway-3"}));
        self.ask("rules.test", &json!({"device": "dca63201f001", "revision": "c03140", "jumper": "010"}));
    }

    /// A module that fails, one that goes away, and what the station itself cannot do.
    fn trouble(&mut self) {
        let (second, third) = (Self::mac_of(4), Self::mac_of(5));
        self.discover(second, Serial(SERIAL.0 + 1));
        let session = self.script(second, Serial(SERIAL.0 + 1));
        self.report(session, Reported::StepStarted { step: StepName::Firmware });
        let (code, detail) = ("firmware.read", "flashrom: no EEPROM at /dev/spidev0.0");
        let failed =
            Reported::StepFailed { step: StepName::Firmware, code: code.to_owned(), detail: detail.to_owned() };
        self.report(session, failed);
        self.discover(third, Serial(SERIAL.0 + 2));
        let session = self.script(third, Serial(SERIAL.0 + 2));
        self.report(session, Reported::StepStarted { step: StepName::Firmware });
        self.pass(Duration::from_secs(121));
        self.tick();
        let code = "bus.refused.mqtt".to_owned();
        let detail = "mqtt refuses event 41: not authorized; events wait".to_owned();
        self.tell_of(Observation::AlarmRaised { code: code.clone(), detail });
        self.tell_of(Observation::AlarmCleared { code });
        let mqtt = || "mqtt".to_owned();
        let reason = "a packet of 70000 bytes; the broker takes 65536".to_owned();
        let name = "device.started".to_owned();
        self.tell_of(Observation::DeadLettered { sink: mqtt(), seq: 41, name, reason });
        self.ask("events.discard", &json!({"sink": "mqtt", "sequence": 41}));
        self.tell_of(Observation::Delivered { sink: mqtt(), seq: 60 });
        self.ask("events.replay", &json!({"sink": "mqtt", "from": 12, "to": 40, "types": ["device.*"]}));
        self.ask("station.drain", &json!({"reason": "inventory"}));
        self.ask("station.resume", &json!({}));
        let reason = "the journal has reached its size".to_owned();
        self.say(&Event::EventsLost { sink: mqtt(), from: 1, to: 11, reason }, &Cause::default());
    }

    fn port() -> SwitchPort {
        SwitchPort {
            switch: "sw1".to_owned(),
            port: "Gi1/0/12".to_owned(),
            alias: Some("bench 12".to_owned()),
            number: 12,
        }
    }

    /// The places on the line, and power for them.
    fn power(&mut self) {
        let place = "sw1-Gi1-0-12";
        let slot: SlotName = place.parse().unwrap_or_else(|wrong| panic!("{wrong}"));
        self.ask("slot.release", &json!({"slot": "ge-0-0-12"}));
        self.ask("slot.power", &json!({"slot": place, "action": "off"}));
        let by = "sap-production".to_owned();
        let done = PowerDone { slot: slot.clone(), action: PowerAction::Off, by: by.clone(), fault: None };
        self.tell_of(Observation::PowerDone(done));
        self.ask("device.power_cycle", &json!({"device": DEVICE}));
        let fault = Some("the switch at 192.168.5.250:161 does not answer (3 tries)".to_owned());
        self.tell_of(Observation::PowerDone(PowerDone { slot, action: PowerAction::Cycle, by, fault }));
        self.ask("slot.list", &json!({}));
    }

    /// Somebody gets a token, and loses it.
    fn admit(&mut self) {
        self.ask("token.create", &json!({"name": "erp-test", "role": "operator", "sha256": digest(0x5a)}));
        self.ask("token.list", &json!({}));
        self.ask("token.revoke", &json!({"token": "erp-test"}));
    }

    /// What is printed by hand; one comes out, one does not.
    fn labels(&mut self) {
        let text = "^XA^FO40,40^BCN,80^FH^FD{{ device.serial | upper | zpl }}^FS^XZ";
        self.ask("label.put", &json!({"name": "Type plate", "text": text}));
        self.ask("label.put", &json!({"name": "Old", "text": "^XA^XZ"}));
        self.ask("label.list", &json!({}));
        let session = self.session;
        let print = json!({"label": "type-plate", "session": session, "printer": "zebra-1", "reprint": true});
        self.ask("label.print", &print);
        self.ask("label.print", &print);
        self.tell_of(Observation::LabelPrinted { job: 1, output: Some("1 label".to_owned()) });
        let (code, detail) = ("label.template", "line 1: undefined value");
        self.tell_of(Observation::LabelFailed { job: 2, code: code.to_owned(), detail: detail.to_owned() });
    }

    /// What is not needed any more goes.
    fn clear(&mut self) {
        self.ask("project.update", &json!({"project": "gateway-3", "name": "Gateway 3 (EU)", "sizes": []}));
        self.ask("rules.set", &json!({"rules": []}));
        self.ask("project.deactivate", &json!({"project": "gateway-3"}));
        self.ask("project.delete", &json!({"project": "bench"}));
        self.ask("image.delete", &json!({"image": "bench.img.xz"}));
        self.ask("firmware.delete", &json!({"firmware": "pieeprom-old.bin"}));
        self.ask("script.delete", &json!({"script": "old"}));
        self.ask("label.delete", &json!({"label": "old"}));
    }

    fn discover(&mut self, mac: Mac, serial: Serial) {
        let identity = BootIdentity {
            family: Family::Pi4,
            revision: Some(Revision(0xc0_3140)),
            serial8: Some(Serial8(u32::try_from(serial.0 & 0xffff_ffff).unwrap_or_default())),
        };
        for kind in [DhcpKind::Discover, DhcpKind::Request] {
            self.tell_of(Observation::Dhcp(DhcpAsk {
                kind,
                mac,
                identity: Some(identity),
                circuit: Some("ge-0/0/12".to_owned()),
                requested: (kind == DhcpKind::Request && mac == DEVICE).then_some(ADDRESS),
                anyone: false,
                proxy: false,
            }));
        }
    }

    fn asking(&self, mac: Mac, serial: Serial) -> Observation {
        Observation::ScriptAsked(Box::new(ScriptAsk {
            serial,
            mac: Some(mac),
            // The address of another device would be a conflict.
            address: if mac == DEVICE { ADDRESS } else { Ipv4Addr::LOCALHOST },
            facts: Facts {
                model: Some("Raspberry Pi Compute Module 4 Rev 1.1".to_owned()),
                storage_sectors: Some(61_071_360),
                memory_kb: Some(3_884_312),
                temperature: Some("42.0'C".to_owned()),
                cid: Some("150100424a544434520791cd7d2b21d1".to_owned()),
                csd: Some("d02701320f5903fff6dbffef8e40400d".to_owned()),
                boot_mode: Some("2".to_owned()),
                jumper: Some("111".to_owned()),
                simulated: false,
            },
            fresh_session: SessionId(Uuid::from_u128(crate::schema::story::IDS + (1 << 32) + u128::from(self.seq))),
            fresh_token: token(),
        }))
    }

    fn script(&mut self, mac: Mac, serial: Serial) -> SessionId {
        match self.tell_of(self.asking(mac, serial)) {
            Answer::Session(session) => session.id,
            other => panic!("no session for {mac}: {other:?}"),
        }
    }

    fn step(&mut self, session: SessionId, step: StepName, evidence: Evidence) {
        self.report(session, Reported::StepStarted { step });
        self.pass(Duration::from_secs(20));
        self.report(session, Reported::StepCompleted { step, evidence });
    }

    fn report(&mut self, session: SessionId, what: Reported) {
        let vitals = Vitals { temperature_after: Some("51.0'C".to_owned()), link_mbps: Some(1000) };
        let answer = self.tell_of(Observation::Reported(Report { session, token: token(), what, vitals }));
        debug_assert!(matches!(answer, Answer::Noted), "{answer:?}");
    }
}
