//! The operator API as an integrator meets it: filters and cursors, CSV, sums, problems, the document of it all.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::agent::TestAgent;
use crate::board::{FakeBoard, Orders};
use crate::http::{self, Answer};

const IMAGE: &[u8] = &[7; 4096];

/// Eight devices: the even ones of `even`, the odd ones of `odd`; 6 fails, 7 is open, the others pass.
fn a_day(agent: &TestAgent) -> Vec<FakeBoard> {
    let image = agent.image("first.img", IMAGE);
    agent.project("odd", &image);
    let even = agent.post("/api/v1/projects", &json!({"name": "even", "image": image}));
    assert_eq!(even.status, 201, "{}", even.text());
    let rules = json!({"rules": [{"project": "even", "when": {"serial": ["*0", "*2", "*4", "*6"]}}]}).to_string();
    let set = http::call(agent.operators, "PUT", "/api/v1/rules", &[], rules.as_bytes()).unwrap();
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(agent.post("/api/v1/projects/even/activate", &json!({})).status, 200);
    let boards: Vec<FakeBoard> = (0..8).map(|n| FakeBoard::new(agent.devices, n)).collect();
    for board in &boards[..6] {
        assert_eq!(board.provision(4096).unwrap().status, 200);
    }
    let orders = Orders::read(&boards[6].ask(4096).unwrap().text());
    boards[6].report(&orders, "step=write&state=started").unwrap();
    let failed =
        boards[6].report(&orders, "step=write&state=failed&code=write.medium&detail==cmd|'/c calc'!A0").unwrap();
    assert_eq!(failed.status, 200, "{}", failed.text());
    boards[7].ask(4096).unwrap();
    boards
}

fn sessions(agent: &TestAgent, query: &str) -> Vec<Value> {
    let answer = agent.get(&format!("/api/v1/sessions{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()["sessions"].as_array().unwrap().clone()
}

fn macs(found: &[Value]) -> BTreeSet<String> {
    found.iter().map(|session| session["mac"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn sessions_are_found_by_what_is_known_of_them() {
    let agent = TestAgent::start("{mqtt: off}");
    let boards = a_day(&agent);
    let of = |numbers: &[usize]| numbers.iter().map(|n| boards[*n].mac.clone()).collect::<BTreeSet<_>>();
    let found = |query: &str| macs(&sessions(&agent, query));
    assert_eq!(found("?project=even"), of(&[0, 2, 4, 6]));
    assert_eq!(found("?project=odd&outcome=passed"), of(&[1, 3, 5]));
    assert_eq!(found("?outcome=failed"), of(&[6]));
    assert_eq!(found("?code=write.medium"), of(&[6]));
    assert_eq!(found("?open=true"), of(&[7]));
    assert_eq!(found("?outcome=open"), of(&[7]));
    assert_eq!(found("?open=false").len(), 7);
    assert_eq!(found(&format!("?serial={}", boards[3].serial)), of(&[3]));
    assert_eq!(found("?mac=02:00:00:00:00:05"), of(&[5]));
    assert_eq!(found("?q=medium"), of(&[6]));
    assert_eq!(found(&format!("?q={}", &boards[4].serial[8..])), of(&[4]), "a part of the serial");
    assert_eq!(found("?q=%25%25"), of(&[]), "a percent sign is a percent sign");
    let all = sessions(&agent, "");
    assert_eq!(all[0]["serial"], boards[7].serial, "the newest first, with its serial");
    let middle = all[4]["started_at"].as_str().unwrap();
    let (young, old) = (sessions(&agent, &format!("?from={middle}")), sessions(&agent, &format!("?to={middle}")));
    assert_eq!(young.len() + old.len(), 8);
    assert!(young.iter().all(|session| session["started_at"].as_str().unwrap() >= middle));
    assert!(old.iter().all(|session| session["started_at"].as_str().unwrap() < middle));
    agent.finish();
}

#[test]
fn pages_show_every_session_once() {
    let agent = TestAgent::start("{mqtt: off}");
    a_day(&agent);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = agent.get(&format!("/api/v1/sessions?limit=3{cursor}")).json();
        seen.extend(page["sessions"].as_array().unwrap().iter().map(|one| one["session"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_before"].as_str() else { break };
        cursor = format!("&before={next}");
    }
    let unique: BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), unique.len()), (8, 8));
    let page = agent.get("/api/v1/devices?limit=5").json();
    let rest = agent.get(&format!("/api/v1/devices?after={}", page["next_after"].as_str().unwrap())).json();
    assert_eq!(rest["devices"].as_array().unwrap().len(), 3);
    assert_eq!(rest["next_after"], Value::Null);
    agent.finish();
}

#[test]
fn a_csv_has_a_row_for_each_session_and_no_formula() {
    let agent = TestAgent::start("{mqtt: off}");
    a_day(&agent);
    let url = format!("http://{}/api/v1/sessions.csv?outcome=failed", agent.operators);
    let out = std::process::Command::new("curl").args(["-sS", "--fail", &url]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut reader = csv::Reader::from_reader(out.stdout.as_slice());
    let heads = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    let cell = |name: &str| rows[0].get(heads.iter().position(|head| head == name).unwrap()).unwrap().to_owned();
    assert_eq!((cell("outcome").as_str(), cell("code").as_str()), ("failed", "write.medium"));
    assert!(cell("detail").starts_with("'="), "{}", cell("detail"));
    agent.finish();
}

#[test]
fn sums_tell_yield_and_why_devices_failed() {
    let agent = TestAgent::start("{mqtt: off}");
    a_day(&agent);
    let stats = agent.get("/api/v1/stats?by=project").json();
    let total = &stats["total"];
    assert_eq!(
        (&total["sessions"], &total["passed"], &total["failed"], &total["open"]),
        (&json!(8), &json!(6), &json!(1), &json!(1))
    );
    assert_eq!(total["yield"], json!(6.0 / 7.0));
    assert_eq!(total["first_pass_yield"], json!(6.0 / 7.0));
    assert!(total["mean_duration_s"].as_f64().unwrap() >= total["shortest_duration_s"].as_f64().unwrap());
    let keys: Vec<&str> =
        stats["groups"].as_array().unwrap().iter().map(|group| group["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["even", "odd"]);
    assert_eq!(stats["failures"][0]["code"], "write.medium");
    assert!(stats["failures"][0]["advice"].as_str().unwrap().contains("storage"));
    let hours = agent.get("/api/v1/stats?by=hour&project=odd").json();
    let in_hours: u64 =
        hours["groups"].as_array().unwrap().iter().map(|group| group["sessions"].as_u64().unwrap()).sum();
    assert_eq!(in_hours, 4);
    agent.finish();
}

#[test]
fn events_are_found_by_kind_id_type_session_and_time() {
    let agent = TestAgent::start("{mqtt: off}");
    let boards = a_day(&agent);
    let events = |query: &str| {
        agent.get(&format!("/api/v1/events?limit=1000{query}")).json()["events"].as_array().unwrap().clone()
    };
    let failed = events("&type=device.failed");
    assert_eq!(failed.len(), 1);
    let steps = events(&format!("&kind=device&id={}&type=device.step.*", boards[0].mac));
    assert_eq!(steps.len(), 4, "{steps:?}");
    let all = events("");
    let newest = events("&before=9000000000000000");
    assert_eq!(newest, all);
    let session = &failed[0]["data"]["session"];
    let own: Vec<Value> = all.iter().filter(|event| event["data"]["session"] == *session).cloned().collect();
    assert!(own.len() > 2 && own.len() < all.len(), "{own:?}");
    assert_eq!(events(&format!("&session={}", session.as_str().unwrap())), own);
    let at = failed[0]["time"].as_str().unwrap();
    assert_eq!(events(&format!("&from={at}")).len() + events(&format!("&to={at}")).len(), all.len());
    agent.finish();
}

fn problem(answer: &Answer) -> (u16, String, String) {
    assert!(answer.headers.contains("content-type: application/problem+json"), "{}: {}", answer.headers, answer.text());
    (answer.status, answer.code(), answer.json()["detail"].as_str().unwrap().to_owned())
}

#[test]
fn what_is_wrong_with_a_request_is_told_by_name_and_value() {
    let agent = TestAgent::start("{mqtt: off}");
    for (query, name, value) in [
        ("/sessions?limit=0", "limit", "\"0\""),
        ("/sessions?limit=1001", "limit", "\"1001\""),
        ("/sessions?outcome=good", "outcome", "good"),
        ("/sessions?from=yesterday", "from", "yesterday"),
        ("/sessions?mac=xx", "mac", "xx"),
        ("/sessions?before=019ab3f4-6a00-7000-8000-000000000001", "before", "019ab3f4"),
        ("/sessions?colour=red", "colour", "red"),
        ("/sessions?q=x", "q", "\"x\""),
        ("/devices?serial=zz", "serial", "zz"),
        ("/events?after=-1", "after", "-1"),
        ("/events?type=Device", "type", "Device"),
        ("/stats?by=moon", "by", "moon"),
        ("/stats?from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from", "2020"),
    ] {
        let (status, code, detail) = problem(&agent.get(&format!("/api/v1{query}")));
        assert_eq!((status, code.as_str()), (400, "invalid_params"), "{query}");
        assert!(detail.contains(name) && detail.contains(value), "{query}: {detail}");
    }
    let call = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        problem(&http::call(agent.operators, method, path, headers, body).unwrap())
    };
    assert_eq!(call("GET", "/api/v1/nothing", &[], b"").0, 404);
    assert_eq!(call("PUT", "/api/v1/projects", &[], b"{}").1, "method_not_allowed");
    assert_eq!(call("GET", "/api/v1/projects", &[("Accept", "text/html")], b"").0, 406);
    assert_eq!(call("POST", "/api/v1/projects", &[("Content-Type", "application/xml")], b"<a/>").0, 415);
    assert_eq!(call("POST", "/api/v1/commands", &[], &vec![b' '; 3 << 20]).0, 413);
    assert_eq!(call("GET", "/api/v1/events/stream", &[], b"").0, 426);
    assert_eq!(call("GET", "/api/v1/projects/%ff", &[], b"").0, 400);
    agent.finish();
}

#[test]
fn the_document_is_served_and_its_pages_ask_no_other_host() {
    let agent = TestAgent::start("{mqtt: off}");
    let document = agent.get("/api/v1/openapi.json");
    assert_eq!(document.json()["openapi"], "3.1.0");
    assert_eq!(agent.get("/openapi.json").body, document.body);
    let page = agent.get("/docs/");
    assert_eq!(page.status, 200, "{}", page.text());
    let starter = agent.get("/docs/swagger-initializer.js");
    assert!(starter.text().contains("/api/v1/openapi.json"), "{}", starter.text());
    for text in [page.text(), starter.text()] {
        let elsewhere = text.split(['"', '\'', ' ']).find(|word| word.starts_with("http"));
        assert_eq!(elsewhere, None, "{text}");
    }
    agent.finish();
}

/// What the built agent answers has the shape that the document says.
#[test]
fn answers_have_the_shape_that_the_document_says() {
    let agent = TestAgent::start("{mqtt: off}");
    let boards = a_day(&agent);
    let document = agent.get("/api/v1/openapi.json").json();
    let session = sessions(&agent, "?outcome=failed")[0]["session"].as_str().unwrap().to_owned();
    let image = agent.get("/api/v1/images").json()["images"][0]["id"].as_str().unwrap().to_owned();
    for (path, id) in [
        ("/projects", ""),
        ("/projects/{id}", "odd"),
        ("/rules", ""),
        ("/scripts", ""),
        ("/images", ""),
        ("/images/{id}", &image),
        ("/firmware", ""),
        ("/jobs", ""),
        ("/devices", ""),
        ("/devices/{id}", &boards[0].mac),
        ("/sessions", ""),
        ("/sessions/{id}", &session),
        ("/events", ""),
        ("/labels", ""),
        ("/label_jobs", ""),
        ("/slots", ""),
        ("/stats", ""),
        ("/station", ""),
        ("/alarms", ""),
    ] {
        let response = &document["paths"][format!("/api/v1{path}")]["get"]["responses"]["200"];
        let mut schema = response["content"]["application/json"]["schema"].clone();
        assert!(schema.is_object(), "{path}");
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let answer = agent.get(&format!("/api/v1{}", path.replace("{id}", id))).json();
        let wrong: Vec<String> =
            validator.iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{path}: {answer}");
    }
    agent.finish();
}

/// The dashboard names only what is exposed, and what is exposed says what it is.
#[test]
fn the_dashboard_shows_metrics_that_are_there() {
    let printers = ("BOOTLINE__PRINTERS", "[{name: zebra, command: ['true']}]");
    let agent = TestAgent::start_with("{mqtt: embedded, mqtt_listen: '127.0.0.1:0'}", &[printers]);
    a_day(&agent);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/grafana/bootline.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let scraped = agent.get("/metrics").text();
    let mut named = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().unwrap();
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            named.extend(
                words.filter(|word| word.starts_with("bootline_") || word.starts_with("process_")).map(str::to_owned),
            );
        }
    }
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(scraped.lines().any(|line| line.starts_with(&name)), "{name} is not exposed:\n{scraped}");
    }
    for line in scraped.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(scraped.contains(&format!("# HELP {name} ")), "{name} says nothing of itself");
    }
    assert!(scraped.contains(r#"bootline_sessions_ended_total{project="even",outcome="failed"} 1"#), "{scraped}");
    agent.finish();
}
