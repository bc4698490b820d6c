//! The predecessor's API.

use axum::{Router, middleware};

use crate::http::auth::{self, Gate};
use crate::http::operator::Operator;

pub fn router(gate: Gate) -> Router<Operator> {
    Router::new().layer(middleware::from_fn_with_state(gate, auth::guard_legacy))
}
