//! The relay's side of the ledger: where the sink stands, and what somebody must act on.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::core::delivery::SinkState;
use crate::core::observation::{Input, Observation};
use crate::ledger::{Ledger, SubmitError};

/// Between two entries of the cursor. What was acknowledged meanwhile is sent again after a crash, which is allowed;
/// a commit for each acknowledgement would cost the station a disk flush an event.
const PACE: Duration = Duration::from_millis(100);
/// After the ledger could not write.
const RETRY: Duration = Duration::from_secs(1);

/// The cursor as the ledger has it; nothing if the station stops first.
pub async fn cursor(sink: &str, ledger: &Ledger, stop: &CancellationToken) -> Option<u64> {
    loop {
        match ledger.cursor(sink).await {
            Ok(cursor) => return Some(cursor),
            Err(SubmitError::Closed) => return None,
            Err(error) => warn!(sink, %error, "cannot read the cursor"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep(RETRY) => {}
        }
    }
}

/// Writes down each new position, always the newest only, until the relay is gone.
pub async fn positions(sink: &str, ledger: &Ledger, mut reached: watch::Receiver<u64>) {
    // `changed` reports an unseen value even after the sender is gone, so the last position is not missed.
    while reached.changed().await.is_ok() {
        let seq = *reached.borrow_and_update();
        let delivered = Observation::Delivered { sink: sink.to_owned(), seq };
        match ledger.submit(Input::Observed(delivered)).await {
            Ok(_) => {
                // Waits out the pace, but not when the relay is gone and this was the last.
                let _ = timeout(PACE, reached.wait_for(|_| false)).await;
                if *reached.borrow() != seq {
                    reached.mark_changed();
                }
            }
            Err(SubmitError::Closed) => return,
            Err(error) => {
                warn!(sink, seq, %error, "cannot write down the cursor");
                if timeout(RETRY, reached.wait_for(|_| false)).await.is_ok() {
                    return; // The relay is gone; its last events are sent again after the next start.
                }
                reached.mark_changed();
            }
        }
    }
}

/// Writes down how a sink fares, always the newest only, until the relay is gone.
pub async fn states(sink: &str, ledger: &Ledger, mut told: watch::Receiver<State>) {
    while told.changed().await.is_ok() {
        let state = told.borrow_and_update().clone();
        let State { state: now, reason } = state.clone();
        let changed = Observation::SinkChanged { sink: sink.to_owned(), state: now, reason };
        let written = match ledger.submit(Input::Observed(changed)).await {
            Ok(_) => true,
            Err(SubmitError::Closed) => return,
            Err(error) => {
                warn!(sink, %error, "cannot write down how the sink fares");
                false
            }
        };
        // A broker that comes and goes ten times a second is not worth ten commits.
        if timeout(RETRY, told.wait_for(|_| false)).await.is_ok() {
            return; // The relay is gone.
        }
        if !written || *told.borrow() != state {
            told.mark_changed();
        }
    }
}

/// How a sink fares, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub state: SinkState,
    pub reason: Option<String>,
}

/// Hands alarms to the ledger until the relay is gone.
pub async fn alarms(ledger: &Ledger, mut raised: mpsc::Receiver<Observation>) {
    while let Some(alarm) = raised.recv().await {
        match ledger.submit(Input::Observed(alarm)).await {
            Ok(_) => {}
            Err(SubmitError::Closed) => return,
            Err(error) => warn!(%error, "cannot write down an alarm"),
        }
    }
}
