//! What an operator does about an attempt that did not pass: one sentence a code.

/// Nothing for a code that this version does not know.
pub fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "storage.missing" => {
            "Check that the module has an eMMC or its carrier a card, and that the project names the right storage."
        }
        "storage.not_a_disk" | "storage.size_unknown" => {
            "Check the storage that the project names; if it is right, the module's storage is faulty."
        }
        "storage.in_use" => {
            "The provisioning system has mounted the storage; use the boot files of this station and power the module again."
        }
        "storage.too_small" => "Use a smaller image or a module with more storage.",
        "tools.missing" => "The provisioning system is not complete; put its current version into the boot files.",
        "firmware.tools" => {
            "The provisioning system has no flashrom or no access to the EEPROM; check its version and config.txt."
        }
        "firmware.download" => "Check cable and switch port, and power the module again.",
        "firmware.read" => {
            "The EEPROM cannot be read; check the SPI lines in config.txt (dtoverlay=spi-gpio40-45), then the module."
        }
        "firmware.chip" => {
            "The firmware of the project is for another kind of module; correct the project or its rule."
        }
        "firmware.downgrade" => {
            "The EEPROM holds newer firmware; give the project a newer image, or allow the downgrade in it."
        }
        "firmware.write" | "firmware.mismatch" | "firmware.timeout" => {
            "Do not cut the power before you have read the detail: if the old EEPROM is not restored, the module needs rpiboot."
        }
        "label.failed" | "label.expired" => {
            "Look at the printer (power, paper, network), then print the label with label.print or start the module again."
        }
        "label.template" => "Correct the template, or give the device the variable that it prints; then label.print.",
        "label.no_printer" => {
            "Name a printer in the project or the slot, and have it in printers of the configuration."
        }
        "label.queue_full" => "Look at the printer; when it prints again, print what is missing with label.print.",
        "write.download" => "Check cable, switch port and the load of the network, and power the module again.",
        "write.decode" => {
            "The image arrived damaged; try again, and if it fails on several modules upload the image again."
        }
        "write.medium" | "verify.read" => "The storage of the module failed; try once more, then set the module aside.",
        "write.size" => "The image is not what the station has measured; upload it again.",
        "verify.hash" => "The module ran out of memory or lost a program; power it again.",
        "verify.mismatch" | "verify.size" => {
            "The storage does not keep what was written; set the module aside if it happens again."
        }
        "verify.cached" => {
            "The provisioning system could not empty its cache; put its current version into the boot files."
        }
        "step.timeout" => {
            "The step did not come to its end though its scripts were to; read their output in the session."
        }
        "stalled" => {
            "Bytes stood still; check cable and switch port, and whether other modules stall too, then the storage."
        }
        "silent" => "The module went away; check its power and its cable, and power it again.",
        "rebooted" => "The module started anew in the middle; check its power supply.",
        "aborted" => "Somebody ended this attempt; device.authorize allows another one.",
        _ => return beside_the_image(code),
    })
}

/// Of what is done beside writing: scripts, and the device's own data.
fn beside_the_image(code: &str) -> Option<&'static str> {
    Some(match code {
        "legacy.unproven" => {
            "The module ran a script of cmprovisiondocker, which proves nothing; let it boot with the script of this station."
        }
        "legacy.error" => "Read the detail: it is the log of a script of cmprovisiondocker.",
        "script.failed" => "Read the output of the script in the session; then correct the module or the script.",
        "script.download" => "Check cable and switch port, and power the module again.",
        "data.mount" | "data.write" | "data.mismatch" => {
            "The first partition of the image does not take a file; check that it is a boot partition with free space."
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// `fail STEP CODE ..` and `fail "$step" CODE ..` of the script.
    fn codes_of_the_script() -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/script/step");
        let mut codes = BTreeSet::new();
        for file in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap().replace("\\\n", " ");
            for (at, _) in text.match_indices("fail ") {
                let code = text[at..].split_whitespace().nth(2).unwrap_or_default();
                let plain = |b: u8| b.is_ascii_lowercase() || b == b'_' || b == b'.';
                if code.contains('.') && code.bytes().all(plain) {
                    codes.insert(code.to_owned());
                }
            }
        }
        codes
    }

    #[test]
    fn every_way_to_fail_comes_with_a_sentence_of_advice() {
        let codes = codes_of_the_script();
        assert!(codes.len() > 20 && codes.contains("script.failed") && codes.contains("write.medium"), "{codes:?}");
        let own = [
            "verify.size",
            "verify.cached",
            "firmware.timeout",
            "step.timeout",
            "stalled",
            "silent",
            "rebooted",
            "aborted",
        ];
        for code in codes.iter().map(String::as_str).chain(own) {
            let sentence = advice(code).unwrap_or_else(|| panic!("no advice for {code}"));
            assert!(sentence.ends_with('.'), "{code}: {sentence}");
        }
        assert_eq!(advice("no.such_code"), None);
    }
}
