//! Whether a command line leads to this station.

use crate::bootfiles::check::{Finding, Level};

pub fn judge(name: &str, text: &str, server: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |level, what: String| findings.push(Finding::new(level, format!("{name} {what}")));
    if text.trim_end().lines().count() > 1 {
        say(Level::Fault, "has more than one line: the kernel gets the first".to_owned());
    }
    let Some(script) = text.split_whitespace().find_map(|word| word.strip_prefix("script=")) else {
        say(Level::Warning, "has no script=: the provisioning system will not ask this station".to_owned());
        return findings;
    };
    let rest = script.split_once("://").map_or(script, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or_default() {
        // Of another name (`cmdline=`, `os_prefix=`) it is a file like any other.
        "{server}" if name != "cmdline.txt" => {
            say(
                Level::Fault,
                "is served as it is: {server} is filled in in cmdline.txt and config.txt alone".to_owned(),
            );
        }
        "{server}" => {}
        host if host == server => {
            say(Level::Note, format!("names {host}; {{server}} would follow the station's address"));
        }
        host => say(Level::Fault, format!("names another station: {host}, and this one is {server}")),
    }
    findings
}
