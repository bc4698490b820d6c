//! The document of the API against the built agent: nothing is there that it lacks, it has nothing that is not there, and
//! each call is closed to those whose role does not reach so far.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::agent::TestAgent;
use crate::board::{FakeBoard, Orders, sha256};
use crate::http::{self, Answer};

const IMAGE: &[u8] = &[7; 4096];

/// Paths with their calls, by method.
type Paths = BTreeMap<String, BTreeMap<String, Value>>;

fn paths(document: &Value) -> Paths {
    let calls = |calls: &Value| {
        let calls = calls.as_object().unwrap().iter().filter(|(method, _)| *method != "servers");
        calls.map(|(method, call)| (method.clone(), call.clone())).collect()
    };
    document["paths"].as_object().unwrap().iter().map(|(path, all)| (path.clone(), calls(all))).collect()
}

/// `/jobs/x` of `/jobs/{id}`, or what the names say.
fn filled(path: &str, names: &[(&str, &str)]) -> String {
    let part = |part: &str| match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) => names.iter().find(|(known, _)| *known == name).map_or("x", |(_, value)| value).to_owned(),
        None => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The methods of a path: a method that none has is refused with those that it has.
fn methods(address: SocketAddr, path: &str) -> BTreeSet<String> {
    let answer = http::call(address, "TRACE", &filled(path, &[]), &[], b"").unwrap();
    assert_eq!(answer.status, 405, "{path}: {}", answer.text());
    let allowed = answer.headers.lines().find_map(|line| line.strip_prefix("allow: "));
    let allowed = allowed.unwrap_or_else(|| panic!("{path}: {}", answer.headers));
    // HEAD comes with GET.
    allowed.split(',').map(|method| method.trim().to_owned()).filter(|method| method != "head").collect()
}

#[test]
fn every_path_has_the_methods_that_the_document_says() {
    let agent = TestAgent::start("{mqtt: off}");
    let document = agent.get("/api/v1/openapi.json").json();
    let paths = paths(&document);
    for (path, calls) in &paths {
        let address = if path.starts_with("/api/v1/") { agent.operators } else { agent.devices };
        let told: BTreeSet<String> = calls.keys().filter(|method| *method != "head").cloned().collect();
        assert_eq!(methods(address, path), told, "{path}");
    }
    assert!(paths.len() > 60, "{:?}", paths.keys());
    agent.finish();
}

/// A route comes into the router by the line that describes it. These few do not, and are told of or are no part of the
/// API.
#[test]
fn no_route_of_the_api_stands_beside_its_description() {
    const BESIDE: [&str; 5] = ["/openapi.json", "/metrics", "/api/v1/session", "/healthz", "/readyz"];
    // The device side has a router of its own; the test above asks it. The predecessor's and the page are no part of this.
    const OTHERS: [&str; 4] = ["device", "legacy", "pages", "openapi"];
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !OTHERS.contains(&name.as_str()) {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("\n#[cfg(test)]").next().unwrap();
                found
                    .extend(text.split(".route(").skip(1).filter_map(|rest| rest.split('"').nth(1)).map(str::to_owned));
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"), &mut found);
    let strangers: Vec<&String> = found.iter().filter(|path| !BESIDE.contains(&path.as_str())).collect();
    assert!(strangers.is_empty(), "{strangers:?} are routed without a description; use Api::at");
}

/// Calls that a viewer may make although they are unsafe: they read, or end his own login; of a command the command says.
const OF_VIEWERS: [&str; 5] = ["send_command", "test_rules", "preview_label", "begin_login", "end_login"];
const OF_OPERATORS: [&str; 14] = [
    "activate_project",
    "deactivate_project",
    "authorize_device",
    "abort_device",
    "assign_device",
    "unassign_device",
    "identify_device",
    "power_cycle_device",
    "power_slot",
    "release_slot",
    "print_label",
    "drain_station",
    "resume_station",
    "replay_events",
];
/// Reading that is not for everyone.
const SECRET: [&str; 1] = ["list_tokens"];

#[test]
fn every_call_is_closed_to_those_whose_role_does_not_reach() {
    let mut agent = TestAgent::start_with("{mqtt: off}", &[("BOOTLINE__HTTP__LOOPBACK", "token")]);
    let [viewer, operator, admin] = ["viewer", "operator", "admin"].map(|role| {
        let made = agent.command(&["token", "create", role, "--role", role]);
        assert!(made.status.success(), "{made:?}");
        format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim())
    });
    let call = |token: &str, method: &str, path: &str, body: &[u8]| {
        http::call(agent.operators, method, path, &[("Authorization", token)], body).unwrap()
    };
    assert_eq!(call(&admin, "POST", "/api/v1/images?name=a.img", IMAGE).status, 201);
    let project = json!({"name": "p", "image": "a.img", "active": true}).to_string();
    assert_eq!(call(&admin, "POST", "/api/v1/projects", project.as_bytes()).status, 201);
    let board = FakeBoard::new(agent.devices, 1);
    board.ask(4096).unwrap();
    let paths = paths(&call(&viewer, "GET", "/api/v1/openapi.json", b"").json());
    let mut met = BTreeSet::new();
    for (path, calls) in paths.iter().filter(|(path, _)| path.starts_with("/api/v1/")) {
        let place = if path.contains("/devices/") { filled(path, &[("id", &board.mac)]) } else { filled(path, &[]) };
        // The answer to a HEAD has no body, whatever its length says.
        for (method, told) in calls.iter().filter(|(method, _)| *method != "head") {
            let id = told["operationId"].as_str().unwrap();
            let is_safe = ["get", "head", "options"].contains(&method.as_str());
            let (method, body): (String, &[u8]) = (method.to_uppercase(), if is_safe { b"" } else { b"{}" });
            let may_view = OF_VIEWERS.contains(&id) || (is_safe && !SECRET.contains(&id));
            let may_operate = may_view || OF_OPERATORS.contains(&id);
            // A login with `{}` comes to nothing, and is not refused for its role.
            for (token, may) in [(&viewer, may_view), (&operator, may_operate), (&admin, true)] {
                if id == "delete_project" || (may && method == "DELETE" && path.contains("/tokens/")) {
                    continue;
                }
                let status = call(token, &method, &place, body).status;
                assert_eq!(status != 403, may, "{method} {place} ({id}) of {token:.12}: {status}");
            }
            met.insert(id.to_owned());
        }
    }
    for id in OF_VIEWERS.iter().chain(&OF_OPERATORS).chain(&SECRET) {
        assert!(met.contains(*id), "{id} is not in the document");
    }
    agent.stop();
}

/// What devices call, called: each answer is one that the document has.
#[test]
fn devices_get_what_the_document_says() {
    let agent = TestAgent::start("{mqtt: off}");
    let image = agent.image("first.img", IMAGE);
    let script = agent.post("/api/v1/scripts", &json!({"name": "check", "text": "true"}));
    assert_eq!(script.status, 200, "{}", script.text());
    let project = json!({"name": "p", "image": image, "active": true, "scripts": {"preinstall": ["check"]}});
    assert_eq!(agent.post("/api/v1/projects", &project).status, 201);
    fs::write(agent.folder.path().join("bootfiles/config.txt"), "a=1\n").unwrap();
    let document = agent.get("/api/v1/openapi.json").json();
    let paths = paths(&document);
    let board = FakeBoard::new(agent.devices, 1);
    let orders = Orders::read(&board.ask(4096).unwrap().text());
    let session = orders.path("REPORT_URL").split('/').nth(4).unwrap().to_owned();
    let token = format!("Bearer {}", orders.value("TOKEN"));
    let names = [("session", session.as_str()), ("script", "check"), ("path", "config.txt")];
    let form = "application/x-www-form-urlencoded";
    let sum = sha256(IMAGE);
    let verified = format!("step=verify&state=completed&bytes=4096&sha256={sum}&cache=dropped");
    let mut met = BTreeSet::new();
    let mut ask = |path: &str, method: &str, query: &str, kind: &str, body: &str| -> Answer {
        let told = &paths[path][&method.to_lowercase()];
        let headers = [("Authorization", token.as_str()), ("Content-Type", kind)];
        let place = format!("{}{query}", filled(path, &names));
        let answer = http::call(agent.devices, method, &place, &headers, body.as_bytes()).unwrap();
        let response = &told["responses"][answer.status.to_string()];
        assert!(response.is_object(), "{method} {place}: {} {}", answer.status, answer.text());
        let media = answer.headers.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
        let content = &response["content"][media.split(';').next().unwrap()];
        assert!(content.is_object(), "{method} {place}: {media} is not in {response}");
        if media.ends_with("json") {
            let mut schema = content["schema"].clone();
            schema["components"] = document["components"].clone();
            let validator = jsonschema::validator_for(&schema).unwrap();
            assert!(validator.is_valid(&answer.json()), "{method} {place}: {}", answer.text());
        }
        met.insert(path.to_owned());
        answer
    };
    let of = |what: &str| format!("/device/v1/sessions/{{session}}/{what}");
    let script = ask("/scriptexecute", "GET", &format!("?serial={}&mac={}", board.serial, board.mac), "", "");
    assert!(script.text().starts_with("#!") || script.text().contains("TOKEN="), "{}", script.text());
    assert_eq!(ask("/scriptexecute", "GET", "", "", "").status, 200, "a script that says why there is none");
    ask("/boot/{path}", "GET", "", "", "");
    let orders = Orders::read(&script.text());
    assert_eq!(orders.path("REPORT_URL").split('/').nth(4), Some(session.as_str()), "it is the same session");
    assert_eq!(ask(&of("scripts/{script}"), "GET", "", "", "").status, 200);
    assert_eq!(ask(&of("firmware"), "GET", "", "", "").status, 404, "none is planned");
    let report = of("report");
    assert_eq!(ask(&report, "POST", "", form, "step=preinstall&state=started").status, 200);
    assert_eq!(ask(&of("scripts/{script}/output"), "POST", "", "text/plain", "it went well\n").status, 200);
    ask(&report, "POST", "", form, "step=preinstall&state=completed&script.check=0");
    ask(&report, "POST", "", form, "step=write&state=started");
    assert_eq!(ask(&of("image"), "GET", "", "", "").body, IMAGE);
    ask(&of("progress"), "POST", "", form, "step=write&bytes=1024");
    ask(&report, "POST", "", form, "step=write&state=completed&bytes=4096");
    ask(&report, "POST", "", form, &verified);
    assert_eq!(ask(&report, "POST", "", form, "step=nonsense").status, 400);
    let unasked: Vec<&String> =
        paths.keys().filter(|path| !path.starts_with("/api/") && !met.contains(*path)).collect();
    assert!(unasked.is_empty(), "{unasked:?}");
    agent.finish();
}
