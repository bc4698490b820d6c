//! What the demo has heard, from the broker and from its devices, and what it makes of it for people and machines.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::demo::screen::Screen;
use crate::cli::tally::{Life, Tally};
use crate::core::device::Mac;
use crate::simulator::fleet::News;

/// How a session ended, by its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// `provisioned`, `failed`, ..
    pub outcome: String,
    pub attempt: u64,
    pub duration_ms: Option<u64>,
    pub code: Option<String>,
}

#[derive(Debug)]
pub struct Show {
    pub screen: Screen,
    pub tally: Tally,
    pub endings: BTreeMap<Mac, Ending>,
    /// How many events the broker's subscriber got.
    pub events: u64,
}

impl Show {
    pub fn new(screen: Screen) -> Self {
        Self { screen, tally: Tally::default(), endings: BTreeMap::new(), events: 0 }
    }

    /// An event, as it arrives from the broker.
    pub fn event(&mut self, event: &Value) {
        self.events += 1;
        let kind = event["type"].as_str().unwrap_or_default();
        let name = kind.strip_prefix("io.bootline.").and_then(|rest| rest.strip_suffix(".v1")).unwrap_or(kind);
        let data = &event["data"];
        let number = event["sequence"].as_str().map_or("?", |text| text.trim_start_matches('0'));
        let subject = event["subject"].as_str().unwrap_or_default();
        self.screen.line(&format!("{number:>5}  {name:<24} {:<22} {}", shortened(subject), details(data)));
        let Some(mac) = data["mac"].as_str().and_then(|text| text.parse::<Mac>().ok()) else {
            return;
        };
        self.screen.stage(mac, name);
        if let Some(outcome) = outcome(name) {
            let ending = Ending {
                outcome: outcome.to_owned(),
                attempt: data["attempt"].as_u64().unwrap_or(0),
                duration_ms: data["duration_ms"].as_u64(),
                code: data["code"].as_str().map(str::to_owned),
            };
            self.endings.insert(mac, ending);
        }
    }

    pub fn telemetry(&self, telemetry: &Value) {
        let mac = telemetry["mac"].as_str().and_then(|text| text.parse().ok());
        if let (Some(mac), Some(percent)) = (mac, telemetry["percent"].as_u64()) {
            let bytes = telemetry["bytes"].as_u64().unwrap_or(0);
            let step = telemetry["step"].as_str().unwrap_or_default();
            self.screen.progress(mac, percent, &format!("{step} {:.1} MiB", mebibytes(bytes)));
        }
    }

    /// Something that a device says of itself.
    pub fn news(&mut self, news: News) {
        let mac = news.mac;
        let words = self.tally.note(news);
        self.screen.line(&format!("       device {words}"));
        if let Some((_, life)) = self.tally.lives().find(|(known, _)| *known == mac)
            && life.end.is_some()
        {
            self.screen.progress(mac, 100, &life.verdict());
        }
    }

    /// Everything that there is to know of this device is known.
    pub fn is_through(&self, mac: Mac) -> bool {
        let has_ended = self.tally.lives().any(|(known, life)| known == mac && life.end.is_some());
        has_ended && self.endings.contains_key(&mac)
    }

    /// The closing table, from what was compared: medium equals image.
    pub fn table(&self, media: &[(Mac, bool)]) -> String {
        let mut text = format!(
            "\n{:<14}{:>8}  {:<14}{:>9}  {}\n",
            "device", "attempt", "outcome", "seconds", "medium equals image"
        );
        let unseen = Life::default();
        for (mac, equal) in media {
            let life = self.tally.lives().find_map(|(known, life)| (known == *mac).then_some(life)).unwrap_or(&unseen);
            let (attempt, outcome, seconds) = match self.endings.get(mac) {
                Some(ending) => (ending.attempt.to_string(), ending.outcome.as_str(), seconds(ending.duration_ms)),
                None => ("-".to_owned(), "no event", "-".to_owned()),
            };
            let equal = if *equal { "yes" } else { "NO" };
            text.push_str(&format!("{:<14}{attempt:>8}  {outcome:<14}{seconds:>9}  {equal}", mac.to_string()));
            let code = self.endings.get(mac).and_then(|ending| ending.code.as_deref());
            match (code, life.verdict().as_str()) {
                (Some(code), _) => text.push_str(&format!("  ({code})")),
                (None, "passed") => {}
                (None, verdict) => text.push_str(&format!("  (device: {verdict})")),
            }
            text.push('\n');
        }
        text
    }

    /// A device is right if it was provisioned by its event, its script said so, and its medium equals the image.
    pub fn provisioned(&self, media: &[(Mac, bool)]) -> usize {
        let passed = |mac: Mac| {
            self.tally.lives().any(|(known, life)| known == mac && life.verdict() == "passed")
                && self.endings.get(&mac).is_some_and(|ending| ending.outcome == PROVISIONED)
        };
        media.iter().filter(|(mac, equal)| *equal && passed(*mac)).count()
    }

    /// The last line of `--json`.
    pub fn summary(&self, media: &[(Mac, bool)], seconds: f64) -> Value {
        let provisioned = self.provisioned(media);
        json!({
            "devices": media.len(),
            "provisioned": provisioned,
            "failed": media.len() - provisioned,
            "events": self.events,
            "seconds": (seconds * 1000.0).round() / 1000.0,
        })
    }
}

fn outcome(name: &str) -> Option<&str> {
    let outcome = name.strip_prefix("device.")?;
    [PROVISIONED, "failed", "aborted", "interrupted"].contains(&outcome).then_some(outcome)
}

/// What of an event's data a person wants to see.
fn details(data: &Value) -> String {
    let shown = [
        "via",
        "model",
        "address",
        "project",
        "attempt",
        "step",
        "bytes",
        "cache",
        "duration_ms",
        "name",
        "status",
        "code",
        "detail",
        "version",
    ];
    let parts: Vec<String> = shown
        .iter()
        .filter_map(|key| match &data[*key] {
            Value::Null | Value::Object(_) | Value::Array(_) => None,
            Value::String(text) => Some(format!("{key}={text}")),
            other => Some(format!("{key}={other}")),
        })
        .collect();
    parts.join(" ")
}

fn shortened(subject: &str) -> String {
    if subject.chars().count() > 22 {
        format!("{}..", subject.chars().take(20).collect::<String>())
    } else {
        subject.to_owned()
    }
}

fn seconds(duration_ms: Option<u64>) -> String {
    duration_ms.map_or_else(|| "-".to_owned(), |ms| format!("{}.{:03}", ms / 1000, ms % 1000))
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

const PROVISIONED: &str = "provisioned";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::fleet::What;
    use crate::simulator::line::Said;

    #[test]
    fn a_device_counts_only_with_its_event_its_script_and_its_medium() {
        let mut show = Show::new(Screen::new(true));
        let [a, b, c]: [Mac; 3] =
            std::array::from_fn(|number| Mac::new([2, 0, 0, 0, 0, u8::try_from(number).unwrap()]));
        for mac in [a, b, c] {
            let said = Said::Ended { after_ms: 1, exit: i32::from(mac == c), output: String::new() };
            show.news(News { mac, what: What::Said(said) });
        }
        for mac in [a, c] {
            let data = json!({"mac": mac, "attempt": 1, "duration_ms": 1234});
            show.event(
                &json!({"type": "io.bootline.device.provisioned.v1", "sequence": "00000000000000000007", "data": data}),
            );
        }
        assert!(show.is_through(a) && !show.is_through(b));
        let media = [(a, true), (b, true), (c, true)];
        assert_eq!(
            show.summary(&media, 1.5),
            json!({"devices": 3, "provisioned": 1, "failed": 2, "events": 2, "seconds": 1.5})
        );
        assert_eq!(show.provisioned(&[(a, false)]), 0);
        let table = show.table(&media);
        assert!(table.contains("1.234  yes\n"), "{table}");
        assert!(table.contains("no event"), "{table}");
    }
}
