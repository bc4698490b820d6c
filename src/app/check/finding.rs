//! One thing that the doctor looked at, and what to do about it.

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What was looked at: `interface`, `ports`, `disk`, ..
    pub subject: &'static str,
    pub what: String,
    /// What to do; nothing where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Worth knowing; nothing is wrong.
    Note,
    /// It runs, and may not do what is meant, or not as fast.
    Warning,
    /// It will not run, or devices will not boot from it.
    Fault,
}

impl Finding {
    pub fn ok(subject: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject, what: what.into(), advice: None }
    }

    pub fn note(subject: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Note, subject, what: what.into(), advice: Some(advice.into()) }
    }

    pub fn warning(subject: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warning, subject, what: what.into(), advice: Some(advice.into()) }
    }

    pub fn fault(subject: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fault, subject, what: what.into(), advice: Some(advice.into()) }
    }
}
