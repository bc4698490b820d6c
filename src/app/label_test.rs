//! A test label on a printer of the configuration, past every queue.

use crate::config::Config;
use crate::core::time::Timestamp;
use crate::labels::{example, send};

/// What came of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Told {
    pub printer: String,
    pub way: String,
    pub bytes: usize,
    /// What a command has said.
    pub output: Option<String>,
    pub fault: Option<String>,
}

/// Nothing where no printer has this name; then the names that there are.
pub async fn print(config: &Config, name: &str) -> Result<Told, Vec<String>> {
    let printers = &config.labels.printers;
    let Some(printer) = printers.iter().find(|printer| printer.name.as_str() == name) else {
        return Err(printers.iter().map(|printer| printer.name.to_string()).collect());
    };
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let label = example(printer, &config.core.station, now);
    let sent = send(printer, "bootline-test", &label).await;
    Ok(Told {
        printer: name.to_owned(),
        way: printer.way.shown(),
        bytes: label.len(),
        fault: sent.as_ref().err().map(ToString::to_string),
        output: sent.ok().flatten().filter(|output| !output.is_empty()),
    })
}
