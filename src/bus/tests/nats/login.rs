//! How a station shows who it is, and what it says when the server does not believe it.

use nix::sys::signal::Signal;

use super::keys::{Authority, Key, Operator};
use super::{Natsd, Program, World, on_both};
use crate::bus::Mqtt;
use crate::bus::nats::{ClientCertificate, Login, Settings, Tls};

/// A station comes to a server with this configuration by this login, and its event is taken.
async fn comes_in(program: &Program, extra: &str, mut world: World, settings: impl FnOnce(Settings) -> Settings) {
    let mut natsd = Natsd::new(program, world.folder.path(), extra);
    natsd.server.start().await;
    world.happen(1).await;
    // No server of this kind takes a stranger.
    assert!(async_nats::connect(natsd.url()).await.is_err());
    world.start(Mqtt::Off, Some(settings(natsd.settings()))).await;
    world.delivered("nats").await;
    world.stop().await;
}

/// A secret in a file of its own.
fn file(world: &World, name: &str, secret: &str) -> std::path::PathBuf {
    let path = world.folder.path().join(name);
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    path
}

on_both!(by_user_and_password);
async fn by_user_and_password(program: &Program) {
    let world = World::new();
    let login = Login::Password { user: "st-01".to_owned(), file: file(&world, "password", "s3cret") };
    let extra = "authorization { users: [ { user: st-01, password: s3cret } ] }";
    comes_in(program, extra, world, |settings| Settings { login, ..settings }).await;
}

on_both!(by_token);
async fn by_token(program: &Program) {
    let world = World::new();
    let login = Login::Token(file(&world, "token", "t0ken"));
    comes_in(program, "authorization { token: t0ken }", world, |settings| Settings { login, ..settings }).await;
}

on_both!(by_nkey);
async fn by_nkey(program: &Program) {
    let (world, key) = (World::new(), Key::user());
    let login = Login::Nkey(key.seed_file(world.folder.path()));
    let extra = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public());
    comes_in(program, &extra, world, |settings| Settings { login, ..settings }).await;
}

on_both!(by_credentials_of_an_operator);
async fn by_credentials_of_an_operator(program: &Program) {
    let (world, operator) = (World::new(), Operator::new());
    let login = Login::Credentials(file(&world, "st-01.creds", &operator.creds));
    comes_in(program, &operator.config, world, |settings| Settings { login, ..settings }).await;
}

/// TLS as the server is configured for it.
fn tls(world: &World, more: &str) -> (String, Authority) {
    let folder = world.folder.path();
    let authority = Authority::new(folder, "ca");
    let [cert, key] = authority.issue("127.0.0.1");
    let ca = folder.join("ca.pem");
    let lines = [("cert_file", &cert), ("key_file", &key), ("ca_file", &ca)]
        .map(|(name, path)| format!("{name}: \"{}\"", path.display()));
    (format!("tls {{ {}\n{more} }}", lines.join("\n")), authority)
}

on_both!(by_a_client_certificate_over_tls);
async fn by_a_client_certificate_over_tls(program: &Program) {
    let world = World::new();
    let (tls, authority) = tls(&world, "verify_and_map: true");
    let [cert, key] = authority.issue("st-01");
    let client = Some(ClientCertificate { cert, key });
    let ca = Some(world.folder.path().join("ca.pem"));
    let extra = format!("{tls}\nauthorization {{ users: [ {{ user: st-01 }} ] }}");
    comes_in(program, &extra, world, |settings| Settings { tls: Tls { ca, client, first: false }, ..settings }).await;
}

on_both!(a_server_of_another_authority_gets_no_login);
async fn a_server_of_another_authority_gets_no_login(program: &Program) {
    let mut world = World::new();
    let (tls, _) = tls(&world, "");
    Authority::new(world.folder.path(), "other");
    let mut natsd = Natsd::new(program, world.folder.path(), &tls);
    natsd.server.start().await;
    let wrong = Tls { ca: Some(world.folder.path().join("other.pem")), ..Tls::default() };
    world.start(Mqtt::Off, Some(Settings { tls: wrong, ..natsd.settings() })).await;
    let detail = world.raised("bus.refused.nats").await;
    assert!(detail.to_lowercase().contains("certificate"), "{detail}");
    world.stop().await;
}

on_both!(tls_before_anything_else);
/// Debian's server does not know it yet.
async fn tls_before_anything_else(program: &Program) {
    if program.0 == "nats-server" {
        return;
    }
    let mut world = World::new();
    let (tls, _) = tls(&world, "handshake_first: true");
    let mut natsd = Natsd::new(program, world.folder.path(), &tls);
    natsd.server.start().await;
    world.happen(1).await;
    let tls = Tls { ca: Some(world.folder.path().join("ca.pem")), client: None, first: true };
    world.start(Mqtt::Off, Some(Settings { tls, ..natsd.settings() })).await;
    world.delivered("nats").await;
    world.stop().await;
}

on_both!(a_wrong_password_is_an_alarm_and_the_right_one_in_the_file_heals_it);
async fn a_wrong_password_is_an_alarm_and_the_right_one_in_the_file_heals_it(program: &Program) {
    let mut world = World::new();
    let path = file(&world, "password", "gue55");
    let login = Login::Password { user: "st-01".to_owned(), file: path };
    let extra = "authorization { users: [ { user: st-01, password: s3cret } ] }";
    let mut natsd = Natsd::new(program, world.folder.path(), extra);
    natsd.server.start().await;
    world.start(Mqtt::Off, Some(Settings { login, ..natsd.settings() })).await;
    for alarm in ["bus.refused.nats", "bus.denied.nats"] {
        let detail = world.raised(alarm).await;
        assert!(detail.contains("authorization violation") && !detail.contains("gue55"), "{detail}");
    }
    file(&world, "password", "s3cret");
    world.cleared("bus.refused.nats").await;
    world.cleared("bus.denied.nats").await;
    world.delivered("nats").await;
    // A password that changes while the station runs is found as well.
    natsd.write("authorization { users: [ { user: st-01, password: n3w } ] }");
    file(&world, "password", "n3w");
    natsd.server.end(Signal::SIGTERM).await;
    natsd.server.start().await;
    world.happen(1).await;
    world.delivered("nats").await;
    world.stop().await;
}

on_both!(a_server_elsewhere_that_asks_nobody_is_not_spoken_to);
async fn a_server_elsewhere_that_asks_nobody_is_not_spoken_to(program: &Program) {
    let mut world = World::new();
    let mut natsd = Natsd::new(program, world.folder.path(), "");
    natsd.server.start().await;
    world.happen(1).await;
    let login = Login::Token(file(&world, "token", "t0ken"));
    // Reaches this machine, but is no loopback address.
    let url = format!("nats://0.0.0.0:{}", natsd.server.port);
    let settings = Settings { url, login, ..natsd.settings() };
    world.start(Mqtt::Off, Some(settings.clone())).await;
    let detail = world.raised("bus.refused.nats").await;
    assert!(detail.contains("asks nobody") && detail.contains("allow_anonymous"), "{detail}");
    world.stop().await;
    assert_eq!(world.ledger.cursor("nats").await.unwrap(), 0);
    world.start(Mqtt::Off, Some(Settings { allow_anonymous: true, ..settings })).await;
    world.delivered("nats").await;
    world.stop().await;
}
