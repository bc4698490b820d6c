//! One device of each model boots from the built agent: real DHCP, TFTP and HTTP on a bridge.

use std::fs;
use std::time::Instant;

use crate::agent::PATIENCE;
use crate::line::Line;
use crate::net::Net;

/// What all five need; the kernels are not asked for by all.
const SET: [&str; 12] = [
    "bootcode.bin",
    "start.elf",
    "fixup.dat",
    "start4.elf",
    "fixup4.dat",
    "bcm2710-rpi-3-b.dtb",
    "bcm2711-rpi-4-b.dtb",
    "bcm2711-rpi-cm4.dtb",
    "bcm2712-rpi-5-b.dtb",
    "bcm2712-rpi-cm5-cm5io.dtb",
    "kernel8.img",
    "scriptexecute.img",
];

fn line(net: Net, files: &[&str]) -> Line {
    let mut line = Line::new(net, "off", files);
    let config = "initramfs scriptexecute.img followkernel\n";
    fs::write(line.folder.path().join("bootfiles/config.txt"), config).unwrap();
    line.start();
    line.project();
    line
}

#[test]
fn one_device_of_each_model_gets_its_script() {
    let Some(net) = Net::make() else { return };
    let line = line(net, &SET);
    let result = line.boot(&["--model", "pi3,pi4,cm4,pi5,cm5", "--link-delay", "10ms", "--dry-boot"]);
    assert_eq!((&result["passed"], &result["failed"]), (&5.into(), &0.into()), "{result}");
    for model in ["pi3", "pi4", "cm4", "pi5", "cm5"] {
        assert_eq!(result["models"][model]["passed"], 1, "{result}");
        assert_eq!(result["models"][model]["cut"], 0, "{result}");
    }
    assert!(result["models"]["pi3"]["files"].as_u64() > result["models"]["pi5"]["files"].as_u64(), "{result}");
    let old = line.boot(&["--model", "cm4", "--firmware", "old", "--dry-boot"]);
    assert_eq!(old["passed"], 1, "{old}");
}

#[test]
fn a_cm5_and_a_pi_3_are_provisioned_to_the_end() {
    let Some(net) = Net::make() else { return };
    let line = line(net, &SET);
    let result = line.boot(&["--model", "cm5=1,pi3=1"]);
    assert_eq!((&result["passed"], &result["failed"]), (&2.into(), &0.into()), "{result}");
}

#[test]
fn without_a_bootable_folder_of_its_own_a_cm4_boots_from_bare_names() {
    let Some(net) = Net::make() else { return };
    let files: Vec<&str> = SET.into_iter().filter(|name| !name.starts_with("start")).chain(["mine.elf"]).collect();
    let line = line(net, &files);
    let config = "start_file=mine.elf\ninitramfs scriptexecute.img followkernel\n";
    fs::write(line.folder.path().join("bootfiles/config.txt"), config).unwrap();
    let result = line.boot(&["--first", "02:00:00:20:00:00", "--dry-boot"]);
    assert_eq!(result["passed"], 1, "{result}");
    // What TFTP has done is told to the ledger once a second.
    let begun = Instant::now();
    loop {
        let device = line.curl(&[], "/api/v1/devices/020000200000");
        let moments = device["timeline"].as_array().unwrap();
        let result = |name: &str| moments.iter().find(|moment| moment["name"] == name).map(|moment| &moment["result"]);
        if result("kernel8.img").is_some_and(|result| result == "sent") {
            assert_eq!(result("b5200000/start4.elf").unwrap(), "missing");
            assert_eq!(result("b5200000/start.elf").unwrap(), "missing");
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{device}");
    }
}

#[test]
fn a_station_that_lacks_a_file_is_told_which_by_each_model() {
    let Some(net) = Net::make() else { return };
    let files: Vec<&str> = SET
        .into_iter()
        .filter(|name| !["start.elf", "start4.elf", "bcm2712-rpi-cm5-cm5io.dtb", "bootcode.bin"].contains(name))
        .collect();
    let line = line(net, &files);
    let result = line.boot(&["--model", "cm4,cm5,pi3", "--dry-boot"]);
    assert_eq!(result["passed"], 0, "{result}");
    let mut complaints: Vec<String> = result["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| {
            assert_eq!(failure["at"], "boot files", "{failure}");
            failure["detail"].as_str().unwrap().rsplit(['/', ' ']).next().unwrap().to_owned()
        })
        .collect();
    complaints.sort();
    assert_eq!(complaints, ["bcm2712-rpi-cm5-cm5io.dtb", "bootcode.bin", "start4.elf"]);
}
