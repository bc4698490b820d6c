//! Made-up folders, one for each kind of fault.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

struct World {
    folder: tempfile::TempDir,
    files: BootFiles,
}

/// What a CM4 needs with the built-in config.txt and cmdline.txt, and nothing else.
fn cm4() -> World {
    let world = empty();
    for (name, bytes) in [
        ("start4.elf", elf()),
        ("fixup4.dat", b"fix".to_vec()),
        ("kernel8.img", kernel64()),
        ("scriptexecute.img", b"cpio".to_vec()),
        ("bcm2711-rpi-cm4.dtb", tree()),
        ("overlays/spi-gpio40-45.dtbo", tree()),
    ] {
        world.write(name, &bytes);
    }
    world
}

fn empty() -> World {
    let folder = tempfile::tempdir().unwrap();
    let boot = folder.path().join("boot");
    fs::create_dir(&boot).unwrap();
    World { files: BootFiles::new(boot, "192.168.5.1:80".parse().unwrap()), folder }
}

fn elf() -> Vec<u8> {
    [b"\x7fELF".as_slice(), &[0; 100]].concat()
}

fn tree() -> Vec<u8> {
    vec![0xd0, 0x0d, 0xfe, 0xed, 0, 0]
}

fn kernel64() -> Vec<u8> {
    [[0; 56].as_slice(), b"ARM\x64", &[0; 100]].concat()
}

impl World {
    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.files.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.files.folder.join(name)).unwrap();
    }

    fn sparse(&self, name: &str, bytes: u64) {
        self.write(name, b"\x7fELF");
        let file = fs::File::options().write(true).open(self.files.folder.join(name)).unwrap();
        file.set_len(bytes).unwrap();
    }

    fn check(&self) -> Report {
        check(&self.files, None).unwrap()
    }

    /// What is said of a CM4, worst first.
    fn of_cm4(&self) -> Vec<(Level, String)> {
        let report = check(&self.files, Some(Model::Cm4)).unwrap();
        let findings = report.models.into_iter().flat_map(|model| model.findings).chain(report.findings);
        let mut said: Vec<(Level, String)> = findings.map(|finding| (finding.level, finding.text)).collect();
        said.sort_by(|a, b| b.cmp(a));
        said
    }

    fn assert_cm4(&self, level: Level, part: &str) {
        let said = self.of_cm4();
        assert!(said.iter().any(|(at, text)| *at == level && text.contains(part)), "{part:?} in {said:#?}");
        assert_eq!(check(&self.files, Some(Model::Cm4)).unwrap().ok, level < Level::Fault, "{said:?}");
    }
}

#[test]
fn a_complete_cm4_is_all_there_and_the_others_are_not_meant() {
    let world = cm4();
    assert_eq!(world.of_cm4(), []);
    let report = world.check();
    assert!(report.ok);
    let prepared: Vec<Model> = report.models.iter().filter(|model| model.prepared).map(|model| model.model).collect();
    assert_eq!(prepared, [Model::Cm4]);
    let cm4 = report.models.iter().find(|model| model.model == Model::Cm4).unwrap();
    let rows: Vec<(&str, State)> = cm4.files.iter().map(|row| (row.file.as_str(), row.state)).collect();
    assert_eq!(
        rows,
        [
            ("config.txt", State::BuiltIn),
            ("start4.elf", State::There),
            ("fixup4.dat", State::There),
            ("kernel8.img", State::There),
            ("scriptexecute.img", State::There),
            ("bcm2711-rpi-cm4.dtb", State::There),
            ("overlays/spi-gpio40-45.dtbo", State::There),
            ("cmdline.txt", State::BuiltIn),
        ]
    );
}

#[test]
fn an_empty_folder_boots_nobody() {
    let report = empty().check();
    assert!(!report.ok && report.models.iter().all(|model| !model.prepared && !model.boots));
    assert_eq!(report.findings[0].level, Level::Fault);
}

#[test]
fn what_is_missing_is_named() {
    for (name, level) in [
        ("start4.elf", Level::Fault),
        ("kernel8.img", Level::Fault),
        ("scriptexecute.img", Level::Fault),
        ("fixup4.dat", Level::Warning),
        ("overlays/spi-gpio40-45.dtbo", Level::Warning),
    ] {
        let world = cm4();
        world.remove(name);
        world.assert_cm4(level, &format!("{name} is missing"));
    }
    let world = cm4();
    world.remove("bcm2711-rpi-cm4.dtb");
    world.assert_cm4(Level::Fault, "no device tree of Compute Module 4 is there");
}

#[test]
fn names_of_config_txt_are_looked_for() {
    for (line, level, part) in [
        ("kernel=own.img", Level::Fault, "kernel: own.img is missing"),
        ("initramfs a.img,scriptexecute.img followkernel", Level::Fault, "initramfs: a.img is missing"),
        ("start_x=1", Level::Fault, "firmware: start4x.elf is missing"),
        ("gpu_mem=16", Level::Fault, "firmware: start4cd.elf is missing"),
        ("start_file=own.elf", Level::Fault, "firmware: own.elf is missing"),
        ("device_tree=own.dtb", Level::Fault, "device tree: own.dtb is missing"),
        ("boot_ramdisk=1", Level::Fault, "memory disk: boot.img is missing"),
        ("dtoverlay=none,param=1", Level::Warning, "overlay: overlays/none.dtbo is missing"),
        ("include more.txt", Level::Warning, "includes more.txt, which is not there"),
        ("armstub=stub.bin", Level::Warning, "stub: stub.bin is missing"),
        ("[cm4]\nkernel=own.img", Level::Fault, "own.img"),
        ("cmdline=own.txt", Level::Fault, "own.txt: file not found"),
    ] {
        let world = cm4();
        world.write("config.txt", format!("initramfs scriptexecute.img followkernel\n{line}\n").as_bytes());
        world.assert_cm4(level, part);
    }
    for line in ["[pi5]\nkernel=own.img", "[none]\nkernel=own.img", "#kernel=own.img", "os_prefix=nowhere/"] {
        let world = cm4();
        world.write("config.txt", format!("initramfs scriptexecute.img followkernel\n{line}\n").as_bytes());
        assert_eq!(world.of_cm4(), [], "{line}");
    }
    let world = cm4();
    world.write("config.txt", b"include more.txt\ninitramfs scriptexecute.img followkernel\n");
    world.write("more.txt", b"kernel=own.img\n");
    world.assert_cm4(Level::Fault, "own.img");
}

#[test]
fn sizes_beyond_the_time_of_a_download_are_said() {
    let world = cm4();
    world.sparse("start4.elf", 40_000_001);
    world.assert_cm4(Level::Warning, "3 MB/s");
    world.sparse("start4.elf", 65_535 * 1468 + 1);
    world.assert_cm4(Level::Fault, "2025-09-23");
    world.sparse("start4.elf", (256 << 20) + 1);
    world.assert_cm4(Level::Fault, "too large");
}

#[test]
fn files_that_are_not_what_their_name_says_are_found() {
    for (name, bytes, part) in [
        ("start4.elf", b"<html>404".as_slice(), "is not an ELF file"),
        ("bcm2711-rpi-cm4.dtb", b"version https://git-lfs", "is not a device tree"),
        ("overlays/spi-gpio40-45.dtbo", b"x", "is not a device tree"),
        ("scriptexecute.img", b"", "is empty"),
    ] {
        let world = cm4();
        world.write(name, bytes);
        world.assert_cm4(Level::Fault, part);
    }
    let world = cm4();
    world.write("kernel8.img", b"a 32-bit kernel");
    assert_eq!(world.of_cm4(), [], "the width is left to the firmware");
    world.write("config.txt", b"arm_64bit=1\ninitramfs scriptexecute.img\n");
    world.assert_cm4(Level::Fault, "is not a 64-bit kernel");
    world.write("kernel8.img", &[0x1f, 0x8b, 8, 0]);
    assert_eq!(world.of_cm4(), [], "the firmware unpacks gzip");
    world.write("kernel7l.img", &kernel64());
    world.write("config.txt", b"arm_64bit=0\ninitramfs scriptexecute.img\n");
    world.assert_cm4(Level::Fault, "kernel7l.img is a 64-bit kernel");
}

#[test]
fn a_long_config_txt_and_a_wrong_command_line_are_said() {
    let world = cm4();
    world.write("config.txt", format!("initramfs scriptexecute.img\n{}", "#\n".repeat(2048)).as_bytes());
    world.assert_cm4(Level::Warning, "firmware may ignore it from 4096 on");
    for (line, level, part) in [
        ("quiet\nscript=http://{server}/x\n", Level::Fault, "more than one line"),
        ("script=http://172.20.0.1/x", Level::Fault, "names another station: 172.20.0.1"),
        ("script=http://192.168.5.1/x", Level::Note, "names 192.168.5.1"),
        ("quiet root=/dev/mmcblk0p2", Level::Warning, "has no script="),
    ] {
        let world = cm4();
        world.write("cmdline.txt", line.as_bytes());
        world.assert_cm4(level, part);
    }
}

#[test]
fn a_command_line_of_another_name_is_not_filled_in() {
    let world = cm4();
    world.write("config.txt", b"initramfs scriptexecute.img\ncmdline=own.txt\n");
    world.write("own.txt", b"script=http://{server}/x");
    world.assert_cm4(Level::Fault, "own.txt is served as it is");
}

#[test]
fn traps_of_the_folder_are_found() {
    let world = cm4();
    fs::write(world.folder.path().join("outside"), "x").unwrap();
    let boot = &world.files.folder;
    symlink("start4.elf", boot.join("inside.elf")).unwrap();
    symlink("overlays", boot.join("more")).unwrap();
    world.write("2711/pieeprom.upd", b"x");
    world.write("C0FFEE12/start4.elf", &elf());
    world.write("projects/Not An Id/x", b"x");
    assert!(world.check().ok);
    symlink("../outside", boot.join("out.img")).unwrap();
    symlink("nowhere", boot.join("dangling")).unwrap();
    let report = world.check();
    assert!(!report.ok);
    let said = |level: Level| {
        let of_level = report.findings.iter().filter(move |finding| finding.level == level);
        of_level.map(|finding| finding.text.clone()).collect::<Vec<_>>().join("\n")
    };
    assert!(said(Level::Fault).starts_with("out.img is a link that leads out of the folder"), "{}", said(Level::Fault));
    let warnings = said(Level::Warning);
    for part in ["C0FFEE12/ is never looked into", "projects/Not An Id", "dangling is a link to nothing"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(said(Level::Note).contains("2711/pieeprom.upd is never served"));
}

#[test]
fn a_family_without_any_device_tree_is_a_fault() {
    let world = cm4();
    world.write("2712/kernel_2712.img", &kernel64());
    let report = world.check();
    let of = |model: Model| report.models.iter().find(|report| report.model == model).unwrap();
    assert!(!report.ok && of(Model::Cm5).prepared && !of(Model::Cm5).boots && of(Model::Cm4).boots);
    world.write("2712/bcm2712-rpi-cm5-cm5io.dtb", &tree());
    let report = world.check();
    let of = |model: Model| report.models.iter().find(|report| report.model == model).unwrap();
    assert!(report.ok && of(Model::Cm5).boots && !of(Model::Pi5).prepared);
    assert!(of(Model::Cm5).findings.iter().any(|finding| finding.text.contains("kernel of 6.6")));
    let kernel = of(Model::Cm5).files.iter().find(|row| row.what == "kernel").unwrap();
    assert_eq!(kernel.place.as_deref(), Some("2712"));
}

#[test]
fn a_project_is_looked_at_with_its_own_files() {
    let world = cm4();
    world.write("projects/gateway/config.txt", b"[cm4]\nkernel=own.img\n[all]\ninitramfs scriptexecute.img\n");
    world.write("c0ffee12/cmdline.txt", b"x");
    let report = world.check();
    assert!(!report.ok && report.models.iter().any(|model| model.boots), "only the project cannot boot");
    let places: Vec<(&str, usize)> = report.places.iter().map(|place| (&*place.folder, place.files.len())).collect();
    assert_eq!(places, [("c0ffee12", 1), ("projects/gateway", 1)]);
    let [model] = &report.places[1].models[..] else { panic!("{:?}", report.places[1].models) };
    assert!(model.model == Model::Cm4 && !model.boots);
    world.write("projects/gateway/own.img", &kernel64());
    assert!(world.check().ok);
}

#[test]
fn a_memory_disk_needs_nothing_else() {
    let world = empty();
    world.write("config.txt", b"[cm5]\nboot_ramdisk=1\n");
    world.write("boot.img", b"fat");
    let report = world.check();
    let prepared: Vec<Model> = report.models.iter().filter(|model| model.prepared).map(|model| model.model).collect();
    assert_eq!((report.ok, prepared), (true, vec![Model::Cm5]));
}
