//! The log is a follower of the journal: each event is one line, once, so that the log is the history.

use anyhow::Result;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, Recorded};

pub async fn run(ledger: Ledger, stop: CancellationToken) -> Result<()> {
    let mut follower = ledger.follow(ledger.newest().saturating_sub(1));
    loop {
        tokio::select! {
            // Cancel-safe, see `Follower::next`.
            page = follower.next() => page?.iter().for_each(line),
            () = stop.cancelled() => break,
        }
    }
    // The last words of the station belong to the history too.
    while follower.seq() < ledger.newest() {
        follower.next().await?.iter().for_each(line);
    }
    Ok(())
}

fn line(event: &Recorded) {
    let body: Value = serde_json::from_slice(&event.body).unwrap_or_default();
    let text = |name: &str| body["data"].get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (seq, name, subject) = (event.seq, &event.name, &event.subject);
    let what = [text("step"), text("code"), text("detail")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" · ");
    let session = text("session");
    if event.name.ends_with(".failed") || event.name.ends_with("alarm.raised") {
        tracing::warn!(seq, %subject, session, "{name} {what}");
    } else {
        tracing::info!(seq, %subject, session, "{name} {what}");
    }
}
