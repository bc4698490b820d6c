//! What the service manager is told: ready, alive, stopping. Without one nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::core::observation::Input;
use crate::ledger::Ledger;

/// A running agent under the eyes of a service manager.
pub struct Supervised {
    heart: Option<JoinHandle<()>>,
}

impl Supervised {
    /// Every socket is bound and served.
    pub fn ready(ledger: Ledger) -> Self {
        tell(&[NotifyState::Ready]);
        let heart = sd_notify::watchdog_enabled().map(|limit| tokio::spawn(beat(ledger, limit / 3)));
        Self { heart }
    }

    pub fn stopping(self) {
        if let Some(heart) = self.heart {
            heart.abort();
        }
        tell(&[NotifyState::Stopping]);
    }
}

/// Alive is an agent whose ledger answers. A full disk is an answer: a restart would not make room.
async fn beat(ledger: Ledger, every: Duration) {
    let mut beats = interval(every.max(Duration::from_millis(100)));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        if let Err(error) = ledger.submit(Input::Tick).await {
            tracing::debug!(%error, "the ledger answers, and not well");
        }
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "the service manager is not told");
    }
}
