//! Our rules said no: data with a stable code, never an error of the program.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where in a request a value is wrong: a JSON pointer (RFC 6901) and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// JSON pointer (RFC 6901) into the request: `/params/image`.
    pub pointer: String,
    /// What is wrong there, for people.
    pub detail: String,
}

/// Why an input changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// As in HTTP.
    pub status: u16,
    /// Stable; documented in the manual and schemas.
    pub code: String,
    /// For people: what and which value.
    pub detail: String,
    /// The same request may succeed later without a change.
    pub retryable: bool,
    /// No sooner than after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// Where in the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

impl Refusal {
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            detail: detail.into(),
            retryable: false,
            retry_after_s: None,
            errors: Vec::new(),
        }
    }

    pub fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let fault = Fault { pointer: pointer.to_owned(), detail: detail.clone() };
        let shown = if pointer.is_empty() { detail } else { format!("{pointer}: {detail}") };
        Self { errors: vec![fault], ..Self::new(400, "invalid_params", shown) }
    }

    pub fn not_found(noun: &str, name: impl std::fmt::Display) -> Self {
        Self::new(404, "not_found", format!("there is no {noun} {name}"))
    }

    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    pub fn retryable_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self.retryable()
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Refusal {}
