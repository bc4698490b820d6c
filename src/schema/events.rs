//! Schemas of events: one for the data of each type, and the envelope.

use serde_json::Value;

use crate::core::event::Event;
use crate::ledger::cloudevent::{self, CloudEvent};
use crate::schema::document::{Document, Side, writes};
use crate::schema::story::Story;
use crate::schema::{NAMESPACE, Published};

/// All that the core can say; a new variant is here by itself.
pub fn published(story: &Story, missing: &mut Vec<String>) -> Vec<Published> {
    let mut generator = writes();
    let all = generator.root_schema_for::<Event>().to_value();
    let definitions = all["$defs"].as_object().cloned().unwrap_or_default();
    let variants = all["oneOf"].as_array().cloned().unwrap_or_default();
    let mut published = Vec::new();
    for variant in &variants {
        let name = variant["properties"]["type"]["const"].as_str().expect("an event has a name").to_owned();
        let mut schema = variant["properties"]["data"].clone();
        if let Some(description) = variant.get("description") {
            schema["description"] = description.clone();
        }
        let document = Document {
            id: cloudevent::schema(&name),
            title: format!("Data of io.bootline.{name}.v1"),
            schema,
            definitions: &definitions,
            side: Side::Written,
        };
        let Some(example) = story.event(&name) else {
            missing.push(format!(
                "event {name} has no example: let it happen in src/schema/story.rs, then run `cargo run -- schema schemas`"
            ));
            continue;
        };
        published.push(Published { path: format!("events/{name}"), schema: document.finish(), example });
    }
    published
}

pub fn envelope() -> [(&'static str, Value); 1] {
    let mut generator = writes();
    let mut schema = generator.root_schema_for::<CloudEvent<'_>>().to_value();
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    for (field, value) in [("specversion", "1.0"), ("datacontenttype", "application/json")] {
        schema["properties"][field]["const"] = value.into();
    }
    for (field, pattern) in [
        ("type", r"^io\.bootline\.[a-z_.]+\.v1$"),
        ("source", "^urn:bootline:station:[A-Za-z0-9_-]{1,64}$"),
        ("subject", "^[a-z]+/[A-Za-z0-9_-]{1,64}$"),
        ("partitionkey", "^[a-z]+/[A-Za-z0-9_-]{1,64}$"),
    ] {
        schema["properties"][field]["pattern"] = pattern.into();
    }
    let document = Document {
        id: format!("{NAMESPACE}:cloudevent:1.0"),
        title: "Envelope of every event".to_owned(),
        schema,
        definitions: &definitions,
        side: Side::Written,
    };
    [("cloudevent", document.finish())]
}
