//! What this user may do. The agent needs three capabilities; the packaged unit gives them to it alone.

use crate::app::check::finding::Finding;

const SUBJECT: &str = "rights";
/// Their numbers in the kernel's set, and what each is for.
const NEEDED: [(u8, &str, &str); 3] = [
    (10, "CAP_NET_BIND_SERVICE", "ports 67, 69 and 80"),
    (12, "CAP_NET_ADMIN", "its address on the interface, and the neighbours of new devices"),
    (13, "CAP_NET_RAW", "DHCP replies to devices without an address"),
];

pub fn look() -> Vec<Finding> {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => judge(&status),
        Err(error) => vec![Finding::note(SUBJECT, format!("cannot read /proc/self/status: {error}"), "mount /proc")],
    }
}

fn judge(status: &str) -> Vec<Finding> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(bits) = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()) else {
        return vec![Finding::note(SUBJECT, "the kernel does not say what this user may do", "run it as root")];
    };
    let lacking: Vec<String> = NEEDED
        .iter()
        .filter(|(bit, ..)| bits & (1 << bit) == 0)
        .map(|(_, name, what)| format!("{name} ({what})"))
        .collect();
    if lacking.is_empty() {
        return vec![Finding::ok(SUBJECT, "this user may open the ports and set the address")];
    }
    vec![Finding::warning(
        SUBJECT,
        format!("this user lacks {}", lacking.join(", ")),
        "run bootline as root or by its systemd unit; some of what follows can only be looked at with these rights",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::check::finding::Level;

    #[test]
    fn what_is_lacking_is_named() {
        assert_eq!(judge("Name:\tx\nCapEff:\t000001ffffffffff\n")[0].level, Level::Ok);
        let one = &judge("CapEff:\t0000000000001400\n")[0];
        assert_eq!(one.level, Level::Warning);
        assert!(one.what.contains("CAP_NET_RAW") && !one.what.contains("CAP_NET_ADMIN"), "{}", one.what);
    }
}
