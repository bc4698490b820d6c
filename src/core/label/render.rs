//! From a template and what is known of a device to what the printer gets.

use minijinja::value::{Serde, Value as Jinja, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value, json};

use crate::core::device::Mac;
use crate::core::floor::Device;
use crate::core::session::Session;
use crate::core::slot::SlotName;
use crate::core::time::Timestamp;

/// Steps of one rendering: a loop without end is an error and not a station that stands still.
const FUEL: u64 = 200_000;
/// What a printer gets at most.
pub const LONGEST: usize = 1 << 20;

/// What a label is about. Secrets are no part of it.
#[derive(Clone, Debug)]
pub struct Sheet<'a> {
    pub station: &'a str,
    pub mac: Mac,
    pub device: Option<&'a Device>,
    pub session: Option<&'a Session>,
    pub time: Timestamp,
    pub reprint: bool,
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct Fault {
    pub line: Option<usize>,
    pub reason: String,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let reason = match (error.kind(), error.detail()) {
            (ErrorKind::UndefinedError, None) => "a variable that is not there".to_owned(),
            (kind, None) => kind.to_string(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
        };
        Self { line: error.line(), reason }
    }
}

impl Sheet<'_> {
    /// The variables of a template. What is not known is not there.
    pub fn variables(&self) -> Value {
        let mut device = self.device.map_or_else(|| json!({"mac": self.mac}), Device::shown);
        let mut all = json!({"station": self.station, "time": self.time, "reprint": self.reprint, "variables": {}});
        if let Some(known) = self.device {
            all["variables"] = json!(known.data.variables);
        }
        if let Some(session) = self.session {
            if device["model"].is_null() {
                device["model"] = json!(session.facts.model);
            }
            all["project"] = json!(session.project);
            all["slot"] = json!(session.slot);
            all["variables"] = json!(session.data.variables);
            all["session"] = session.shown();
        }
        all["device"] = device;
        known_only(all)
    }

    pub fn render(&self, text: &str) -> Result<String, Fault> {
        let environment = environment(UndefinedBehavior::SemiStrict);
        let mut rendered = environment.template_from_str(text)?.render(Jinja::from(Serde(self.variables())))?;
        // A printer may wait for the end of the line, which a template leaves out.
        if text.ends_with('\n') {
            rendered.push('\n');
        }
        match rendered.len() {
            0..=LONGEST => Ok(rendered),
            length => Err(Fault { line: None, reason: format!("{length} bytes; a label has at most {LONGEST}") }),
        }
    }
}

/// `null` would be printed as a word.
fn known_only(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let known = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(known.map(|(name, value)| (name, known_only(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(known_only).collect()),
        other => other,
    }
}

/// Is it a template, and does everything that it calls exist? What is known of a device shows at printing only.
pub fn check(text: &str) -> Result<(), Fault> {
    let environment = environment(UndefinedBehavior::Chainable);
    let template = environment.template_from_str(text)?;
    let slot: Option<SlotName> = "slot-1".parse().ok();
    let example = json!({
        "station": "st-01", "time": Timestamp::default(), "reprint": false, "project": "example", "slot": slot,
        "device": {"mac": "dca632010203", "serial": "10000000a1b2c3d4", "model": "CM4"},
        "session": {"attempt": 1}, "variables": {},
    });
    match template.render(Jinja::from(Serde(example))) {
        Err(error) if is_lasting(error.kind()) => Err(error.into()),
        _ => Ok(()),
    }
}

/// It fails whatever the device is.
const fn is_lasting(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::TemplateNotFound
            | ErrorKind::OutOfFuel
    )
}

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("pad", pad);
    environment.add_filter("groups", groups);
    environment.add_filter("hex", hex);
    environment.add_filter("date", date);
    environment.add_filter("zpl", zpl);
    environment
}

fn wrong(detail: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

/// An undefined value stays one: a barcode without its number is an error.
fn text(value: &Jinja) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Err(Error::from(ErrorKind::UndefinedError)),
        _ => Ok(value.to_string()),
    }
}

/// `{{ 42 | pad(6) }}`: 000042. Too long a value is not cut.
fn pad(value: &Jinja, width: usize, with: Option<char>) -> Result<String, Error> {
    let value = text(value)?;
    if width > 1000 {
        return Err(wrong(format!("pad({width}): at most 1000")));
    }
    let missing = width.saturating_sub(value.chars().count());
    Ok(std::iter::repeat_n(with.unwrap_or('0'), missing).chain(value.chars()).collect())
}

/// `{{ device.mac | groups }}`: dc:a6:32:01:02:03
fn groups(value: &Jinja, size: Option<usize>, between: Option<&str>) -> Result<String, Error> {
    let letters: Vec<char> = text(value)?.chars().collect();
    let pieces = letters.chunks(size.unwrap_or(2).max(1)).map(|piece| piece.iter().collect::<String>());
    Ok(pieces.collect::<Vec<_>>().join(between.unwrap_or(":")))
}

/// `{{ 255 | hex(4) }}`: 00ff
fn hex(value: &Jinja, width: Option<usize>) -> Result<String, Error> {
    let value = text(value)?;
    let number: u64 = value.parse().map_err(|_| wrong(format!("hex of {value:?}, which is no number")))?;
    Ok(format!("{number:0width$x}", width = width.unwrap_or(1).min(100)))
}

/// `{{ time | date("%y%m%d") }}`, in UTC.
fn date(value: &Jinja, format: Option<&str>) -> Result<String, Error> {
    let value = text(value)?;
    let at: jiff::Timestamp = value.parse().map_err(|_| wrong(format!("date of {value:?}, which is no time")))?;
    let format = format.unwrap_or("%Y-%m-%d");
    jiff::fmt::strtime::format(format, at).map_err(|error| wrong(format!("date({format:?}): {error}")))
}

/// For a field of ZPL that begins with `^FH`: what the printer would take for a command is written in hex.
fn zpl(value: &Jinja) -> Result<String, Error> {
    let escaped = |c: char| match c {
        '^' | '~' | '_' | '\\' => format!("_{:02x}", u32::from(c)),
        c if c.is_control() => String::new(),
        c => c.to_string(),
    };
    Ok(text(value)?.chars().map(escaped).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet<'static> {
        let time = Timestamp::from_millis(1_763_791_202_113);
        Sheet {
            station: "st-01",
            mac: Mac::new([0xdc, 0xa6, 0x32, 1, 2, 3]),
            device: None,
            session: None,
            time,
            reprint: false,
        }
    }

    #[test]
    fn what_a_barcode_needs_is_there() {
        for (template, printed) in [
            ("{{ 42 | pad(6) }}", "000042"),
            ("{{ 'x' | pad(3, '.') }}", "..x"),
            ("{{ device.mac | upper | groups }}", "DC:A6:32:01:02:03"),
            ("{{ device.mac | groups(4, '-') }}", "dca6-3201-0203"),
            ("{{ 255 | hex(4) }}", "00ff"),
            ("{{ time | date }} {{ time | date('%y%j') }}", "2025-11-22 25326"),
            ("^FH^FD{{ 'a^XZ~_' | zpl }}^FS\n", "^FH^FDa_5eXZ_7e_5f^FS\n"),
            ("<{{ station }}>{% if reprint %} again{% endif %}", "<st-01>"),
            ("{{ variables.ORDER | default('-') }}{% if slot %}{{ slot }}{% endif %}", "-"),
        ] {
            assert_eq!(sheet().render(template).unwrap(), printed, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (template, line, part) in [
            ("a\nb\n{{ station | nofilter }}\n", 3, "nofilter"),
            ("a\n{% if %}\n", 2, "syntax error"),
            ("{% include 'etc/passwd' %}", 1, "etc/passwd"),
            ("\n{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}", 2, "fuel"),
        ] {
            let fault = check(template).unwrap_err();
            assert_eq!(fault.line, Some(line), "{fault}");
            assert!(fault.to_string().contains(part), "{fault}");
        }
        check("{{ variables.ORDER | pad(6) }}{{ session.facts.cid }}").unwrap();
    }

    #[test]
    fn an_empty_barcode_is_never_printed() {
        for template in ["\n{{ variables.ORDER }}", "\n{{ variables.ORDER | pad(6) }}", "\n{{ nobody.at.all }}"] {
            assert_eq!(sheet().render(template).unwrap_err().line, Some(2), "{template}");
        }
        assert!(sheet().render("{{ 'x' | pad(1001) }}").is_err());
    }
}
