//! What `check` and `import` have found, for people.

use std::io::{self, Write};

use crate::bootfiles::check::{Finding, Level, ModelReport, Place, Report, Row, State};
use crate::bootfiles::import::{Fate, Imported};

pub fn report(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    writeln!(out, "boot files in {}, for the station at {}", report.folder.display(), report.server)?;
    for model in report.models.iter().filter(|model| model.prepared) {
        writeln!(out, "\n{} ({}): {}", model.title, model.model, verdict(model))?;
        model.files.iter().try_for_each(|line| row(out, line))?;
        findings(out, &model.findings, "  ")?;
    }
    let others: Vec<&str> = report.models.iter().filter(|model| !model.prepared).map(|model| model.title).collect();
    if !others.is_empty() {
        writeln!(out, "\nno device tree is there for: {}", others.join("; "))?;
    }
    for one in &report.places {
        place(out, one, report)?;
    }
    if !report.findings.is_empty() {
        writeln!(out, "\nabout the folder")?;
        findings(out, &report.findings, "  ")?;
    }
    Ok(())
}

const fn verdict(model: &ModelReport) -> &'static str {
    if model.boots { "can boot" } else { "cannot boot" }
}

fn row(out: &mut dyn Write, row: &Row) -> io::Result<()> {
    let state = match (row.state, row.place.as_deref()) {
        (State::There, Some("")) => "there".to_owned(),
        (State::There, place) => format!("there, in {}/", place.unwrap_or_default()),
        (State::BuiltIn, _) => "built in".to_owned(),
        (State::Missing, _) => "missing".to_owned(),
        (State::Unsuitable, _) => "unsuitable".to_owned(),
    };
    let bytes = row.bytes.map_or_else(String::new, |bytes| bytes.to_string());
    writeln!(out, "  {:<28}{:<34}{bytes:>10}  {state}", row.what, row.file)
}

fn findings(out: &mut dyn Write, findings: &[Finding], indent: &str) -> io::Result<()> {
    for finding in findings {
        let level = match finding.level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Fault => "fault",
        };
        writeln!(out, "{indent}{level}: {}", finding.text)?;
    }
    Ok(())
}

/// A project's devices differ from others in what its folder changes: only that is said.
fn place(out: &mut dyn Write, place: &Place, report: &Report) -> io::Result<()> {
    const SHOWN: usize = 8;
    let some: Vec<&str> = place.files.iter().take(SHOWN).map(String::as_str).collect();
    let files = match place.files.len() {
        0 => "empty".to_owned(),
        all if all > SHOWN => format!("{} and {} more", some.join(", "), all - SHOWN),
        _ => some.join(", "),
    };
    writeln!(out, "\nin {}/: {files}", place.folder)?;
    for model in &place.models {
        writeln!(out, "  {}: {}", model.model, verdict(model))?;
        let common = report.models.iter().find(|common| common.model == model.model);
        let known = |finding: &&Finding| common.is_some_and(|common| common.findings.contains(finding));
        let own: Vec<Finding> = model.findings.iter().filter(|finding| !known(finding)).cloned().collect();
        findings(out, &own, "    ")?;
    }
    Ok(())
}

pub fn imported(out: &mut dyn Write, imported: &Imported) -> io::Result<()> {
    let tense = if imported.dry_run { "would be copied" } else { "copied" };
    writeln!(out, "{} in {}, into {}", imported.source, imported.from.display(), imported.to.display())?;
    let mut copied = 0;
    for taken in &imported.files {
        let file = &taken.file;
        match &taken.fate {
            Fate::Copied { to, bytes, note } => {
                copied += 1;
                let note = note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
                writeln!(out, "  {file}: {tense} to {to}, {bytes} bytes{note}")?;
            }
            Fate::Same { to } => writeln!(out, "  {file}: the same as {to}")?,
            Fate::InTheWay { to } => writeln!(out, "  {file}: left, {to} is a different file; --force replaces it")?,
            Fate::Left { why } => writeln!(out, "  {file}: left, it {why}")?,
        }
    }
    writeln!(out, "{copied} of {} files {tense}", imported.files.len())
}
