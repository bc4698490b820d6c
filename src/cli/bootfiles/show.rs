//! What `check` and `import` have found, for people.

use crate::bootfiles::check::{Finding, Level, ModelReport, Place, Report, Row, State};
use crate::bootfiles::import::{Fate, Imported};

pub fn report(report: &Report) {
    println!("boot files in {}, for the station at {}", report.folder.display(), report.server);
    for model in report.models.iter().filter(|model| model.prepared) {
        println!("\n{} ({}): {}", model.title, model.model, verdict(model));
        model.files.iter().for_each(row);
        findings(&model.findings, "  ");
    }
    let others: Vec<&str> = report.models.iter().filter(|model| !model.prepared).map(|model| model.title).collect();
    if !others.is_empty() {
        println!("\nno device tree is there for: {}", others.join("; "));
    }
    for one in &report.places {
        place(one, report);
    }
    if !report.findings.is_empty() {
        println!("\nabout the folder");
        findings(&report.findings, "  ");
    }
}

const fn verdict(model: &ModelReport) -> &'static str {
    if model.boots { "can boot" } else { "cannot boot" }
}

fn row(row: &Row) {
    let state = match (row.state, row.place.as_deref()) {
        (State::There, Some("")) => "there".to_owned(),
        (State::There, place) => format!("there, in {}/", place.unwrap_or_default()),
        (State::BuiltIn, _) => "built in".to_owned(),
        (State::Missing, _) => "missing".to_owned(),
        (State::Unsuitable, _) => "unsuitable".to_owned(),
    };
    let bytes = row.bytes.map_or_else(String::new, |bytes| bytes.to_string());
    println!("  {:<28}{:<34}{bytes:>10}  {state}", row.what, row.file);
}

fn findings(findings: &[Finding], indent: &str) {
    for finding in findings {
        let level = match finding.level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Fault => "fault",
        };
        println!("{indent}{level}: {}", finding.text);
    }
}

/// A project's devices differ from others in what its folder changes: only that is said.
fn place(place: &Place, report: &Report) {
    const SHOWN: usize = 8;
    let more = place.files.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let some: Vec<&str> = place.files.iter().take(SHOWN).map(String::as_str).collect();
    println!("\n{}/ has {} files of its own: {}{more}", place.folder, place.files.len(), some.join(", "));
    for model in &place.models {
        println!("  {}: {}", model.model, verdict(model));
        let common = report.models.iter().find(|common| common.model == model.model);
        let known = |finding: &&Finding| common.is_some_and(|common| common.findings.contains(finding));
        let own: Vec<Finding> = model.findings.iter().filter(|finding| !known(finding)).cloned().collect();
        findings(&own, "    ");
    }
}

pub fn imported(imported: &Imported) {
    let tense = if imported.dry_run { "would be copied" } else { "copied" };
    println!("{} in {}, into {}", imported.source, imported.from.display(), imported.to.display());
    let mut copied = 0;
    for taken in &imported.files {
        let file = &taken.file;
        match &taken.fate {
            Fate::Copied { to, bytes, note } => {
                copied += 1;
                let note = note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
                println!("  {file}: {tense} to {to}, {bytes} bytes{note}");
            }
            Fate::Same { to } => println!("  {file}: the same as {to}"),
            Fate::InTheWay { to } => println!("  {file}: left, {to} is a different file; --force replaces it"),
            Fate::Left { why } => println!("  {file}: left, it {why}"),
        }
    }
    println!("{copied} of {} files {tense}", imported.files.len());
}
