//! Each fault of a configuration has its sentence, and the committed file is what the defaults are.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::{Config, ConfigError, checked, parse};
use crate::dhcp;
use crate::http::Listeners;
use crate::http::auth::Legacy;

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, word)| ((*name).to_owned(), (*word).to_owned())).collect();
    parse(Path::new("x.yml"), text, &environment).and_then(checked)
}

#[test]
fn the_committed_file_says_what_the_defaults_are() {
    let committed = read(include_str!("../../conf/bootline.yml"), &[]).unwrap();
    let empty = read("", &[]).unwrap();
    let range = empty.core.pool.clone();
    assert_eq!(format!("{:?}", committed.core.pool.lease), format!("{:?}", range.lease));
    // The range of the file leaves out the station's own address, which is never handed out anyway.
    let text = |config: &Config| {
        format!(
            "{:?}",
            Config {
                core: crate::core::floor::Settings { pool: range.clone(), ..config.core.clone() },
                dhcp: config.dhcp.clone().map(|dhcp| dhcp::Settings { pool: range.first..=range.last, ..dhcp }),
                ..config.clone()
            }
        )
    };
    assert_eq!(text(&committed), text(&empty));
}

#[test]
fn each_fault_is_named_with_its_place_and_value() {
    for (text, parts) in [
        ("station:\n  id: st-01\n  colour: red\n", &["colour", "line 3", "column"][..]),
        ("network:\n  interfce: eth0\n", &["interfce", "line 2"]),
        ("network: {address: 192.168.5.1}\n", &["192.168.5.1", "prefix length"]),
        (
            "network: {dhcp: {range: 10.0.0.2-10.0.0.9}}\n",
            &["network.dhcp.range", "10.0.0.2", "192.168.0.1-192.168.255.254"],
        ),
        ("network: {dhcp: {lease: soon}}\n", &["soon", "duration"]),
        ("network: {dhcp: {serve: everyone}}\n", &["everyone"]),
        ("network: {netconsole: loud}\n", &["loud", "on"]),
        ("network: {dhcp: {reservations: [{mac: 'x', address: 192.168.5.9}]}}\n", &["not a MAC address"]),
        ("network: {dhcp: {boot: {efi-x86: a}}}\n", &["efi-x86", "efi-x64"]),
        ("network: {dhcp: {boot: {efi-x64: /ipxe.efi}}}\n", &["network.dhcp.boot.efi-x64", "/ipxe.efi", "relative"]),
        ("network: {dhcp: {boot: {bios: a/../b}}}\n", &["network.dhcp.boot.bios", "relative"]),
        ("network: {dhcp: {boot: {u-boot: 'a b'}}}\n", &["network.dhcp.boot.u-boot", "a b", "printable"]),
        ("network: {dhcp: {boot: {efi-arm64: 'http://x/y'}}}\n", &["network.dhcp.boot.efi-arm64", "TFTP"]),
        ("network: {dhcp: {boot: {http-x64: 'ftp://x/y'}}}\n", &["network.dhcp.boot.http-x64", "ftp://x/y"]),
        ("station: {id: 'a b'}\n", &["station.id", "a b"]),
        ("station: {root: 'a//b'}\n", &["station.root"]),
        ("bus: {mqtt: off, sparkplug: {group: plant}}\n", &["bus.sparkplug", "bus.mqtt"]),
        ("bus: {sparkplug: on}\n", &["off or {group: ..}"]),
        ("http: {tls: maybe}\n", &["maybe", "self-signed"]),
        ("http: {tls: {cert: a}}\n", &["key"]),
        ("http: {legacy_open: [10.0.0.0/40]}\n", &["10.0.0.0/40", "network"]),
        ("http: {loopback: shut}\n", &["shut"]),
        ("bus: {role: root}\n", &["root"]),
        ("cmProvisionServer:\n  hostIface: a\n  colour: red\n", &["colour", "line 3"]),
        (
            "cmProvisionServer: {hostIface: a, serverIp: 10.0.0.1/24, dhcpRange: '10.0.0.9,10.0.1.9'}\n",
            &["cmProvisionServer.dhcpRange", "10.0.1.9", "10.0.0.0"],
        ),
        (
            "cmProvisionServer: {hostIface: a, serverIp: 10.0.0.1/24, dhcpRange: '10.0.0.9'}\n",
            &["10.0.0.9", "FIRST,LAST"],
        ),
        ("bus: {mqtt: maybe}\n", &["maybe", "embedded, off or"]),
        ("bus: {mqtt: {url: 'http://x'}}\n", &["bus.mqtt.url", "http://x"]),
        ("bus: {mqtt: {url: 'mqtt://x', password: geheim}}\n", &["password"]),
        ("bus: {mqtt_listen: '0.0.0.0:1883'}\n", &["bus.mqtt_listen", "loopback"]),
        ("bus: {nats: {url: 'nats://x', username: me}}\n", &["bus.nats", "password_file"]),
        ("bus: {nats: {url: 'nats://x', creds: a, nkey: b}}\n", &["bus.nats", "one login"]),
        ("bus: {nats: {url: 'nats://x', cert: a}}\n", &["bus.nats", "cert and key"]),
        ("bus: {nats: {url: 'nats://x', replicas: 9}}\n", &["bus.nats.replicas", "9 copies"]),
        ("bus: {nats: {url: 'nats://x', password: geheim}}\n", &["password"]),
        ("http: {operators: here}\n", &["here"]),
    ] {
        let error = read(text, &[]).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{text}: {error} lacks {part}");
        }
    }
}

#[test]
fn power_that_nobody_asks_for_needs_a_switch_and_limits_that_hold() {
    let poe = "switches: [{name: sw1, address: 10.0.0.9, version: '3', username: line, poe: {}}]\n";
    let automatic = read(&format!("{poe}power: {{automatic: {{after: 90s, times: 3}}}}\n"), &[]).unwrap();
    let automatic = automatic.core.line.automatic.unwrap();
    assert_eq!((automatic.after.as_secs(), automatic.times, automatic.pause.as_secs()), (90, 3, 60));
    assert_eq!(read(poe, &[]).unwrap().core.line.automatic, None, "never, unless it is asked for");
    for (switches, power, parts) in [
        ("", "automatic: {}", &["power.automatic", "poe"][..]),
        (poe, "automatic: {often: 3}", &["often", "times"]),
        (poe, "automatic: {times: 0}", &["power.automatic.times", "0; from 1 to 10"]),
        (poe, "automatic: {after: 1h}", &["power.automatic.after", "3600 s; at most 1800 s"]),
        (poe, "pause: 90s, automatic: {}", &["power.automatic.pause", "60 s", "90 s"]),
    ] {
        let error = read(&format!("{switches}power: {{{power}}}\n"), &[]).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{power}: {error} lacks {part}");
        }
    }
}

#[test]
fn the_environment_overrides_any_value_and_is_named_in_errors() {
    let config = read("station: {id: a}\n", &[("BOOTLINE__STATION__ID", "b"), ("BOOTLINE__BUS__MQTT", "off")]).unwrap();
    assert_eq!(config.core.station, "b");
    assert!(matches!(config.bus.mqtt, crate::bus::Mqtt::Off));
    let error = read("", &[("BOOTLINE__STATION__COLOUR", "red")]).unwrap_err().to_string();
    assert!(error.contains("BOOTLINE__STATION__COLOUR") && error.contains("colour"), "{error}");
}

#[test]
fn a_broker_of_the_site_is_one_line() {
    let config = read("bus: {mqtt: {url: 'mqtts://broker.example:8884'}}\n", &[]).unwrap();
    let crate::bus::Mqtt::Broker(broker) = config.bus.mqtt else { panic!("{:?}", config.bus) };
    assert_eq!((broker.host.as_str(), broker.port, broker.tls.is_some()), ("broker.example", 8884, true));
}

#[test]
fn a_nats_server_is_named_with_what_it_takes_to_come_in() {
    let text = "bus: {nats: {url: 'tls://a:4222,tls://b:4222', nkey: /n.nk, ca: /ca.pem, cert: /c.pem, key: /k.pem, \
                manage_streams: false, replicas: 3}}\n";
    let nats = read(text, &[]).unwrap().bus.nats.unwrap();
    assert_eq!(nats.login, crate::bus::nats::Login::Nkey("/n.nk".into()));
    assert_eq!((nats.manage_streams, nats.replicas, nats.allow_anonymous), (false, 3, false));
    assert!(nats.tls.ca.is_some() && nats.tls.client.is_some());
    let nats = read("bus: {nats: {url: 'nats://127.0.0.1:4222'}}\n", &[]).unwrap().bus.nats.unwrap();
    assert!(nats.manage_streams && nats.login == crate::bus::nats::Login::Anonymous);
}

#[test]
fn a_boot_file_is_a_name_or_where_it_is_wanted_a_url() {
    let boot = "boot: {ipxe: 'https://boot.example/x.ipxe', efi-x64: pxe/ipxe.efi, http-x64: bootx64.efi, u-boot: boot.scr.uimg}";
    let files = |devices: &str| {
        let text = format!("http: {{devices: {devices}}}\nnetwork: {{dhcp: {{serve: all, {boot}}}}}\n");
        format!("{:?}", read(&text, &[]).unwrap().dhcp.unwrap().boot)
    };
    let said = files("192.168.5.1:80");
    for part in [
        "https://boot.example/x.ipxe",
        "\"pxe/ipxe.efi\"",
        "\"http://192.168.5.1/boot/bootx64.efi\"",
        "\"boot.scr.uimg\"",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(files("192.168.5.1:8000").contains("http://192.168.5.1:8000/boot/bootx64.efi"));
    let long = |key: &str, file: String| read(&format!("network: {{dhcp: {{boot: {{{key}: '{file}'}}}}}}\n"), &[]);
    assert!(long("bios", "x".repeat(127)).is_ok() && long("bios", "x".repeat(128)).is_err());
    let url = |length: usize| format!("http://h/{}", "x".repeat(length - 9));
    assert!(long("ipxe", url(255)).is_ok() && long("ipxe", url(256)).is_err());
}

#[test]
fn the_predecessors_sample_is_taken_as_it_is() {
    let sample = "cmProvisionServer:\n  hostIface: \"enx58d56e3ddcd4\"\n  serverIp: \"192.168.5.1/16\"\n  \
                  dhcpRange: \"192.168.5.2,192.168.255.255,255.255.0.0\"\n  restApiPort: 80\n";
    let config = read(sample, &[]).unwrap();
    assert_eq!((config.interface.as_str(), config.prefix_len), ("enx58d56e3ddcd4", 16));
    assert_eq!(config.core.pool.first.to_string(), "192.168.5.2");
    assert_eq!(config.core.pool.last.to_string(), "192.168.255.254", "the broadcast address is no device's");
    assert_eq!(config.http.listeners, Listeners::One);
    assert_eq!((config.http.devices.to_string().as_str(), config.http.operators.port()), ("192.168.5.1:80", 80));
    assert!(matches!(config.http.access.legacy, Legacy::AllBut { .. }));
    let [open, clipped] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(open.contains("token") && clipped.contains("192.168.255.255"), "{open} {clipped}");
    let native = read("", &[]).unwrap();
    assert!(native.warnings.is_empty() && native.http.listeners == Listeners::Two);
    assert!(read(&format!("{sample}http: {{tls: self-signed}}\n"), &[]).is_err(), "devices speak plain http");
}
