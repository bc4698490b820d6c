//! Made-up trees: the firmware, the predecessor's folder, and what must not come out of them.

use std::os::unix::fs::symlink;

use super::*;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(files: &[&str]) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        world.write("secret", "secret");
        for file in files {
            world.write(&format!("from/{file}"), file);
        }
        world
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn order(&self) -> Order {
        let (from, to) = (self.path("from"), self.path("boot"));
        Order { from, to, place: Target::Common, dry_run: false, force: false }
    }

    fn import(&self) -> Imported {
        import(&self.order()).unwrap()
    }

    /// Everything below the folder of boot files.
    fn there(&self) -> Vec<String> {
        fn walk(folder: &Path, below: &str, found: &mut Vec<String>) {
            for name in names(folder).unwrap_or_default() {
                let path = format!("{below}{name}");
                match folder.join(&name).is_dir() {
                    true => walk(&folder.join(&name), &format!("{path}/"), found),
                    false => found.push(path),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path("boot"), "", &mut found);
        found
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path("boot").join(name)).unwrap()
    }
}

/// What became of a file.
fn fate<'a>(imported: &'a Imported, file: &str) -> &'a Fate {
    &imported.files.iter().find(|taken| taken.file == file).unwrap_or_else(|| panic!("{file} in {imported:?}")).fate
}

fn left(imported: &Imported, file: &str) -> String {
    match fate(imported, file) {
        Fate::Left { why } => why.clone(),
        other => panic!("{file}: {other:?}"),
    }
}

const FIRMWARE: [&str; 12] = [
    "boot/bootcode.bin",
    "boot/start.elf",
    "boot/start4.elf",
    "boot/fixup4.dat",
    "boot/kernel8.img",
    "boot/kernel_2712.img",
    "boot/bcm2711-rpi-cm4.dtb",
    "boot/bcm2712-rpi-cm5-cm5io.dtb",
    "boot/overlays/dwc2.dtbo",
    "boot/overlays/overlay_map.dtb",
    "boot/overlays/README",
    "modules/6.6/kernel8.img",
];

#[test]
fn an_unpacked_firmware_is_recognised_with_and_without_its_boot_folder() {
    for below in ["from", "from/boot"] {
        let world = World::new(&FIRMWARE);
        let imported = import(&Order { from: world.path(below), ..world.order() }).unwrap();
        assert_eq!(imported.source, "Raspberry Pi firmware");
        assert_eq!(
            world.there(),
            [
                "bcm2711-rpi-cm4.dtb",
                "bcm2712-rpi-cm5-cm5io.dtb",
                "bootcode.bin",
                "fixup4.dat",
                "kernel8.img",
                "kernel_2712.img",
                "overlays/dwc2.dtbo",
                "overlays/overlay_map.dtb",
                "start.elf",
                "start4.elf",
            ]
        );
        assert_eq!(world.text("start4.elf"), "boot/start4.elf");
        assert_eq!(left(&imported, "overlays/README"), "is no boot file");
    }
}

#[test]
fn a_family_gets_its_own_files_alone() {
    let world = World::new(&FIRMWARE);
    let imported = import(&Order { place: Target::Family(Family::Pi5), ..world.order() }).unwrap();
    assert_eq!(
        world.there(),
        [
            "2712/bcm2712-rpi-cm5-cm5io.dtb",
            "2712/kernel8.img",
            "2712/kernel_2712.img",
            "2712/overlays/dwc2.dtbo",
            "2712/overlays/overlay_map.dtb"
        ]
    );
    assert_eq!(left(&imported, "start4.elf"), "is for 2711");
    assert_eq!(left(&imported, "bootcode.bin"), "is for 2710");
}

const PREDECESSOR: [&str; 8] = [
    "scriptexecute/scriptexecute.img",
    "scriptexecute/config.txt",
    "scriptexecute/start4.elf",
    "scriptexecute/kernel.img",
    "scriptexecute/bcm2711-rpi-cm4.dtb",
    "scriptexecute/dwc2.dtbo",
    "scriptexecute/pieeprom.upd",
    "scriptexecute/recovery.bin",
];

#[test]
fn the_predecessors_folder_is_taken_over_and_follows_this_station() {
    for (address, becomes) in [
        ("172.20.0.1", "{server}"),
        ("192.168.5.1:8080", "{server}"),
        ("{server}", "{server}"),
        ("station.example", "station.example"),
    ] {
        let world = World::new(&PREDECESSOR);
        let line = |host: &str| format!("readjumper script=http://{host}/scriptexecute?serial={{serial}}\n");
        world.write("from/scriptexecute/cmdline.txt", &line(address));
        let imported = world.import();
        assert_eq!(imported.source, "the predecessor's scriptexecute folder");
        assert_eq!(world.text("cmdline.txt"), line(becomes));
        let Fate::Copied { note, .. } = fate(&imported, "cmdline.txt") else { panic!("{imported:?}") };
        assert_eq!(note.is_some(), address != becomes, "{note:?}");
        assert_eq!(world.text("overlays/dwc2.dtbo"), "scriptexecute/dwc2.dtbo");
        for trap in ["pieeprom.upd", "recovery.bin"] {
            assert!(left(&imported, trap).starts_with("is never served"), "{trap}");
        }
        assert_eq!(world.there().len(), 7, "{:?}", world.there());
    }
}

#[test]
fn a_different_file_stays_unless_told_otherwise() {
    let world = World::new(&PREDECESSOR);
    world.write("boot/config.txt", "mine");
    world.write("boot/kernel.img", "scriptexecute/kernel.img");
    let dry = import(&Order { dry_run: true, force: true, ..world.order() }).unwrap();
    assert!(matches!(fate(&dry, "config.txt"), Fate::Copied { .. }));
    assert_eq!(world.there(), ["config.txt", "kernel.img"]);
    let imported = world.import();
    assert!(imported.in_the_way());
    assert_eq!(*fate(&imported, "config.txt"), Fate::InTheWay { to: "config.txt".to_owned() });
    assert_eq!(*fate(&imported, "kernel.img"), Fate::Same { to: "kernel.img".to_owned() });
    assert_eq!(world.text("config.txt"), "mine");
    let forced = import(&Order { force: true, ..world.order() }).unwrap();
    assert!(!forced.in_the_way());
    assert_eq!(world.text("config.txt"), "scriptexecute/config.txt");
    assert!(world.there().iter().all(|name| !name.contains("/.") && !name.starts_with('.')), "{:?}", world.there());
}

#[test]
fn no_link_leads_out_of_the_source_or_the_target() {
    let world = World::new(&["start4.elf", "initramfs8"]);
    for (link, target) in [
        ("from/fixup4.dat", "../secret"),
        ("from/kernel8.img", "initramfs8"),
        ("from/kernel7.img", "/etc/passwd"),
        ("from/overlays", ".."),
        ("from/boot", ".."),
    ] {
        symlink(target, world.path(link)).unwrap();
    }
    let imported = world.import();
    assert_eq!(left(&imported, "fixup4.dat"), "is a link that leads out of the folder");
    assert_eq!(left(&imported, "kernel7.img"), "is a link that leads out of the folder");
    assert_eq!(left(&imported, "overlays"), "is no boot file");
    assert_eq!(world.text("kernel8.img"), "initramfs8");
    assert_eq!(world.there(), ["initramfs8", "kernel8.img", "start4.elf"]);

    let world = World::new(&["start4.elf", "dwc2.dtbo"]);
    fs::create_dir(world.path("boot")).unwrap();
    fs::create_dir(world.path("elsewhere")).unwrap();
    symlink("../elsewhere", world.path("boot/overlays")).unwrap();
    symlink("../secret", world.path("boot/start4.elf")).unwrap();
    let said = import(&Order { force: true, ..world.order() }).unwrap_err().to_string();
    assert!(said.ends_with("boot/overlays is not a folder; files are written into real folders only"), "{said}");
    fs::remove_file(world.path("boot/overlays")).unwrap();
    assert!(matches!(fate(&world.import(), "start4.elf"), Fate::InTheWay { .. }));
    import(&Order { force: true, ..world.order() }).unwrap();
    assert_eq!(world.text("start4.elf"), "start4.elf");
    assert_eq!(fs::read_to_string(world.path("secret")).unwrap(), "secret", "the link was replaced, not followed");
}

#[test]
fn what_is_no_folder_of_boot_files_is_said() {
    let world = World::new(&["notes.txt", "ssh/id_rsa"]);
    let said = import(&world.order()).unwrap_err().to_string();
    assert!(said.contains("from looks like boot files") || said.contains("looks like boot files"), "{said}");
    let nowhere = Order { from: world.path("nowhere"), ..world.order() };
    let said = import(&nowhere).unwrap_err().to_string();
    assert!(said.ends_with("nowhere"), "{said}");
    assert_eq!(world.there(), [""; 0]);
}

#[test]
fn only_places_that_a_device_looks_into_are_taken() {
    for (text, folder) in [
        ("2711", "2711"),
        ("projects/gateway", "projects/gateway"),
        ("C0FFEE12", "c0ffee12"),
        ("dc-a6-32-01-36-c2", "dc-a6-32-01-36-c2"),
    ] {
        assert_eq!(text.parse::<Target>().unwrap().folder(), folder);
    }
    for wrong in ["", "..", "/etc", "projects/../..", "projects/", "projects/A", "2713", "overlays", "projects/a/b"] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong}");
    }
}
