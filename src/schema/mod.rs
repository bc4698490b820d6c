//! What is published of the types: JSON Schema 2020-12 of everything on the bus, an example of each, and the AsyncAPI
//! document. `bootline schema` writes it; tests hold the committed files, the examples and real traffic to it.
//!
//! Nothing is typed twice: schemas are derived from the types, examples are what the core says in `story`.

mod asyncapi;
mod commands;
mod document;
mod events;
mod results;
mod states;
mod story;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::schema::document::text;
use crate::schema::story::Story;

/// Whatever names a schema begins so.
const NAMESPACE: &str = "urn:bootline:schema";

/// A schema with an example.
struct Published {
    /// Below `schemas/`: `events/device.started`
    path: String,
    schema: Value,
    example: Value,
}

/// Path below `schemas/` and text of every file, and sentences about what is not there.
pub fn files() -> (BTreeMap<String, String>, Vec<String>) {
    let story = Story::tell();
    let mut missing = Vec::new();
    let mut published = events::published(&story, &mut missing);
    published.extend(commands::published(&story, &mut missing));
    published.extend(states::published(&story));
    let mut files = BTreeMap::new();
    for one in &published {
        files.insert(format!("{}.json", one.path), text(&one.schema));
        files.insert(format!("examples/{}.json", one.path), text(&one.example));
    }
    for (name, schema) in events::envelope().into_iter().chain(commands::envelopes()) {
        files.insert(format!("{name}.json"), text(&schema));
    }
    files.insert("asyncapi.json".to_owned(), text(&asyncapi::document(&published)));
    (files, missing)
}
