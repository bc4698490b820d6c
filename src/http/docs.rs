//! `/docs`: the API to look at and to try, from files that are in the program; no other host is asked for anything.

use axum::Router;
use utoipa_swagger_ui::{Config, SwaggerUi};

pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    // Without this the page would have the document checked by a service elsewhere.
    let config = Config::from("/api/v1/openapi.json").validator_url("none").try_it_out_enabled(true);
    SwaggerUi::new("/docs").config(config).into()
}
