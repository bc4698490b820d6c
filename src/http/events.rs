//! The journal over HTTP: pages of events, and the WebSocket that replays and then stays live.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::refusal::Refusal;
use crate::http::error::Failure;
use crate::http::extract::Asked;
use crate::http::operator::Operator;
use crate::ledger::{Follower, Recorded};

/// A listener that takes no event for so long is cut off; it resumes with `after`.
const PATIENCE: Duration = Duration::from_secs(10);
/// Application code of the close frame for such a listener.
const TOO_SLOW: u16 = 4008;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    limit: Option<u32>,
}

/// `GET /api/v1/events?after=SEQ&limit=N`
pub async fn page(State(operator): State<Operator>, Asked(page): Asked<Page>) -> Result<Json<Value>, Failure> {
    let events = operator.ledger.events(page.after, page.limit.unwrap_or(100).clamp(1, 1000)).await?;
    let next = events.last().map_or(page.after, |event| event.seq);
    let bodies: Vec<Value> = events.iter().filter_map(|event| serde_json::from_slice(&event.body).ok()).collect();
    Ok(Json(json!({"events": bodies, "next_after": next, "newest": operator.ledger.newest()})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listening {
    /// Replay begins after this sequence; without it, only what comes is sent.
    after: Option<u64>,
    /// Names or prefixes, separated by commas: `device.*,station.alarm.raised`
    filter: Option<String>,
}

/// `GET /api/v1/events/stream?after=SEQ&filter=device.*`
pub async fn stream(
    State(operator): State<Operator>,
    Asked(listening): Asked<Listening>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let filter = Filter::parse(listening.filter.as_deref())?;
    let follower = operator.ledger.follow(listening.after.unwrap_or_else(|| operator.ledger.newest()));
    Ok(upgrade.protocols(["cloudevents.json"]).on_upgrade(move |socket| follow(socket, follower, filter)))
}

async fn follow(mut socket: WebSocket, mut follower: Follower, filter: Filter) {
    loop {
        let page = tokio::select! {
            // Cancel-safe: the follower's place moves only when it hands events out.
            page = follower.next() => page,
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let Ok(page) = page else {
            close(&mut socket, 1001, "the station stops").await;
            return;
        };
        for event in page.iter().filter(|event| filter.takes(event)) {
            match send(&mut socket, event).await {
                Sent::Yes => {}
                Sent::TooSlow => {
                    return close(&mut socket, TOO_SLOW, &format!("too slow; resume with after={}", event.seq - 1))
                        .await;
                }
                Sent::Gone => return,
            }
        }
    }
}

enum Sent {
    Yes,
    TooSlow,
    Gone,
}

async fn send(socket: &mut WebSocket, event: &Recorded) -> Sent {
    let Ok(text) = Utf8Bytes::try_from(event.body.clone()) else { return Sent::Yes };
    match tokio::time::timeout(PATIENCE, socket.send(Message::Text(text))).await {
        Ok(Ok(())) => Sent::Yes,
        Ok(Err(_)) => Sent::Gone,
        Err(_) => Sent::TooSlow,
    }
}

async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let frame = CloseFrame { code, reason: reason.into() };
    // The listener may be gone or stuck; it will see the broken connection instead.
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.send(Message::Close(Some(frame)))).await;
}

/// Which events a listener wants.
struct Filter(Vec<String>);

impl Filter {
    fn parse(text: Option<&str>) -> Result<Self, Refusal> {
        let terms: Vec<String> =
            text.unwrap_or_default().split(',').filter(|term| !term.is_empty()).map(str::to_owned).collect();
        let wrong = terms.iter().find(|term| {
            let name = term.strip_suffix(".*").unwrap_or(term);
            name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_')
        });
        match wrong {
            Some(term) => {
                Err(Refusal::invalid("/filter", format!("not an event name or a prefix such as device.*: {term:?}")))
            }
            None => Ok(Self(terms)),
        }
    }

    fn takes(&self, event: &Recorded) -> bool {
        let matches = |term: &String| match term.strip_suffix('*') {
            Some(prefix) => event.name.starts_with(prefix),
            None => event.name == *term,
        };
        self.0.is_empty() || self.0.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_names_and_prefixes() {
        let event = |name: &str| Recorded {
            seq: 1,
            id: uuid::Uuid::nil(),
            name: name.to_owned(),
            kind: "device".to_owned(),
            subject: "x".to_owned(),
            occurred: crate::core::time::Timestamp::default(),
            body: bytes::Bytes::new(),
        };
        let filter = Filter::parse(Some("device.*,station.started")).unwrap();
        assert!(filter.takes(&event("device.step.started")));
        assert!(filter.takes(&event("station.started")));
        assert!(!filter.takes(&event("station.stopped")));
        assert!(Filter::parse(None).unwrap().takes(&event("project.created")));
        assert!(Filter::parse(Some("device.*; drop")).is_err());
    }
}
