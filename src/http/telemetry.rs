//! Progress for pages: `GET /api/v1/telemetry/stream`, a WebSocket. The newest report of each device, five times a
//! second at most; what a slow reader misses is worth nothing by then, so nothing waits and nothing is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::core::device::Mac;
use crate::core::refusal::Refusal;
use crate::core::view::Telemetry;
use crate::http::error::Failure;
use crate::http::operator::Operator;

/// Between two messages.
const PACE: Duration = Duration::from_millis(200);
/// A message without news says that the connection stands: a page cannot see a ping.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A reader that takes no message for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Each message is `{"telemetry": [..]}`, one entry a device that has reported since the last one.
pub async fn stream(
    State(operator): State<Operator>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|_| Refusal::new(426, "upgrade_required", "this is a WebSocket (RFC 6455)"))?;
    // The receiver alone: a handle of the ledger would keep the station from stopping.
    let reports = operator.ledger.telemetry();
    Ok(upgrade.protocols(["bootline.telemetry.v1"]).on_upgrade(move |socket| tell(socket, reports)))
}

async fn tell(mut socket: WebSocket, mut reports: Receiver<Telemetry>) {
    let mut beat = interval(PACE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // As many entries as devices have reported within one beat.
    let mut newest: BTreeMap<Mac, Telemetry> = BTreeMap::new();
    let mut told_at: Option<Instant> = None;
    loop {
        tokio::select! {
            biased; // A beat takes along everything that is there.
            report = reports.recv() => match report {
                Ok(report) => drop(newest.insert(report.mac, report)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            _ = beat.tick() => {
                let due = told_at.is_none_or(|at| at.elapsed() >= HEARTBEAT);
                if newest.is_empty() && !due {
                    continue;
                }
                let reports: Vec<Telemetry> = std::mem::take(&mut newest).into_values().collect();
                let text = json!({"telemetry": reports}).to_string();
                match timeout(PATIENCE, socket.send(Message::Text(text.into()))).await {
                    Ok(Ok(())) => told_at = Some(Instant::now()),
                    _ => return,
                }
            }
        }
    }
}
