//! What a run of simulated devices amounts to: latencies and files, of all and of each model, as a table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::tally::{End, Life, Tally};
use crate::core::device::Mac;
use crate::simulator::board::Model;

/// A finished run.
pub struct Figures<'a> {
    pub tally: &'a Tally,
    pub models: BTreeMap<Mac, Model>,
    pub seconds: f64,
}

type Measure = fn(&Life) -> Option<u64>;

/// What is measured, each from the moment of a device's link.
const MEASURES: [(&str, &str, Measure); 4] = [
    ("offer", "link to address", |life| life.offered_ms),
    ("boot_files", "link to last boot file", |life| life.booted_ms),
    ("script", "link to script", |life| life.script_ms),
    ("end", "link to end of script", |life| match life.end {
        Some(End::Passed { after_ms }) => Some(after_ms),
        _ => None,
    }),
];

impl Figures<'_> {
    pub fn passed(&self) -> usize {
        self.tally.passed()
    }

    pub fn summary(&self) -> Value {
        let failures: Vec<Value> = self
            .tally
            .lives()
            .filter_map(|(mac, life)| match &life.end {
                Some(End::Failed { at, detail }) => Some(json!({"mac": mac, "at": at, "detail": detail})),
                _ => None,
            })
            .collect();
        let models: serde_json::Map<String, Value> =
            self.by_model().into_iter().map(|(model, lives)| (model.as_str().to_owned(), of_model(&lives))).collect();
        json!({
            "devices": self.models.len(), "passed": self.passed(), "failed": self.models.len() - self.passed(),
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
            "latency": latency(&self.lives()), "models": models, "failures": failures,
        })
    }

    pub fn table(&self) -> String {
        let mut text =
            format!("{:<14}{:<6}{:>10}{:>12}{:>10}  result\n", "device", "model", "address", "boot files", "script");
        for (mac, life) in self.tally.lives() {
            let model = self.models.get(&mac).map_or("-", |model| model.as_str());
            let (offer, booted, script) = (ms(life.offered_ms), ms(life.booted_ms), ms(life.script_ms));
            let mac = mac.to_string();
            text.push_str(&format!("{mac:<14}{model:<6}{offer:>10}{booted:>12}{script:>10}  {}\n", life.verdict()));
        }
        let head = ["devices", "passed", "files", "missing", "bytes", "script p50", "slowest", "ratio"];
        text.push_str(&format!("\n{:<8}", "model"));
        head.iter().for_each(|word| text.push_str(&format!("{word:>11}")));
        for (model, lives) in self.by_model() {
            let script = Spread::of(&lives, |life| life.script_ms);
            let most = |what: fn(&Life) -> u64| lives.iter().map(|life| what(life)).max().unwrap_or(0).to_string();
            let cells = [
                lives.len().to_string(),
                lives.iter().filter(|life| life.has_passed()).count().to_string(),
                most(|life| u64::from(life.files)),
                most(|life| u64::from(life.missing)),
                most(|life| life.bytes),
                ms(script.p50),
                ms(script.slowest),
                script.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            ];
            text.push_str(&format!("\n{:<8}", model.as_str()));
            cells.iter().for_each(|cell| text.push_str(&format!("{cell:>11}")));
        }
        text.push_str(&format!("\n\n{:<28}{:>10}{:>10}{:>10}\n", "", "p50", "p99", "slowest"));
        for (_, words, what) in MEASURES {
            let Spread { p50, p99, slowest } = Spread::of(&self.lives(), what);
            text.push_str(&format!("{words:<28}{:>10}{:>10}{:>10}\n", ms(p50), ms(p99), ms(slowest)));
        }
        let (passed, devices) = (self.passed(), self.models.len());
        text.push_str(&format!("\n{passed} of {devices} devices passed in {:.1} s", self.seconds));
        text
    }

    fn lives(&self) -> Vec<&Life> {
        self.tally.lives().map(|(_, life)| life).collect()
    }

    fn by_model(&self) -> BTreeMap<Model, Vec<&Life>> {
        let mut models: BTreeMap<Model, Vec<&Life>> = BTreeMap::new();
        for (mac, life) in self.tally.lives() {
            if let Some(model) = self.models.get(&mac) {
                models.entry(*model).or_default().push(life);
            }
        }
        models
    }
}

fn of_model(lives: &[&Life]) -> Value {
    let most = |what: fn(&Life) -> u64| lives.iter().map(|life| what(life)).max();
    json!({
        "devices": lives.len(), "passed": lives.iter().filter(|life| life.has_passed()).count(),
        "files": most(|life| u64::from(life.files)), "missing": most(|life| u64::from(life.missing)),
        "bytes": most(|life| life.bytes), "cut": lives.iter().map(|life| life.cut.len()).sum::<usize>(),
        "latency": latency(lives),
    })
}

fn latency(lives: &[&Life]) -> serde_json::Map<String, Value> {
    MEASURES
        .iter()
        .map(|(key, _, what)| {
            let spread = Spread::of(lives, *what);
            let ratio = spread.ratio().map(|ratio| (ratio * 100.0).round() / 100.0);
            let Spread { p50, p99, slowest } = spread;
            (format!("{key}_ms"), json!({"p50": p50, "p99": p99, "slowest": slowest, "ratio": ratio}))
        })
        .collect()
}

/// How far the devices lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spread {
    p50: Option<u64>,
    p99: Option<u64>,
    slowest: Option<u64>,
}

impl Spread {
    fn of(lives: &[&Life], what: Measure) -> Self {
        let mut values: Vec<u64> = lives.iter().filter_map(|life| what(life)).collect();
        values.sort_unstable();
        let percentile = |percent: usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1).copied();
        Self { p50: percentile(50), p99: percentile(99), slowest: values.last().copied() }
    }

    /// How many times the median the slowest took.
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    fn ratio(self) -> Option<f64> {
        let median = self.p50.filter(|median| *median > 0)?;
        Some(self.slowest? as f64 / median as f64)
    }
}

fn ms(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::fleet::{News, What};
    use crate::simulator::line::Said;

    fn run(devices: u8) -> (Tally, BTreeMap<Mac, Model>) {
        let mut tally = Tally::default();
        let mut models = BTreeMap::new();
        for number in 1..=devices {
            let mac = Mac::new([2, 0, 0, 0, 0, number]);
            models.insert(mac, if number % 5 == 0 { Model::Cm5 } else { Model::Cm4 });
            for said in [
                Said::Booted { after_ms: 1, files: 9, missing: 20, bytes: 1000, cut: Vec::new() },
                Said::ScriptFetched { after_ms: u64::from(number) * 10 },
                Said::Unplugged { after_ms: 1000 },
            ] {
                tally.note(News { mac, what: What::Said(said) });
            }
        }
        (tally, models)
    }

    #[test]
    fn each_model_has_its_figures() {
        let (tally, models) = run(10);
        let figures = Figures { tally: &tally, models, seconds: 1.5 };
        let summary = figures.summary();
        assert_eq!((&summary["devices"], &summary["passed"], &summary["failed"]), (&10.into(), &10.into(), &0.into()));
        let script = json!({"p50": 50, "p99": 100, "slowest": 100, "ratio": 2.0});
        assert_eq!(summary["latency"]["script_ms"], script);
        assert_eq!(summary["latency"]["end_ms"]["p50"], Value::Null);
        let cm5 = &summary["models"]["cm5"];
        assert_eq!((&cm5["devices"], &cm5["files"], &cm5["missing"]), (&2.into(), &9.into(), &20.into()));
        assert_eq!(cm5["latency"]["script_ms"]["p50"], 50);
        let table = figures.table();
        assert!(table.contains("cm4               8          8          9         20"), "{table}");
        assert!(table.ends_with("10 of 10 devices passed in 1.5 s"), "{table}");
    }

    #[test]
    fn without_devices_there_is_no_spread() {
        let nothing = Spread::of(&[], |life| life.script_ms);
        assert_eq!((nothing.p50, nothing.p99, nothing.slowest, nothing.ratio()), (None, None, None, None));
    }
}
