//! One printer: its labels in order, each tried again until it is printed or has expired.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::core::label::LabelJob;
use crate::core::label::render::Sheet;
use crate::core::observation::{Input, Observation};
use crate::labels::{Printer, send};
use crate::ledger::{Ledger, SubmitError};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub struct Worker {
    printer: Printer,
    ledger: Ledger,
    bell: Arc<Notify>,
}

/// What a try has come to.
enum Tried {
    Printed(Option<String>),
    /// It will never be printed.
    Never(&'static str, String),
    /// Perhaps next time.
    Failed(String),
}

impl Worker {
    pub const fn new(printer: Printer, ledger: Ledger, bell: Arc<Notify>) -> Self {
        Self { printer, ledger, bell }
    }

    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let tried = match self.next().await {
                Ok(None) => {
                    self.bell.notified().await;
                    continue;
                }
                Ok(Some(job)) => self.serve(&job).await,
                Err(error) => Err(error),
            };
            match tried {
                Ok(true) => pause = FIRST_PAUSE,
                Ok(false) => {
                    // A label that is queued meanwhile goes the same way: it waits, too.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(SubmitError::Closed) => return,
                Err(error) => {
                    tracing::debug!(%error, printer = %self.printer.name, "the queue of a printer stands still");
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
            }
        }
    }

    async fn next(&self) -> Result<Option<LabelJob>, SubmitError> {
        let now = self.ledger.now();
        let jobs = self.ledger.label_jobs().await?;
        Ok(jobs.into_iter().find(|job| job.printer == self.printer.name && job.expires_at > now))
    }

    /// Is the label off the queue?
    async fn serve(&self, job: &LabelJob) -> Result<bool, SubmitError> {
        let number = job.job;
        let told = match self.attempt(job).await? {
            Tried::Printed(output) => Observation::LabelPrinted { job: number, output },
            Tried::Never(code, detail) => Observation::LabelFailed { job: number, code: code.to_owned(), detail },
            Tried::Failed(detail) => {
                tracing::debug!(printer = %self.printer.name, job = number, detail, "a label was not printed");
                let code = format!("printer.{}", self.printer.name);
                let detail = format!("{} ({}): {detail}", self.printer.name, self.printer.way.shown());
                self.tell(Observation::AlarmRaised { code, detail }).await?;
                return Ok(false);
            }
        };
        self.tell(told).await?;
        Ok(true)
    }

    async fn attempt(&self, job: &LabelJob) -> Result<Tried, SubmitError> {
        let Some(text) = self.ledger.label_text(job.label.clone(), job.revision).await? else {
            return Ok(Tried::Never("label.not_found", format!("the text of label {} is gone", job.label)));
        };
        let (device, session) = self.ledger.device_and_session(job.mac, job.session).await?;
        let (station, mac, reprint) = (self.ledger.identity().station.clone(), job.mac, job.reprint);
        let time = self.ledger.now();
        let rendering = tokio::task::spawn_blocking(move || {
            let (device, session) = (device.as_ref(), session.as_ref());
            Sheet { station: &station, mac, device, session, time, reprint }.render(&text)
        });
        let bytes = match rendering.await {
            Ok(Ok(rendered)) => rendered.into_bytes(),
            Ok(Err(fault)) => return Ok(Tried::Never("label.template", format!("label {}: {fault}", job.label))),
            Err(_) => return Ok(Tried::Never("label.template", format!("label {} cannot be rendered", job.label))),
        };
        let name = format!("{}-{}-{}", job.label, job.mac, job.job);
        Ok(match send(&self.printer, &name, &bytes).await {
            Ok(output) => Tried::Printed(output.filter(|output| !output.is_empty())),
            Err(fault) => Tried::Failed(fault.to_string()),
        })
    }

    /// What was printed is told until the ledger has it: else it would be printed twice.
    async fn tell(&self, observation: Observation) -> Result<(), SubmitError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ledger.submit(Input::Observed(observation.clone())).await {
                Err(SubmitError::Unavailable(_)) => {
                    let _ = timeout(pause, std::future::pending::<()>()).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                told => return told.map(drop),
            }
        }
    }
}
