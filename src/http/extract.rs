//! Queries and bodies as typed values; what is wrong with them is a problem like any other.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::{Json, RequestPartsExt as _};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::core::refusal::Refusal;
use crate::http::error::Failure;

/// The query of a URL.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        match parts.extract::<Query<T>>().await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(Refusal::invalid("", error.body_text()).into()),
        }
    }
}

/// A JSON body, whatever its content type says: `curl -d` says that it is a form.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let wrong = |what: String| Failure(Refusal::invalid("", what));
        let bytes = Bytes::from_request(request, state).await.map_err(|error| wrong(error.body_text()))?;
        let Json(value) = Json::from_bytes(&bytes).map_err(|error| wrong(error.body_text()))?;
        Ok(Self(value))
    }
}
