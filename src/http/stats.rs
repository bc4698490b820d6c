//! Sums over sessions for people who run a line: yield, throughput, durations, why devices failed.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::project::ProjectId;
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::http::error::Failure;
use crate::http::extract::Asked;
use crate::http::operator::Operator;
use crate::ledger::{Grouping, StatsFilter, Sums};

const DAY: i64 = 24 * 3600 * 1000;
/// The longest span that is added up at once.
const LONGEST: i64 = 400 * DAY;

/// By what the sums are told apart.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Project,
    /// Jumpers as the module tells them.
    Board,
    /// Place on the line, as the switch says.
    Circuit,
    /// Of the start, in UTC.
    Hour,
    Day,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsQuery {
    /// Started then or later; 24 hours before `to` where it is left out.
    from: Option<Timestamp>,
    /// Started before; now where it is left out. At most 400 days after `from`.
    to: Option<Timestamp>,
    project: Option<ProjectId>,
    board: Option<String>,
    circuit: Option<String>,
    by: Option<By>,
}

/// Sums of the sessions that started in a span of time.
#[derive(Serialize, JsonSchema)]
pub struct StatsShown {
    from: Timestamp,
    to: Timestamp,
    total: SumsShown,
    /// In the order of their key, at most 1000; empty without `by`.
    groups: Vec<Group>,
    /// Why sessions did not pass, the most frequent first.
    failures: Vec<FailureCount>,
}

#[derive(Serialize, JsonSchema)]
pub struct Group {
    /// A project, a board, a circuit (empty: not known), or the beginning of an hour or a day in UTC.
    key: String,
    #[serde(flatten)]
    sums: SumsShown,
}

#[derive(Serialize, JsonSchema)]
pub struct FailureCount {
    code: String,
    sessions: u64,
    /// What to do about it, for the operator.
    advice: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct SumsShown {
    sessions: u64,
    open: u64,
    passed: u64,
    failed: u64,
    aborted: u64,
    interrupted: u64,
    /// With at least one session that has ended.
    devices: u64,
    /// With at least one that has passed.
    devices_passed: u64,
    /// Part of the devices that has passed, at whichever attempt; null while none has ended.
    #[serde(rename = "yield")]
    yielded: Option<f64>,
    /// Part of the first attempts that has passed; null while none has ended.
    first_pass_yield: Option<f64>,
    /// Sessions that passed, an hour of the span; of a group by time, of its own span.
    passed_per_hour: f64,
    /// Of sessions that passed, in seconds.
    mean_duration_s: Option<f64>,
    shortest_duration_s: Option<f64>,
    longest_duration_s: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "counts of devices stay far below 2^52")]
fn shown(sums: &Sums, span_ms: i64) -> SumsShown {
    let part = |of: u64, all: u64| (all > 0).then(|| of as f64 / all as f64);
    let seconds = |ms: u64| ms as f64 / 1000.0;
    SumsShown {
        sessions: sums.sessions,
        open: sums.open,
        passed: sums.passed,
        failed: sums.failed,
        aborted: sums.aborted,
        interrupted: sums.interrupted,
        devices: sums.devices,
        devices_passed: sums.devices_passed,
        yielded: part(sums.devices_passed, sums.devices),
        first_pass_yield: part(sums.first_passed, sums.first_ended),
        passed_per_hour: sums.passed as f64 / (span_ms.max(1) as f64 / 3_600_000.0),
        mean_duration_s: sums.mean_ms.map(|ms| ms / 1000.0),
        shortest_duration_s: sums.shortest_ms.map(seconds),
        longest_duration_s: sums.longest_ms.map(seconds),
    }
}

pub async fn stats(
    State(operator): State<Operator>,
    Asked(query): Asked<StatsQuery>,
) -> Result<Json<StatsShown>, Failure> {
    let to = query.to.unwrap_or_else(|| operator.ledger.now());
    let from = query.from.unwrap_or_else(|| Timestamp::from_millis(to.millis().saturating_sub(DAY)));
    let span = to.millis().saturating_sub(from.millis());
    if !(1..=LONGEST).contains(&span) {
        let detail = format!("{from} to {to} is not a span of up to 400 days");
        return Err(Refusal::invalid("/from", detail).into());
    }
    let grouping = query.by.map(|by| match by {
        By::Project => Grouping::Project,
        By::Board => Grouping::Board,
        By::Circuit => Grouping::Circuit,
        By::Hour => Grouping::Hour,
        By::Day => Grouping::Day,
    });
    let of_group = match grouping {
        Some(Grouping::Hour) => DAY / 24,
        Some(Grouping::Day) => DAY,
        _ => span,
    };
    let filter = StatsFilter {
        from,
        to,
        project: query.project.map(|project| project.to_string()),
        board: query.board,
        circuit: query.circuit,
    };
    let stats = operator.ledger.stats(filter, grouping).await?;
    let groups = stats.groups.iter().map(|(key, sums)| Group { key: key.clone(), sums: shown(sums, of_group) });
    let failures = stats.failures.into_iter().map(|(code, sessions)| FailureCount {
        advice: crate::core::advice::advice(&code).map(str::to_owned),
        code,
        sessions,
    });
    Ok(Json(StatsShown {
        from,
        to,
        total: shown(&stats.total, span),
        groups: groups.collect(),
        failures: failures.collect(),
    }))
}
