//! The published contract: the committed files are what the types say, every example is valid, and what was valid once
//! stays valid.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::contract::{Contract, closed, faults, folder, jsons, schemas, validator};

const AGAIN: &str = "run `cargo run -- schema schemas` and look at the difference before you commit it";

/// What the binary writes today.
fn fresh(into: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_bootline")).arg("schema").arg(into).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_committed_files_are_what_the_types_say() {
    let scratch = tempfile::tempdir().unwrap();
    fresh(scratch.path());
    let (made, mut committed) = (jsons(scratch.path()), jsons(&folder()));
    // OpenAPI is made from the routes; a test beside them keeps it.
    committed.retain(|name, _| !name.starts_with("vectors/") && name != "openapi");
    let differ: Vec<&String> = made.keys().filter(|name| made.get(*name) != committed.get(*name)).collect();
    assert!(differ.is_empty(), "the types say something else than schemas/: {differ:?}; {AGAIN}");
    let stale: Vec<&String> = committed.keys().filter(|name| !made.contains_key(*name)).collect();
    assert!(stale.is_empty(), "no type says {stale:?} any more: that is a new major version, not a smaller one");
}

#[test]
fn a_second_run_removes_what_is_no_more_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    fresh(scratch.path());
    for name in ["events/device.vanished.json", "README.md", "vectors/v1/device.json"] {
        fs::create_dir_all(scratch.path().join(name).parent().unwrap()).unwrap();
        fs::write(scratch.path().join(name), "{}").unwrap();
    }
    fresh(scratch.path());
    assert!(!scratch.path().join("events/device.vanished.json").exists());
    assert!(scratch.path().join("README.md").exists() && scratch.path().join("vectors/v1/device.json").exists());
}

#[test]
fn every_schema_is_one_and_has_a_name_of_its_own() {
    let mut ids = BTreeSet::new();
    for (name, schema) in schemas() {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        if let Err(error) = jsonschema::draft202012::meta::validate(&schema) {
            panic!("{name} is no JSON Schema: {error}");
        }
        assert!(ids.insert(schema["$id"].to_string()), "{name}: {} is used twice", schema["$id"]);
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{name} does not say what it is");
    }
}

/// Someone who sees nothing else must know what a field means.
#[test]
fn every_field_is_described() {
    fn walk(place: &str, schema: &Value, root: &Value, wrong: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let refers = |schema: &Value| {
                let pointer = schema["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
                pointer
                    .and_then(|pointer| root.pointer(pointer))
                    .is_some_and(|target| target["description"].is_string())
            };
            let chosen = property["anyOf"].as_array().into_iter().flatten().any(refers);
            let says_itself = property["const"].is_string();
            if !says_itself && !property["description"].is_string() && !refers(property) && !chosen {
                wrong.push(format!("{place}: {name}"));
            }
        }
        let inner: Box<dyn Iterator<Item = &Value>> = match schema {
            Value::Object(fields) => Box::new(
                fields.iter().filter(|(key, _)| !["allOf", "examples"].contains(&key.as_str())).map(|(_, value)| value),
            ),
            Value::Array(items) => Box::new(items.iter()),
            _ => return,
        };
        inner.for_each(|value| walk(place, value, root, wrong));
    }
    let mut wrong = Vec::new();
    for (name, schema) in schemas() {
        walk(&name, &schema, &schema, &mut wrong);
    }
    assert!(wrong.is_empty(), "fields without a doc comment:\n{}", wrong.join("\n"));
}

#[test]
fn every_schema_has_an_example_and_every_example_is_valid_to_the_last_field() {
    let contract = Contract::get();
    let examples = jsons(&folder().join("examples"));
    for name in schemas().keys().filter(|name| name.contains('/')) {
        let example = examples.get(name).unwrap_or_else(|| panic!("{name} has no example; {AGAIN}"));
        match name.split_once('/').unwrap().0 {
            "events" => assert_eq!(format!("events/{}", contract.event(example)), *name),
            "replies" => contract.reply(example),
            _ => contract.holds(name, example),
        }
    }
    for (name, schema) in schemas() {
        let judge = validator(&closed(&schema));
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert_eq!(faults(&judge, example), Vec::<String>::new(), "{name}");
        }
    }
}

/// The contract of version 1: what a reader or a writer of then has on disk is valid today.
#[test]
fn what_was_valid_in_version_1_is_valid_still() {
    let all = schemas();
    let judge = |name: &str| all.get(name).map(validator);
    let mut count = 0;
    for (path, vectors) in jsons(&folder().join("vectors/v1")) {
        for vector in vectors.as_array().unwrap_or_else(|| panic!("{path} is no list")) {
            let (name, value) = match path.as_str() {
                "events" => {
                    assert_eq!(faults(&judge("cloudevent").unwrap(), vector), Vec::<String>::new(), "{vector}");
                    let kind = vector["type"].as_str().unwrap();
                    (
                        format!("events/{}", kind.trim_start_matches("io.bootline.").trim_end_matches(".v1")),
                        &vector["data"],
                    )
                }
                // What could not be read has no name.
                "replies" if vector["name"] == "unknown" => ("reply".to_owned(), vector),
                "commands" | "replies" => (format!("{path}/{}", vector["name"].as_str().unwrap()), vector),
                _ => (format!("states/{path}"), vector),
            };
            let judge = judge(&name).unwrap_or_else(|| panic!("{name} is gone: only a new major version may do that"));
            let faults = faults(&judge, value);
            assert!(faults.is_empty(), "{name} no longer takes what version 1 wrote: {}\n{value}", faults.join("\n"));
            count += 1;
        }
    }
    assert!(count > 90, "{count} vectors");
}

#[test]
fn the_asyncapi_document_is_one_and_its_examples_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let document = read(&folder().join("asyncapi.json"));
    let official = read(&root.join("tests/vectors/asyncapi/3.0.0.json"));
    let judge = jsonschema::draft7::options().build(&official).unwrap();
    assert_eq!(faults(&judge, &document), Vec::<String>::new());
    assert!(!judge.is_valid(&serde_json::json!({"asyncapi": "3.0.0"})), "the judge judges");

    let (mut references, mut examples) = (0, 0);
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        if let Some(target) = value["$ref"].as_str() {
            references += 1;
            match target.strip_prefix('#') {
                Some(pointer) => assert!(document.pointer(pointer).is_some(), "{target} leads nowhere"),
                None => assert!(folder().join(target).exists(), "{target} is no file"),
            }
        }
        match value {
            Value::Object(fields) => pending.extend(fields.values()),
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
    for (key, message) in document["components"]["messages"].as_object().unwrap() {
        let mut schema = message["payload"]["schema"].clone();
        embed(&mut schema);
        for example in message["examples"].as_array().unwrap() {
            examples += 1;
            assert_eq!(faults(&validator(&schema), &example["payload"]), Vec::<String>::new(), "{key}");
        }
    }
    let contract = Contract::get();
    let expected = contract.events().len() + 2 * contract.commands().len();
    assert!(examples >= expected && references > examples, "{examples} examples, {references} references");
}

/// Puts the files that a schema refers to in their places.
fn embed(schema: &mut Value) {
    if let Some(target) = schema["$ref"].as_str().filter(|target| target.starts_with("./")) {
        let path = folder().join(target);
        *schema = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        return;
    }
    match schema {
        Value::Object(fields) => fields.values_mut().for_each(embed),
        Value::Array(items) => items.iter_mut().for_each(embed),
        _ => {}
    }
}
