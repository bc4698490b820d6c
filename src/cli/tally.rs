//! What simulated devices have told, put together: who came how far, how fast, and who failed where.

use std::collections::BTreeMap;

use crate::core::device::Mac;
use crate::simulator::fleet::{News, What};
use crate::simulator::line::{Said, in_full};

/// All devices of a run.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<Mac, Life>);

/// One device; times are milliseconds since the moment of its link.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub offered_ms: Option<u64>,
    pub booted_ms: Option<u64>,
    pub script_ms: Option<u64>,
    /// Boot files that were had, and names that were not there.
    pub files: u32,
    pub missing: u32,
    pub bytes: u64,
    /// Files that took too long, which a board then takes for absent.
    pub cut: Vec<String>,
    pub end: Option<End>,
}

#[derive(Clone, Debug)]
pub enum End {
    /// Its script ended with 0.
    Passed {
        after_ms: u64,
    },
    /// It has its script and was not to run it.
    Unplugged,
    Failed {
        at: String,
        detail: String,
    },
    /// Nothing was run, because no cage can be had.
    Refused(String),
}

impl Tally {
    /// Takes it down, and gives the words for a person.
    pub fn note(&mut self, news: News) -> String {
        let life = self.0.entry(news.mac).or_default();
        let (words, end) = match news.what {
            What::NotStarted(error) if error.is_permission() => {
                ("is not started".to_owned(), Some(End::Refused(in_full(&error))))
            }
            What::NotStarted(error) => failed("start", in_full(&error)),
            What::Lost(detail) => failed("process", detail),
            What::Said(said) => life.take_down(said),
        };
        if end.is_some() {
            life.end = end;
        }
        format!("{}  {words}", news.mac)
    }

    pub fn lives(&self) -> impl Iterator<Item = (Mac, &Life)> {
        self.0.iter().map(|(mac, life)| (*mac, life))
    }

    pub fn ended(&self) -> usize {
        self.0.values().filter(|life| life.end.is_some()).count()
    }

    pub fn passed(&self) -> usize {
        self.0.values().filter(|life| life.has_passed()).count()
    }

    /// The system forbids cages: the first device's reason.
    pub fn refusal(&self) -> Option<&str> {
        self.0.values().find_map(|life| match &life.end {
            Some(End::Refused(why)) => Some(why.as_str()),
            _ => None,
        })
    }
}

impl Life {
    fn take_down(&mut self, said: Said) -> (String, Option<End>) {
        match said {
            Said::Unshared | Said::Caged => ("stands ready".to_owned(), None),
            Said::Powered => ("is powered on".to_owned(), None),
            Said::Refused { why } => (format!("has no cage: {why}"), Some(End::Refused(why))),
            Said::Offered { after_ms, address } => {
                self.offered_ms = Some(after_ms);
                (format!("has {address} after {after_ms} ms"), None)
            }
            Said::Booted { after_ms, files, missing, bytes, cut } => {
                let late = if cut.is_empty() { String::new() } else { format!(", too slow: {}", cut.join(", ")) };
                self.booted_ms = Some(after_ms);
                (self.files, self.missing, self.bytes, self.cut) = (files, missing, bytes, cut);
                let words = format!("has its {files} boot files ({bytes} bytes, {missing} missing{late})");
                (format!("{words} after {after_ms} ms"), None)
            }
            Said::ScriptFetched { after_ms } => {
                self.script_ms = Some(after_ms);
                (format!("has its script after {after_ms} ms"), None)
            }
            Said::Unplugged { after_ms } => (format!("is unplugged after {after_ms} ms"), Some(End::Unplugged)),
            Said::Ended { after_ms, exit: 0, .. } => {
                (format!("is through after {after_ms} ms"), Some(End::Passed { after_ms }))
            }
            Said::Ended { exit, output, .. } => failed("script", format!("exit code {exit}: {output}")),
            Said::Failed { stage, detail, .. } => failed(stage.as_str(), detail),
        }
    }

    pub const fn has_passed(&self) -> bool {
        matches!(self.end, Some(End::Passed { .. } | End::Unplugged))
    }

    /// What a person reads as its result.
    pub fn verdict(&self) -> String {
        match &self.end {
            Some(End::Passed { .. }) => "passed".to_owned(),
            Some(End::Unplugged) => "has its script".to_owned(),
            Some(End::Failed { at, detail }) => {
                let last = detail.trim_end().lines().last().unwrap_or_default();
                format!("failed at {at}: {last}")
            }
            Some(End::Refused(why)) => format!("not run: {why}"),
            None => "unfinished".to_owned(),
        }
    }
}

fn failed(at: &str, detail: String) -> (String, Option<End>) {
    let lines: Vec<&str> = detail.trim_end().lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n    ");
    (format!("failed at {at}: {last}"), Some(End::Failed { at: at.to_owned(), detail }))
}

/// How much of a script's last words a person is shown.
const LINES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn news(number: u8, said: Said) -> News {
        News { mac: Mac::new([2, 0, 0, 0, 0, number]), what: What::Said(said) }
    }

    #[test]
    fn ends_are_counted() {
        let mut tally = Tally::default();
        tally.note(news(1, Said::Ended { after_ms: 99, exit: 0, output: String::new() }));
        tally.note(news(2, Said::Ended { after_ms: 99, exit: 3, output: "line\nwhy".to_owned() }));
        tally.note(news(3, Said::Refused { why: "forbidden".to_owned() }));
        assert_eq!((tally.ended(), tally.passed(), tally.refusal()), (3, 1, Some("forbidden")));
        let verdicts: Vec<String> = tally.lives().take(3).map(|(_, life)| life.verdict()).collect();
        assert_eq!(verdicts, ["passed", "failed at script: why", "not run: forbidden"]);
    }
}
