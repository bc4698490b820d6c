//! The forms in which a rule names devices: one, a range, or a pattern with `*` and `?`. What does not read as one of
//! them is refused when the rule is set, never ignored when it is asked.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::device::{Mac, Revision, Serial, Serial8};
use crate::core::rule::Holds;
use crate::core::text::serde_by_text;

/// `min` and `max`, both included; either may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Bounds {
    /// Included.
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<u64>,
    /// Included.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
}

impl Bounds {
    pub fn contains(self, value: u64) -> bool {
        self.min.is_none_or(|min| min <= value) && self.max.is_none_or(|max| value <= max)
    }
}

impl<'de> Deserialize<'de> for Bounds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            min: Option<u64>,
            max: Option<u64>,
        }
        let Wire { min, max } = Wire::deserialize(deserializer)?;
        match (min, max) {
            (None, None) => Err(serde::de::Error::custom("bounds without min and max take everything; leave them out")),
            (Some(min), Some(max)) if min > max => {
                Err(serde::de::Error::custom(format!("min {min} is above max {max}")))
            }
            _ => Ok(Self { min, max }),
        }
    }
}

/// A board, by the name that its revision code gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model(&'static str);

impl Model {
    pub fn of_revision(revision: Revision) -> Option<Self> {
        revision.board().map(Self)
    }

    /// From the device tree's text, `Raspberry Pi Compute Module 4 Rev 1.1`.
    pub fn of_text(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("Raspberry Pi ")?;
        let known = |(name, _): &&(&str, &str)| {
            rest == *name || rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '))
        };
        TEXTS.iter().find(known).map(|(_, model)| Self(model))
    }
}

/// Longer texts before those that they begin with.
const TEXTS: [(&str, &str); 14] = [
    ("Compute Module 5 Lite", "CM5 Lite"),
    ("Compute Module 5", "CM5"),
    ("Compute Module 4S", "CM4S"),
    ("Compute Module 4", "CM4"),
    ("Compute Module 3 Plus", "CM3+"),
    ("Compute Module 3+", "CM3+"),
    ("Compute Module 3", "CM3"),
    ("Compute Module 0", "CM0"),
    ("500", "500"),
    ("400", "400"),
    ("5 Model B", "5"),
    ("4 Model B", "4B"),
    ("3 Model B Plus", "3B+"),
    ("3 Model B", "3B"),
];

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = TEXTS.iter().find(|(_, model)| model.eq_ignore_ascii_case(text));
        found.map(|(_, model)| Self(model)).ok_or_else(|| {
            let mut known: Vec<&str> = TEXTS.iter().map(|(_, model)| *model).collect();
            known.dedup();
            format!("not a model: {text:?}; there are {}", known.join(", "))
        })
    }
}

/// A list of letters with `*` for any number of them and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob(String);

impl Glob {
    /// In time that grows with the product of both lengths: a rule may be hostile too.
    fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t, mut star) = (0, 0, None);
        while t < text.len() {
            if pattern.get(p).is_some_and(|letter| *letter == b'?' || *letter == text[t]) && pattern[p] != b'*' {
                (p, t) = (p + 1, t + 1);
            } else if pattern.get(p) == Some(&b'*') {
                star = Some((p, t));
                p += 1;
            } else if let Some((at, from)) = star {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|letter| *letter == b'*')
    }
}

/// One value, a range of them, or a pattern of its letters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form<T> {
    One(T),
    Range(T, T),
    Glob(Glob),
}

impl<T: FromStr + Ord + Copy + fmt::Display> Form<T> {
    /// A pattern is one of all `digits` hex digits: one that is too long or too short could never match.
    fn read(text: &str, what: &str, digits: usize) -> Result<Self, String> {
        let wrong = || format!("not {what}, a range of two or a pattern with * and ?: {text:?}");
        if let Ok(one) = text.parse() {
            return Ok(Self::One(one));
        }
        if text.contains(['*', '?']) {
            let bare: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
            let letters = bare.chars().filter(|c| *c != '*').count();
            let fits = if bare.contains('*') { letters <= digits } else { letters == digits };
            let reads =
                bare.len() <= 2 * digits && bare.chars().all(|c| matches!(c, '*' | '?') || c.is_ascii_hexdigit());
            return if fits && reads { Ok(Self::Glob(Glob(bare))) } else { Err(wrong()) };
        }
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        match (first.trim().parse::<T>(), last.trim().parse::<T>()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self::Range(first, last)),
            (Ok(first), Ok(last)) => Err(format!("a range that begins at {first} and ends at {last}, before it")),
            _ => Err(wrong()),
        }
    }

    fn matches(&self, value: T) -> bool {
        match self {
            Self::One(one) => *one == value,
            Self::Range(first, last) => (*first..=*last).contains(&value),
            Self::Glob(glob) => glob.matches(&value.to_string()),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Form<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(one) => one.fmt(f),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Glob(glob) => f.write_str(&glob.0),
        }
    }
}

/// Serials: of 16 digits the whole one, of 8 digits its low word; ranges of either; patterns of all 16 digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPattern(Numbers);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Numbers {
    Low(Form<Serial8>),
    Whole(Form<WholeSerial>),
}

/// A serial that is written out, so that 8 digits never pass for 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WholeSerial(Serial);

impl fmt::Display for WholeSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WholeSerial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() {
            16 => text.parse().map(Self),
            _ => Err(format!("not a serial of 16 hex digits: {text:?}")),
        }
    }
}

impl SerialPattern {
    pub fn matches(&self, serial: Serial) -> bool {
        match &self.0 {
            Numbers::Low(form) => form.matches(serial.low()),
            Numbers::Whole(form) => form.matches(WholeSerial(serial)),
        }
    }

    /// When the low word alone is known.
    pub fn may_match(&self, serial8: Serial8) -> Holds {
        match &self.0 {
            Numbers::Low(form) => Holds::of(form.matches(serial8)),
            Numbers::Whole(Form::One(one)) if one.0.low() != serial8 => Holds::No,
            Numbers::Whole(_) => Holds::Maybe,
        }
    }
}

impl fmt::Display for SerialPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Numbers::Low(form) => form.fmt(f),
            Numbers::Whole(form) => form.fmt(f),
        }
    }
}

impl FromStr for SerialPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let first = text.split('-').next().unwrap_or_default().trim();
        if first.len() == 8 && !text.contains(['*', '?']) {
            return Form::read(text, "a serial of 8 hex digits", 8).map(|low| Self(Numbers::Low(low)));
        }
        Form::read(text, "a serial of 8 or 16 hex digits", 16).map(|whole| Self(Numbers::Whole(whole)))
    }
}

macro_rules! pattern {
    ($(#[$doc:meta])* $name:ident, $of:ty, $what:literal, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Form<$of>);

        impl $name {
            pub fn matches(&self, value: $of) -> bool {
                self.0.matches(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Form::read(text, $what, $digits).map(Self)
            }
        }
    };
}

pattern!(
    /// MACs: one, a range, or a pattern such as `e4:5f:01:*`.
    MacPattern, Mac, "a MAC address", 12
);
pattern!(
    /// Board revisions: one, a range, or a pattern such as `?0314?`.
    RevisionPattern, Revision, "a board revision", 6
);

/// Three jumpers as the module tells them, inverse (0 = set): `0`, `1`, or `x` for either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JumperPattern(String);

impl JumperPattern {
    pub fn matches(&self, jumper: &str) -> bool {
        self.0.len() == jumper.len()
            && self.0.bytes().zip(jumper.bytes()).all(|(wanted, is)| wanted == b'x' || wanted == is)
    }
}

impl fmt::Display for JumperPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for JumperPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() == 3 && text.bytes().all(|b| matches!(b, b'0' | b'1' | b'x'));
        if fits { Ok(Self(text.to_owned())) } else { Err(format!("not three jumpers of 0, 1 and x: {text:?}")) }
    }
}

/// The socket that the cable is in, as events name it: whole, or with `*` and `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitPattern(Glob);

impl CircuitPattern {
    pub fn matches(&self, circuit: &str) -> bool {
        self.0.matches(circuit)
    }
}

impl fmt::Display for CircuitPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0)
    }
}

impl FromStr for CircuitPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(Glob(text.to_owned()))) } else { Err(format!("not the name of a circuit: {text:?}")) }
    }
}

serde_by_text!(Model, SerialPattern, MacPattern, RevisionPattern, JumperPattern, CircuitPattern);
