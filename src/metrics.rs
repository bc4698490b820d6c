//! Metrics for Prometheus: a follower of the journal that counts, and the text that is scraped. Labels are bounded: what
//! comes from outside (projects, codes) is counted under its own name only so often, and then as `other`.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use nix::sys::statvfs::statvfs;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::core::delivery::SinkState;
use crate::core::label::{LabelJob, PrinterName};
use crate::ledger::{Ledger, Recorded, SessionFilter, SubmitError};

/// Values of one label that keep their own name.
const MOST_VALUES: usize = 100;
/// Open sessions that are looked at for the gauge; a line has fewer.
const MOST_OPEN: u32 = 1000;

const STEPS: &str = "bootline_step_duration_seconds";
const SESSIONS: &str = "bootline_session_duration_seconds";
const LABELS: &str = "bootline_labels_total";
const REQUESTS: &str = "bootline_http_request_duration_seconds";

/// A handle; clone it freely.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    ledger: Ledger,
    data: Arc<PathBuf>,
    printers: Arc<[PrinterName]>,
    known: Arc<Mutex<HashSet<(&'static str, String)>>>,
}

impl Metrics {
    /// Its own recorder, not the global one: several stations may live in one process (tests do). `data` is the folder
    /// whose disk is watched; of `printers` something is said from the start.
    pub fn new(ledger: Ledger, data: PathBuf, printers: Vec<PrinterName>) -> Self {
        const MINUTES: [f64; 12] = [1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0];
        const MOMENTS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.5, 10.0];
        let buckets = |builder: PrometheusBuilder, name: &str, buckets: &[f64]| {
            builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets).expect("there are buckets")
        };
        let builder = buckets(PrometheusBuilder::new(), STEPS, &MINUTES);
        let builder = buckets(builder, SESSIONS, &MINUTES);
        let recorder = buckets(builder, REQUESTS, &MOMENTS).build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            for (printer, outcome) in printers.iter().flat_map(|printer| [(printer, "printed"), (printer, "failed")]) {
                counter!(LABELS, "printer" => printer.to_string(), "outcome" => outcome).absolute(0);
            }
        });
        let (data, printers) = (Arc::new(data), printers.into());
        Self { recorder: Arc::new(recorder), handle, ledger, data, printers, known: Arc::default() }
    }

    pub async fn render(&self) -> String {
        let open = SessionFilter { open: Some(true), limit: MOST_OPEN, ..SessionFilter::default() };
        let open = self.ledger.sessions(open).await.map(|open| open.len()).unwrap_or_default();
        let alarms = self.ledger.alarms().await.unwrap_or_default();
        let images = self.ledger.images().await.unwrap_or_default();
        let labels = self.ledger.label_jobs().await.unwrap_or_default();
        metrics::with_local_recorder(self.recorder.as_ref(), || {
            let newest = self.ledger.newest();
            set("bootline_journal_newest_sequence", newest);
            set("bootline_ledger_healthy", u64::from(self.ledger.is_healthy()));
            set("bootline_sessions_open", open as u64);
            set("bootline_alarms", alarms.len() as u64);
            set("bootline_images", images.len() as u64);
            set("bootline_image_bytes", images.iter().map(|image| image.size_bytes).sum());
            self.waiting(&labels);
            self.delivery();
            self.process();
            self.inputs();
        });
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// How long the queues of the printers are.
    fn waiting(&self, labels: &[LabelJob]) {
        // One that is not in the configuration any more may have a queue still, and then none.
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = known.into_iter().filter(|(label, _)| *label == "printer").map(|(_, name)| name);
        let names = self.printers.iter().map(ToString::to_string).chain(known);
        let mut queues: BTreeMap<String, u64> = names.map(|name| (name, 0)).collect();
        for job in labels {
            *queues.entry(self.bounded("printer", job.printer.to_string())).or_default() += 1;
        }
        for (printer, count) in queues {
            gauge!("bootline_labels_waiting", "printer" => printer).set(float(count));
        }
    }

    /// How far the buses are.
    fn delivery(&self) {
        let delivery = self.ledger.delivery();
        set("bootline_journal_oldest_sequence", delivery.oldest());
        set("bootline_journal_bytes", delivery.bytes);
        set("bootline_station_drained", u64::from(delivery.drained.is_some()));
        for (name, sink) in delivery.sinks.iter().filter(|(_, sink)| sink.bus) {
            let set = |gauge: metrics::Gauge, value: u64| gauge.set(float(value));
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

    fn process(&self) {
        let version = self.ledger.identity().version.clone();
        gauge!("bootline_build_info", "version" => version).set(1.0);
        if let Ok(disk) = statvfs(self.data.as_path()) {
            set("bootline_data_disk_size_bytes", disk.blocks() * disk.fragment_size());
            set("bootline_data_disk_free_bytes", disk.blocks_available() * disk.fragment_size());
        }
        // `VmRSS:  12345 kB`
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        if let Some(kib) = resident.and_then(|kib| kib.trim().parse::<u64>().ok()) {
            set("process_resident_memory_bytes", kib * 1024);
        }
    }

    fn inputs(&self) {
        let tally = self.ledger.tally();
        for (kind, count) in tally.dhcp_messages() {
            counter!("bootline_dhcp_messages_total", "kind" => kind).absolute(count);
        }
        for (result, count) in tally.boot_files() {
            counter!("bootline_boot_files_total", "result" => result).absolute(count);
        }
        counter!("bootline_boot_file_bytes_total").absolute(tally.boot_file_bytes());
    }

    /// A request was answered, on the side of the devices or of the operators.
    pub fn answered(&self, side: &'static str, method: &'static str, status: u16, took: Duration) {
        metrics::with_local_recorder(self.recorder.as_ref(), || {
            let status = status.to_string();
            counter!("bootline_http_requests_total", "side" => side, "method" => method, "status" => status)
                .increment(1);
            histogram!(REQUESTS, "side" => side).record(took.as_secs_f64());
        });
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
            metrics::with_local_recorder(self.recorder.as_ref(), || page.iter().for_each(|event| self.count(event)));
        }
    }

    fn count(&self, event: &Recorded) {
        counter!("bootline_events_total", "event" => event.name.clone()).increment(1);
        if !["device", "label"].contains(&event.kind.as_str()) {
            return;
        }
        let body: Value = serde_json::from_slice(&event.body).unwrap_or_default();
        let data = &body["data"];
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        let seconds = || data["duration_ms"].as_f64().unwrap_or_default() / 1000.0;
        let project = || self.bounded("project", text("project"));
        let ended = |outcome: &'static str| {
            counter!("bootline_sessions_ended_total", "project" => project(), "outcome" => outcome).increment(1);
            if data["slot"].is_string() {
                let slot = self.bounded("slot", text("slot"));
                counter!("bootline_slot_sessions_ended_total", "slot" => slot, "outcome" => outcome).increment(1);
            }
        };
        let code = || self.bounded("code", text("code"));
        match event.name.as_str() {
            "device.discovered" => counter!("bootline_devices_discovered_total", "via" => text("via")).increment(1),
            "device.refused" => counter!("bootline_devices_refused_total", "code" => code()).increment(1),
            "device.started" => counter!("bootline_sessions_started_total", "project" => project()).increment(1),
            "device.step.completed" => histogram!(STEPS, "step" => text("step")).record(seconds()),
            "device.provisioned" => {
                ended("passed");
                histogram!(SESSIONS, "project" => project()).record(seconds());
                counter!("bootline_written_bytes_total").increment(data["bytes"].as_u64().unwrap_or_default());
            }
            "device.failed" => {
                ended("failed");
                counter!("bootline_session_failures_total", "code" => code()).increment(1);
            }
            "device.interrupted" => {
                ended("interrupted");
                counter!("bootline_session_failures_total", "code" => code()).increment(1);
            }
            "device.aborted" => ended("aborted"),
            "label.printed" => self.label(text("printer"), "printed"),
            "label.failed" => self.label(text("printer"), "failed"),
            _ => {}
        }
    }

    /// A label that nobody knew a printer for is counted with an empty name.
    fn label(&self, printer: String, outcome: &'static str) {
        counter!(LABELS, "printer" => self.bounded("printer", printer), "outcome" => outcome).increment(1);
    }

    /// Each value of a label costs memory for ever, here and in Prometheus.
    fn bounded(&self, label: &'static str, value: String) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (label, value);
        if known.contains(&key) || known.iter().filter(|(other, _)| *other == label).count() < MOST_VALUES {
            known.insert(key.clone());
            return key.1;
        }
        "other".to_owned()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
const fn float(value: u64) -> f64 {
    value as f64
}

fn set(name: &'static str, value: u64) {
    gauge!(name).set(float(value));
}

fn describe() {
    describe_gauge!("bootline_build_info", "The version that runs; always 1");
    describe_counter!("bootline_events_total", "Events of the journal since the start, by name");
    describe_counter!("bootline_devices_discovered_total", "First sights of a device in a boot, by how it was seen");
    describe_counter!("bootline_devices_refused_total", "Devices that asked and got nothing, by why");
    describe_counter!("bootline_sessions_started_total", "Attempts that began");
    describe_counter!("bootline_sessions_ended_total", "Attempts that ended, by how");
    describe_counter!("bootline_slot_sessions_ended_total", "Attempts that ended at a place of the line, by how");
    describe_counter!("bootline_session_failures_total", "Attempts that failed or were interrupted, by why");
    describe_counter!("bootline_written_bytes_total", "Bytes that were written to media and proven");
    describe_histogram!(STEPS, "How long a step took");
    describe_histogram!(SESSIONS, "How long an attempt took that passed");
    describe_gauge!("bootline_sessions_open", "Attempts that run");
    describe_gauge!("bootline_alarms", "Alarms that stand");
    describe_counter!(LABELS, "Labels that were printed or given up, by printer");
    describe_gauge!("bootline_labels_waiting", "Labels that wait for a printer");
    describe_gauge!("bootline_images", "Images in the library");
    describe_gauge!("bootline_image_bytes", "Bytes of the images in the library, as they were uploaded");
    describe_gauge!("bootline_journal_newest_sequence", "Sequence number of the newest event");
    describe_gauge!("bootline_ledger_healthy", "1 while the ledger can write");
    describe_gauge!("bootline_journal_oldest_sequence", "Sequence number of the oldest event that is kept");
    describe_gauge!("bootline_journal_bytes", "What the events take that are kept, as last measured");
    describe_gauge!("bootline_station_drained", "1 while no new sessions begin, by somebody's wish");
    describe_gauge!("bootline_sink_enabled", "1 while the bus is configured");
    describe_gauge!("bootline_sink_cursor", "The last event that a bus has taken");
    describe_gauge!("bootline_sink_dead_letters", "Events that a bus would not take and nobody has dealt with");
    describe_gauge!("bootline_sink_state", "1 at the state in which a bus is");
    describe_gauge!("bootline_sink_backlog", "Events that a sink has not acknowledged");
    describe_gauge!("bootline_data_disk_size_bytes", "Size of the disk that holds the data");
    describe_gauge!("bootline_data_disk_free_bytes", "Free space of the disk that holds the data");
    describe_gauge!("process_resident_memory_bytes", "Memory of the process");
    describe_counter!("bootline_dhcp_messages_total", "DHCP messages of clients that the station looked at, by kind");
    describe_counter!("bootline_boot_files_total", "Boot files that were asked for by TFTP, by how it went");
    describe_counter!("bootline_boot_file_bytes_total", "Bytes of boot files that were sent by TFTP");
    describe_counter!("bootline_http_requests_total", "HTTP requests that were answered");
    describe_histogram!(REQUESTS, "Time until an HTTP answer began");
}
