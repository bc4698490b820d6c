//! Labels: each printer has a queue, which is rows of the ledger, and a worker that prints from it beside the line. What
//! comes of it is reported by observations; a printer that fails is an alarm and holds up its own queue alone.

mod command;
mod ftp;
mod ipp;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::core::device::Mac;
use crate::core::label::PrinterName;
use crate::core::label::render::Sheet;
use crate::labels::worker::Worker;
use crate::ledger::{Ledger, SubmitError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub printers: Vec<Printer>,
}

impl Settings {
    pub fn names(&self) -> Vec<PrinterName> {
        self.printers.iter().map(|printer| printer.name.clone()).collect()
    }
}

/// One printer, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printer {
    pub name: PrinterName,
    pub way: Way,
    /// For one label.
    pub timeout: Duration,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Way {
    /// Host and port of a raw socket.
    Tcp(String),
    Ftp(Ftp),
    /// Program and arguments.
    Command(Vec<String>),
    Ipp(Ipp),
}

#[derive(Clone, PartialEq, Eq)]
pub struct Ftp {
    /// Host and port.
    pub address: String,
    pub folder: String,
    pub username: String,
    pub password: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipp {
    /// As the printer knows itself.
    pub uri: String,
    /// Host and port.
    pub address: String,
    pub path: String,
    /// A media type.
    pub format: String,
    pub security: Security,
}

/// Whether what goes to a printer can be read on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    /// Besides whom the system trusts, `ca` may have signed the printer's certificate, or be it.
    Tls {
        ca: Option<PathBuf>,
    },
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Way {
    /// For people; no secrets.
    pub fn shown(&self) -> String {
        match self {
            Self::Tcp(address) => format!("tcp {address}"),
            Self::Ftp(ftp) => format!("ftp {}/{}", ftp.address, ftp.folder),
            // Arguments may hold what is nobody's business.
            Self::Command(argv) => format!("command {}", argv.first().map_or("", String::as_str)),
            Self::Ipp(ipp) => ipp.uri.clone(),
        }
    }

    /// Where it is reached over the network, if it is.
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Ftp(ftp) => Some(&ftp.address),
            Self::Ipp(ipp) => Some(&ipp.address),
            Self::Command(_) => None,
        }
    }
}

/// Why a label did not get to its printer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("nothing within {} s", .0.as_secs_f32())]
    Late(Duration),
    #[error("{0}")]
    Refused(String),
}

/// The room; without printers it has nothing to do.
pub struct Labels {
    settings: Settings,
    ledger: Ledger,
}

impl Labels {
    pub const fn new(settings: Settings, ledger: Ledger) -> Self {
        Self { settings, ledger }
    }

    /// Prints what waits and what comes, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Ended> {
        // The rows are the queue, and the journal is the bell: what is queued from here on rings.
        let mut journal = self.ledger.follow(self.ledger.newest());
        let mut work = JoinSet::new();
        let mut bells = Vec::new();
        for printer in self.settings.printers {
            let bell = Arc::new(Notify::new());
            let worker = Worker::new(printer, self.ledger.clone(), Arc::clone(&bell));
            bell.notify_one();
            bells.push(bell);
            work.spawn(worker.run());
        }
        loop {
            let page = tokio::select! {
                () = stop.cancelled() => break,
                page = journal.next() => page.map_err(Ended::Ledger)?,
            };
            if page.iter().any(|event| event.name == "label.queued") {
                bells.iter().for_each(|bell| bell.notify_one());
            }
        }
        // What was under way is a row still, and is printed after the next start.
        work.shutdown().await;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("the printers cannot read the journal")]
    Ledger(#[source] SubmitError),
}

/// Gives one label to the printer; what a command has said comes back.
pub async fn send(printer: &Printer, name: &str, bytes: &[u8]) -> Result<Option<String>, Fault> {
    let sent = async {
        match &printer.way {
            Way::Tcp(address) => tcp::send(address, bytes).await.map(|()| None),
            Way::Ftp(ftp) => ftp::send(ftp, name, bytes).await.map(|()| None),
            Way::Command(argv) => command::run(argv, bytes).await.map(Some),
            Way::Ipp(ipp) => ipp::send(ipp, name, bytes).await.map(|()| None),
        }
    };
    match tokio::time::timeout(printer.timeout, sent).await {
        Ok(done) => done,
        Err(_) => Err(Fault::Late(printer.timeout)),
    }
}

/// A label of no device, to see that a printer prints.
pub fn example(printer: &Printer, station: &str, time: crate::core::time::Timestamp) -> Vec<u8> {
    let text = "^XA^CI28^FO40,40^A0N,40,40^FDbootline {{ station }}^FS^FO40,100^A0N,30,30^FD{{ time | date('%Y-%m-%d %H:%M UTC') }}^FS^FO40,150^BY2^BCN,80,Y^FD{{ station }}^FS^XZ\n";
    let sheet = Sheet { station, mac: Mac::new([0; 6]), device: None, session: None, time, reprint: false };
    // Some printers are not of that language: then the text itself comes out, which shows the way as well.
    sheet.render(text).unwrap_or_else(|_| format!("bootline {station} {}\n", printer.name)).into_bytes()
}
