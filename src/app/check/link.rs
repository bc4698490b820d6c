//! The interface of the provisioning network: is it there, up, plugged in, and fast.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;

use crate::app::check::finding::Finding;

const SUBJECT: &str = "interface";
/// Below this, one module alone fills the wire.
const GIGABIT: i64 = 1000;

/// Also whether the interface is there at all.
pub fn look(sys: &Path, name: &str) -> (Vec<Finding>, bool) {
    let folder = sys.join(name);
    if !folder.exists() {
        let missing = Finding::fault(
            SUBJECT,
            format!("there is no network interface {name}; this machine has {}", names(sys).join(", ")),
            "set network.interface to the one of the provisioning network",
        );
        return (vec![missing], false);
    }
    let mut findings = Vec::new();
    let read = |file: &str| fs::read_to_string(folder.join(file)).map(|text| text.trim().to_owned());
    if folder.join("wireless").exists() {
        findings.push(Finding::warning(
            SUBJECT,
            format!("{name} is a wireless interface"),
            "modules boot over Ethernet: set network.interface to a wired one",
        ));
    }
    // The kernel refuses to tell the carrier of an interface that is down.
    match read("carrier").as_deref() {
        Ok("1") => findings.extend(speed(name, read("speed").ok().and_then(|text| text.parse().ok()))),
        Ok(_) => findings.push(Finding::warning(
            SUBJECT,
            format!("{name} has no carrier"),
            "plug in the cable to the switch of the line, and switch it on",
        )),
        Err(_) => findings.push(Finding::note(SUBJECT, format!("{name} is down"), "nothing: bootline brings it up")),
    }
    (findings, true)
}

fn speed(name: &str, megabits: Option<i64>) -> Vec<Finding> {
    match megabits {
        Some(speed) if speed >= GIGABIT => vec![Finding::ok(SUBJECT, format!("{name} is up at {speed} Mbit/s"))],
        Some(speed) if speed > 0 => vec![Finding::warning(
            SUBJECT,
            format!("{name} runs at {speed} Mbit/s"),
            "an image takes ten times as long as at 1000 Mbit/s, and one module fills the wire: look at the cable (all four pairs) and the switch",
        )],
        // Virtual interfaces do not tell.
        _ => vec![Finding::ok(SUBJECT, format!("{name} is up; its speed is not told"))],
    }
}

fn names(sys: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(sys)
        .map(|all| all.flatten().map(|one| one.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.retain(|name| name != "lo");
    names.sort();
    names
}

/// Where the station's address is, and who else has its network.
pub fn address(name: &str, server: Ipv4Addr, prefix_len: u8) -> Vec<Finding> {
    let held: Vec<(String, Ipv4Addr)> = match getifaddrs() {
        Ok(all) => all.filter_map(|one| Some((one.interface_name, one.address?.as_sockaddr_in()?.ip()))).collect(),
        Err(error) => return vec![Finding::note("address", format!("cannot list addresses: {error}"), "nothing")],
    };
    judge(name, server, prefix_len, &held)
}

fn judge(name: &str, server: Ipv4Addr, prefix_len: u8, held: &[(String, Ipv4Addr)]) -> Vec<Finding> {
    const SUBJECT: &str = "address";
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
    let mut findings = match held.iter().find(|(_, address)| *address == server) {
        Some((holder, _)) if holder == name => vec![Finding::ok(SUBJECT, format!("{server} is on {name}"))],
        Some((holder, _)) => vec![Finding::fault(
            SUBJECT,
            format!("{server} is on {holder}, not on {name}"),
            format!("take it away there (ip address del {server} dev {holder}), or set network.address to another one"),
        )],
        None => vec![Finding::ok(SUBJECT, format!("{server}/{prefix_len} will be set on {name} at the start"))],
    };
    let others = held.iter().filter(|(holder, address)| {
        holder != name && !address.is_loopback() && u32::from(*address) & mask == u32::from(server) & mask
    });
    findings.extend(others.filter(|(_, address)| *address != server).map(|(holder, address)| {
        Finding::warning(
            SUBJECT,
            format!("{holder} has {address}, which is in {server}/{prefix_len} too"),
            "two interfaces in one network confuse routing: give the provisioning network one of its own",
        )
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::check::finding::Level;

    fn interface(files: &[(&str, &str)]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir(sys.path().join("eth1")).unwrap();
        for (name, text) in files {
            fs::write(sys.path().join("eth1").join(name), text).unwrap();
        }
        sys
    }

    #[test]
    fn a_missing_interface_is_told_with_those_that_are_there() {
        let sys = interface(&[]);
        let (findings, there) = look(sys.path(), "eth7");
        assert!(!there);
        assert_eq!(findings[0].level, Level::Fault);
        assert!(findings[0].what.contains("eth7") && findings[0].what.contains("eth1"), "{}", findings[0].what);
    }

    #[test]
    fn cable_and_speed() {
        let level = |files: &[(&str, &str)]| look(interface(files).path(), "eth1").0[0].level;
        assert_eq!(level(&[("carrier", "1\n"), ("speed", "1000\n")]), Level::Ok);
        assert_eq!(level(&[("carrier", "1\n"), ("speed", "100\n")]), Level::Warning);
        assert_eq!(level(&[("carrier", "1\n"), ("speed", "-1\n")]), Level::Ok);
        assert_eq!(level(&[("carrier", "0\n")]), Level::Warning);
        assert_eq!(level(&[]), Level::Note, "it is down");
    }

    #[test]
    fn whose_address_it_is() {
        let server = Ipv4Addr::new(192, 168, 5, 1);
        let level = |held: &[(&str, [u8; 4])]| {
            let held: Vec<_> = held.iter().map(|(name, ip)| ((*name).to_owned(), Ipv4Addr::from(*ip))).collect();
            judge("eth1", server, 16, &held).iter().map(|finding| finding.level).max()
        };
        assert_eq!(level(&[("eth1", [192, 168, 5, 1])]), Some(Level::Ok));
        assert_eq!(level(&[]), Some(Level::Ok), "it will be set");
        assert_eq!(level(&[("eth0", [192, 168, 5, 1])]), Some(Level::Fault));
        assert_eq!(level(&[("eth0", [192, 168, 77, 9])]), Some(Level::Warning));
        assert_eq!(level(&[("eth0", [10, 0, 0, 9]), ("lo", [127, 0, 0, 1])]), Some(Level::Ok));
    }
}
