//! Queries and bodies as typed values; what is wrong with them is a problem like any other.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Json, RequestPartsExt as _};
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::{Map, Value};

use crate::core::refusal::Refusal;
use crate::http::error::Failure;

/// The query of a URL.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        match parts.extract::<Query<T>>().await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(wrong_query(&error.body_text(), parts.uri.query().unwrap_or_default()).into()),
        }
    }
}

/// The parser names the parameter before a colon and never its value.
fn wrong_query(text: &str, query: &str) -> Refusal {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let named = text.split_once(": ").map_or((text, text), |(name, why)| (name, why));
    match pairs.iter().find(|(name, _)| name == named.0) {
        Some((name, value)) if named.1.contains(&format!("{value:?}")) => {
            Refusal::invalid(&format!("/{name}"), named.1)
        }
        Some((name, value)) => Refusal::invalid(&format!("/{name}"), format!("{}: {value:?}", named.1)),
        None => Refusal::invalid("", text),
    }
}

/// A JSON body. What `curl -d` says of its bodies is passed over; what is surely something else is not read.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        json_kind(request.headers())?;
        let bytes = bytes(request, state).await?;
        let wrong = |error: axum::extract::rejection::JsonRejection| Refusal::invalid("", error.body_text());
        let Json(value) = Json::from_bytes(&bytes).map_err(wrong)?;
        Ok(Self(value))
    }
}

/// A JSON object that may be left out.
pub struct Wishes(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Wishes {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        json_kind(request.headers())?;
        let body = bytes(request, state).await?;
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        let object = serde_json::from_slice(&body);
        Ok(Self(object.map_err(|error| Refusal::invalid("", format!("not a JSON object: {error}")))?))
    }
}

/// The bytes of a body; too many are 413.
pub async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Failure> {
    Bytes::from_request(request, state).await.map_err(|error| {
        Failure(match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(413, "too_large", "the body is longer than this call takes"),
            _ => Refusal::invalid("", error.body_text()),
        })
    })
}

/// Of a body that is read as JSON.
pub fn json_kind(headers: &HeaderMap) -> Result<(), Refusal> {
    const PASSED_OVER: [&str; 3] = ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream"];
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or("?");
    let bare = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if bare == "application/json" || bare.ends_with("+json") || PASSED_OVER.contains(&bare.as_str()) {
        return Ok(());
    }
    let detail = format!("Content-Type: a body of application/json is read here, not {kind:?}");
    Err(Refusal::new(415, "unsupported_media_type", detail))
}

/// How many a page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub u32);

impl Limit {
    const MOST: u32 = 1000;
}

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(limit @ 1..=Self::MOST) => Ok(Self(limit)),
            _ => Err(D::Error::custom(format!("not a number of 1 to {}", Self::MOST))),
        }
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": Self::MOST, "default": 100, "description": "How many a page shows."})
    }
}

/// Part of a text that is looked for. A single letter would be found everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search(pub String);

impl<'de> Deserialize<'de> for Search {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if (2..=64).contains(&text.chars().count()) && !text.contains(char::is_control) {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("not a text of 2 to 64 letters"))
        }
    }
}

impl JsonSchema for Search {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Search".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": r"^[^\u0000-\u001f\u007f-\u009f]{2,64}$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_query_is_told_with_name_and_value() {
        let told = wrong_query("Failed to deserialize query string: limit: invalid digit", "limit=ten");
        assert_eq!(told.detail, "/limit: invalid digit: \"ten\"");
        assert_eq!(told.errors[0].pointer, "/limit");
        assert_eq!(wrong_query("unknown field `x`", "x=1").code, "invalid_params");
    }

    #[test]
    fn a_body_of_another_kind_is_not_read_as_json() {
        let kind = |text: &str| json_kind(&HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]));
        assert!(kind("application/json; charset=utf-8").is_ok());
        assert!(kind("application/x-www-form-urlencoded").is_ok());
        assert_eq!(kind("application/xml").unwrap_err().status, 415);
        assert!(json_kind(&HeaderMap::new()).is_ok());
    }
}
