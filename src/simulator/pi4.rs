//! What Pi 4 and CM4 ask for over TFTP: the bootloader in the EEPROM, then `start4.elf`.
//!
//! The order is the one that the predecessor's README shows of a real CM4, and after it `netboot.md` §2.4.

use crate::simulator::board::Model;
use crate::simulator::walk::{Longest, Unbootable, Walk};

pub fn walk(walk: &mut Walk<'_>) -> Result<(), Unbootable> {
    if !(walk.sees("start4.elf")? || walk.sees("start.elf")?) {
        walk.drop_prefix();
    }
    let config = walk.config(Longest::Page)?;
    if walk.want("pieeprom.sig")?.is_some() {
        walk.want("pieeprom.upd")?;
    }
    if walk.board.model == Model::Pi4 {
        walk.want("vl805.sig")?;
    }
    walk.rescue(&["recover4.elf", "recovery.elf"])?;
    let variant = config.variant.as_str();
    let usual = (format!("start4{variant}.elf"), format!("fixup4{variant}.dat"));
    walk.need(config.start_file.as_ref().unwrap_or(&usual.0))?;
    walk.want(config.fixup_file.as_ref().unwrap_or(&usual.1))?;
    firmware(walk)
}

/// `start4.elf` reads the settings again, and does the rest.
fn firmware(walk: &mut Walk<'_>) -> Result<(), Unbootable> {
    walk.want("dt-blob.bin")?;
    let config = walk.config(Longest::Page)?;
    walk.want("bootcfg.txt")?;
    walk.initramfs(&config.initramfs)?;
    walk.need(match walk.board.model {
        Model::Pi4 => "bcm2711-rpi-4-b.dtb",
        _ => "bcm2711-rpi-cm4.dtb",
    })?;
    walk.want("overlays/overlay_map.dtb")?;
    walk.config(Longest::Page)?;
    walk.overlays(&config)?;
    walk.cmdline(&config)?;
    walk.rescue(&["recovery8.img", "recovery8-32.img", "recovery7l.img", "recovery7.img", "recovery.img"])?;
    let usual: &[&str] = match config.arm_64bit {
        Some(false) => &KERNELS[1..],
        _ => &KERNELS,
    };
    let kernel = walk.kernel(&config, usual)?;
    walk.want(match kernel.as_str() {
        "kernel8.img" => "armstub8-gic.bin",
        _ => "armstub8-32-gic.bin",
    })?;
    Ok(())
}

/// The first that is there is taken.
const KERNELS: [&str; 5] = ["kernel8.img", "kernel8-32.img", "kernel7l.img", "kernel7.img", "kernel.img"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::walk::tests::visit;

    const CONFIG: &str = "config.txt=initramfs scriptexecute.img followkernel\n[cm4]\ndtoverlay=spi-gpio40-45\n";
    const SET: [&str; 7] = [
        CONFIG,
        "start4.elf",
        "fixup4.dat",
        "scriptexecute.img",
        "cmdline.txt=script=http://x/ \n",
        "bcm2711-rpi-cm4.dtb",
        "kernel.img",
    ];

    fn without(name: &str) -> Vec<&'static str> {
        SET.into_iter().filter(|file| file.split('=').next() != Some(name)).collect()
    }

    #[test]
    fn a_cm4_asks_below_its_serial_once_that_looks_bootable() {
        let (asked, booted) = visit(Model::Cm4, &SET, walk);
        let booted = booted.unwrap();
        let bare: Vec<&str> = asked.iter().map(|file| file.strip_prefix("be910eb2/").expect("the prefix")).collect();
        let golden = [
            "start4.elf",
            "config.txt",
            "pieeprom.sig",
            "recover4.elf",
            "recovery.elf",
            "start4.elf",
            "fixup4.dat",
            "dt-blob.bin",
            "config.txt",
            "bootcfg.txt",
            "scriptexecute.img",
            "bcm2711-rpi-cm4.dtb",
            "overlays/overlay_map.dtb",
            "config.txt",
            "overlays/spi-gpio40-45.dtbo",
            "cmdline.txt",
            "recovery8.img",
            "recovery8-32.img",
            "recovery7l.img",
            "recovery7.img",
            "recovery.img",
            "kernel8.img",
            "kernel8-32.img",
            "kernel7l.img",
            "kernel7.img",
            "kernel.img",
            "armstub8-32-gic.bin",
        ];
        assert_eq!(bare, golden);
        assert_eq!((booted.files, booted.cmdline.as_str()), (9, "script=http://x/"));
        assert_eq!(booted.files + booted.missing, 26, "a look is not a download");
    }

    #[test]
    fn without_a_folder_of_its_own_it_asks_for_bare_names() {
        let (asked, booted) = visit(Model::Cm4, &without("start4.elf"), walk);
        assert_eq!(asked[..3], ["be910eb2/start4.elf", "be910eb2/start.elf", "config.txt"]);
        assert!(matches!(booted, Err(Unbootable::Missing(file)) if file == "start4.elf"));
    }

    #[test]
    fn a_set_that_lacks_what_linux_needs_does_not_boot() {
        let end = |name| visit(Model::Cm4, &without(name), walk).1.unwrap_err().to_string();
        assert_eq!(end("kernel.img"), "the station has no kernel");
        assert_eq!(end("config.txt"), "no initramfs is configured: the kernel finds no root");
        assert_eq!(end("scriptexecute.img"), "the station has no be910eb2/scriptexecute.img");
        assert_eq!(end("bcm2711-rpi-cm4.dtb"), "the station has no be910eb2/bcm2711-rpi-cm4.dtb");
        assert_eq!(end("cmdline.txt"), "the station has no be910eb2/cmdline.txt");
        let pi4 = visit(Model::Pi4, &SET, walk).1.unwrap_err().to_string();
        assert_eq!(pi4, "the station has no be910eb2/bcm2711-rpi-4-b.dtb");
    }

    #[test]
    fn a_config_of_a_page_is_ignored() {
        let long = format!("{CONFIG}{}", "#".repeat(4096));
        let mut set = without("config.txt");
        set.push(&long);
        assert!(matches!(visit(Model::Cm4, &set, walk).1, Err(Unbootable::LongConfig { .. })));
    }

    #[test]
    fn a_rescue_system_that_is_served_is_started() {
        let set: Vec<&str> = SET.into_iter().chain(["recover4.elf"]).collect();
        let (_, end) = visit(Model::Cm4, &set, walk);
        assert!(matches!(end, Err(Unbootable::Rescue(file)) if file == "be910eb2/recover4.elf"));
    }

    #[test]
    fn names_follow_config_txt() {
        let config = "config.txt=kernel=k.img\narm_64bit=0\ngpu_mem=16\ncmdline=c.txt\ninitramfs a,b 0\n";
        let set = [config, "start4.elf", "start4cd.elf", "a", "b", "bcm2711-rpi-4-b.dtb", "c.txt=x", "k.img"];
        let (asked, booted) = visit(Model::Pi4, &set, walk);
        assert_eq!(booted.unwrap().cmdline, "x");
        for name in ["start4cd.elf", "fixup4cd.dat", "a", "b", "c.txt", "k.img", "vl805.sig"] {
            assert!(asked.contains(&format!("be910eb2/{name}")), "{name}: {asked:?}");
        }
        assert!(!asked.contains(&"be910eb2/kernel8.img".to_owned()));
    }
}
