//! Names against a folder with links, prefixes, sets and traps.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::core::device::{Family, Mac};
use crate::core::view::BootProject;

struct World {
    _folder: tempfile::TempDir,
    boot: PathBuf,
    files: BootFiles,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let boot = folder.path().join("boot");
    let files = BootFiles::new(boot.clone(), "172.20.0.1:80".parse().unwrap());
    let world = World { boot, files, _folder: folder };
    for (name, text) in [
        ("../secret.txt", "secret"),
        ("start4.elf", "elf"),
        ("dwc2.dtbo", "flat"),
        ("overlays/vc4.dtbo", "deep"),
        ("pieeprom.upd", "flash"),
    ] {
        world.write(name, text);
    }
    symlink("start4.elf", world.boot.join("inside.elf")).unwrap();
    symlink("../secret.txt", world.boot.join("outside.txt")).unwrap();
    symlink(world.boot.join("../secret.txt"), world.boot.join("absolute.txt")).unwrap();
    world
}

impl World {
    fn text(&self, asked: &str) -> Result<String, u16> {
        self.text_for(asked, None)
    }

    fn text_for(&self, asked: &str, client: Option<&Tenant>) -> Result<String, u16> {
        match self.files.find(asked, client) {
            Ok(file) => Ok(String::from_utf8(file.read().unwrap().to_vec()).unwrap()),
            Err(NotServed::Missing) => Err(1),
            Err(NotServed::Denied) => Err(2),
            Err(other) => panic!("{other}"),
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.boot.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A CM4 whose project is `gateway`.
fn tenant() -> Tenant {
    let config_txt = Some("dtoverlay=gateway\n".to_owned());
    Tenant {
        mac: "dca6320136c2".parse().unwrap(),
        serial8: Some("c0ffee12".parse().unwrap()),
        family: Some(Family::Pi4),
        project: Some(Arc::new(BootProject { id: "gateway".parse().unwrap(), config_txt })),
    }
}

#[test]
fn a_file_is_found_bare_and_under_the_prefix_of_a_device() {
    let world = world();
    for asked in [
        "start4.elf",
        "/start4.elf",
        "c0ffee12/start4.elf",
        "c0ffee12//start4.elf",
        "./start4.elf",
        "dc-a6-32-01-36-c2/start4.elf",
    ] {
        assert_eq!(world.text(asked), Ok("elf".to_owned()), "{asked}");
        assert_eq!(world.text_for(asked, Some(&tenant())), Ok("elf".to_owned()), "{asked}");
    }
    for asked in [
        "c0ffee12",
        "c0ffee1/start4.elf",
        "c0ffee12/c0ffee12/start4.elf",
        "start.elf",
        "overlays",
        "start4.elf/",
        "/",
        "",
    ] {
        let found = world.text(asked);
        assert!(found == Err(1) || asked == "start4.elf/", "{asked} {found:?}");
    }
}

#[test]
fn the_place_nearest_to_the_device_wins() {
    let world = world();
    let places = ["start4.elf", "2711/start4.elf", "projects/gateway/start4.elf", "dc-a6-32-01-36-c2/start4.elf"];
    for place in places.into_iter().chain(["c0ffee12/start4.elf"]) {
        world.write(place, place);
        for asked in ["start4.elf", "c0ffee12/start4.elf", "dc-a6-32-01-36-c2/start4.elf"] {
            assert_eq!(world.text_for(asked, Some(&tenant())), Ok(place.to_owned()), "{asked}");
        }
    }
    let pi5 = Tenant { family: Some(Family::Pi5), project: None, serial8: None, mac: Mac::new([2; 6]) };
    assert_eq!(world.text_for("start4.elf", Some(&pi5)), Ok("start4.elf".to_owned()), "not its set, not its project");
    assert_eq!(world.text("start4.elf"), Ok("start4.elf".to_owned()), "a stranger");
}

#[test]
fn a_prefix_names_another_device_and_its_folder_but_not_its_project() {
    let world = world();
    world.write("deadbeef/only.dtb", "of deadbeef");
    world.write("deadbeef/config.txt", "deadbeef");
    world.write("c0ffee12/own.dtb", "of c0ffee12");
    let client = tenant();
    assert_eq!(world.text_for("deadbeef/only.dtb", Some(&client)), Ok("of deadbeef".to_owned()));
    assert_eq!(world.text_for("deadbeef/own.dtb", Some(&client)), Err(1));
    let config = world.text_for("deadbeef/config.txt", Some(&client)).unwrap();
    assert_eq!(config, "deadbeef\n\n[all]\ndtoverlay=gateway\n", "rendered for the one who asks");
}

#[test]
fn sets_are_not_fetched_by_their_own_names() {
    let world = world();
    for place in ["2711", "projects/gateway", "c0ffee12", "overlays/2711"] {
        world.write(&format!("{place}/kernel8.img"), place);
    }
    for asked in [
        "2711/kernel8.img",
        "/./2711/kernel8.img",
        "projects/gateway/kernel8.img",
        "PROJECTS/gateway/kernel8.img",
        "deadbeef/projects/gateway/kernel8.img",
        "deadbeef/c0ffee12/kernel8.img",
        "overlays/projects/gateway/kernel8.img",
        "overlays/c0ffee12/kernel8.img",
        "kernel8.img",
    ] {
        assert_eq!(world.text(asked), Err(1), "{asked}");
    }
    assert_eq!(world.text("overlays/2711/kernel8.img"), Ok("overlays/2711".to_owned()), "a folder like any other");
    assert_eq!(world.text_for("kernel8.img", Some(&tenant())), Ok("c0ffee12".to_owned()));
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let world = world();
    for (link, target) in [
        ("2711", "../.."),
        ("projects/gateway", "../.."),
        ("deadbeef", ".."),
        ("c0ffee12", "/"),
        ("proc", "/proc/self/cwd"),
    ] {
        fs::create_dir_all(world.boot.join("projects")).unwrap();
        symlink(target, world.boot.join(link)).unwrap();
    }
    for asked in [
        "../secret.txt",
        "overlays/../../secret.txt",
        "c0ffee12/../secret.txt",
        "..\\secret.txt",
        "outside.txt",
        "absolute.txt",
        "deadbeef/secret.txt",
        "c0ffee12/etc/passwd",
        "proc/Cargo.toml",
    ] {
        assert_eq!(world.text(asked), Err(2), "{asked}");
    }
    for asked in ["/etc/passwd", "//etc/passwd", "~/x"] {
        assert_eq!(world.text(asked), Err(1), "{asked}");
    }
    let elsewhere = Tenant { serial8: None, ..tenant() };
    for asked in ["secret.txt", "boot/start4.elf"] {
        assert_eq!(world.text_for(asked, Some(&elsewhere)), Err(2), "{asked}");
    }
    assert_eq!(world.text("inside.elf"), Ok("elf".to_owned()));
}

#[test]
fn overlays_may_lie_flat_in_every_place() {
    let world = world();
    assert_eq!(world.text("c0ffee12/overlays/dwc2.dtbo"), Ok("flat".to_owned()));
    assert_eq!(world.text("overlays/vc4.dtbo"), Ok("deep".to_owned()));
    assert_eq!(world.text("overlays/none.dtbo"), Err(1));
    world.write("2711/vc4.dtbo", "of the family");
    assert_eq!(world.text_for("overlays/vc4.dtbo", Some(&tenant())), Ok("of the family".to_owned()));
}

#[test]
fn what_would_flash_the_eeprom_is_never_served() {
    let world = world();
    for place in ["c0ffee12", "2711", "projects/gateway"] {
        for name in ["pieeprom.upd", "recovery.elf", "recover4.elf"] {
            world.write(&format!("{place}/{name}"), "flash");
        }
    }
    for asked in [
        "pieeprom.upd",
        "c0ffee12/pieeprom.upd",
        "PIEEPROM.upd",
        "recovery.elf",
        "recover4.elf",
        "overlays/pieeprom.upd",
    ] {
        assert_eq!(world.text(asked), Err(1), "{asked}");
        assert_eq!(world.text_for(asked, Some(&tenant())), Err(1), "{asked}");
    }
}

#[test]
fn the_command_line_names_the_station_and_leaves_the_rest_to_the_device() {
    let mut world = world();
    let line = world.text("c0ffee12/cmdline.txt").unwrap();
    assert!(
        line.starts_with("readjumper script=http://172.20.0.1/scriptexecute?serial={serial}&model={model}"),
        "{line}"
    );
    assert!(line.ends_with("&bootmode={bootmode}\n") && line.lines().count() == 1, "{line}");
    world.write("cmdline.txt", "script=http://{server}/x?serial={serial}");
    assert_eq!(world.text("cmdline.txt"), Ok("script=http://172.20.0.1/x?serial={serial}".to_owned()));
    world.files.server = "172.20.0.1:8080".to_owned();
    world.write("cmdline.txt", "script=http://{server}/y");
    let line = world.text_for("cmdline.txt", Some(&tenant()));
    assert_eq!(line, Ok("script=http://172.20.0.1:8080/y".to_owned()), "no lines of the project");
}

#[test]
fn the_port_is_named_unless_it_is_80() {
    let server = |address: &str| BootFiles::new(PathBuf::new(), address.parse().unwrap()).server;
    assert_eq!(server("10.0.0.1:80"), "10.0.0.1");
    assert_eq!(server("10.0.0.1:8080"), "10.0.0.1:8080");
}

#[test]
fn the_lines_of_a_project_come_and_go_with_it() {
    let world = world();
    let with = world.text_for("config.txt", Some(&tenant())).unwrap();
    assert!(with.ends_with("\n[all]\ndtoverlay=gateway\n") && with.len() < 4096, "{with}");
    let plain = Tenant { project: None, ..tenant() };
    let without = world.text_for("config.txt", Some(&plain)).unwrap();
    assert!(with.starts_with(&without) && !without.contains("gateway"));
    world.write("projects/gateway/config.txt", "arm_64bit=1\n");
    for _ in 0..2 {
        let own = world.text_for("c0ffee12/config.txt", Some(&tenant())).unwrap();
        assert_eq!(own, "arm_64bit=1\n\n[all]\ndtoverlay=gateway\n");
    }
}

#[test]
fn a_file_is_read_once_until_it_changes() {
    let world = world();
    let first = world.files.find("start4.elf", None).unwrap();
    assert_eq!(first.bytes(), None);
    first.read().unwrap();
    let again = world.files.find("c0ffee12/start4.elf", Some(&tenant())).unwrap();
    assert_eq!(again.bytes(), Some(Bytes::from("elf")));
    world.write("start4.elf", "newer");
    assert_eq!(world.text("start4.elf"), Ok("newer".to_owned()));
    assert_eq!(again.bytes(), Some(Bytes::from("elf")));
}

#[test]
fn what_was_replaced_is_let_go() {
    let world = world();
    for round in 0..5 {
        world.write("fresh", &format!("{round}"));
        fs::rename(world.boot.join("fresh"), world.boot.join("start4.elf")).unwrap();
        assert_eq!(world.text("start4.elf"), Ok(round.to_string()));
    }
    assert_eq!(world.files.known.lock().unwrap().len(), 1);
}

#[test]
fn a_miss_is_answered_in_less_than_a_millisecond() {
    let world = world();
    for place in ["c0ffee12", "2711", "projects/gateway"] {
        world.write(&format!("{place}/something"), "");
    }
    let client = tenant();
    let mean = |what: &str, asked: &str| {
        let begun = Instant::now();
        for _ in 0..10_000 {
            assert!(matches!(world.files.find(asked, Some(&client)), Err(NotServed::Missing)));
        }
        let mean = begun.elapsed() / 10_000;
        println!("mean of 10,000 misses, {what}: {mean:?}");
        assert!(mean < Duration::from_millis(1), "{what}: {mean:?}");
    };
    mean("every place is there, each looked into twice", "c0ffee12/overlays/none.dtbo");
    mean("every place is there", "c0ffee12/none.img");
    for place in ["c0ffee12", "2711", "projects"] {
        fs::remove_dir_all(world.boot.join(place)).unwrap();
    }
    mean("one folder for all", "c0ffee12/none.img");
}

#[test]
fn a_set_that_is_made_while_the_station_runs_is_used_at_once() {
    let world = world();
    let client = tenant();
    for place in ["2711", "projects/gateway", "dc-a6-32-01-36-c2", "c0ffee12"] {
        assert_eq!(world.text_for("new.bin", Some(&client)).is_err(), place == "2711");
        world.write(&format!("{place}/new.bin"), place);
        assert_eq!(world.text_for("new.bin", Some(&client)), Ok(place.to_owned()));
    }
    fs::remove_dir_all(world.boot.join("c0ffee12")).unwrap();
    assert_eq!(world.text_for("new.bin", Some(&client)), Ok("dc-a6-32-01-36-c2".to_owned()));
}

#[test]
fn a_link_is_followed_while_files_are_renamed_elsewhere() {
    let world = world();
    symlink("../start4.elf", world.boot.join("overlays/up.elf")).unwrap();
    let other = tempfile::tempdir().unwrap();
    let (a, b) = (other.path().join("a"), other.path().join("b"));
    fs::write(&a, "").unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&a, &b).unwrap();
                fs::rename(&b, &a).unwrap();
            }
        });
        let found: Vec<_> = (0..10_000).map(|_| world.text("overlays/up.elf")).filter(Result::is_err).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(found, []);
    });
}

/// Parts of names that meet the folders, links and traps of the world.
const PART: &str = "\\.\\.|\\.|[a-z]{0,2}|secret.txt|boot|overlays|c0ffee12|C0FFEE12|dc-a6-32-01-36-c2|deadbeef|2711|projects|gateway|out|outside.txt|%2e%2e|\\\\|\0|é";

proptest! {
    #[test]
    fn no_name_leads_out_of_the_folder(
        parts in proptest::collection::vec(PART, 0..6), slash in "/|//|/\\./", known: bool,
    ) {
        let world = world();
        fs::create_dir_all(world.boot.join("projects")).unwrap();
        for link in ["2711", "projects/gateway", "c0ffee12", "out", "overlays/out"] {
            symlink(Path::new("../.."), world.boot.join(link)).unwrap();
        }
        let client = tenant();
        if let Ok(file) = world.files.find(&parts.join(&slash), known.then_some(&client)) {
            prop_assert_ne!(&file.read().unwrap()[..], b"secret");
        }
    }

    #[test]
    fn any_name_at_all_is_answered(asked in "\\PC*", known: bool) {
        let world = world();
        let client = tenant();
        let _ = world.files.find(&asked, known.then_some(&client));
    }
}
