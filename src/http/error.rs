//! Errors as everyone gets them: RFC 9457 problem details with a stable `code`. A fault shows no inside of ours.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::core::command::Problem;
use crate::core::refusal::Refusal;
use crate::ledger::SubmitError;

/// So long should a client wait that found the station unable to write.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What ends a request early.
#[derive(Debug)]
pub struct Failure(pub Refusal);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        problem(self.0.into())
    }
}

pub fn problem(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(problem)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PROBLEM);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

/// What the framework refuses by itself becomes a problem like any other; its headers, such as `Allow`, stay.
pub async fn tidy(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_error = status.is_client_error() || status.is_server_error();
    // A reply to a command says itself what is wrong.
    let speaks = kind.is_some_and(|kind| kind == PROBLEM || kind == "application/json");
    if !is_error || speaks {
        return response;
    }
    let (code, detail) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is nothing here"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this path has other methods; see Allow"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is longer than this call takes"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("unsupported_media_type", "a body of this kind is not read here"),
        StatusCode::UPGRADE_REQUIRED => ("upgrade_required", "this is a WebSocket"),
        _ if status.is_server_error() => ("internal", "the station could not answer; its log says why"),
        _ => ("bad_request", "the request cannot be read"),
    };
    let allowed = response.headers().get(header::ALLOW).cloned();
    let mut told = Failure(Refusal::new(status.as_u16(), code, detail)).into_response();
    if let Some(allowed) = allowed {
        told.headers_mut().insert(header::ALLOW, allowed);
    }
    told
}

/// A read whose answer the client cannot take is 406. Unsafe calls are answered as they are: they have happened.
pub async fn negotiate(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let headers = request.headers().clone();
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !reads || !response.status().is_success() || kind.is_empty() || accepts(&headers, kind) {
        return response;
    }
    let detail = format!("Accept: this is {}", kind.split(';').next().unwrap_or_default());
    Failure(Refusal::new(406, "not_acceptable", detail)).into_response()
}

/// RFC 9110 §12.5.1, without the weights: one form is there, and it is wanted or not.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let family = kind.split('/').next().unwrap_or_default();
    let mut ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if ranges.peek().is_none() {
        return true;
    }
    ranges.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let wanted = parts.next().unwrap_or_default();
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)));
        !refused && (wanted == "*/*" || wanted == kind || wanted == format!("{family}/*"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &str, kind: &str) -> bool {
        accepts(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]), kind)
    }

    #[test]
    fn what_is_wanted_is_read_as_http_writes_it() {
        assert!(accepts(&HeaderMap::new(), "application/json"));
        assert!(wanted("text/html, application/*;q=0.5", "application/json"));
        assert!(wanted("*/*", "text/csv; charset=utf-8"));
        assert!(!wanted("text/html", "application/json"));
        assert!(!wanted("application/json;q=0, text/html", "application/json"));
    }

    #[tokio::test]
    async fn what_the_framework_refuses_is_a_problem_too() {
        let plain = (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], "no").into_response();
        let told = tidy(plain).await;
        assert_eq!(told.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(told.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(told.headers()[header::ALLOW], "GET");
    }
}
