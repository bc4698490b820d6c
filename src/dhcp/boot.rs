//! Clients that boot from the network and are no Raspberry Pi: what each is, and what it is told to load.
//!
//! Architectures as registered by IANA for option 93 (RFC 4578); the field uses 7 for x64, older firmware 9.

use std::collections::BTreeMap;

use crate::dhcp::packet::{Message, code};
use crate::dhcp::pi;

/// What asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// iPXE, however it was started: it would load itself again and again.
    Ipxe,
    Bios,
    EfiIa32,
    EfiX64,
    EfiArm32,
    EfiArm64,
    /// UEFI HTTP Boot: it wants a URL.
    HttpIa32,
    HttpX64,
    HttpArm32,
    HttpArm64,
    UBoot,
}

impl Client {
    pub const fn is_http(self) -> bool {
        matches!(self, Self::HttpIa32 | Self::HttpX64 | Self::HttpArm32 | Self::HttpArm64)
    }
}

/// What each of them loads: the name of a file on this station, or a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootFiles(BTreeMap<Client, String>);

impl BootFiles {
    #[cfg(test)]
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// What this client is, if there is something for it to load; never for a Raspberry Pi.
    pub fn find(&self, message: &Message) -> Option<(Client, &str)> {
        if pi::is_bootloader(message) {
            return None;
        }
        clients(message).into_iter().find_map(|client| self.0.get(&client).map(|file| (client, file.as_str())))
    }
}

impl FromIterator<(Client, String)> for BootFiles {
    fn from_iter<I: IntoIterator<Item = (Client, String)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

/// True for a file that is fetched from elsewhere than this station's TFTP server.
pub fn is_url(file: &str) -> bool {
    file.contains("://")
}

/// What the message shows its sender to be, the closest first: a client may name several architectures.
fn clients(message: &Message) -> Vec<Client> {
    if is_ipxe(message) {
        return vec![Client::Ipxe];
    }
    let class = message.option(code::VENDOR_CLASS).unwrap_or_default();
    if class.starts_with(b"U-Boot") {
        return vec![Client::UBoot];
    }
    let is_http = class.starts_with(b"HTTPClient");
    if !is_http && !class.starts_with(b"PXEClient") {
        return Vec::new();
    }
    let known = architectures(message, class).into_iter().filter_map(client);
    known.filter(|client| client.is_http() == is_http).collect()
}

const fn client(architecture: u16) -> Option<Client> {
    Some(match architecture {
        0 => Client::Bios,
        6 => Client::EfiIa32,
        7 | 9 => Client::EfiX64,
        10 => Client::EfiArm32,
        11 => Client::EfiArm64,
        15 => Client::HttpIa32,
        16 => Client::HttpX64,
        18 => Client::HttpArm32,
        19 => Client::HttpArm64,
        21 | 22 => Client::UBoot,
        _ => return None,
    })
}

/// Option 93, or what the class says where that is missing: `PXEClient:Arch:00011:UNDI:003000`.
fn architectures(message: &Message, class: &[u8]) -> Vec<u16> {
    if let Some(list) = message.option(code::ARCHITECTURE) {
        return list.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
    }
    let class = str::from_utf8(class).unwrap_or_default();
    class.split(':').skip_while(|word| *word != "Arch").nth(1).and_then(|word| word.parse().ok()).into_iter().collect()
}

/// Option 77, as iPXE sends it or as the list of RFC 3004.
fn is_ipxe(message: &Message) -> bool {
    let class = message.option(code::USER_CLASS).unwrap_or_default();
    let is_listed = |mut rest: &[u8]| {
        while let [length, words @ ..] = rest {
            let Some((word, after)) = words.split_at_checked(usize::from(*length)) else {
                return false;
            };
            if word == IPXE {
                return true;
            }
            rest = after;
        }
        false
    };
    class == IPXE || is_listed(class)
}

const IPXE: &[u8] = b"iPXE";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::device::Mac;
    use crate::dhcp::tests::golden;

    fn client_of(options: &[(u8, &[u8])]) -> Vec<Client> {
        let options = options.iter().map(|(code, value)| (*code, value.to_vec())).collect();
        clients(&Message::request(1, Mac::new([2; 6]), options))
    }

    #[test]
    fn every_golden_client_is_known_by_what_it_sends() {
        for (text, expected) in [
            (include_str!("../../tests/vectors/dhcp/ipxe-discover.hex"), Some(Client::Ipxe)),
            (include_str!("../../tests/vectors/dhcp/bios-pxe-discover.hex"), Some(Client::Bios)),
            (include_str!("../../tests/vectors/dhcp/uefi-pxe-arm64-discover.hex"), Some(Client::EfiArm64)),
            (include_str!("../../tests/vectors/dhcp/uefi-pxe-x64-discover.hex"), Some(Client::EfiX64)),
            (include_str!("../../tests/vectors/dhcp/uefi-http-discover.hex"), Some(Client::HttpX64)),
            (include_str!("../../tests/vectors/dhcp/uefi-http-arm64-discover.hex"), Some(Client::HttpArm64)),
            (include_str!("../../tests/vectors/dhcp/u-boot-discover.hex"), Some(Client::UBoot)),
            (include_str!("../../tests/vectors/dhcp/u-boot-pxe-discover.hex"), Some(Client::EfiArm64)),
            (include_str!("../../tests/vectors/dhcp/udhcpc-discover.hex"), None),
        ] {
            assert_eq!(clients(&golden(text)).first().copied(), expected, "{text}");
        }
    }

    #[test]
    fn each_architecture_names_its_client_and_the_class_its_way() {
        let pxe = |arch| client_of(&[(60, b"PXEClient"), (93, &[0, arch])]);
        let http = |arch| client_of(&[(60, b"HTTPClient"), (93, &[0, arch])]);
        for (arch, client) in [
            (0, Client::Bios),
            (6, Client::EfiIa32),
            (7, Client::EfiX64),
            (9, Client::EfiX64),
            (10, Client::EfiArm32),
            (11, Client::EfiArm64),
            (21, Client::UBoot),
            (22, Client::UBoot),
        ] {
            assert_eq!((pxe(arch), http(arch)), (vec![client], vec![]), "{arch}");
        }
        for (arch, client) in
            [(15, Client::HttpIa32), (16, Client::HttpX64), (18, Client::HttpArm32), (19, Client::HttpArm64)]
        {
            assert_eq!((pxe(arch), http(arch)), (vec![], vec![client]), "{arch}");
        }
        assert_eq!(pxe(41), []);
    }

    #[test]
    fn of_several_architectures_the_first_with_a_file_is_taken() {
        let several =
            Message::request(1, Mac::new([2; 6]), vec![(60, b"PXEClient".to_vec()), (93, vec![0, 99, 0, 6, 0, 7, 0])]);
        assert_eq!(clients(&several), [Client::EfiIa32, Client::EfiX64]);
        let files: BootFiles = [(Client::EfiX64, "ipxe.efi".to_owned())].into_iter().collect();
        assert_eq!(files.find(&several), Some((Client::EfiX64, "ipxe.efi")));
        assert_eq!(BootFiles::none().find(&several), None);
    }

    #[test]
    fn the_user_class_of_ipxe_is_read_in_both_forms() {
        for class in [&b"iPXE"[..], b"\x04iPXE", b"\x03foo\x04iPXE"] {
            assert_eq!(client_of(&[(60, b"PXEClient:Arch:00000"), (93, &[0, 0]), (77, class)]), [Client::Ipxe]);
        }
        for class in [&b""[..], b"\x04iPX", b"\x05iPXE", b"gPXE", b"\0"] {
            assert_eq!(client_of(&[(60, b"PXEClient"), (93, &[0, 0]), (77, class)]), [Client::Bios], "{class:?}");
        }
    }

    #[test]
    fn the_class_alone_names_the_architecture_where_option_93_is_missing() {
        assert_eq!(client_of(&[(60, b"PXEClient:Arch:00011:UNDI:003000")]), [Client::EfiArm64]);
        for class in [&b"PXEClient"[..], b"PXEClient:Arch", b"PXEClient:Arch:x", b"", b"udhcp 1.35.0"] {
            assert_eq!(client_of(&[(60, class)]), [], "{class:?}");
        }
    }

    #[test]
    fn a_pi_has_nothing_of_this() {
        let all = [Client::Bios, Client::Ipxe, Client::EfiArm64, Client::UBoot];
        let files: BootFiles = all.into_iter().map(|client| (client, "x".to_owned())).collect();
        for text in [
            include_str!("../../tests/vectors/dhcp/pi3-rom-discover.hex"),
            include_str!("../../tests/vectors/dhcp/pi3-bootcode-discover.hex"),
            include_str!("../../tests/vectors/dhcp/pi4-discover.hex"),
            include_str!("../../tests/vectors/dhcp/pi5-discover.hex"),
        ] {
            assert_eq!(files.find(&golden(text)), None);
        }
    }

    proptest! {
        #[test]
        fn any_options_are_looked_at_without_a_panic(
            class in prop::collection::vec(any::<u8>(), 0..40), arch in prop::collection::vec(any::<u8>(), 0..9),
            user in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let _ = client_of(&[(60, &class), (93, &arch), (77, &user)]);
            let _ = client_of(&[(60, &[b"PXEClient:", &class[..]].concat()), (77, &user)]);
        }
    }
}
