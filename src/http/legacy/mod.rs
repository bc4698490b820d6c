//! The predecessor's API (cmprovisiondocker): its paths, forms, bodies and status codes, mapped onto projects, images,
//! firmware and sessions. Its faults are not kept; `tests/it/legacy.rs` lists them.

mod feed;
pub mod files;
pub mod form;
mod projects;
mod results;
mod upload;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Router, middleware};
use serde_json::{Value, json};

use crate::core::command::Problem;
use crate::http::auth::{self, Gate, caller};
use crate::http::firmware::LARGEST_FORM;
use crate::http::legacy::files::{Eeproms, Images};
use crate::http::legacy::form::Wrong;
use crate::http::operator::Operator;
use crate::http::{pages, tokens};

/// More than any form without a file has.
const LARGEST: usize = 256 << 10;

pub fn router(gate: Gate) -> Router<Operator> {
    let image = post(upload::image).layer(DefaultBodyLimit::disable());
    let eeprom = post(upload::eeprom).layer(DefaultBodyLimit::max(LARGEST_FORM));
    let eeproms = get(files::list::<Eeproms>).post(files::list::<Eeproms>);
    Router::new()
        .route("/image/upload-image", image)
        .route("/image/list-images", get(files::list::<Images>))
        .route("/image/download-image", get(files::download_image))
        .route("/image/delete-image", delete(files::remove::<Images>))
        .route("/eeprom/upload-eeprom", eeprom)
        .route("/eeprom/list-eeproms", eeproms)
        .route("/eeprom/download-eeprom", get(files::download_eeprom))
        .route("/eeprom/delete-eeprom", delete(files::remove::<Eeproms>))
        .route("/project/create", post(projects::create))
        .route("/project/getbyname", get(projects::by_name))
        .route("/project/list", get(projects::list))
        .route("/project/setactive", post(projects::set_active))
        .route("/project/getactive", get(projects::active))
        .route("/project/getactiveprojectname", get(projects::active_name))
        .route("/project/getimagefromproject", get(projects::images))
        .route("/project/delete", delete(projects::remove))
        .route("/result/getresult", get(results::one))
        .route("/result/getresultsbyserial", get(results::by_serial))
        .route("/result/getresults", get(results::all))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(middleware::from_fn_with_state(gate, auth::guard_legacy))
}

/// `/` is the page; an upgrade to a WebSocket there is what listeners of the predecessor ask for.
pub fn front(gate: Gate) -> Router<Operator> {
    Router::new()
        .route("/", get(feed::listen))
        .layer(middleware::from_fn_with_state(gate, auth::guard_legacy))
        .layer(middleware::from_fn(page_or_feed))
}

async fn page_or_feed(request: Request, next: Next) -> Response {
    match request.headers().contains_key(header::UPGRADE) {
        true => next.run(request).await,
        // It shows nothing by itself: what it shows it asks for, with a token where one is needed.
        false => pages::index(request.headers()),
    }
}

/// A command by the one door, as whoever calls.
async fn command(operator: &Operator, name: &str, params: Value) -> Result<Value, Problem> {
    tokens::run(&operator.ledger, &caller(), name, params).await
}

fn told(message: String) -> axum::Json<Value> {
    axum::Json(json!({"message": message}))
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status, problem.detail)
    }
}
