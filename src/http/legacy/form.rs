//! Parameters as `FastAPI` reads them, and what it answers where one is missing or does not parse: all faults at once, in
//! the form of pydantic 2.

use axum::Json;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::core::refusal::Refusal;
use crate::ledger::SubmitError;

/// `{"detail": ..}` with a status.
#[derive(Debug)]
pub struct Wrong {
    status: u16,
    detail: Value,
}

impl Wrong {
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: Value::String(detail.into()) }
    }
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status, refusal.detail)
    }
}

impl From<SubmitError> for Wrong {
    fn from(error: SubmitError) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({"detail": self.detail}))).into_response()
    }
}

/// What a call has brought, and what is wrong with it so far.
pub struct Fields {
    place: &'static str,
    pairs: Vec<(String, String)>,
    faults: Vec<Value>,
}

impl Fields {
    pub fn query(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect();
        Self { place: "query", pairs, faults: Vec::new() }
    }

    /// A form in either of its two encodings. A body that is none has no fields.
    pub async fn form(request: Request) -> Result<Self, Wrong> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut pairs = Vec::new();
        if kind.starts_with("multipart/form-data") {
            let broken = |what: String| Wrong::new(400, format!("There was an error parsing the body: {what}"));
            let form = Multipart::from_request(request, &()).await;
            let mut form = form.map_err(|error| broken(error.body_text()))?;
            while let Some(field) = form.next_field().await.map_err(|error| broken(error.body_text()))? {
                let name = field.name().unwrap_or_default().to_owned();
                pairs.push((name, field.text().await.map_err(|error| broken(error.body_text()))?));
            }
        } else {
            let form = kind.starts_with("application/x-www-form-urlencoded");
            let body = Bytes::from_request(request, &()).await;
            let body = body.map_err(|error| Wrong::new(error.status().as_u16(), error.body_text()))?;
            pairs.extend(form_urlencoded::parse(&body).into_owned().filter(|_| form));
        }
        // A field of a form that is left empty counts as left out.
        pairs.retain(|(_, value)| !value.is_empty());
        Ok(Self { place: "body", pairs, faults: Vec::new() })
    }

    /// Of the same name twice, the last.
    pub fn optional(&self, name: &str) -> Option<String> {
        self.pairs.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    pub fn text(&mut self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.faults.push(missing(self.place, name));
            String::new()
        })
    }

    pub fn truth(&mut self, name: &str) -> bool {
        let text = self.text(name);
        if text.is_empty() { false } else { self.parsed_truth(name, &text) }
    }

    pub fn optional_truth(&mut self, name: &str) -> Option<bool> {
        self.optional(name).map(|text| self.parsed_truth(name, &text))
    }

    fn parsed_truth(&mut self, name: &str, text: &str) -> bool {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "t" | "y" => true,
            "false" | "0" | "no" | "off" | "f" | "n" => false,
            _ => {
                let what = "Input should be a valid boolean, unable to interpret input";
                self.fault("bool_parsing", name, what, text);
                false
            }
        }
    }

    pub fn optional_number(&mut self, name: &str) -> Option<i64> {
        let text = self.optional(name)?;
        let number = text.trim().parse().ok();
        if number.is_none() {
            let what = "Input should be a valid integer, unable to parse string as an integer";
            self.fault("int_parsing", name, what, &text);
        }
        number
    }

    fn fault(&mut self, kind: &str, name: &str, what: &str, input: &str) {
        self.faults.push(json!({"type": kind, "loc": [self.place, name], "msg": what, "input": input}));
    }

    pub fn end(self) -> Result<(), Wrong> {
        unprocessable(self.faults)
    }
}

pub fn missing(place: &str, name: &str) -> Value {
    json!({"type": "missing", "loc": [place, name], "msg": "Field required", "input": null})
}

/// A field that should have been a file.
pub fn not_a_file(name: &str, text: &str) -> Value {
    json!({
        "type": "value_error", "loc": ["body", name],
        "msg": "Value error, Expected UploadFile, received: <class 'str'>", "input": text, "ctx": {"error": {}},
    })
}

pub fn unprocessable(faults: Vec<Value>) -> Result<(), Wrong> {
    if faults.is_empty() { Ok(()) } else { Err(Wrong { status: 422, detail: Value::Array(faults) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_at_once() {
        let mut fields = Fields::query(Some("active=maybe&led=x&on=YES&name=a%20b&name=last"));
        assert_eq!(fields.text("name"), "last");
        fields.text("image");
        fields.truth("active");
        assert_eq!(fields.optional_truth("on"), Some(true));
        assert_eq!(fields.optional_number("led"), None);
        let Err(wrong) = fields.end() else { panic!("there are faults") };
        let places: Vec<&Value> = wrong.detail.as_array().unwrap().iter().map(|fault| &fault["loc"][1]).collect();
        assert_eq!((wrong.status, places), (422, vec![&json!("image"), &json!("active"), &json!("led")]));
    }
}
