//! Counts what a router answers, and how long it took until the answer began.

use std::time::Instant;

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{Next, from_fn};
use axum::{Router, response::Response};

use crate::metrics::Metrics;

/// `side`: `devices` or `operators`.
pub fn counted(router: Router, metrics: Metrics, side: &'static str) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let metrics = metrics.clone();
        async move { count(&metrics, side, request, next).await }
    }))
}

async fn count(metrics: &Metrics, side: &'static str, request: Request, next: Next) -> Response {
    let (method, began) = (known(request.method()), Instant::now());
    let response = next.run(request).await;
    metrics.answered(side, method, response.status().as_u16(), began.elapsed());
    response
}

/// Clients may make methods up; a label must not.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
