//! What clients load that are no Raspberry Pi: each name is looked at before a client ever sees it.

use std::net::SocketAddrV4;

use crate::config::file::Boot;
use crate::config::{ConfigError, wrong};
use crate::dhcp::boot::{BootFiles, Client, is_url};

/// The field of BOOTP has 128 bytes, one of them for the zero at its end.
const LONGEST_NAME: usize = 127;
/// What fits one option.
const LONGEST_URL: usize = 255;

/// `devices` is where a client of HTTP finds a file that is given by its name alone.
pub fn files(boot: &Boot, devices: SocketAddrV4) -> Result<BootFiles, ConfigError> {
    let keys = [
        ("network.dhcp.boot.ipxe", Client::Ipxe, &boot.ipxe),
        ("network.dhcp.boot.bios", Client::Bios, &boot.bios),
        ("network.dhcp.boot.efi-ia32", Client::EfiIa32, &boot.efi_ia32),
        ("network.dhcp.boot.efi-x64", Client::EfiX64, &boot.efi_x64),
        ("network.dhcp.boot.efi-arm32", Client::EfiArm32, &boot.efi_arm32),
        ("network.dhcp.boot.efi-arm64", Client::EfiArm64, &boot.efi_arm64),
        ("network.dhcp.boot.http-ia32", Client::HttpIa32, &boot.http_ia32),
        ("network.dhcp.boot.http-x64", Client::HttpX64, &boot.http_x64),
        ("network.dhcp.boot.http-arm32", Client::HttpArm32, &boot.http_arm32),
        ("network.dhcp.boot.http-arm64", Client::HttpArm64, &boot.http_arm64),
        ("network.dhcp.boot.u-boot", Client::UBoot, &boot.u_boot),
    ];
    let given = keys.into_iter().filter_map(|(key, client, file)| file.as_ref().map(|file| (key, client, file)));
    given.map(|(key, client, given)| file(key, client, given, devices).map(|file| (client, file))).collect()
}

fn file(key: &'static str, client: Client, given: &str, devices: SocketAddrV4) -> Result<String, ConfigError> {
    let no = |what: &str| Err(wrong(key, format!("{what}: {given:?}")));
    if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_graphic()) {
        return no("not a name of printable characters without blanks");
    }
    let wants_url = client.is_http();
    if is_url(given) {
        let known =
            ["http://", "https://"].iter().any(|scheme| given.starts_with(scheme) && given.len() > scheme.len());
        return match () {
            () if !wants_url && client != Client::Ipxe => no("this client loads by TFTP and takes no URL"),
            () if !known => no("not a URL of http or https"),
            () if given.len() > LONGEST_URL => no("longer than 255 bytes"),
            () => Ok(given.to_owned()),
        };
    }
    let is_inside = given.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !is_inside || given.contains('\\') {
        return no("not a relative path");
    }
    if given.len() > LONGEST_NAME {
        return no("longer than 127 bytes");
    }
    Ok(match wants_url {
        true if devices.port() == 80 => format!("http://{}/boot/{given}", devices.ip()),
        true => format!("http://{devices}/boot/{given}"),
        false => given.to_owned(),
    })
}
