//! The printers: is anyone there. Nothing is printed.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::check::finding::Finding;
use crate::labels::{Printer, Settings, Way};

const SUBJECT: &str = "printers";
const PATIENCE: Duration = Duration::from_secs(3);
const WAITS: &str = "switch it on or mend the address; labels wait meanwhile, and provisioning goes on";

pub async fn look(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for printer in &settings.printers {
        findings.push(knock(printer).await);
    }
    findings
}

async fn knock(printer: &Printer) -> Finding {
    let (name, way) = (&printer.name, printer.way.shown());
    let Some(address) = printer.way.address() else { return command(printer) };
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::ok(SUBJECT, format!("{name} ({way}) answers")),
        Ok(Err(error)) => Finding::warning(SUBJECT, format!("{name} ({way}): {error}"), WAITS),
        Err(_) => Finding::warning(SUBJECT, format!("{name} ({way}) does not answer within 3 s"), WAITS),
    }
}

fn command(printer: &Printer) -> Finding {
    let Way::Command(argv) = &printer.way else { return Finding::ok(SUBJECT, printer.name.to_string()) };
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let there = match program.contains('/') {
        true => Path::new(program).is_file(),
        false => std::env::split_paths(&folders).any(|folder| folder.join(program).is_file()),
    };
    match there {
        true => Finding::ok(SUBJECT, format!("{} runs {program}", printer.name)),
        false => Finding::warning(
            SUBJECT,
            format!("{} runs {program}, which is not there", printer.name),
            "install it, or mend printers in the configuration",
        ),
    }
}
