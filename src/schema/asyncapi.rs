//! The AsyncAPI 3.0 document: which channel carries what on MQTT and NATS, as `contract.md` §5 lays them out. Payloads are
//! references to the schemas beside it. It is written from the station's side: it sends events and receives commands.

use serde_json::{Map, Value, json};

use crate::schema::Published;
use crate::schema::commands::ROWS;

const DIALECT: &str = "application/schema+json;version=draft-2020-12";
/// Topics begin so; `{root}` is empty or `enterprise/site/area/line/`.
const MQTT: &str = "{root}bootline/v1/{station}";
const NATS: &str = "bootline.v1.{station}";

const INTRODUCTION: &str = "Events, states and commands of a bootline station. Events are CloudEvents 1.0 at least once, \
    in order for each subject; take them into an inbox with (source, id) as primary key and acknowledge after the commit. \
    Readers ignore fields that they do not know. The guide is schemas/README.md. MQTT topics may begin with a configured \
    root; NATS subjects never do.";

#[derive(Default)]
struct Parts {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

pub fn document(published: &[Published]) -> Value {
    let mut parts = Parts::default();
    for one in published {
        match one.path.split_once('/') {
            Some(("events", name)) => parts.event(name, one),
            Some(("states", name)) => parts.state(name, one),
            Some(("commands", name)) => parts.command(name, one),
            Some(("replies", name)) => parts.reply(name, one),
            _ => {}
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:bootline:v1",
        "info": {
            "title": "bootline", "version": "1.0.0", "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "mqtt": {
                "host": "broker.example.com:1883", "protocol": "mqtt", "protocolVersion": "5.0",
                "description": "MQTT 5; 3.1.1 is served too, then replies go to `res/` or `reply_to`.",
            },
            "nats": {
                "host": "nats.example.com:4222", "protocol": "nats",
                "description": "Events are in the JetStream stream BOOTLINE_EVT, commands are micro services.",
            },
        },
        "channels": parts.channels,
        "operations": parts.operations,
        "components": {"messages": parts.messages},
    })
}

/// `device.step.started` as a key of the document.
fn key(name: &str) -> String {
    name.replace('.', "_")
}

fn reference(kind: &str, key: &str) -> Value {
    json!({"$ref": format!("#/{kind}/{key}")})
}

/// The parameters that an address names.
fn parameters(address: &str) -> Value {
    let all = [
        ("project", "The id of the project."),
        ("command_id", "Of the command that began the work."),
        ("root", "Empty, or up to five levels `enterprise/site/area/line/` with a slash at the end."),
        ("station", "The id of the station: `[A-Za-z0-9_-]{1,64}`."),
        ("id", "What it is about: of a device its MAC, of an image its SHA-256, of a project its id."),
        ("mac", "The MAC of the device: 12 lower-case hex digits."),
        ("event", "The type without its kind: `started`, `step.completed`."),
    ];
    let named = all.iter().filter(|(name, _)| address.contains(&format!("{{{name}}}")));
    Value::Object(named.map(|(name, says)| ((*name).to_owned(), json!({"description": says}))).collect())
}

/// Quality of service and retain flag, as the MQTT binding says them.
fn binding(qos: u8, retain: bool) -> Value {
    json!({"mqtt": {"qos": qos, "retain": retain, "bindingVersion": "0.2.0"}})
}

impl Parts {
    /// A channel that is made when it is named first; the message is one of it from now on.
    fn channel(&mut self, name: &str, server: &str, address: &str, message: &str) {
        let fresh = || {
            json!({
                "address": address, "servers": [reference("servers", server)],
                "messages": {}, "parameters": parameters(address),
            })
        };
        let channel = self.channels.entry(name.to_owned()).or_insert_with(fresh);
        channel["messages"][message] = reference("components/messages", message);
    }

    /// An operation that is made when it is named first; the message is one of it from now on.
    fn operation(&mut self, action: &str, channel: &str, message: &str, more: Value) -> &mut Value {
        let fresh = || {
            let mut operation = json!({"action": action, "channel": reference("channels", channel), "messages": []});
            if let (Some(fields), Value::Object(more)) = (operation.as_object_mut(), more) {
                fields.extend(more);
            }
            operation
        };
        let operation = self.operations.entry(format!("{action}_{channel}")).or_insert_with(fresh);
        if let Some(messages) = operation["messages"].as_array_mut() {
            messages.push(json!({"$ref": format!("#/channels/{channel}/messages/{message}")}));
        }
        operation
    }

    fn message(&mut self, key: &str, content: &str, schema: Value, one: &Published) {
        let message = json!({
            "name": one.path, "title": one.schema["title"], "summary": one.schema["description"],
            "contentType": content,
            "payload": {"schemaFormat": DIALECT, "schema": schema},
            "examples": [{"name": key, "payload": one.example}],
        });
        self.messages.insert(key.to_owned(), message);
    }

    fn event(&mut self, name: &str, one: &Published) {
        let key = key(name);
        let schema = json!({"allOf": [
            {"$ref": "./cloudevent.json"},
            {"type": "object", "properties": {
                "type": {"const": format!("io.bootline.{name}.v1")},
                "dataschema": {"const": one.schema["$id"]},
                "data": {"$ref": format!("./{}.json", one.path)},
            }},
        ]});
        self.message(&key, "application/cloudevents+json; charset=utf-8", schema, one);
        let kind = one.example["subject"].as_str().and_then(|subject| subject.split('/').next()).unwrap_or_default();
        let (mqtt, nats) = (format!("events_{kind}"), format!("nats_events_{kind}"));
        self.channel(&mqtt, "mqtt", &format!("{MQTT}/evt/{kind}/{{id}}"), &key);
        self.channel(&nats, "nats", &format!("{NATS}.evt.{kind}.{{id}}.{{event}}"), &key);
        self.operation("send", &mqtt, &key, json!({"bindings": binding(1, false)}));
        self.operation("send", &nats, &key, json!({}));
    }

    fn state(&mut self, name: &str, one: &Published) {
        let key = format!("state_{name}");
        let (mqtt, nats, bindings) = match name {
            "presence" => ("state/presence", "$KV.bootline_stations.{station}".to_owned(), binding(1, true)),
            "info" => ("state/info", "$KV.bootline_stations.{station}.info".to_owned(), binding(1, true)),
            "project" => {
                ("state/project/{project}", "$KV.bootline_projects.{station}.{project}".to_owned(), binding(1, true))
            }
            "job_report" => {
                ("job/{command_id}", "$KV.bootline_jobs.{station}.{command_id}".to_owned(), binding(1, true))
            }
            "telemetry" => ("telemetry/device/{mac}", format!("{NATS}.telemetry.device.{{mac}}"), binding(0, false)),
            // REST shows it.
            _ => return,
        };
        self.message(&key, "application/json", json!({"$ref": format!("./{}.json", one.path)}), one);
        self.channel(&key, "mqtt", &format!("{MQTT}/{mqtt}"), &key);
        self.channel(&format!("nats_{key}"), "nats", &nats, &key);
        self.operation("send", &key, &key, json!({"bindings": bindings}));
        self.operation("send", &format!("nats_{key}"), &key, json!({}));
    }

    fn command(&mut self, name: &str, one: &Published) {
        let (message, channel) = (format!("request_{}", key(name)), format!("command_{}", key(name)));
        self.message(&message, "application/json", json!({"$ref": format!("./{}.json", one.path)}), one);
        self.messages[&message]["headers"] = json!({
            "type": "object",
            "properties": {
                "responseTopic": {
                    "type": "string", "maxLength": 256,
                    "description": "Of MQTT 5: below `{root}bootline/v1/_reply/`. Without it `reply_to` of the payload counts, then `res/`.",
                },
                "correlationData": {"type": "string", "description": "Of MQTT 5: comes back unchanged."},
                "replyTo": {"type": "string", "description": "Of NATS: the reply subject of the request."},
            },
        });
        self.channel(&channel, "mqtt", &format!("{MQTT}/cmd/{}", name.replace('.', "/")), &message);
        self.channel(&format!("nats_{channel}"), "nats", &format!("{NATS}.cmd.{name}"), &message);
        let says = ROWS.iter().find(|row| row.name == name).map_or("", |row| row.says);
        let reply = |location: &str| {
            json!({
                "summary": says,
                "reply": {
                    "address": {"location": format!("$message.header#/{location}")},
                    "channel": reference("channels", "replies"),
                    "messages": [{"$ref": format!("#/channels/replies/messages/reply_{}", key(name))}],
                },
            })
        };
        let mut mqtt = reply("responseTopic");
        mqtt["bindings"] = binding(1, false);
        self.operation("receive", &channel, &message, mqtt);
        self.operation("receive", &format!("nats_{channel}"), &message, reply("replyTo"));
    }

    /// Replies go where the request says, and to `res/` where it says nothing.
    fn reply(&mut self, name: &str, one: &Published) {
        let message = format!("reply_{}", key(name));
        self.message(&message, "application/json", json!({"$ref": format!("./{}.json", one.path)}), one);
        let inbox = || json!({"address": null, "messages": {}});
        let replies = self.channels.entry("replies").or_insert_with(inbox);
        replies["messages"][&message] = reference("components/messages", &message);
        let default = format!("result_{}", key(name));
        self.channel(&default, "mqtt", &format!("{MQTT}/res/{}", name.replace('.', "/")), &message);
        self.operation("send", &default, &message, json!({"bindings": binding(1, false)}));
    }
}
