//! Schemas of requests and replies: a row a command.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::core::command::{
    DeviceAssign, DeviceIdentify, DeviceName, FirmwareAdd, FirmwareName, ImageName, LabelName, LabelPrint, LabelPut,
    NAMES, Nothing, ProjectCreate, ProjectName, ProjectUpdate, Reply, Request, RulesSet, RulesTest, ScriptName,
    ScriptPut, SlotPower, SlotWord,
};
use crate::core::delivery::{EventsDiscard, EventsReplay, StationDrain};
use crate::core::firmware::Firmware;
use crate::core::image::Image;
use crate::core::job::{ImageAdd, JobName};
use crate::core::label::Label;
use crate::core::project::Project;
use crate::core::reply::Problem;
use crate::core::results::{
    Aborted, Assigned, Authorized, Discarded, FirmwareRequested, Identified, LabelQueued, NowDrained, OneDevice,
    PowerAsked, Resumed, Unassigned,
};
use crate::core::rule::Rules;
use crate::core::script::Script;
use crate::core::shown::{JobShown, ListedImage, RulesTested, SlotShown, StationShown};
use crate::core::token::{TokenCreate, TokenRevoke, TokenShown};
use crate::schema::document::{Document, Side, reads, writes};
use crate::schema::results::{ListOf, OneOf};
use crate::schema::story::Story;
use crate::schema::{NAMESPACE, Published};

type Of = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A field of its name around one thing.
fn one<T: OneOf>(generator: &mut SchemaGenerator) -> Schema {
    let inner = generator.subschema_for::<T>();
    schemars::json_schema!({"type": "object", "required": [T::FIELD], "properties": {T::FIELD: inner}})
}

/// A field of its name around a list.
fn list<T: ListOf>(generator: &mut SchemaGenerator) -> Schema {
    let inner = generator.subschema_for::<T>();
    schemars::json_schema!({
        "type": "object", "required": [T::FIELD],
        "properties": {T::FIELD: {"type": "array", "items": inner, "description": "All of them."}},
    })
}

/// One command: what it does, its params, what a reply to it holds.
pub struct Row {
    pub name: &'static str,
    pub says: &'static str,
    params: Of,
    result: Of,
}

const fn row(name: &'static str, says: &'static str, params: Of, result: Of) -> Row {
    Row { name, says, params, result }
}

/// In the order of the names that the station announces.
pub const ROWS: &[Row] = &[
    row("project.create", "Makes a project: which image goes onto which storage.", of::<ProjectCreate>, one::<Project>),
    row(
        "project.update",
        "Changes a project. What is left out stays; sessions that run keep their plan. Take `if_match`.",
        of::<ProjectUpdate>,
        one::<Project>,
    ),
    row(
        "project.activate",
        "Devices get this project from now on. Of the projects without rules one is active: the others step back.",
        of::<ProjectName>,
        one::<Project>,
    ),
    row("project.deactivate", "Devices get this project no more.", of::<ProjectName>, one::<Project>),
    row(
        "project.delete",
        "Deletes a project that is not active and that no rule names.",
        of::<ProjectName>,
        one::<Project>,
    ),
    row("project.get", "Shows a project.", of::<ProjectName>, one::<Project>),
    row("project.list", "Shows all projects.", of::<Nothing>, list::<Project>),
    row("image.list", "Shows all images, also those that are being looked at.", of::<Nothing>, list::<ListedImage>),
    row(
        "image.add",
        "Fetches an image from a URL. Answered `accepted` at once; then `image.added` or `image.rejected` is said.",
        of::<ImageAdd>,
        one::<JobShown>,
    ),
    row("image.delete", "Deletes an image that no project and no running session uses.", of::<ImageName>, one::<Image>),
    row("firmware.list", "Shows the EEPROM firmware of the library.", of::<Nothing>, list::<Firmware>),
    row(
        "firmware.add",
        "Takes EEPROM firmware from the import folder of the station. Answered `accepted` at once; then `firmware.added` or `firmware.rejected` is said.",
        of::<FirmwareAdd>,
        of::<FirmwareRequested>,
    ),
    row(
        "firmware.delete",
        "Deletes firmware that no project and no running session uses.",
        of::<FirmwareName>,
        one::<Firmware>,
    ),
    row("job.cancel", "Ends a job that still runs.", of::<JobName>, one::<JobShown>),
    row(
        "device.get",
        "Shows what is known of a device, and its session if one runs.",
        of::<DeviceName>,
        of::<OneDevice>,
    ),
    row(
        "device.authorize",
        "Allows one more attempt on a device that is finished, held or aborted.",
        of::<DeviceName>,
        of::<Authorized>,
    ),
    row(
        "device.abort",
        "Ends the running session of a device; another one needs `device.authorize`.",
        of::<DeviceName>,
        of::<Aborted>,
    ),
    row(
        "device.assign",
        "Says of one device, before or after it was seen, which project it gets and what it is told of itself.",
        of::<DeviceAssign>,
        of::<Assigned>,
    ),
    row("device.unassign", "Takes an assignment back: the rules decide again.", of::<DeviceName>, of::<Unassigned>),
    row(
        "device.power_cycle",
        "Takes the power from the socket that a device is in, and gives it back. Answered `accepted` at once; then `slot.powered` or `slot.power.failed` is said.",
        of::<DeviceName>,
        of::<PowerAsked>,
    ),
    row(
        "device.identify",
        "Shows which one a device is: it blinks while it runs its script, else the power of its port is cycled once, if that can be; refused where nobody would see anything. The answer says `by` what.",
        of::<DeviceIdentify>,
        of::<Identified>,
    ),
    row("slot.list", "Shows the places of the line, and how it goes there.", of::<Nothing>, list::<SlotShown>),
    row(
        "slot.power",
        "Switches Power over Ethernet of a place. Answered `accepted` at once; then `slot.powered` or `slot.power.failed` is said.",
        of::<SlotPower>,
        of::<PowerAsked>,
    ),
    row("slot.release", "Opens a place that was closed after failures.", of::<SlotWord>, of::<SlotWord>),
    row("script.put", "Makes a script of the site, or gives it another text.", of::<ScriptPut>, one::<Script>),
    row(
        "script.delete",
        "Deletes a script that no project and no running session uses.",
        of::<ScriptName>,
        one::<Script>,
    ),
    row("script.list", "Shows all scripts without their texts.", of::<Nothing>, list::<Script>),
    row("label.put", "Makes a label, or gives it another text.", of::<LabelPut>, one::<Label>),
    row(
        "label.delete",
        "Deletes a label that no project uses and that does not wait for a printer.",
        of::<LabelName>,
        one::<Label>,
    ),
    row("label.list", "Shows all labels without their texts.", of::<Nothing>, list::<Label>),
    row(
        "label.print",
        "Queues a label of a device for its printer; then `label.printed` or `label.failed` is said.",
        of::<LabelPrint>,
        of::<LabelQueued>,
    ),
    row(
        "rules.set",
        "Sets all rules at once: what was there before goes. Take `if_match`.",
        of::<RulesSet>,
        of::<Rules>,
    ),
    row("rules.get", "Shows all rules.", of::<Nothing>, of::<Rules>),
    row(
        "rules.test",
        "Says which project a device would get, and why; changes nothing.",
        of::<RulesTest>,
        of::<RulesTested>,
    ),
    row("station.info", "Shows the station at a glance.", of::<Nothing>, of::<StationShown>),
    row(
        "station.drain",
        "Begins no new sessions until `station.resume`; those that run go on. Devices are told to come again.",
        of::<StationDrain>,
        of::<NowDrained>,
    ),
    row("station.resume", "Begins new sessions again.", of::<Nothing>, of::<Resumed>),
    row(
        "events.replay",
        "Sends events again to a bus, with their id and sequence. Answered `accepted` at once; a job tells how far it is.",
        of::<EventsReplay>,
        one::<JobShown>,
    ),
    row(
        "token.create",
        "Makes a token by the hash of its text; the text itself never travels. `bootline token create` makes both.",
        of::<TokenCreate>,
        one::<TokenShown>,
    ),
    row("token.revoke", "Takes a token back; its name stays.", of::<TokenRevoke>, one::<TokenShown>),
    row("token.list", "Shows all tokens, without their hashes.", of::<Nothing>, list::<TokenShown>),
    row("events.discard", "Gives up events that a bus would not take.", of::<EventsDiscard>, of::<Discarded>),
];

pub fn published(story: &Story, missing: &mut Vec<String>) -> Vec<Published> {
    let mut published = Vec::new();
    for name in NAMES {
        let Some(row) = ROWS.iter().find(|row| row.name == name) else {
            missing.push(format!(
                "command {name} has no schema: give it a row in src/schema/commands.rs, then run `cargo run -- schema schemas`"
            ));
            continue;
        };
        let Some((request, reply)) = story.exchange(name) else {
            missing.push(format!(
                "command {name} has no example: let it be asked in src/schema/story.rs, then run `cargo run -- schema schemas`"
            ));
            continue;
        };
        published.push(Published { path: format!("commands/{name}"), schema: request_of(row), example: request });
        published.push(Published { path: format!("replies/{name}"), schema: reply_of(row), example: reply });
    }
    published
}

/// The whole request: the envelope with its name and its params.
fn request_of(row: &Row) -> Value {
    let mut generator = reads();
    let mut schema = generator.root_schema_for::<Request>().to_value();
    schema["properties"]["name"] =
        json!({"const": row.name, "description": "May be left out where the topic or the path says it."});
    schema["properties"]["params"] = (row.params)(&mut generator).to_value();
    schema["properties"]["params"]["description"] = json!("Of the command.");
    schema["description"] = json!(row.says);
    let definitions = generator.take_definitions(true);
    if !required(&schema["properties"]["params"], &definitions).is_empty() {
        schema["required"] = json!(["params"]);
    }
    let document = Document {
        id: format!("{NAMESPACE}:command:{}:1.0", row.name),
        title: format!("Request {}", row.name),
        schema,
        definitions: &definitions,
        side: Side::Read,
    };
    document.finish()
}

fn required(params: &Value, definitions: &serde_json::Map<String, Value>) -> Vec<Value> {
    let name = params["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/"));
    let schema = name.and_then(|name| definitions.get(name)).unwrap_or(params);
    schema["required"].as_array().cloned().unwrap_or_default()
}

/// The whole reply: what came of it, what a dry run would have come to, or a problem.
fn reply_of(row: &Row) -> Value {
    let mut generator = writes();
    let mut schema = generator.root_schema_for::<Reply>().to_value();
    let result = (row.result)(&mut generator).to_value();
    let dry = json!({
        "type": "object", "required": ["dry_run", "would"],
        "properties": {
            "dry_run": {"const": true, "description": "Nothing was done."},
            "would": {"anyOf": [result], "description": "What it would have come to."},
        },
    });
    schema["properties"]["name"] = json!({"const": row.name, "description": "Of the command."});
    schema["properties"]["result"] = json!({
        "anyOf": [result, dry, {"type": "null"}],
        "description": "What came of it; null where it came to nothing.",
    });
    schema["description"] = json!(format!("Reply to a request: {}", row.says));
    conditions(&mut schema);
    let definitions = generator.take_definitions(true);
    let document = Document {
        id: format!("{NAMESPACE}:reply:{}:1.0", row.name),
        title: format!("Reply to {}", row.name),
        schema,
        definitions: &definitions,
        side: Side::Written,
    };
    document.finish()
}

/// What belongs together in a reply.
fn conditions(schema: &mut Value) {
    schema["allOf"] = json!([
        {
            "if": {"properties": {"status": {"enum": ["failed", "rejected", "timed_out"]}}},
            "then": {"properties": {"error": {"type": "object"}, "result": {"type": "null"}}},
        },
        {
            "if": {"properties": {"status": {"const": "accepted"}}},
            "then": {"properties": {"final": {"const": false}, "code": {"const": 202}}},
            "else": {"properties": {"final": {"const": true}}},
        },
    ]);
}

/// What every request, reply and error looks like, whatever the command.
pub fn envelopes() -> [(&'static str, Value); 3] {
    let mut requests = reads();
    let request = requests.root_schema_for::<Request>().to_value();
    let mut replies = writes();
    let mut reply = replies.root_schema_for::<Reply>().to_value();
    reply["properties"]["result"] = json!({
        "type": ["object", "null"], "description": "What came of it; null where it came to nothing.",
    });
    conditions(&mut reply);
    let mut problems = writes();
    let problem = problems.root_schema_for::<Problem>().to_value();
    let finish = |name: &str, title: &str, schema: Value, side| {
        let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
        let id = format!("{NAMESPACE}:{name}:1.0");
        Document { id, title: title.to_owned(), schema, definitions: &definitions, side }.finish()
    };
    [
        ("request", finish("request", "Every request", request, Side::Read)),
        ("reply", finish("reply", "Every reply", reply, Side::Written)),
        ("problem", finish("problem", "Every error, also as the body of an HTTP error", problem, Side::Written)),
    ]
}
