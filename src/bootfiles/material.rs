//! Which files are for a boot, by their names.

use crate::bootfiles::name::is_never_served;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of the `VideoCore`: the stages before the kernel.
    Firmware,
    Kernel,
    Tree,
    Overlay,
    /// Initramfs, memory disk, configuration.
    Other,
    /// The firmware may be passed on with its licence.
    Licence,
    NeverServed,
}

/// Of a path below a folder of boot files: `kernel8.img`, `overlays/dwc2.dtbo`.
pub fn kind_of(path: &str) -> Option<Kind> {
    if is_never_served(path) {
        return Some(Kind::NeverServed);
    }
    if let Some(name) = path.strip_prefix("overlays/") {
        return [".dtbo", ".dtb"].iter().any(|end| name.ends_with(end)).then_some(Kind::Overlay);
    }
    let is = |start: &str, end: &str| path.starts_with(start) && path.ends_with(end);
    match path {
        "bootcode.bin" => Some(Kind::Firmware),
        "scriptexecute.img" | "config.txt" | "cmdline.txt" | "boot.img" | "boot.sig" => Some(Kind::Other),
        "LICENCE.broadcom" | "COPYING.linux" => Some(Kind::Licence),
        _ if path.contains('/') => None,
        _ if is("start", ".elf") || is("fixup", ".dat") => Some(Kind::Firmware),
        _ if is("kernel", ".img") => Some(Kind::Kernel),
        _ if is("", ".dtbo") => Some(Kind::Overlay),
        "overlay_map.dtb" | "hat_map.dtb" => Some(Kind::Overlay),
        _ if is("", ".dtb") => Some(Kind::Tree),
        _ if is("initramfs", "") || is("armstub", ".bin") || is("bootcfg", ".txt") => Some(Kind::Other),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_files_are_known_by_their_names() {
        for (name, kind) in [
            ("start4.elf", Some(Kind::Firmware)),
            ("fixup4cd.dat", Some(Kind::Firmware)),
            ("kernel_2712.img", Some(Kind::Kernel)),
            ("bcm2711-rpi-cm4.dtb", Some(Kind::Tree)),
            ("dwc2.dtbo", Some(Kind::Overlay)),
            ("overlays/overlay_map.dtb", Some(Kind::Overlay)),
            ("overlays/README", None),
            ("scriptexecute.img", Some(Kind::Other)),
            ("initramfs_2712", Some(Kind::Other)),
            ("pieeprom.upd", Some(Kind::NeverServed)),
            ("recovery.elf", Some(Kind::NeverServed)),
            ("overlays/recovery.bin", Some(Kind::NeverServed)),
            ("LICENCE.broadcom", Some(Kind::Licence)),
            ("id_rsa", None),
            ("ssh/start4.elf", None),
        ] {
            assert_eq!(kind_of(name), kind, "{name}");
        }
    }
}
