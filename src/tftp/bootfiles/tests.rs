//! Names against a folder with links, prefixes and traps.

use std::fs;

use proptest::prelude::*;

use super::*;

struct World {
    _folder: tempfile::TempDir,
    files: BootFiles,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    let boot = folder.path().join("boot");
    fs::create_dir_all(boot.join("overlays")).unwrap();
    fs::write(boot.join("start4.elf"), "elf").unwrap();
    fs::write(boot.join("dwc2.dtbo"), "flat").unwrap();
    fs::write(boot.join("overlays/vc4.dtbo"), "deep").unwrap();
    fs::write(boot.join("pieeprom.upd"), "flash").unwrap();
    std::os::unix::fs::symlink("start4.elf", boot.join("inside.elf")).unwrap();
    std::os::unix::fs::symlink("../secret.txt", boot.join("outside.txt")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.txt"), boot.join("absolute.txt")).unwrap();
    World { files: BootFiles::new(boot, "172.20.0.1:80".parse().unwrap()), _folder: folder }
}

impl World {
    fn text(&mut self, asked: &str) -> Result<String, u16> {
        match self.files.find(asked) {
            Ok(file) => Ok(String::from_utf8(file.read().unwrap().to_vec()).unwrap()),
            Err(NotServed::Missing) => Err(1),
            Err(NotServed::Denied) => Err(2),
            Err(other) => panic!("{other}"),
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.files.folder.join(name), text).unwrap();
    }
}

#[test]
fn a_file_is_found_bare_and_under_the_prefix_of_a_device() {
    let mut world = world();
    for asked in [
        "start4.elf",
        "/start4.elf",
        "c0ffee12/start4.elf",
        "c0ffee12//start4.elf",
        "./start4.elf",
        "dc-a6-32-01-36-c2/start4.elf",
    ] {
        assert_eq!(world.text(asked), Ok("elf".to_owned()), "{asked}");
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
fn nothing_outside_the_folder_is_served() {
    let mut world = world();
    for asked in [
        "../secret.txt",
        "overlays/../../secret.txt",
        "c0ffee12/../secret.txt",
        "..\\secret.txt",
        "outside.txt",
        "absolute.txt",
    ] {
        assert_eq!(world.text(asked), Err(2), "{asked}");
    }
    for asked in ["/etc/passwd", "//etc/passwd", "~/x"] {
        assert_eq!(world.text(asked), Err(1), "{asked}");
    }
    assert_eq!(world.text("inside.elf"), Ok("elf".to_owned()));
}

#[test]
fn overlays_may_lie_flat() {
    let mut world = world();
    assert_eq!(world.text("c0ffee12/overlays/dwc2.dtbo"), Ok("flat".to_owned()));
    assert_eq!(world.text("overlays/vc4.dtbo"), Ok("deep".to_owned()));
    assert_eq!(world.text("overlays/none.dtbo"), Err(1));
}

#[test]
fn what_would_flash_the_eeprom_is_never_served() {
    let mut world = world();
    for asked in [
        "pieeprom.upd",
        "c0ffee12/pieeprom.upd",
        "PIEEPROM.upd",
        "recovery.elf",
        "recover4.elf",
        "overlays/pieeprom.upd",
    ] {
        assert_eq!(world.text(asked), Err(1), "{asked}");
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
    assert_eq!(world.text("cmdline.txt"), Ok("script=http://172.20.0.1:8080/y".to_owned()));
}

#[test]
fn the_port_is_named_unless_it_is_80() {
    let server = |address: &str| BootFiles::new(PathBuf::new(), address.parse().unwrap()).server;
    assert_eq!(server("10.0.0.1:80"), "10.0.0.1");
    assert_eq!(server("10.0.0.1:8080"), "10.0.0.1:8080");
}

#[test]
fn the_built_in_configuration_is_short_enough_for_old_firmware() {
    let config = world().text("config.txt").unwrap();
    assert!(config.len() < 4096 && config.contains("\ninitramfs scriptexecute.img followkernel\n"));
}

#[test]
fn a_file_is_read_once_until_it_changes() {
    let mut world = world();
    let first = world.files.find("start4.elf").unwrap();
    assert_eq!(first.bytes(), None);
    first.read().unwrap();
    let again = world.files.find("c0ffee12/start4.elf").unwrap();
    assert_eq!(again.bytes(), Some(Bytes::from("elf")));
    world.write("start4.elf", "newer");
    assert_eq!(world.text("start4.elf"), Ok("newer".to_owned()));
    assert_eq!(again.bytes(), Some(Bytes::from("elf")));
}

proptest! {
    #[test]
    fn no_name_leads_out_of_the_folder(parts in proptest::collection::vec("\\.\\.|\\.|[a-z]{0,2}|secret.txt|boot|overlays|c0ffee12", 0..6)) {
        let mut world = world();
        if let Ok(file) = world.files.find(&parts.join("/")) {
            prop_assert_ne!(&file.read().unwrap()[..], b"secret");
        }
    }
}

#[test]
fn a_link_is_followed_while_files_are_renamed_elsewhere() {
    let mut world = world();
    std::os::unix::fs::symlink("../start4.elf", world.files.folder.join("overlays/up.elf")).unwrap();
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
        for _ in 0..10_000 {
            let found = world.files.find("overlays/up.elf").map(drop);
            if found.is_err() {
                over.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            found.unwrap();
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
