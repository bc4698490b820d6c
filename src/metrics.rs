//! Metrics for Prometheus: a follower of the journal that counts, and the text that is scraped.

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::core::delivery::SinkState;
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
            self.delivery();
        });
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// How far the buses are.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn delivery(&self) {
        let delivery = self.ledger.delivery();
        gauge!("bootline_journal_oldest_sequence").set(delivery.oldest() as f64);
        gauge!("bootline_journal_bytes").set(delivery.bytes as f64);
        gauge!("bootline_station_drained").set(if delivery.drained.is_some() { 1.0 } else { 0.0 });
        for (name, sink) in delivery.sinks.iter().filter(|(_, sink)| sink.bus) {
            let set = |gauge: metrics::Gauge, value: u64| gauge.set(value as f64);
            set(gauge!("bootline_sink_enabled", "sink" => name.clone()), u64::from(sink.enabled));
            set(gauge!("bootline_sink_cursor", "sink" => name.clone()), sink.acked);
            set(gauge!("bootline_sink_backlog", "sink" => name.clone()), delivery.backlog(sink));
            set(gauge!("bootline_sink_dead_letters", "sink" => name.clone()), sink.dead.len() as u64);
            for state in [SinkState::Down, SinkState::Up, SinkState::Stalled] {
                let gauge = gauge!("bootline_sink_state", "sink" => name.clone(), "state" => state.as_str());
                set(gauge, u64::from(sink.state == state));
            }
        }
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
