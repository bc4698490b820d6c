//! What Pi 5 and CM5 ask for over TFTP: all of it by the bootloader in the EEPROM, which holds the firmware, too.
//!
//! No capture shows the whole order, so here it differs from board to board: a station must not depend on it.

use crate::simulator::board::Model;
use crate::simulator::config_txt::Config;
use crate::simulator::walk::{Longest, Unbootable, Walk};

pub fn walk(walk: &mut Walk<'_>) -> Result<(), Unbootable> {
    // Without a config.txt it is no boot server.
    if !walk.sees("config.txt")? {
        walk.drop_prefix();
        if !walk.sees("config.txt")? {
            return Err(Unbootable::Missing("config.txt".to_owned()));
        }
    }
    let config = walk.config(Longest::Any)?;
    // It asks with a doubled slash, too, and acts on what it gets then (seen by tinkerbell).
    walk.want("/config.txt")?;
    if walk.want("pieeprom.sig")?.is_some() {
        walk.want("pieeprom.upd")?;
    }
    walk.want("autoboot.txt")?;
    let steps: [Step; 5] = [device_tree, kernel, overlays, cmdline, stub];
    let first = usize::try_from(walk.board.serial.low().0).unwrap_or(0) % steps.len();
    steps.iter().cycle().skip(first).take(steps.len()).try_for_each(|step| step(walk, &config))
}

type Step = fn(&mut Walk<'_>, &Config) -> Result<(), Unbootable>;

/// Without its device tree it takes what is there for an operating system of another board (`os_check`).
fn device_tree(walk: &mut Walk<'_>, config: &Config) -> Result<(), Unbootable> {
    let name = match walk.board.model {
        Model::Cm5 => "bcm2712-rpi-cm5-cm5io.dtb",
        _ => "bcm2712-rpi-5-b.dtb",
    };
    match config.os_check {
        true => walk.need(name).map(drop),
        false => walk.want(name).map(drop),
    }
}

fn kernel(walk: &mut Walk<'_>, config: &Config) -> Result<(), Unbootable> {
    let kernel = walk.kernel(config, &["kernel_2712.img", "kernel8.img"])?;
    let beside = match kernel.as_str() {
        "kernel_2712.img" => "initramfs_2712",
        _ => "initramfs8",
    };
    match config.auto_initramfs && config.initramfs.is_empty() {
        true => walk.initramfs(&[beside.to_owned()]),
        false => walk.initramfs(&config.initramfs),
    }
}

fn overlays(walk: &mut Walk<'_>, config: &Config) -> Result<(), Unbootable> {
    walk.want("overlays/overlay_map.dtb")?;
    walk.overlays(config)
}

fn cmdline(walk: &mut Walk<'_>, config: &Config) -> Result<(), Unbootable> {
    walk.cmdline(config)
}

fn stub(walk: &mut Walk<'_>, _: &Config) -> Result<(), Unbootable> {
    walk.want("armstub8-2712.bin").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::walk::tests::visit;

    const SET: [&str; 5] = [
        "config.txt=initramfs scriptexecute.img followkernel\n",
        "scriptexecute.img",
        "cmdline.txt=x",
        "bcm2712-rpi-cm5-cm5io.dtb",
        "kernel8.img",
    ];

    fn without(name: &str) -> Vec<&'static str> {
        SET.into_iter().filter(|file| file.split('=').next() != Some(name)).collect()
    }

    #[test]
    fn a_cm5_boots_without_start_elf() {
        let (asked, booted) = visit(Model::Cm5, &SET, walk);
        assert_eq!(asked[0], "be910eb2/config.txt");
        assert!(asked.iter().all(|file| !file.contains("start")), "{asked:?}");
        let place = |name: &str| asked.iter().position(|file| file == &format!("be910eb2/{name}")).unwrap();
        assert!(place("kernel_2712.img") < place("kernel8.img"));
        let booted = booted.unwrap();
        assert_eq!((booted.files, booted.cmdline.as_str()), (5, "x"));
    }

    #[test]
    fn without_config_txt_it_does_not_boot_at_all() {
        let (asked, end) = visit(Model::Cm5, &without("config.txt"), walk);
        assert_eq!(asked, ["be910eb2/config.txt", "config.txt"]);
        assert!(matches!(end, Err(Unbootable::Missing(file)) if file == "config.txt"));
    }

    #[test]
    fn a_set_for_another_board_is_refused_by_the_os_check() {
        let end = visit(Model::Pi5, &SET, walk).1.unwrap_err().to_string();
        assert_eq!(end, "the station has no be910eb2/bcm2712-rpi-5-b.dtb");
        let mut unchecked = without("config.txt");
        unchecked.push("config.txt=os_check=0\ninitramfs scriptexecute.img\n");
        assert!(visit(Model::Pi5, &unchecked, walk).1.is_ok());
    }

    #[test]
    fn the_initramfs_is_configured_or_lies_beside_the_kernel() {
        let mut set = without("config.txt");
        set.push("config.txt=auto_initramfs=1\n");
        assert!(
            matches!(visit(Model::Cm5, &set, walk).1, Err(Unbootable::Missing(name)) if name.ends_with("initramfs8"))
        );
        set.push("initramfs8");
        assert!(visit(Model::Cm5, &set, walk).1.is_ok());
        set.retain(|file| !file.starts_with("config"));
        set.push("config.txt=\n");
        assert!(matches!(visit(Model::Cm5, &set, walk).1, Err(Unbootable::NoInitramfs)));
    }
}
