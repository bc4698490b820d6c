//! Who gets in from where; the routes over a real socket are in `tests/it/auth.rs`.

use std::net::Ipv4Addr;

use axum::body::Body;
use axum::routing::get;
use axum::{Router, middleware};
use tower::ServiceExt as _;

use super::*;
use crate::core::address::Pool;
use crate::core::command::{Envelope, Reply};
use crate::core::floor::{Deadlines, Settings};
use crate::ledger::Clock;

fn ledger(folder: &std::path::Path) -> Ledger {
    let address = Ipv4Addr::new(192, 168, 5, 1);
    let pool = Pool {
        server: address,
        first: address,
        last: address,
        lease: Duration::from_secs(60),
        reservations: BTreeMap::new(),
    };
    let settings = Settings {
        station: "st-01".to_owned(),
        version: "0.0.0".to_owned(),
        pool,
        max_attempts: 3,
        deadlines: Deadlines::default(),
        line: crate::core::slot::Line::default(),
    };
    Ledger::open(&folder.join("bootline.db"), "", settings, Clock::default()).unwrap().0
}

fn access(legacy: Legacy) -> Access {
    Access {
        loopback: Loopback::Open,
        hosts: Vec::new(),
        listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        scheme: Scheme::Http,
        legacy,
    }
}

async fn status(gate: &Gate, peer: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let api = Router::new()
        .route("/api/v1/projects", get(async || ""))
        .layer(middleware::from_fn_with_state(gate.clone(), guard));
    let legacy = Router::new()
        .route("/project/list", get(async || ""))
        .layer(middleware::from_fn_with_state(gate.clone(), guard_legacy));
    let peer: SocketAddr = peer.parse().unwrap();
    let mut request = Request::builder().uri(path).extension(ConnectInfo(peer));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    api.merge(legacy).oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn with_the_predecessors_configuration_its_routes_are_open_to_all_but_devices() {
    let folder = tempfile::tempdir().unwrap();
    let server = Ipv4Addr::new(192, 168, 5, 1);
    let legacy = Legacy::AllBut { devices: Cidr::v4(server, 16), server: server.into() };
    let gate = Gate::new(ledger(folder.path()), access(legacy));
    let old = "/project/list";
    let named = [("host", "cmprovision.factory.example")];
    assert_eq!(status(&gate, "10.1.1.1:4000", old, &named).await, 200, "an integration");
    assert_eq!(status(&gate, "192.168.5.1:4000", old, &named).await, 200, "the station itself");
    assert_eq!(status(&gate, "127.0.0.1:4000", old, &named).await, 200);
    let by_address = [("host", "192.168.5.1")];
    assert_eq!(status(&gate, "192.168.77.3:4000", old, &by_address).await, 401, "a device");
    let page = [("host", "cmprovision.factory.example"), ("origin", "http://cmprovision.factory.example")];
    assert_eq!(status(&gate, "10.1.1.1:4000", old, &page).await, 403, "a page under a name that nobody listed");
    assert_eq!(status(&gate, "10.1.1.1:4000", "/api/v1/projects", &by_address).await, 401, "what is new is not open");
}

#[tokio::test]
async fn otherwise_its_routes_are_open_to_the_networks_that_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::new(ledger(folder.path()), access(Legacy::From(vec!["10.1.0.0/16".parse().unwrap()])));
    let host = [("host", "192.168.5.1")];
    assert_eq!(status(&gate, "10.1.1.1:4000", "/project/list", &host).await, 200);
    assert_eq!(status(&gate, "10.2.1.1:4000", "/project/list", &host).await, 401);
    assert_eq!(status(&gate, "127.0.0.1:4000", "/project/list", &[("host", "localhost")]).await, 200);
}

async fn asked(ledger: &Ledger, transport: Transport, name: &str) -> Reply {
    let minted_id = Uuid::now_v7().to_string().parse().unwrap();
    let envelope = Envelope { name: Some(name), id: None, minted_id, transport, now: ledger.now() };
    let body = br#"{"params":{"project":"nobody"},"actor":{"type":"token","id":"admin"}}"#;
    ledger.command(body, &envelope).await
}

#[tokio::test]
async fn a_bus_has_one_role_whoever_its_sender_says_he_is() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(folder.path());
    for transport in [Transport::Mqtt, Transport::Nats] {
        let deleting = asked(&ledger, transport, "project.delete").await;
        assert_eq!((deleting.code, deleting.error.unwrap().code.as_str()), (403, "forbidden"));
        assert_eq!(asked(&ledger, transport, "project.activate").await.code, 404, "an operator may ask");
    }
    let ledger = ledger.with_bus_role(Role::Admin);
    assert_eq!(asked(&ledger, Transport::Mqtt, "project.delete").await.code, 404);
}

#[test]
fn nobody_says_for_himself_that_he_has_shown_a_token() {
    let claimed: Actor = serde_json::from_str(r#"{"type":"token","id":"admin"}"#).unwrap();
    let nameless = claimed.clone().proven(&Caller::nameless(Role::Admin), Transport::Rest);
    assert_eq!((nameless.kind.as_str(), nameless.id.as_str()), ("rest", "anonymous"));
    let caller = Caller { role: Role::Viewer, token: Some("erp".to_owned()) };
    let proven = claimed.proven(&caller, Transport::Rest);
    assert_eq!((proven.kind.as_str(), proven.id.as_str()), ("token", "erp"));
    assert_eq!(proven.claims.unwrap().id, "admin");
}
