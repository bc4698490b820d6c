//! The station and its devices as Sparkplug metrics. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bus::mqtt::sparkplug::node::Readings;
use crate::bus::mqtt::sparkplug::payload::Reading;
use crate::core::delivery::Delivery;
use crate::core::device::Mac;
use crate::core::session::Session;
use crate::core::view::Telemetry;
use crate::ledger::{Counts, Identity, Recorded};

/// Buses that events wait for; named here because the metrics of a node are fixed at its birth.
const SINKS: [(&str, &str); 2] = [("mqtt", "Backlog/mqtt"), ("nats", "Backlog/nats")];

/// What an event says of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub mac: Mac,
    pub readings: Readings,
    /// The device is done with.
    pub is_end: bool,
}

pub fn station(identity: &Identity, counts: &BTreeMap<String, Counts>, delivery: &Delivery) -> Readings {
    let sum = |of: fn(&Counts) -> u64| counts.values().map(of).sum::<u64>();
    let (passed, failed) = (sum(|counts| counts.passed), sum(|counts| counts.failed));
    let (aborted, interrupted) = (sum(|counts| counts.aborted), sum(|counts| counts.interrupted));
    let ended = passed + failed + aborted + interrupted;
    #[expect(clippy::cast_precision_loss, reason = "a share is a float")]
    let share = if ended == 0 { 1.0 } else { passed as f64 / ended as f64 };
    let mut readings = BTreeMap::from([
        ("Presence/Online", Reading::Flag(true)),
        ("Properties/Software", Reading::Text(Some("bootline".to_owned()))),
        ("Properties/Version", Reading::Text(Some(identity.version.clone()))),
        ("Sessions/Passed", Reading::Count(passed)),
        ("Sessions/Failed", Reading::Count(failed)),
        ("Sessions/Aborted", Reading::Count(aborted)),
        ("Sessions/Interrupted", Reading::Count(interrupted)),
        ("Sessions/Open", Reading::Count(sum(|counts| counts.open))),
        ("Sessions/Yield", Reading::Share(share)),
    ]);
    for (sink, name) in SINKS {
        let backlog = delivery.sinks.get(sink).map_or(0, |sink| delivery.backlog(sink));
        readings.insert(name, Reading::Count(backlog));
    }
    readings
}

/// A device whose session is open.
pub fn device(session: &Session) -> Readings {
    let step = session.current_step().map(text);
    BTreeMap::from([
        ("State", Reading::Text(Some("running".to_owned()))),
        ("Step", Reading::Text(step)),
        ("Percent", Reading::Count(0)),
        ("Outcome", Reading::Text(None)),
        ("Session", Reading::Text(Some(session.id.to_string()))),
        ("Attempt", Reading::Count(session.attempt.into())),
        ("Project", Reading::Text(Some(session.project.to_string()))),
    ])
}

/// How far the running step of a device is.
pub fn progress(readings: &Readings, report: &Telemetry) -> Readings {
    let mut readings = readings.clone();
    readings.insert("Step", Reading::Text(Some(text(report.step))));
    readings.insert("Percent", Reading::Count(report.percent.into()));
    readings
}

/// What an event changes of a device that is known with these readings, or begins.
pub fn event(event: &Recorded, known: impl Fn(Mac) -> Option<Readings>) -> Option<Seen> {
    let what = event.name.strip_prefix("device.")?;
    let body: Value = serde_json::from_slice(&event.body).ok()?;
    let data = &body["data"];
    let mac: Mac = data["mac"].as_str()?.parse().ok()?;
    let word = |name: &str| data[name].as_str().map(str::to_owned);
    let mut readings = match what {
        "started" => BTreeMap::from([
            ("State", Reading::Text(Some("running".to_owned()))),
            ("Step", Reading::Text(None)),
            ("Percent", Reading::Count(0)),
            ("Outcome", Reading::Text(None)),
            ("Session", Reading::Text(word("session"))),
            ("Attempt", Reading::Count(data["attempt"].as_u64().unwrap_or(1))),
            ("Project", Reading::Text(word("project"))),
        ]),
        _ => known(mac)?,
    };
    let outcome = match what {
        "started" => None,
        "step.started" => {
            readings.insert("Step", Reading::Text(word("step")));
            readings.insert("Percent", Reading::Count(0));
            None
        }
        "step.completed" => {
            readings.insert("Percent", Reading::Count(100));
            None
        }
        "provisioned" => Some("passed"),
        "failed" | "aborted" | "interrupted" => Some(what),
        _ => return None,
    };
    if let Some(outcome) = outcome {
        readings.insert("State", Reading::Text(Some("ended".to_owned())));
        readings.insert("Outcome", Reading::Text(Some(outcome.to_owned())));
    }
    Some(Seen { mac, readings, is_end: outcome.is_some() })
}

fn text(step: crate::core::session::StepName) -> String {
    serde_json::to_value(step).ok().and_then(|step| step.as_str().map(str::to_owned)).unwrap_or_default()
}
