//! The route table of `/api/v1`: each call with its handler and what is said of it.

use serde_json::{Value, json};

use crate::core::command::{
    DeviceAssign, DeviceIdentify, ProjectCreate, ProjectUpdate, Reply, RulesSet, RulesTest, ScriptPut,
};
use crate::core::plan::SessionId;
use crate::core::project::{Project, ProjectId};
use crate::core::results::{Aborted, Assigned, Authorized, Identified, Unassigned};
use crate::core::rule::Rules;
use crate::core::script::{Script, ScriptId};
use crate::core::shown::{RulesTested, StationShown};
use crate::http::extract::Limit;
use crate::http::openapi::{Api, Call, Told};
use crate::http::operator::{self, Alarm, AnyRequest, DeviceWithHistory, Operator, ScriptWithText};
use crate::http::{
    auth, delivery, events, firmware, history, images, labels, slots, stats, telemetry, tokens, uploads,
};

const KEY: &str = "Idempotency-Key";
const KEY_SAYS: &str =
    "Chosen by you, once for each intent: the same key again gets the stored answer and does nothing";

fn key() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{8,64}$"})
}

/// Every route of `/api/v1`, each with its description.
pub fn api() -> Api<Operator> {
    let api = Api::new()
        .at(
            "/commands",
            [Call::post(operator::command, "send_command", "A request as on the bus; the answer is the whole reply")
                .told(|told| {
                    told.header(KEY, KEY_SAYS, key())
                        .takes::<AnyRequest>()
                        .gives::<Reply>("200", "It is done")
                        .gives::<Reply>("202", "It was begun")
                        .gives::<Reply>("default", "Why not: the whole reply")
                })],
        )
        .at(
            "/station",
            [Call::get(operator::station, "get_station", "The station at a glance")
                .told(|told| told.gives::<StationShown>("200", "It"))],
        )
        .at(
            "/alarms",
            [Call::get(operator::alarms, "list_alarms", "What somebody must act on")
                .told(|told| told.gives_as::<Vec<Alarm>>("200", "alarms", "Those that stand"))],
        )
        .at(
            "/stats",
            [Call::get(stats::stats, "get_stats", "Yield, throughput, durations and failures").told(|told| {
                told.query::<stats::StatsQuery>().gives::<stats::StatsShown>("200", "The sums").refuses(&[400])
            })],
        );
    let api = history_routes(device_routes(shelf_routes(rule_routes(project_routes(api)))));
    access_routes(tokens::routes(delivery::routes(slots::routes(api))))
}

/// Who is there, and this description.
fn access_routes(api: Api<Operator>) -> Api<Operator> {
    let sign_in = Told::new("begin_login", "A page shows a token once and gets a cookie that no script can read")
        .proven_by(&[])
        .takes::<auth::Login>()
        .gives::<auth::Who>("201", "`Set-Cookie` has it")
        .refuses(&[400, 401, 403, 413, 415, 429]);
    let document = Told::new("get_openapi", "This document").gives::<Value>("200", "It");
    api.at(
        "/session",
        [
            Call::get(auth::show, "get_login", "Who the caller is to the station")
                .told(|told| told.gives::<auth::Who>("200", "Role and name")),
            Call::delete(auth::leave, "end_login", "The cookie opens nothing any more")
                .told(|told| told.gives_nothing("204", "It is over").refuses(&[404])),
        ],
    )
    .elsewhere("/session", "post", sign_in)
    .elsewhere("/openapi.json", "get", document)
}

fn project_routes(api: Api<Operator>) -> Api<Operator> {
    let one = |told: Told| {
        told.of::<ProjectId>().gives_as::<Project>("200", "project", "As it is now").refuses(&[400, 404, 412])
    };
    api.at(
        "/projects",
        [
            Call::get(operator::projects, "list_projects", "All projects")
                .told(|told| told.gives_as::<Vec<Project>>("200", "projects", "All of them")),
            Call::post(operator::create_project, "create_project", "Another project").told(|told| {
                told.header(KEY, KEY_SAYS, key())
                    .takes::<ProjectCreate>()
                    .gives_as::<Project>("201", "project", "It is there")
                    .gives_as::<Project>("200", "project", "The same request was carried out before")
                    .refuses(&[400, 404, 409, 413, 415, 422])
            }),
        ],
    )
    .at(
        "/projects/{id}",
        [
            Call::get(operator::project, "get_project", "One project").told(one),
            Call::patch(operator::update_project, "update_project", "What is named is changed").told(|told| {
                one(told)
                    .guarded()
                    .takes::<ProjectUpdate>()
                    .without("project")
                    .refuses(&[400, 404, 409, 412, 413, 415, 422])
            }),
            Call::delete(operator::delete_project, "delete_project", "It goes; its sessions stay")
                .told(|told| one(told).guarded().refuses(&[400, 404, 409, 412])),
        ],
    )
    .at(
        "/projects/{id}/activate",
        [Call::post(operator::activate_project, "activate_project", "Devices get it").told(|told| one(told).guarded())],
    )
    .at(
        "/projects/{id}/deactivate",
        [Call::post(operator::deactivate_project, "deactivate_project", "No device gets it")
            .told(|told| one(told).guarded())],
    )
}

fn rule_routes(api: Api<Operator>) -> Api<Operator> {
    api.at(
        "/rules",
        [
            Call::get(operator::rules, "get_rules", "Which devices get which project")
                .told(|told| told.gives::<Rules>("200", "In the order in which they are asked")),
            Call::put(operator::set_rules, "set_rules", "All rules anew").told(|told| {
                told.guarded()
                    .takes::<RulesSet>()
                    .gives::<Rules>("200", "As they are now")
                    .refuses(&[400, 404, 412, 413, 415, 422])
            }),
        ],
    )
    .at(
        "/rules/test",
        [Call::post(operator::test_rules, "test_rules", "Which project would this device get, and why").told(|told| {
            told.takes::<RulesTest>().gives::<RulesTested>("200", "The verdict").refuses(&[400, 404, 413, 415])
        })],
    )
    .at(
        "/scripts",
        [
            Call::get(operator::scripts, "list_scripts", "Scripts of the site")
                .told(|told| told.gives_as::<Vec<Script>>("200", "scripts", "All of them, without their texts")),
            Call::post(operator::put_script, "put_script", "A script, or another text of one").told(|told| {
                told.header(KEY, KEY_SAYS, key())
                    .takes::<ScriptPut>()
                    .gives_as::<Script>("200", "script", "It is there")
                    .refuses(&[400, 413, 415, 422])
            }),
        ],
    )
    .at(
        "/scripts/{id}",
        [
            Call::get(operator::script, "get_script", "One script, with its text")
                .told(|told| told.of::<ScriptId>().gives::<ScriptWithText>("200", "It").refuses(&[404])),
            Call::delete(operator::delete_script, "delete_script", "It goes").told(|told| {
                told.of::<ScriptId>().gives_as::<Script>("200", "script", "What was there").refuses(&[400, 404, 409])
            }),
        ],
    )
}

fn shelf_routes(api: Api<Operator>) -> Api<Operator> {
    let api = images::routes(api);
    let api = firmware::routes(api);
    labels::routes(uploads::routes(api))
}

fn device_routes(api: Api<Operator>) -> Api<Operator> {
    let refusing = |told: Told| told.refuses(&[400, 404, 409]);
    let api = api
        .at(
            "/devices",
            [Call::get(history::devices, "list_devices", "Devices that were seen, in the order of their MAC").told(
                |told| {
                    told.query::<history::DeviceQuery>().gives::<history::DevicePage>("200", "A page").refuses(&[400])
                },
            )],
        )
        .at(
            "/devices/{id}",
            [Call::get(
                operator::device,
                "get_device",
                "One device by its MAC or serial, its newest sessions and boots",
            )
            .told(|told| told.gives::<DeviceWithHistory>("200", "It").refuses(&[400, 404]))],
        );
    api.at(
        "/devices/{id}/authorize",
        [Call::post(operator::authorize_device, "authorize_device", "One more attempt")
            .told(|told| refusing(told.gives::<Authorized>("200", "It is allowed")))],
    )
    .at(
        "/devices/{id}/abort",
        [Call::post(operator::abort_device, "abort_device", "Its session ends")
            .told(|told| refusing(told.gives::<Aborted>("200", "It is over")))],
    )
    .at(
        "/devices/{id}/identify",
        [Call::post(
            operator::identify_device,
            "identify_device",
            "It blinks while it runs its script, else the LED of its port does",
        )
        .told(|told| {
            told.may_take::<DeviceIdentify>()
                .without("device")
                .gives::<Identified>("200", "It shows which one it is, and `by` what")
                .refuses(&[400, 404, 409, 413, 415, 422])
        })],
    )
    .at(
        "/devices/{id}/assign",
        [Call::post(operator::assign_device, "assign_device", "It gets this project, whatever the rules say").told(
            |told| {
                told.takes::<DeviceAssign>()
                    .without("device")
                    .gives::<Assigned>("200", "What it gets now")
                    .refuses(&[400, 404, 413, 415, 422])
            },
        )],
    )
    .at(
        "/devices/{id}/unassign",
        [Call::post(operator::unassign_device, "unassign_device", "The rules decide again")
            .told(|told| refusing(told.gives::<Unassigned>("200", "Nothing is assigned")))],
    )
}

fn history_routes(api: Api<Operator>) -> Api<Operator> {
    api.at(
        "/sessions",
        [Call::get(history::sessions, "list_sessions", "Sessions, the newest first").told(|told| {
            told.query::<history::SessionQuery<Limit>>().gives::<history::SessionPage>("200", "A page").refuses(&[400])
        })],
    )
    .at(
        "/sessions.csv",
        [Call::get(history::csv, "export_sessions", "Sessions as CSV, the newest first").told(|told| {
            told.query::<history::SessionQuery<history::Most>>()
                .gives_text("200", "text/csv", "One row a session")
                .refuses(&[400])
        })],
    )
    .at(
        "/sessions/{id}",
        [Call::get(history::session, "get_session", "One session, and the boot that led to it").told(|told| {
            told.of::<SessionId>().gives_as::<history::ListedSession>("200", "session", "It").refuses(&[400, 404])
        })],
    )
    .at(
        "/sessions/{id}/output",
        [Call::get(history::output, "get_session_output", "What its scripts have printed").told(|told| {
            told.of::<SessionId>().gives_as::<Vec<Value>>("200", "output", "A script each").refuses(&[400, 404])
        })],
    )
    .at(
        "/events",
        [Call::get(events::page, "list_events", "The journal, oldest first")
            .told(|told| told.query::<events::Page>().gives::<events::EventPage>("200", "A page").refuses(&[400]))],
    )
    .at(
        "/events/stream",
        [Call::get(
            events::stream,
            "stream_events",
            "A WebSocket that sends CloudEvents: what was, and then what comes",
        )
        .told(|told| {
            told.query::<events::Listening>().gives_nothing("101", "From here on, frames of text").refuses(&[400, 426])
        })],
    )
    .at(
        "/telemetry/stream",
        [Call::get(
            telemetry::stream,
            "stream_telemetry",
            "A WebSocket that sends `{\"telemetry\": [..]}`: the newest progress of each device that works",
        )
        .told(|told| told.gives_nothing("101", "From here on, frames of text").refuses(&[426]))],
    )
}

/// What the handlers and the types say, as `schemas/openapi.json` has it.
pub fn openapi() -> Value {
    api().document()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made anew with `BLESS=1`.
    #[test]
    fn the_committed_document_is_what_the_routes_say() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/openapi.json");
        let said = format!("{}\n", serde_json::to_string_pretty(&openapi()).unwrap());
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &said).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(committed == said, "schemas/openapi.json is old; BLESS=1 makes it anew");
    }

    #[test]
    fn every_call_has_a_name_of_its_own_and_names_only_shapes_that_are_there() {
        let document = openapi();
        let mut names = std::collections::BTreeSet::new();
        for (path, calls) in document["paths"].as_object().unwrap() {
            for (method, call) in calls.as_object().unwrap().iter().filter(|(method, _)| *method != "servers") {
                let name = call["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{method} {path}: {name} is there twice");
            }
        }
        assert!(names.len() > 80, "{names:?}");
        let text = document.to_string();
        for part in text.split("\"$ref\":\"").skip(1) {
            let place = part.split('"').next().unwrap().trim_start_matches('#');
            assert!(document.pointer(place).is_some(), "{place} is not there");
        }
    }
}
