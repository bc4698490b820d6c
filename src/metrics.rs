//! Metrics for Prometheus: a follower of the journal that counts, and the text that is scraped.

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, SubmitError};

/// A handle; clone it freely.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    ledger: Ledger,
}

impl Metrics {
    /// Its own recorder, not the global one: several stations may live in one process (tests do).
    pub fn new(ledger: Ledger) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        Self { recorder: Arc::new(recorder), handle, ledger }
    }

    pub fn render(&self) -> String {
        metrics::with_local_recorder(self.recorder.as_ref(), || {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            gauge!("bootline_journal_newest_sequence").set(self.ledger.newest() as f64);
            gauge!("bootline_ledger_healthy").set(if self.ledger.is_healthy() { 1.0 } else { 0.0 });
        });
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Counts events from now on; ends when the ledger closes or is told to.
    pub async fn run(self, stop: CancellationToken) -> Result<(), SubmitError> {
        let mut follower = self.ledger.follow(self.ledger.newest());
        loop {
            let page = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // Cancel-safe, see `Follower::next`.
                page = follower.next() => page?,
            };
            metrics::with_local_recorder(self.recorder.as_ref(), || {
                for event in page {
                    counter!("bootline_events_total", "event" => event.name).increment(1);
                }
            });
        }
    }
}
