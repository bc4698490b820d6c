//! The ports that the agent will bind: who has them, from the kernel's own tables. Nothing is bound.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::app::check::finding::Finding;
use crate::bus;
use crate::config::Config;
use crate::dhcp::ask::Role;

const SUBJECT: &str = "ports";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Tcp,
    Udp,
}

struct Wanted {
    what: &'static str,
    protocol: Protocol,
    address: SocketAddr,
    advice: &'static str,
}

pub fn look(config: &Config) -> Vec<Finding> {
    let proc = Path::new("/proc");
    let (mut findings, mut running) = (Vec::new(), None);
    for wanted in wanted(config) {
        let holders = holders(proc, wanted.protocol, wanted.address);
        let (ours, others): (Vec<_>, Vec<_>) = holders.into_iter().partition(|holder| holder.is_bootline());
        running = running.or_else(|| ours.into_iter().next());
        findings.extend(others.into_iter().map(|holder| {
            let what =
                format!("{} ({:?} {}) is taken by {}", wanted.what, wanted.protocol, wanted.address, holder.name());
            Finding::fault(SUBJECT, what, wanted.advice)
        }));
    }
    if let Some(holder) = running {
        findings.push(Finding::ok(SUBJECT, format!("bootline runs already ({})", holder.name())));
    } else if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "every port is free"));
    }
    findings
}

fn wanted(config: &Config) -> Vec<Wanted> {
    const STOP: &str = "stop that program, or let it leave this interface alone";
    let any = |port| SocketAddr::from((config.server, port));
    let mut all = Vec::new();
    let mut want = |what, protocol, address, advice| all.push(Wanted { what, protocol, address, advice });
    if let Some(dhcp) = &config.dhcp {
        want("DHCP", Protocol::Udp, any(dhcp.port), STOP);
        if dhcp.role == Role::Proxy {
            want("the boot server", Protocol::Udp, any(dhcp.boot_port), STOP);
        }
    }
    want("TFTP", Protocol::Udp, config.tftp.listen.into(), STOP);
    want(
        "HTTP for devices",
        Protocol::Tcp,
        config.http.devices.into(),
        "stop that program, or set http.devices to another port",
    );
    want(
        "HTTP for operators",
        Protocol::Tcp,
        config.http.operators,
        "stop that program, or set http.operators to another port",
    );
    if let bus::Mqtt::Embedded(broker) = &config.bus.mqtt {
        const BROKER: &str =
            "use that broker (bus.mqtt: {url: \"mqtt://127.0.0.1:1883\"}), or set bus.mqtt_listen to another port";
        want("the embedded MQTT broker", Protocol::Tcp, broker.listen, BROKER);
    }
    all
}

struct Holder {
    /// Nothing when it belongs to somebody else and we may not look.
    process: Option<(u32, String)>,
}

impl Holder {
    fn is_bootline(&self) -> bool {
        self.process.as_ref().is_some_and(|(_, name)| name == "bootline")
    }

    fn name(&self) -> String {
        match &self.process {
            Some((pid, name)) => format!("{name}, process {pid}"),
            None => "a process of another user (run this as root to see which)".to_owned(),
        }
    }
}

/// Who has a socket that gets what is sent to `address`.
fn holders(proc: &Path, protocol: Protocol, address: SocketAddr) -> Vec<Holder> {
    let tables = match protocol {
        Protocol::Tcp => ["net/tcp", "net/tcp6"],
        Protocol::Udp => ["net/udp", "net/udp6"],
    };
    let mut inodes = BTreeSet::new();
    for table in tables {
        let text = fs::read_to_string(proc.join(table)).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| socket(line, protocol, address)));
    }
    let mut seen = BTreeSet::new();
    let processes = inodes.iter().map(|inode| owner(proc, *inode));
    processes.filter(|process| seen.insert(process.clone())).map(|process| Holder { process }).collect()
}

/// The inode of a line of the kernel's table, if it is a socket in our way.
fn socket(line: &str, protocol: Protocol, wanted: SocketAddr) -> Option<u64> {
    let mut words = line.split_whitespace().skip(1);
    let (ip, port) = words.next()?.split_once(':')?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    if u16::from_str_radix(port, 16).ok()? != wanted.port() || (protocol == Protocol::Tcp && state != "0A") {
        return None;
    }
    let held = address(ip)?;
    let meets = held.is_unspecified() || wanted.ip().is_unspecified() || held == wanted.ip();
    meets.then_some(inode)
}

/// Words of 32 bits in the order of the machine, each in hexadecimal.
fn address(text: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = text
        .as_bytes()
        .chunks(8)
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    match words.as_slice() {
        [word] => Some(Ipv4Addr::from(*word).into()),
        [_, _, _, _] => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

fn owner(proc: &Path, inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let all = fs::read_dir(proc).ok()?;
    for entry in all.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy() == wanted));
        if holds {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_socket_of_this_process_is_found_by_port_and_address() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let own = |protocol, address| {
            holders(Path::new("/proc"), protocol, address)
                .iter()
                .any(|holder| holder.process.as_ref().is_some_and(|(pid, _)| *pid == std::process::id()))
        };
        assert!(own(Protocol::Tcp, tcp.local_addr().unwrap()));
        let port = udp.local_addr().unwrap().port();
        assert!(own(Protocol::Udp, SocketAddr::from(([127, 0, 0, 1], port))), "the wildcard takes every address");
        assert!(!own(Protocol::Udp, tcp.local_addr().unwrap()) || port == tcp.local_addr().unwrap().port());
    }

    #[test]
    fn a_connection_is_no_listener() {
        let line = "   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let wanted = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(socket(line, Protocol::Tcp, wanted), None);
        assert_eq!(socket(&line.replace(" 01 ", " 0A "), Protocol::Tcp, wanted), Some(4711));
        assert_eq!(socket(&line.replace(" 01 ", " 0A "), Protocol::Tcp, "127.0.0.2:8080".parse().unwrap()), None);
    }
}
