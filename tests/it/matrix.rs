//! The device matrix: the served script on modules with real block devices and real cables, against the built agent. For
//! each form of an image, each way to fail and each moment of a power cut: the recorded outcome is right, and never
//! `passed` on a medium that differs.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agent::PATIENCE;
use crate::board::sha256;
use crate::firmware::eeprom;
use crate::line::Line;
use crate::module::{Module, Wiring};
use crate::net::Net;

const MIB: u64 = 1 << 20;
/// No whole number of MiB, and longer than what waits in buffers on a slow cable.
const IMAGE: u64 = 12 * MIB + 1536;
const MEDIUM: u64 = 16 * MIB;
/// Some seconds for an image.
const SLOW: Option<&str> = Some("24mbit");
/// Not silent for as long on a machine that has much else to do, and still soon enough for a test.
const SILENCE: &str = "12s";
const STOCK: &str = "[all]\nBOOT_UART=0\n";

/// What the station must say of a session in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Passed,
    /// The step and the code.
    Failed(&'static str, &'static str),
    /// In this step, perhaps before any.
    Interrupted(Option<&'static str>),
    /// No session begins: the code.
    Refused(&'static str),
}

/// What the medium must be like in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Medium {
    Image,
    /// Its first MiB is gone: the module netboots again.
    Unbootable,
    Untouched,
}

/// One row: a project, a module, what happens to it, and what must come of it.
struct Case {
    name: &'static str,
    /// Of the project, beside its image.
    project: Value,
    wiring: Wiring,
    medium_bytes: u64,
    /// Returns what the medium held at the end, where it cannot be read later.
    happens: fn(&mut Module, &Line) -> Option<Vec<u8>>,
    ends: Ends,
    medium: Medium,
}

impl Case {
    fn new(name: &'static str, ends: Ends, medium: Medium) -> Self {
        let happens = |module: &mut Module, _: &Line| {
            module.await_end();
            None
        };
        let (project, wiring) = (json!({}), Wiring::default());
        Self { name, project, wiring, medium_bytes: MEDIUM, happens, ends, medium }
    }
}

/// A station with images, and one project a case.
struct Floor {
    line: Line,
    raw: Vec<u8>,
}

impl Floor {
    /// None where the tests cannot run as root.
    fn open(transcode: &str) -> Option<Self> {
        let line = Line::new(Net::of_root()?, "off", &[]);
        line.configure("silence: 5s", &format!("silence: {SILENCE}"));
        line.configure("bus:", &format!("images: {{transcode: {transcode}}}\nbus:"));
        let mut floor = Self { line, raw: noise() };
        floor.line.start();
        Some(floor)
    }

    fn take_in(&self, name: &str, bytes: &[u8]) -> String {
        let file = self.line.folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let path = format!("/api/v1/images?name={name}");
        let added = self.line.curl(&["--data-binary", &format!("@{}", file.display())], &path);
        added["image"]["id"].as_str().unwrap_or_else(|| panic!("{added}")).to_owned()
    }

    /// Each module its own project, found by its MAC.
    fn set_up(&self, cases: &[Case], image: &str) {
        for case in cases {
            let mut wanted = json!({"name": case.name, "image": image});
            wanted.as_object_mut().unwrap().extend(case.project.as_object().unwrap().clone());
            let made = self.line.curl(&["-d", &wanted.to_string()], "/api/v1/projects");
            assert_eq!(made["project"]["name"], case.name, "{made}");
        }
        let rule = |(at, case): (usize, &Case)| json!({"project": slug(case.name), "when": {"mac": [mac(at)]}});
        let rules: Vec<Value> = cases.iter().enumerate().map(rule).collect();
        let set = self.line.curl(&["-X", "PUT", "-d", &json!({"rules": rules}).to_string()], "/api/v1/rules");
        assert!(set["revision"].is_number(), "{set}");
        for case in cases {
            self.line.curl(&["-X", "POST"], &format!("/api/v1/projects/{}/activate", slug(case.name)));
        }
    }

    /// All of them beside each other.
    fn run(&self, cases: &[Case]) {
        thread::scope(|scope| {
            for (at, case) in cases.iter().enumerate() {
                scope.spawn(move || self.play(at, case));
            }
        });
    }

    fn play(&self, at: usize, case: &Case) {
        let Some(mut module) = Module::boot(self.line.net.door(), number(at), case.medium_bytes, &case.wiring) else {
            return;
        };
        let left = (case.happens)(&mut module, &self.line);
        let end = await_event(&self.line, &module, &ENDS);
        let left = left.unwrap_or_else(|| module.medium.read(0, usize::try_from(case.medium_bytes).unwrap()));
        let whole = left.get(..self.raw.len()) == Some(&self.raw[..]);
        let said = format!("{}: {end}\n{}", case.name, module.screen());
        assert!(whole || end["type"] != "io.bootline.device.provisioned.v1", "passed on another medium: {said}");
        assert_eq!(outcome(&end), expected(case.ends), "{said}");
        match case.medium {
            Medium::Image => assert!(whole, "the medium differs: {said}"),
            Medium::Unbootable => {
                assert!(left[..usize::try_from(MIB).unwrap()].iter().all(|byte| *byte == 0), "would boot: {said}");
            }
            Medium::Untouched => assert!(left[..510].iter().all(|byte| *byte == left[1024]), "was written: {said}"),
        }
    }
}

const ENDS: [&str; 5] = ["provisioned", "failed", "interrupted", "aborted", "refused"];

/// The first event of the module of one of these types.
fn await_event(line: &Line, module: &Module, ends: &[&str]) -> Value {
    let types: Vec<String> = ends.iter().map(|end| format!("io.bootline.device.{end}.v1")).collect();
    let start = Instant::now();
    loop {
        let events = line.curl(&[], "/api/v1/events?limit=1000");
        let events = events["events"].as_array().unwrap();
        assert!(events.len() < 1000, "one page holds them all");
        // A module whose image is still being packed anew asks again by itself.
        let is_end = |event: &&Value| {
            event["data"]["mac"] == *module.mac()
                && types.iter().any(|end| event["type"] == **end)
                && event["data"]["code"] != "image_not_ready"
        };
        if let Some(end) = events.iter().find(is_end) {
            return end.clone();
        }
        assert!(start.elapsed() < 2 * PATIENCE, "{} never ended:\n{}", module.mac(), module.screen());
        thread::park_timeout(Duration::from_millis(100));
    }
}

fn outcome(end: &Value) -> (String, Value, Value) {
    let data = &end["data"];
    (end["type"].as_str().unwrap().to_owned(), data["step"].clone(), data["code"].clone())
}

fn expected(ends: Ends) -> (String, Value, Value) {
    let (name, step, code) = match ends {
        Ends::Passed => ("provisioned", Value::Null, Value::Null),
        Ends::Failed(step, code) => ("failed", json!(step), json!(code)),
        Ends::Interrupted(step) => ("interrupted", json!(step), json!("silent")),
        Ends::Refused(code) => ("refused", Value::Null, json!(code)),
    };
    (format!("io.bootline.device.{name}.v1"), step, code)
}

fn number(at: usize) -> u8 {
    u8::try_from(at + 2).unwrap()
}

fn mac(at: usize) -> String {
    format!("0200000000{:02x}", number(at))
}

fn slug(name: &str) -> String {
    name.replace(' ', "-")
}

/// Bytes that do not repeat, with a stretch of zeros that must be written too.
fn noise() -> Vec<u8> {
    let mut state = 11_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let mut bytes: Vec<u8> = (0..IMAGE).map(next).collect();
    bytes[5 << 20..7 << 20].fill(0);
    bytes
}

fn packed(form: &str, raw: &[u8]) -> Vec<u8> {
    match form {
        "xz" => {
            let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(raw).unwrap();
            encoder.finish().unwrap()
        }
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(raw).unwrap();
            encoder.finish().unwrap()
        }
        "bz2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(raw).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::stream::encode_all(raw, 1).unwrap(),
        _ => raw.to_vec(),
    }
}

#[test]
fn every_form_of_an_image_arrives_byte_for_byte() {
    for (form, served) in [("raw", "raw"), ("xz", "xz"), ("gz", "gz"), ("bz2", "bz2"), ("zstd", "gz")] {
        let Some(floor) = Floor::open(if form == "zstd" { "auto" } else { "off" }) else { return };
        let image = floor.take_in(&format!("image.{form}"), &packed(form, &floor.raw));
        let drops_caches = form == "raw";
        let wiring = Wiring { drops_caches, ..Wiring::default() };
        let cases = [Case { wiring, ..Case::new("form", Ends::Passed, Medium::Image) }];
        floor.set_up(&cases, &image);
        floor.run(&cases);
        let events = floor.line.curl(&[], "/api/v1/events?limit=1000");
        let of = |name: &str| {
            let is = |event: &&Value| event["type"] == format!("io.bootline.device.{name}.v1");
            events["events"].as_array().unwrap().iter().find(is).unwrap()["data"].clone()
        };
        assert_eq!((&of("started")["plan"]["compression"], form), (&json!(served), form));
        let proof = of("provisioned");
        assert_eq!(proof["sha256"], sha256(&floor.raw), "{proof}");
        assert_eq!(proof["cache"], if drops_caches { "dropped" } else { "direct" }, "{proof}");
        // What the cable of this module carries is what its kernel says of a veth.
        let vitals = (&proof["temperature_after"], &proof["link_mbps"]);
        assert_eq!(vitals, (&json!("51.0'C"), &json!(10_000)), "{proof}");
        let id = proof["session"].as_str().unwrap();
        let session = floor.line.curl(&[], &format!("/api/v1/sessions/{id}"))["session"].clone();
        assert_eq!((&session["temperature_after"], &session["link_mbps"]), vitals, "{session}");
    }
}

/// Firmware for the module's EEPROM, and the project that wants it there.
fn with_firmware(floor: &Floor) -> Value {
    let file = floor.line.folder.path().join("pieeprom.bin");
    fs::write(&file, eeprom(STOCK)).unwrap();
    let data = format!("@{}", file.display());
    let kind = "Content-Type: application/octet-stream";
    let added = floor.line.curl(&["-H", kind, "--data-binary", &data], "/api/v1/firmware?name=pieeprom.bin");
    assert!(added["firmware"]["id"].is_string(), "{added}");
    json!({"firmware": {"image": "pieeprom.bin", "settings": {"BOOT_ORDER": "0xf2461"}}})
}

fn put_script(floor: &Floor, name: &str, text: &str) {
    let put = floor.line.curl(&["-d", &json!({"name": name, "text": text}).to_string()], "/api/v1/scripts");
    assert_eq!(put["script"]["revision"], 1, "{put}");
}

/// After it was written and before it is read back, the medium loses a bit.
fn rots(name: &'static str, happens: fn(&mut Module, &Line) -> Option<Vec<u8>>) -> Case {
    let wiring = Wiring { hold: Some("*step=verify*state=started*"), ..Wiring::default() };
    let ends = Ends::Failed("verify", "verify.mismatch");
    Case { wiring, happens, ..Case::new(name, ends, Medium::Unbootable) }
}

fn rot(module: &Module, at: u64) -> Option<Vec<u8>> {
    module.await_held();
    module.medium.rot(at);
    module.let_go();
    assert_eq!(module.await_end(), 1);
    None
}

#[test]
fn what_goes_wrong_is_recorded_as_what_it_was() {
    let Some(floor) = Floor::open("off") else { return };
    let image = floor.take_in("image.img", &floor.raw);
    put_script(&floor, "three", "echo too hot; exit 3");
    let firmware = with_firmware(&floor);
    let fails = |step, code| Ends::Failed(step, code);
    let cases = [
        rots("a bit in the middle rots", |module, _| rot(module, 9 * MIB + 17)),
        rots("the first sector rots", |module, _| rot(module, 0)),
        rots("the last byte rots", |module, _| rot(module, IMAGE - 1)),
        Case {
            wiring: Wiring { hold: Some("*step=verify*state=started*"), drops_caches: true, ..Wiring::default() },
            happens: |module, _| rot(module, 3 * MIB),
            ..Case::new("a bit rots under an emptied cache", fails("verify", "verify.mismatch"), Medium::Unbootable)
        },
        Case {
            medium_bytes: 8 * MIB,
            ..Case::new("the medium is too small", Ends::Refused("image_too_large"), Medium::Untouched)
        },
        Case {
            medium_bytes: 8 * MIB,
            wiring: Wiring { tells_bytes: Some(MEDIUM), ..Wiring::default() },
            ..Case::new("the medium is smaller than told", fails("write", "storage.too_small"), Medium::Untouched)
        },
        Case {
            project: json!({"scripts": {"preinstall": ["three"]}}),
            ..Case::new("a script before exits 3", fails("preinstall", "script.failed"), Medium::Untouched)
        },
        Case {
            project: json!({"scripts": {"postinstall": ["three"]}}),
            ..Case::new("a script after exits 3", fails("postinstall", "script.failed"), Medium::Unbootable)
        },
        Case {
            project: firmware.clone(),
            ..Case::new("there is no flashrom", fails("firmware", "firmware.tools"), Medium::Untouched)
        },
        Case {
            project: firmware,
            wiring: Wiring { eeprom: Some(eeprom("A=1\n")), ..Wiring::default() },
            ..Case::new("the eeprom is written", Ends::Passed, Medium::Image)
        },
    ];
    floor.set_up(&cases, &image);
    floor.run(&cases);
}

/// The stock xz looks at no check but CRC32: it writes what it got, and only the read-back sees it.
#[test]
fn a_file_that_rots_at_the_station_never_passes() {
    for form in ["raw", "xz", "gz"] {
        let Some(floor) = Floor::open("off") else { return };
        let image = floor.take_in("image", &packed(form, &floor.raw));
        let stored = find(&floor.line.folder.path().join("data/images"), &image);
        let mut bytes = fs::read(&stored).unwrap();
        let middle = bytes.len() * 3 / 4;
        bytes[middle] ^= 0x10;
        fs::write(&stored, bytes).unwrap();
        let cases = [Case::new("rotten", Ends::Failed("verify", "verify.mismatch"), Medium::Unbootable)];
        floor.set_up(&cases, &image);
        let net = floor.line.net.door();
        let Some(module) = Module::boot(net, number(0), MEDIUM, &Wiring::default()) else { return };
        assert_eq!(module.await_end(), 1, "{form}: {}", module.screen());
        let (name, _, code) = outcome(&await_event(&floor.line, &module, &ENDS));
        assert_eq!(name, "io.bootline.device.failed.v1", "{form}: {code}");
        assert!(["verify.mismatch", "write.decode"].contains(&code.as_str().unwrap()), "{form}: {code}");
        assert!(module.medium.read(0, 1 << 20).iter().all(|byte| *byte == 0), "{form}: would boot");
    }
}

fn find(folder: &std::path::Path, name: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with(name) {
                return entry.path();
            }
        }
    }
    panic!("no file of image {name}");
}

/// The image is on its slow way when this begins.
fn midway(name: &'static str, happens: fn(&mut Module, &Line) -> Option<Vec<u8>>, ends: Ends, left: Medium) -> Case {
    let wiring = Wiring { rate: SLOW, ..Wiring::default() };
    Case { wiring, happens, ..Case::new(name, ends, left) }
}

#[test]
fn a_cable_that_comes_back_in_time_does_no_harm_and_one_that_comes_late_passes_nothing() {
    let Some(floor) = Floor::open("off") else { return };
    let image = floor.take_in("image.img", &floor.raw);
    let in_time = |module: &mut Module, _: &Line| {
        module.await_written(3 * MIB);
        module.pull_cable();
        module.await_unheard();
        module.plug_cable();
        assert_eq!(module.await_end(), 0, "{}", module.screen());
        None
    };
    let late = |module: &mut Module, line: &Line| {
        module.await_written(3 * MIB);
        module.pull_cable();
        await_event(line, module, &["interrupted"]);
        module.plug_cable();
        assert_eq!(module.await_end(), 1, "{}", module.screen());
        assert!(module.screen().contains("session_closed"), "{}", module.screen());
        None
    };
    let cases = [
        midway("back in time", in_time, Ends::Passed, Medium::Image),
        midway("back too late", late, Ends::Interrupted(Some("write")), Medium::Unbootable),
    ];
    floor.set_up(&cases, &image);
    floor.run(&cases);
}

#[test]
fn a_station_that_is_killed_in_the_middle_of_an_image_goes_on_with_it() {
    for form in ["raw", "xz"] {
        let Some(mut floor) = Floor::open("off") else { return };
        let image = floor.take_in("image", &packed(form, &floor.raw));
        floor.set_up(&[Case::new("killed", Ends::Passed, Medium::Image)], &image);
        let wiring = Wiring { rate: SLOW, ..Wiring::default() };
        // The module stands in the network, and the station is to be started in it anew.
        let net = floor.line.net.door();
        let Some(module) = Module::boot(net, number(0), MEDIUM, &wiring) else { return };
        module.await_written(3 * MIB);
        floor.line.kill();
        module.await_unheard();
        floor.line.start();
        assert_eq!(module.await_end(), 0, "{form}: {}", module.screen());
        let end = await_event(&floor.line, &module, &ENDS);
        assert_eq!(outcome(&end), expected(Ends::Passed), "{form}");
        let written = floor.line.curl(&[], "/api/v1/events?limit=1000")["events"].to_string();
        assert!(written.contains("bytes and was taken up"), "{form}: {written}");
        assert!(module.medium.read(0, floor.raw.len()) == floor.raw, "{form}: the medium differs");
    }
}

fn cut_when_held(module: &mut Module, _: &Line) -> Option<Vec<u8>> {
    module.await_held();
    Some(module.cut_power())
}

fn cut_in_script(module: &mut Module, _: &Line) -> Option<Vec<u8>> {
    module.until("runs its script", || module.bench("here").exists());
    Some(module.cut_power())
}

fn cut_in_eeprom(module: &mut Module, _: &Line) -> Option<Vec<u8>> {
    module.until("writes its EEPROM", || module.bench("half").exists());
    Some(module.cut_power())
}

fn cut_midway(module: &mut Module, _: &Line) -> Option<Vec<u8>> {
    module.await_written(3 * MIB);
    Some(module.cut_power())
}

#[test]
fn a_power_cut_in_any_step_is_an_interruption() {
    let Some(floor) = Floor::open("off") else { return };
    let image = floor.take_in("image.img", &floor.raw);
    put_script(&floor, "stays", ": >/bench/here; while :; do sleep 1; done");
    let firmware = with_firmware(&floor);
    let in_step = |step| Ends::Interrupted(Some(step));
    let holds = |words| Wiring { hold: Some(words), ..Wiring::default() };
    let cases = [
        Case {
            wiring: holds("*/scriptexecute*"),
            happens: cut_when_held,
            ..Case::new("before it begins", Ends::Interrupted(None), Medium::Untouched)
        },
        Case {
            project: firmware,
            wiring: Wiring { eeprom: Some(eeprom("A=1\n")), slow_eeprom: true, ..Wiring::default() },
            happens: cut_in_eeprom,
            ..Case::new("in the eeprom", in_step("firmware"), Medium::Untouched)
        },
        Case {
            project: json!({"scripts": {"preinstall": ["stays"]}}),
            happens: cut_in_script,
            ..Case::new("in a script before", in_step("preinstall"), Medium::Untouched)
        },
        Case {
            wiring: Wiring { rate: SLOW, ..Wiring::default() },
            happens: cut_midway,
            ..Case::new("in the image", in_step("write"), Medium::Unbootable)
        },
        Case {
            // All is on the medium but its first MiB.
            wiring: holds("*--speed-time*"),
            happens: |module, _| {
                module.await_held();
                module.await_written(IMAGE - 512);
                Some(module.cut_power())
            },
            ..Case::new("at the end of the image", in_step("write"), Medium::Unbootable)
        },
        Case {
            wiring: holds("*step=verify*state=started*"),
            happens: cut_when_held,
            ..Case::new("in the read-back", in_step("verify"), Medium::Image)
        },
        Case {
            project: json!({"scripts": {"postinstall": ["stays"]}}),
            happens: cut_in_script,
            ..Case::new("in a script after", in_step("postinstall"), Medium::Image)
        },
    ];
    floor.set_up(&cases, &image);
    floor.run(&cases);
}
