//! What of a boot is told beside its timeline: its sum with the session, and the bootloader's own text.

use super::*;
use crate::core::boot::{Boot, Fetched};
use crate::core::event::Via;
use crate::core::floor::Note;
use crate::core::observation::{ConsoleLine, FileResult, FileServed};
use crate::core::timeline::{Moment, What};

impl World {
    fn fetched(&mut self, address: Ipv4Addr, results: &[FileResult]) {
        let at = self.now;
        let file = |result: &FileResult| FileServed { name: "kernel8.img".to_owned(), bytes: 100, result: *result, at };
        self.tell(Observation::BootFiles { address, files: results.iter().map(file).collect() }).unwrap();
    }

    fn boots_told(&self) -> Vec<Option<Boot>> {
        let told = self.log.iter().filter_map(|(_, event)| match event {
            Event::DeviceStarted { boot, .. } => Some(boot.clone()),
            _ => None,
        });
        told.collect()
    }

    /// The text that the timeline of a device gets, as what and how it ends.
    fn console(&mut self, n: u8, count: usize) -> Vec<Moment> {
        let at = self.now;
        let lines = (0..count).map(|n| ConsoleLine { at, text: format!("line {n}") }).collect();
        let input = Input::Observed(Observation::ConsoleText { mac: mac(n), lines });
        let decision = self.floor.decide(&input, self.now).unwrap();
        let mut moments = Vec::new();
        for fact in decision.facts {
            self.floor.apply(&fact, self.now);
            if let Fact::Note(Note::Timeline { moments: told, .. }) = fact {
                moments.extend(told);
            }
        }
        moments
    }
}

#[test]
fn a_session_begins_with_the_sum_of_its_boot_told_once() {
    let mut world = World::ready();
    let seen = world.now;
    let DhcpVerdict::Lease(lease) = world.discover(1) else { panic!("no offer") };
    use FileResult::{Aborted, Missing, Probed, Sent};
    world.fetched(lease.address, &[Sent, Missing, Missing, Probed]);
    world.fetched(lease.address, &[Sent, Sent, Aborted]);
    world.pass(9);
    world.script(1).unwrap();
    let files = Fetched { files: 3, bytes: 700, missing: 2, probed: 1, aborted: 1 };
    let boot =
        Boot { via: Via::Dhcp, discovered_at: seen, address: Some(lease.address), files, duration_ms: Some(9000) };
    assert_eq!(world.boots_told(), [Some(boot.clone())]);

    // The notes of the last second come when the session has begun.
    world.fetched(lease.address, &[Sent]);
    let known = world.floor.device(mac(1)).unwrap();
    assert_eq!(known.boot.as_ref().unwrap().files.files, 4);
    assert_eq!(known.shown()["boot"]["files"], 4);
    world.pass(121);
    world.script(1).unwrap();
    assert_eq!(world.boots_told(), [Some(boot), None], "a second session of the same boot");

    world.discover(1);
    assert_eq!(world.floor.device(mac(1)).unwrap().boot.as_ref().unwrap().files, Fetched::default());
}

#[test]
fn a_device_that_was_never_seen_boot_tells_only_that_it_asked() {
    let mut world = World::ready();
    world.script(1).unwrap();
    let told = world.boots_told().remove(0).unwrap();
    assert_eq!((told.via, told.address, told.duration_ms), (Via::Script, None, Some(0)));
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["via"], "script");
    assert!(json.get("address").is_none(), "{json}");
    assert_eq!(serde_json::from_value::<Boot>(json).unwrap(), told);
}

#[test]
fn a_discovered_module_tells_its_model_revision_and_memory() {
    for (n, family, revision, model, memory) in
        [(1, Family::Pi4, 0xc0_3140, "CM4", 4096), (2, Family::Pi5, 0xd0_4180, "CM5", 8192)]
    {
        let mut world = World::ready();
        let identity = BootIdentity { family, revision: Some(Revision(revision)), serial8: Some(Serial8(7)) };
        world.dhcp(n, DhcpKind::Discover, Some(identity), None);
        let (_, event) = world.log.iter().find(|(_, event)| event.name() == "device.discovered").unwrap();
        let told = serde_json::to_value(event).unwrap();
        let data = &told["data"];
        assert_eq!((data["model"].as_str(), data["memory_mb"].as_u64()), (Some(model), Some(memory)), "{data}");
        assert_eq!(data["revision"], format!("{revision:06x}"));
        assert_eq!((data["serial8"].as_str(), data["via"].as_str()), (Some("00000007"), Some("dhcp")));
    }
}

#[test]
fn a_bootloader_is_heard_up_to_a_bound_that_each_boot_has_anew() {
    let mut world = World::ready();
    assert_eq!(world.console(1, 3), [], "a stranger");
    assert!(world.floor.device(mac(1)).is_none());

    world.discover(1);
    let first = world.console(1, 3);
    assert!(first.iter().all(|moment| moment.what == What::Console && moment.bytes == 0));
    assert_eq!(first.iter().map(|moment| moment.name.as_str()).collect::<Vec<_>>(), ["line 0", "line 1", "line 2"]);
    assert_eq!(world.console(1, 997).len(), 997);
    let last = world.console(1, 2);
    assert_eq!((last.len(), last[0].result.as_str()), (1, "the rest is dropped"));
    assert_eq!(world.console(1, 5000), [], "it is said once");

    world.pass(61);
    assert_eq!(world.console(1, 1001).len(), 1001, "after a silence, with the line that says it");
    world.pass(2);
    assert_eq!(world.console(1, 1), []);
    world.discover(1);
    assert_eq!(world.console(1, 1).len(), 1);
}
