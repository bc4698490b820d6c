//! Tokens, roles, logins and TLS on the operator side, over the built agent.

use std::process::Command;

use serde_json::{Value, json};

use crate::agent::TestAgent;
use crate::http::{self, Answer};

const LOCKED: [(&str, &str); 1] = [("BOOTLINE__HTTP__LOOPBACK", "token")];

fn call(agent: &TestAgent, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = if token.is_empty() { vec![] } else { vec![("Authorization", bearer.as_str())] };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::call(agent.operators, method, path, &headers, body.as_bytes()).unwrap()
}

fn make(agent: &TestAgent, name: &str, role: &str) -> String {
    let output = agent.command(&["token", "create", name, "--role", role]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_token_opens_what_its_role_may_until_it_is_revoked() {
    let agent = TestAgent::start_with("{mqtt: off}", &LOCKED);
    let nobody = call(&agent, "", "GET", "/api/v1/projects", &Value::Null);
    assert_eq!((nobody.status, nobody.code()), (401, "token_needed".to_owned()));
    assert!(nobody.headers.contains("www-authenticate: bearer"));
    let [viewer, operator, admin] = ["viewer", "operator", "admin"].map(|role| make(&agent, role, role));
    let image = http::call(
        agent.operators,
        "POST",
        "/api/v1/images?name=a.img",
        &[("Authorization", &format!("Bearer {admin}"))],
        &[1; 512],
    );
    assert_eq!(image.unwrap().status, 201);
    let project = json!({"name": "p", "image": "a.img"});
    for (token, method, path, body, status) in [
        (&viewer, "GET", "/api/v1/projects", &Value::Null, 200),
        (&viewer, "GET", "/metrics", &Value::Null, 200),
        (&viewer, "POST", "/api/v1/projects", &project, 403),
        (&viewer, "POST", "/api/v1/images?name=b.img", &Value::Null, 403),
        (&viewer, "GET", "/api/v1/tokens", &Value::Null, 403),
        (&viewer, "DELETE", "/image/delete-image?image=a.img", &Value::Null, 403),
        (&operator, "POST", "/api/v1/projects", &project, 403),
        (&operator, "POST", "/api/v1/tokens", &json!({"name": "x", "role": "admin"}), 403),
        (&admin, "POST", "/api/v1/projects", &project, 201),
        (&viewer, "POST", "/api/v1/projects/p/activate", &Value::Null, 403),
        (&operator, "POST", "/api/v1/projects/p/activate", &Value::Null, 200),
        (&operator, "POST", "/api/v1/commands", &json!({"name": "project.delete", "params": {"project": "p"}}), 403),
        (&viewer, "POST", "/api/v1/labels/none/preview", &json!({"device": "020000000001"}), 404),
        (&viewer, "POST", "/api/v1/labels/none/print", &json!({"device": "020000000001"}), 403),
        (&operator, "POST", "/api/v1/labels/none/print", &json!({"device": "020000000001"}), 404),
        (&operator, "POST", "/api/v1/labels", &json!({"name": "plate", "text": "x"}), 403),
        (&viewer, "GET", "/result/getresults", &Value::Null, 404),
        // The predecessor's uploads are no commands; they are for whom those of `/api/v1` are for.
        (&operator, "POST", "/image/upload-image", &Value::Null, 403),
        (&operator, "POST", "/eeprom/upload-eeprom", &Value::Null, 403),
        (&admin, "POST", "/image/upload-image", &Value::Null, 422),
        (&admin, "POST", "/eeprom/upload-eeprom", &Value::Null, 422),
    ] {
        let answer = call(&agent, token, method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    // The reply says which command was refused, as far as there is one of this name.
    for (name, told) in [("project.delete", "project.delete"), ("project.explode", "unknown")] {
        let body = json!({"name": name, "command_id": "order-0007", "params": {"project": "p"}});
        let reply = call(&agent, &operator, "POST", "/api/v1/commands", &body).json();
        assert_eq!((&reply["name"], &reply["command_id"]), (&json!(told), &json!("order-0007")), "{reply}");
    }
    // Who did what is in the journal, and no token is.
    let answer = call(&agent, &viewer, "GET", "/api/v1/events?limit=1000", &Value::Null);
    let events = answer.json()["events"].as_array().unwrap().clone();
    let by = |name: &str| {
        let event = events.iter().find(|event| event["data"]["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        event["data"]["actor"].clone()
    };
    assert_eq!(by("project.activate"), json!({"type": "token", "id": "operator"}));
    assert_eq!(by("image.upload"), json!({"type": "token", "id": "admin"}));
    for secret in [&viewer, &operator, &admin] {
        assert!(!answer.text().contains(secret.as_str()));
    }

    assert!(agent.command(&["token", "revoke", "operator"]).status.success());
    assert_eq!(call(&agent, &operator, "GET", "/api/v1/projects", &Value::Null).code(), "bad_token");
    let tokens = call(&agent, &admin, "GET", "/api/v1/tokens", &Value::Null).text();
    assert!(tokens.contains("revoked_at") && !tokens.contains("sha256"), "{tokens}");
}

#[test]
fn a_token_is_made_before_the_agent_runs_while_it_runs_and_after() {
    let mut agent = TestAgent::start_with("{mqtt: off}", &LOCKED);
    let running = make(&agent, "running", "viewer");
    assert!(agent.stop().success());
    let stopped = make(&agent, "stopped", "viewer");
    let twice = agent.command(&["token", "create", "stopped", "--role", "viewer"]);
    assert_eq!(twice.status.code(), Some(1), "{twice:?}");
    assert!(String::from_utf8_lossy(&twice.stderr).contains("already"), "{twice:?}");
    agent.restart();
    for token in [running, stopped] {
        assert_eq!(call(&agent, &token, "GET", "/api/v1/projects", &Value::Null).status, 200);
    }
    let list = agent.command(&["token", "list", "--json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list["tokens"].as_array().unwrap().len(), 2);
    // The very first one, where there is not even a folder.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new");
    let first = agent.command(&["token", "create", "first", "--role", "admin", "--data", data.to_str().unwrap()]);
    assert!(first.status.success(), "{first:?}");
}

#[test]
fn a_browser_logs_in_by_a_cookie_that_no_script_reads() {
    let agent = TestAgent::start_with("{mqtt: off}", &LOCKED);
    let token = make(&agent, "page", "operator");
    let login = call(&agent, "", "POST", "/api/v1/session", &json!({"token": token}));
    assert_eq!((login.status, login.json()), (201, json!({"role": "operator", "name": "page"})));
    let cookie = login.headers.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap().to_owned();
    for part in ["httponly", "samesite=strict", "path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(&token) && !cookie.contains("secure"));
    let pair = cookie.split(';').next().unwrap();
    let with = |method: &str, path: &str| http::call(agent.operators, method, path, &[("Cookie", pair)], b"").unwrap();
    assert_eq!(with("GET", "/api/v1/session").json(), json!({"role": "operator", "name": "page"}));
    assert_eq!(with("GET", "/api/v1/projects").status, 200);
    assert_eq!(with("GET", "/api/v1/tokens").status, 403);
    let elsewhere = [("Cookie", pair), ("Origin", "http://evil.example")];
    let stolen = http::call(agent.operators, "GET", "/api/v1/projects", &elsewhere, b"").unwrap();
    assert_eq!(stolen.status, 403);
    assert_eq!(with("DELETE", "/api/v1/session").status, 204);
    assert_eq!(with("GET", "/api/v1/projects").status, 401);
    for (name, value) in [
        ("content-security-policy", "default-src 'self'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert!(login.headers.contains(&format!("{name}: {value}")), "{}", login.headers);
    }
}

#[test]
fn a_websocket_takes_the_token_as_a_protocol() {
    let agent = TestAgent::start_with("{mqtt: off}", &LOCKED);
    let token = make(&agent, "listener", "viewer");
    let upgrade = |protocols: &str| {
        let headers = [
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", protocols),
        ];
        http::call(agent.operators, "GET", "/api/v1/events/stream", &headers, b"").unwrap()
    };
    assert_eq!(upgrade("cloudevents.json").status, 401);
    // Let in, and told that this is no upgrade: the client of this test closes its connections.
    let known = upgrade(&format!("cloudevents.json, bearer.{token}"));
    assert!([101, 400, 426].contains(&known.status), "{}", known.text());
    assert!(!known.headers.contains(&token));
}

#[test]
fn guessing_is_slowed_down() {
    let agent = TestAgent::start_with("{mqtt: off}", &LOCKED);
    let token = make(&agent, "one", "viewer");
    let guess = || call(&agent, "bl_guess", "GET", "/api/v1/projects", &Value::Null);
    assert!((0..10).all(|_| guess().status == 401));
    let waits = guess();
    assert_eq!((waits.status, waits.code()), (429, "too_many_failures".to_owned()));
    assert!(waits.headers.contains("retry-after: "), "{}", waits.headers);
    assert_eq!(call(&agent, &token, "GET", "/api/v1/projects", &Value::Null).status, 429);
    // Devices are never told so.
    assert_eq!(http::call(agent.devices, "GET", "/scriptexecute?serial=1", &[], b"").unwrap().status, 200);
}

#[test]
fn tls_speaks_to_those_who_trust_its_certificate_and_leads_the_others_there() {
    let agent = TestAgent::start_with("{mqtt: off}", &[("BOOTLINE__HTTP__TLS", "self-signed")]);
    let certificate = agent.folder.path().join("data/tls/cert.pem");
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl").args(["-s", "-S", "-i"]).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let url = format!("https://localhost:{}/api/v1/projects", agent.operators.port());
    let (code, answer) = curl(&["--cacert", certificate.to_str().unwrap(), &url]);
    assert!(code == Some(0) && answer.starts_with("HTTP/1.1 200"), "{code:?} {answer}");
    let (code, _) = curl(&[&url]);
    assert_eq!(code, Some(60), "a certificate that nobody vouches for");
    let (_, answer) = curl(&[&url.replace("https", "http")]);
    assert!(answer.starts_with("HTTP/1.1 308") && answer.contains(&format!("Location: {url}")), "{answer}");
    let (_, answer) = curl(&["-d", "{}", &url.replace("https", "http")]);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}
