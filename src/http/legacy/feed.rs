//! The WebSocket at `/`: one message a change of a record. Each listener reads the journal at its own pace, so none can
//! keep devices, or another listener, waiting; and what it is told comes from the session, never from a shared place.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::core::device::Serial;
use crate::core::plan::SessionId;
use crate::http::legacy::form::Wrong;
use crate::http::legacy::results::{Names, Told, key_of, record};
use crate::http::operator::Operator;
use crate::ledger::{Ledger, Recorded, SubmitError};

/// A listener that takes nothing for so long is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn listen(
    State(operator): State<Operator>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match upgrade {
        Ok(upgrade) => upgrade.on_upgrade(move |socket| follow(socket, operator.ledger)),
        Err(_) => Wrong::new(404, "Not Found").into_response(),
    }
}

async fn follow(mut socket: WebSocket, ledger: Ledger) {
    let mut journal = ledger.follow(ledger.newest());
    loop {
        let page = tokio::select! {
            // Cancel-safe: the follower's place moves only when it hands events out.
            page = journal.next() => page,
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let Ok(page) = page else { return };
        for event in &page {
            let text = match message(&ledger, event).await {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(_) => return,
            };
            match tokio::time::timeout(PATIENCE, socket.send(Message::Text(text.into()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

#[derive(Deserialize)]
struct Body {
    data: About,
}

#[derive(Deserialize)]
struct About {
    session: Option<SessionId>,
    serial: Option<Serial>,
    step: Option<String>,
}

/// `{"<serial>": {"<start>": record}}` where the event changes a record.
async fn message(ledger: &Ledger, event: &Recorded) -> Result<Option<String>, SubmitError> {
    let told = match event.name.as_str() {
        "device.started" => Told::Start,
        "device.step.completed" | "device.provisioned" | "device.failed" | "device.aborted" | "device.interrupted" => {
            Told::All
        }
        _ => return Ok(None),
    };
    let Ok(Body { data }) = serde_json::from_slice(&event.body) else { return Ok(None) };
    // Of the steps only that of the EEPROM shows in a record.
    if event.name == "device.step.completed" && data.step.as_deref() != Some("firmware") {
        return Ok(None);
    }
    let (Some(id), Some(serial)) = (data.session, data.serial) else { return Ok(None) };
    let Some(session) = ledger.session(id).await? else { return Ok(None) };
    let record = record(&session, &Names::read(ledger).await?, told);
    let start = key_of(ledger, &session).await?;
    Ok(Some(json!({serial.to_string(): {start: record}}).to_string()))
}
