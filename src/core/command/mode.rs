//! Which commands change nothing, and which are answered before they are done.

/// The commands that change nothing: what may be asked of all stations at once.
pub fn is_read(name: &str) -> bool {
    READS.contains(&name)
}

/// As `Order::reads_only` has them.
const READS: [&str; 12] = [
    "project.get",
    "project.list",
    "image.list",
    "firmware.list",
    "device.get",
    "slot.list",
    "script.list",
    "label.list",
    "rules.get",
    "rules.test",
    "station.info",
    "token.list",
];

/// The commands that are answered before they are done.
pub fn is_job(name: &str) -> bool {
    ["image.add", "firmware.add", "events.replay"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::command::NAMES;

    #[test]
    fn what_is_named_here_is_what_the_orders_say() {
        let orders = include_str!("../command.rs");
        let body = |start: &str| orders.split(start).nth(1).unwrap().split('}').next().unwrap().to_owned();
        let reads = body("pub const fn reads_only(&self) -> bool {");
        for name in NAMES {
            let variant: String = name.split('.').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            let listed = reads.contains(&format!("Self::{variant}(")) || reads.contains(&format!("Self::{variant}\n"));
            assert_eq!(is_read(name), listed, "{name}");
        }
        assert!(READS.iter().all(|name| NAMES.contains(name)));
        assert!(NAMES.iter().filter(|name| is_job(name)).count() == 3);
    }
}
