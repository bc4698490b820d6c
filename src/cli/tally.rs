//! What simulated devices have told, put together: who came how far, how fast, and who failed where.

use std::collections::BTreeMap;

use crate::core::device::Mac;
use crate::simulator::fleet::{News, What};
use crate::simulator::line::{Said, in_full};

/// All devices of a run.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<Mac, Life>);

/// One device; times are milliseconds since its first DISCOVER.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub offered_ms: Option<u64>,
    pub booted_ms: Option<u64>,
    pub script_ms: Option<u64>,
    pub end: Option<End>,
}

#[derive(Clone, Debug)]
pub enum End {
    /// Its script ended with 0.
    Passed {
        after_ms: u64,
    },
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
        self.0.values().filter(|life| matches!(life.end, Some(End::Passed { .. }))).count()
    }

    /// The system forbids cages: the first device's reason.
    pub fn refusal(&self) -> Option<&str> {
        self.0.values().find_map(|life| match &life.end {
            Some(End::Refused(why)) => Some(why.as_str()),
            _ => None,
        })
    }

    /// The value that this share of the devices stays at or below.
    pub fn percentile(&self, what: fn(&Life) -> Option<u64>, percent: usize) -> Option<u64> {
        let mut values: Vec<u64> = self.0.values().filter_map(what).collect();
        values.sort_unstable();
        let rank = (values.len() * percent).div_ceil(100).max(1);
        values.get(rank - 1).copied()
    }
}

impl Life {
    fn take_down(&mut self, said: Said) -> (String, Option<End>) {
        match said {
            Said::Unshared | Said::Caged => ("is powered on".to_owned(), None),
            Said::Refused { why } => (format!("has no cage: {why}"), Some(End::Refused(why))),
            Said::Offered { after_ms, address } => {
                self.offered_ms = Some(after_ms);
                (format!("has {address} after {after_ms} ms"), None)
            }
            Said::Booted { after_ms, files, missing, bytes } => {
                self.booted_ms = Some(after_ms);
                (format!("has its {files} boot files ({bytes} bytes, {missing} missing) after {after_ms} ms"), None)
            }
            Said::ScriptFetched { after_ms } => {
                self.script_ms = Some(after_ms);
                (format!("has its script after {after_ms} ms"), None)
            }
            Said::Ended { after_ms, exit: 0, .. } => {
                (format!("is through after {after_ms} ms"), Some(End::Passed { after_ms }))
            }
            Said::Ended { exit, output, .. } => failed("script", format!("exit code {exit}: {output}")),
            Said::Failed { stage, detail, .. } => failed(stage.as_str(), detail),
        }
    }

    /// What a person reads as its result.
    pub fn verdict(&self) -> String {
        match &self.end {
            Some(End::Passed { .. }) => "passed".to_owned(),
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
    fn latencies_and_ends_are_counted() {
        let mut tally = Tally::default();
        for number in 1..=10 {
            tally.note(news(number, Said::ScriptFetched { after_ms: u64::from(number) * 10 }));
        }
        assert_eq!(tally.percentile(|life| life.script_ms, 50), Some(50));
        assert_eq!(tally.percentile(|life| life.script_ms, 99), Some(100));
        assert_eq!(tally.percentile(|life| life.booted_ms, 50), None);
        tally.note(news(1, Said::Ended { after_ms: 99, exit: 0, output: String::new() }));
        tally.note(news(2, Said::Ended { after_ms: 99, exit: 3, output: "line\nwhy".to_owned() }));
        tally.note(news(3, Said::Refused { why: "forbidden".to_owned() }));
        assert_eq!((tally.ended(), tally.passed(), tally.refusal()), (3, 1, Some("forbidden")));
        let verdicts: Vec<String> = tally.lives().take(3).map(|(_, life)| life.verdict()).collect();
        assert_eq!(verdicts, ["passed", "failed at script: why", "not run: forbidden"]);
    }
}
