//! `OpenAPI` 3.1, made where the routes are: a route comes into the router by the same line that describes it, and the
//! shapes come from the types that the handlers read and write, so neither can be forgotten. `OpenAPI` 3.1 takes JSON
//! Schema 2020-12 as it is.

mod devices;

use std::collections::BTreeMap;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, head, options, patch, post, put};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::core::command::Problem;
use crate::http::auth::COOKIE;

type Shape = fn(&mut SchemaGenerator) -> Schema;

const PROBLEM: &str = "application/problem+json";

/// Routes with their description.
pub struct Api<S> {
    router: Router<S>,
    paths: BTreeMap<String, Map<String, Value>>,
    /// Of what is written; they are named in `components`.
    written: SchemaGenerator,
    /// Of what is read; they stand where they are used, because the same type may be read in more forms.
    read: SchemaGenerator,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    pub fn new() -> Self {
        let written = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let read = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let mut written = written.into_generator();
        written.subschema_for::<Problem>();
        Self { router: Router::new(), paths: BTreeMap::new(), written, read: read.into_generator() }
    }

    /// All calls of one path.
    #[must_use]
    pub fn at(mut self, path: &str, calls: impl IntoIterator<Item = Call<S>>) -> Self {
        let mut methods = MethodRouter::new();
        for call in calls {
            self.describe(path, call.method, call.told);
            methods = methods.merge(call.route);
        }
        self.router = self.router.route(path, methods);
        self
    }

    /// A call whose route stands elsewhere: before the gate, or made from this very document.
    #[must_use]
    pub fn elsewhere(mut self, path: &str, method: &str, told: Told) -> Self {
        self.describe(path, method, told);
        self
    }

    fn describe(&mut self, path: &str, method: &str, told: Told) {
        let operation = told.operation(path, &mut self.written, &mut self.read);
        self.paths.entry(path.to_owned()).or_default().insert(method.to_owned(), operation);
    }

    pub fn router(self) -> Router<S> {
        self.router
    }

    /// The document of routes that stand below `/api/v1`, with those of the device side.
    pub fn document(mut self) -> Value {
        let mut paths: BTreeMap<String, Map<String, Value>> = std::mem::take(&mut self.paths)
            .into_iter()
            .map(|(path, calls)| (format!("/api/v1{path}"), calls))
            .collect();
        for (path, method, told) in devices::calls() {
            self.describe(path, method, told);
        }
        for (path, mut calls) in std::mem::take(&mut self.paths) {
            calls.insert(
                "servers".to_owned(),
                json!([{
                    "url": "http://{station}", "description": "The device side has a listener of its own.",
                    "variables": {"station": {"default": "192.168.5.1"}},
                }]),
            );
            paths.insert(path, calls);
        }
        let schemas = self.written.take_definitions(true);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "bootline",
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "MIT", "identifier": "MIT"},
                "description": "Operator side of a provisioning station, and what its devices call. Every unsafe call is a \
                    command, as on the bus: `Idempotency-Key` makes it safe to repeat, `If-Match` guards it against a \
                    change in between. Errors are problem details (RFC 9457) with a stable `code`.",
            },
            "servers": [{"url": "/", "description": "This station"}],
            // Without one: callers on loopback, unless the configuration wants a token of them too.
            "security": [{}, {"token": []}, {"login": []}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "token": {
                        "type": "http", "scheme": "bearer",
                        "description": "Of `bootline token create` or `POST /api/v1/tokens`. A WebSocket takes it as the protocol `bearer.TOKEN` too.",
                    },
                    "login": {
                        "type": "apiKey", "in": "cookie", "name": COOKIE,
                        "description": "Of `POST /api/v1/session`, for pages.",
                    },
                    "session": {
                        "type": "http", "scheme": "bearer",
                        "description": "`TOKEN` of the script that a device was given; it is good for its session alone.",
                    },
                },
            },
        })
    }
}

/// One call with its description.
pub struct Call<S> {
    method: &'static str,
    route: MethodRouter<S>,
    told: Told,
}

macro_rules! methods {
    ($($method:ident)+) => {
        impl<S: Clone + Send + Sync + 'static> Call<S> {
            $(pub fn $method<H: Handler<T, S>, T: 'static>(handler: H, id: &'static str, summary: &'static str) -> Self {
                Self { method: stringify!($method), route: $method(handler), told: Told::new(id, summary) }
            })+
        }
    };
}

methods! { get head options patch post put delete }

impl<S: Clone + Send + Sync + 'static> Call<S> {
    /// Changes what is said of it.
    #[must_use]
    pub fn told(mut self, change: impl FnOnce(Told) -> Told) -> Self {
        self.told = change(self.told);
        self
    }

    /// Wraps the route: a limit of its own.
    #[must_use]
    pub fn routed(mut self, change: impl FnOnce(MethodRouter<S>) -> MethodRouter<S>) -> Self {
        self.route = change(self.route);
        self
    }
}

struct Given {
    status: &'static str,
    says: &'static str,
    media: &'static str,
    shape: Option<(Option<&'static str>, Shape)>,
}

/// What is said of a call.
pub struct Told {
    id: &'static str,
    summary: &'static str,
    query: Option<Shape>,
    headers: Vec<(&'static str, &'static str, Value)>,
    required: Vec<&'static str>,
    path: Option<Shape>,
    body: Option<(Vec<&'static str>, Shape)>,
    may_lack_body: bool,
    /// Other proof than of the document as a whole; none at all where it is empty.
    proof: Option<&'static [&'static str]>,
    without: &'static str,
    gives: Vec<Given>,
    refuses: &'static [u16],
}

fn shape_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn octets(_: &mut SchemaGenerator) -> Schema {
    Schema::from(Map::from_iter([("description".to_owned(), json!("the bytes of the file"))]))
}

impl Told {
    pub fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            query: None,
            headers: Vec::new(),
            required: Vec::new(),
            path: None,
            body: None,
            may_lack_body: false,
            proof: None,
            without: "",
            gives: Vec::new(),
            refuses: &[],
        }
    }

    /// The query, as the handler reads it.
    #[must_use]
    pub fn query<Q: JsonSchema>(mut self) -> Self {
        self.query = Some(shape_of::<Q>);
        self
    }

    /// What stands in the path, where it has a form.
    #[must_use]
    pub fn of<P: JsonSchema>(mut self) -> Self {
        self.path = Some(shape_of::<P>);
        self
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, says: &'static str, schema: Value) -> Self {
        self.headers.push((name, says, schema));
        self
    }

    /// Without this header the call is refused.
    #[must_use]
    pub fn must(mut self, name: &'static str, says: &'static str, schema: Value) -> Self {
        self.required.push(name);
        self.header(name, says, schema)
    }

    /// A change that may be guarded by the revision that it was made from.
    #[must_use]
    pub fn guarded(self) -> Self {
        self.header(
            "If-Match",
            "The revision that is changed, as in ETag",
            json!({"type": "string", "pattern": "^(\\*|(W/)?\"?[0-9]{1,9}\"?)$"}),
        )
    }

    /// A JSON body.
    #[must_use]
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some((vec!["application/json"], shape_of::<T>));
        self
    }

    /// A JSON body, or none.
    #[must_use]
    pub fn may_take<T: JsonSchema>(self) -> Self {
        Self { may_lack_body: true, ..self.takes::<T>() }
    }

    /// Whoever calls shows this and nothing else; the names are those of `securitySchemes`.
    #[must_use]
    pub fn proven_by(self, schemes: &'static [&'static str]) -> Self {
        Self { proof: Some(schemes), ..self }
    }

    /// One field of the body comes from the path.
    #[must_use]
    pub fn without(mut self, field: &'static str) -> Self {
        self.without = field;
        self
    }

    /// A file.
    #[must_use]
    pub fn takes_bytes(mut self, media: Vec<&'static str>) -> Self {
        self.body = Some((media, octets));
        self
    }

    #[must_use]
    pub fn gives<T: JsonSchema>(self, status: &'static str, says: &'static str) -> Self {
        self.answer(status, says, "application/json", Some((None, shape_of::<T>)))
    }

    /// `{"field": ..}`
    #[must_use]
    pub fn gives_as<T: JsonSchema>(self, status: &'static str, field: &'static str, says: &'static str) -> Self {
        self.answer(status, says, "application/json", Some((Some(field), shape_of::<T>)))
    }

    #[must_use]
    pub fn gives_bytes(self, status: &'static str, media: &'static str, says: &'static str) -> Self {
        self.answer(status, says, media, Some((None, octets)))
    }

    #[must_use]
    pub fn gives_text(self, status: &'static str, media: &'static str, says: &'static str) -> Self {
        self.answer(status, says, media, Some((None, shape_of::<String>)))
    }

    #[must_use]
    pub fn gives_nothing(self, status: &'static str, says: &'static str) -> Self {
        self.answer(status, says, "", None)
    }

    fn answer(
        mut self,
        status: &'static str,
        says: &'static str,
        media: &'static str,
        shape: Option<(Option<&'static str>, Shape)>,
    ) -> Self {
        self.gives.push(Given { status, says, media, shape });
        self
    }

    /// Statuses of problems that have their own meaning here; any other is possible too.
    #[must_use]
    pub fn refuses(mut self, statuses: &'static [u16]) -> Self {
        self.refuses = statuses;
        self
    }

    fn operation(self, path: &str, written: &mut SchemaGenerator, read: &mut SchemaGenerator) -> Value {
        let tag = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let mut operation = json!({"operationId": self.id, "summary": self.summary, "tags": [tag], "responses": self.responses(written)});
        let parameters = self.parameters(path, read);
        if !parameters.is_empty() {
            operation["parameters"] = json!(parameters);
        }
        if let Some((media, shape)) = &self.body {
            let mut schema = shape(read).to_value();
            strip(&mut schema, self.without);
            let content: Map<String, Value> =
                media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
            operation["requestBody"] = json!({"required": !self.may_lack_body, "content": content});
        }
        if let Some(schemes) = self.proof {
            operation["security"] = schemes.iter().map(|scheme| json!({*scheme: []})).collect();
        }
        operation
    }

    fn responses(&self, written: &mut SchemaGenerator) -> Map<String, Value> {
        let problem = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
        let mut responses = Map::new();
        for Given { status, says, media, shape } in &self.gives {
            let response = responses.entry((*status).to_owned()).or_insert_with(|| json!({"description": says}));
            if let Some((field, shape)) = shape {
                let mut schema = shape(written).to_value();
                if let Some(field) = field {
                    schema = json!({"type": "object", "properties": {*field: schema}, "required": [field]});
                }
                response["content"][*media] = json!({"schema": schema});
            }
        }
        for status in self.refuses {
            let name = axum::http::StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
            let told = json!({"description": name.unwrap_or("refused"), "content": {PROBLEM: problem}});
            responses.insert(status.to_string(), told);
        }
        let other = responses.entry("default").or_insert_with(|| json!({"description": "Why not"}));
        other["content"][PROBLEM] = problem;
        responses
    }

    fn parameters(&self, path: &str, read: &mut SchemaGenerator) -> Vec<Value> {
        let mut parameters = Vec::new();
        for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let name = name.trim_start_matches('*');
            let schema =
                self.path.map_or_else(|| json!({"type": "string", "minLength": 1}), |shape| shape(read).to_value());
            parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
        if let Some(shape) = self.query {
            parameters.extend(query_parameters(&shape(read).to_value()));
        }
        for (name, says, schema) in &self.headers {
            let is_required = self.required.contains(name);
            parameters.push(
                json!({"name": name, "in": "header", "required": is_required, "description": says, "schema": schema}),
            );
        }
        parameters
    }
}

/// The properties of an object, each as a parameter.
fn query_parameters(object: &Value) -> Vec<Value> {
    let required = object["required"].as_array().cloned().unwrap_or_default();
    let properties = object["properties"].as_object().cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let is_required = required.contains(&json!(name));
        tidy(&mut schema);
        let says = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = json!({"name": name, "in": "query", "required": is_required, "schema": schema});
        if let Some(says) = says {
            parameter["description"] = says;
        }
        parameter
    };
    properties.into_iter().map(parameter).collect()
}

/// A parameter is there or not; it is never null.
fn tidy(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.get("default") == Some(&Value::Null) {
        fields.remove("default");
    }
    if let Some(Value::Array(kinds)) = fields.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            fields.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(kinds)) = fields.get_mut("enum") {
        kinds.retain(|kind| !kind.is_null());
    }
    let alternatives = fields.get("anyOf").and_then(Value::as_array).cloned().unwrap_or_default();
    let kept: Vec<Value> = alternatives.into_iter().filter(|one| one["type"] != "null").collect();
    if let [Value::Object(one)] = kept.as_slice() {
        fields.remove("anyOf");
        for (name, value) in one {
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn strip(schema: &mut Value, field: &str) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove(field);
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Query {
        /// How many.
        limit: Option<u8>,
        name: String,
    }

    #[test]
    fn a_query_becomes_parameters_that_are_never_null() {
        let api = Api::<()>::new().at(
            "/things/{id}",
            [Call::get(async || "", "get_thing", "A thing")
                .told(|told| told.query::<Query>().gives_text("200", "text/plain", "It"))],
        );
        let document = api.document();
        let operation = &document["paths"]["/api/v1/things/{id}"]["get"];
        assert_eq!(operation["parameters"][0]["name"], "id");
        assert_eq!(operation["parameters"][1]["schema"]["type"], "integer");
        assert_eq!(operation["parameters"][1]["description"], "How many.");
        assert_eq!(operation["parameters"][1]["required"], false);
        assert_eq!(operation["parameters"][2]["required"], true);
        assert_eq!(
            operation["responses"]["default"]["content"][PROBLEM]["schema"]["$ref"],
            "#/components/schemas/Problem"
        );
        assert!(document["components"]["schemas"]["Problem"].is_object());
    }
}
