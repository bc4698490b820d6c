//! How answers look on a terminal: tables, and JSON as it came.

use std::io::{self, Write as _};

use serde_json::Value;

/// What a table shows of each entry.
pub struct Column {
    pub head: &'static str,
    /// JSON pointer.
    pub at: &'static str,
}

pub fn json(value: &Value) {
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A reader that is gone (`| head`) is no fault.
pub fn line(text: &str) {
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// The entries of a list, as a table or as they came.
pub fn list(as_json: bool, answer: &Value, field: &str, columns: &[Column]) {
    if as_json {
        return json(answer);
    }
    table(answer[field].as_array().map(Vec::as_slice).unwrap_or_default(), columns);
}

pub fn table(entries: &[Value], columns: &[Column]) {
    let heads = columns.iter().map(|column| column.head.to_owned()).collect();
    let mut rows: Vec<Vec<String>> = vec![heads];
    rows.extend(entries.iter().map(|entry| columns.iter().map(|column| cell(entry, column.at)).collect()));
    let widths: Vec<usize> =
        (0..columns.len()).map(|n| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or_default()).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Nothing that a terminal would take for a command of its own comes from outside.
fn cell(entry: &Value, at: &str) -> String {
    let text = match entry.pointer(at) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(other) => other.to_string(),
    };
    let digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if digest { text[..12].to_owned() } else { printable(&text) }
}

pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One thing, a field a line.
pub fn fields(answer: Value) {
    let Value::Object(mut whole) = answer else { return json(&answer) };
    let inner = if whole.len() == 1 { whole.values_mut().next().map(Value::take) } else { None };
    let Some(Value::Object(fields)) = inner.or(Some(Value::Object(whole))) else { return };
    for (name, value) in fields {
        let text = match &value {
            Value::String(text) => printable(text),
            other => other.to_string(),
        };
        line(&format!("{name}: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_never_moves_the_cursor() {
        let entry = serde_json::json!({"name": "a\u{1b}[2Jb", "image": "f".repeat(64), "active": true});
        assert_eq!(cell(&entry, "/name"), "a [2Jb");
        assert_eq!(cell(&entry, "/image"), "f".repeat(12));
        assert_eq!(cell(&entry, "/active"), "yes");
        assert_eq!(cell(&entry, "/none"), "-");
    }
}
