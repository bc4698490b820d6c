//! The journal over HTTP: pages of events, and the WebSocket that replays and then stays live.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::core::plan::SessionId;
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::http::error::Failure;
use crate::http::extract::{Asked, Limit};
use crate::http::operator::Operator;
use crate::ledger::{EventFilter, Follower, Name, Recorded};

/// A listener that takes no event for so long is cut off; it resumes with `after`.
const PATIENCE: Duration = Duration::from_secs(10);
/// Application code of the close frame for such a listener.
const TOO_SLOW: u16 = 4008;
/// Application code for one that answers no ping.
const IDLE: u16 = 4000;
/// How often a listener is asked whether it is still there, and after how much silence it is gone.
const PING: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);
/// Listeners at a time, over all stations of the process; the next one is told to come back later.
const MOST_LISTENERS: usize = 2000;
static LISTENERS: Semaphore = Semaphore::const_new(MOST_LISTENERS);
/// What a listener may say is only that it is there.
const LONGEST_WORD: usize = 4096;

/// Which events, oldest first.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Behind this sequence number: `next_after` of the page before.
    #[serde(default)]
    after: u64,
    /// The newest of those before this sequence number.
    before: Option<u64>,
    /// Of the subject: `device`, `project`, `image`, `firmware`, `rule`, `script`, `label`, `slot`, `station`, `command`.
    kind: Option<String>,
    /// Of the subject: the MAC of a device, the id of a project.
    id: Option<String>,
    /// That are about this session. Give `type` or `from` too, or all events are looked at.
    session: Option<SessionId>,
    /// A name, `device.failed`, or the beginning of names, `device.*`.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = r"^[a-z_][a-z_.]*(\.\*)?$"))]
    name: Option<String>,
    /// Happened then or later.
    from: Option<Timestamp>,
    /// Happened before.
    to: Option<Timestamp>,
    #[serde(default)]
    limit: Limit,
}

#[derive(Serialize, JsonSchema)]
pub struct EventPage {
    /// `CloudEvents`, as on the bus.
    events: Vec<Value>,
    /// `after` of the next page.
    next_after: u64,
    /// The sequence number of the newest event of the station.
    newest: u64,
}

/// `GET /api/v1/events?after=SEQ&limit=N`
pub async fn page(State(operator): State<Operator>, Asked(page): Asked<Page>) -> Result<Json<EventPage>, Failure> {
    let (after, newest) = (page.after, operator.ledger.newest());
    let filter = EventFilter {
        kind: page.kind,
        id: page.id,
        session: page.session,
        name: page.name.as_deref().map(term).transpose().map_err(|wrong| Refusal::invalid("/type", wrong))?,
        from: page.from,
        to: page.to,
        after,
        before: page.before,
        limit: page.limit.0,
    };
    let events = operator.ledger.find_events(filter).await?;
    let next_after = events.last().map_or(after, |event| event.seq);
    let bodies: Vec<Value> = events.iter().filter_map(|event| serde_json::from_slice(&event.body).ok()).collect();
    Ok(Json(EventPage { events: bodies, next_after, newest: newest.max(next_after) }))
}

/// What a listener wants.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listening {
    /// Replay begins behind this sequence number; without it, only what comes is sent.
    after: Option<u64>,
    /// Names or beginnings of names, separated by commas: `device.*,station.alarm.raised`
    filter: Option<String>,
    /// Of the subject: `device`, `project` and so on.
    kind: Option<String>,
    /// Of the subject: the MAC of a device, the id of a project.
    id: Option<String>,
}

/// `GET /api/v1/events/stream?after=SEQ&filter=device.*`
pub async fn stream(
    State(operator): State<Operator>,
    Asked(listening): Asked<Listening>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let filter = Filter::of(&listening)?;
    let newest = operator.ledger.newest();
    let after = listening.after.unwrap_or(newest);
    if after > newest {
        let detail = format!("{after} lies ahead of the newest event, {newest}; was the database restored?");
        return Err(Refusal::invalid("/after", detail).into());
    }
    let upgrade = upgrade.map_err(|_| Refusal::new(426, "upgrade_required", "this is a WebSocket (RFC 6455)"))?;
    let place = LISTENERS.try_acquire().map_err(|_| {
        Refusal::new(503, "too_many_listeners", format!("{MOST_LISTENERS} listeners are here already")).retryable()
    })?;
    let follower = operator.ledger.follow(after);
    let upgrade = upgrade.protocols(["cloudevents.json"]).max_message_size(LONGEST_WORD).max_frame_size(LONGEST_WORD);
    Ok(upgrade.on_upgrade(move |socket| follow(socket, follower, filter, place)))
}

async fn follow(mut socket: WebSocket, mut follower: Follower, filter: Filter, _place: SemaphorePermit<'static>) {
    let mut pings = interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard_at = Instant::now();
    loop {
        let page = tokio::select! {
            // Cancel-safe: the follower's place moves only when it hands events out.
            page = follower.next() => page,
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard_at = Instant::now();
                    continue;
                }
            },
            _ = pings.tick() => {
                if heard_at.elapsed() > SILENCE {
                    return close(&mut socket, IDLE, "no pong").await;
                }
                match timeout(PATIENCE, socket.send(Message::Ping(Bytes::new()))).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        let Ok(page) = page else {
            return close(&mut socket, 1001, "the station stops").await;
        };
        for event in page.iter().filter(|event| filter.takes(event)) {
            match send(&mut socket, event).await {
                Sent::Yes => {}
                Sent::TooSlow => {
                    let after = event.seq - 1;
                    tracing::info!(after, "a listener takes no events and is cut off");
                    return close(&mut socket, TOO_SLOW, &format!("too slow; resume with after={after}")).await;
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

/// The text is the one of the journal: every listener shares it.
async fn send(socket: &mut WebSocket, event: &Recorded) -> Sent {
    let Ok(text) = Utf8Bytes::try_from(event.body.clone()) else { return Sent::Yes };
    match timeout(PATIENCE, socket.send(Message::Text(text))).await {
        Ok(Ok(())) => Sent::Yes,
        Ok(Err(_)) => Sent::Gone,
        Err(_) => Sent::TooSlow,
    }
}

async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let frame = CloseFrame { code, reason: reason.into() };
    // One that was only slow takes what is under way and learns why; one that is gone sees the broken connection instead.
    let _ = timeout(PATIENCE, socket.send(Message::Close(Some(frame)))).await;
}

/// `device.failed`, or `device.*`.
fn term(text: &str) -> Result<Name, String> {
    let (name, is_prefix) = text.strip_suffix(".*").map_or((text, false), |name| (name, true));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_') {
        return Err(format!("not an event name or a beginning such as device.*: {text:?}"));
    }
    Ok(if is_prefix { Name::Prefix(format!("{name}.")) } else { Name::Whole(name.to_owned()) })
}

/// Which events a listener wants.
struct Filter {
    names: Vec<Name>,
    kind: Option<String>,
    id: Option<String>,
}

impl Filter {
    fn of(listening: &Listening) -> Result<Self, Refusal> {
        let text = listening.filter.as_deref().unwrap_or_default();
        let names = text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(term);
        let names = names.collect::<Result<_, String>>().map_err(|wrong| Refusal::invalid("/filter", wrong))?;
        Ok(Self { names, kind: listening.kind.clone(), id: listening.id.clone() })
    }

    fn takes(&self, event: &Recorded) -> bool {
        let named = |name: &Name| match name {
            Name::Whole(name) => event.name == *name,
            Name::Prefix(prefix) => event.name.starts_with(prefix),
        };
        (self.names.is_empty() || self.names.iter().any(named))
            && self.kind.as_ref().is_none_or(|kind| event.kind == *kind)
            && self.id.as_ref().is_none_or(|id| event.subject == *id)
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
            occurred: Timestamp::default(),
            body: Bytes::new(),
        };
        let filter = |text: Option<&str>, id: Option<&str>| {
            let (filter, id) = (text.map(str::to_owned), id.map(str::to_owned));
            Filter::of(&Listening { after: None, filter, kind: None, id })
        };
        let some = filter(Some("device.*,station.started"), None).unwrap();
        assert!(some.takes(&event("device.step.started")));
        assert!(some.takes(&event("station.started")));
        assert!(!some.takes(&event("station.stopped")));
        assert!(filter(None, None).unwrap().takes(&event("project.created")));
        assert!(filter(None, Some("x")).unwrap().takes(&event("device.failed")));
        assert!(!filter(None, Some("y")).unwrap().takes(&event("device.failed")));
        assert!(filter(Some("device.*; drop"), None).is_err());
        assert!(filter(Some("devic*"), None).is_err());
    }
}
