//! TLS with certificates made here, and a password; both may be wrong at first and mended without a restart.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;
use crate::bus::mqtt::{ClientCertificate, Settings, Tls};

/// An authority for one test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("ca.crt"), &self.pem).unwrap();
    }

    /// `{file}.crt` and `{file}.key` for a name, which a server also has as its address.
    pub fn issue(&self, folder: &Path, file: &str, name: &str) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join(format!("{file}.crt")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

/// Settings for a TLS listener, with the certificate `{file}` of a folder.
pub fn secured(port: u16, folder: &Path, file: &str) -> Settings {
    let client =
        ClientCertificate { cert: folder.join(format!("{file}.crt")), key: folder.join(format!("{file}.key")) };
    let tls = Tls { ca: Some(folder.join("ca.crt")), client: Some(client) };
    Settings { tls: Some(tls), ..Settings::plain("127.0.0.1", port) }
}

/// What `mosquitto_pub` is told to use a certificate.
pub fn flags(folder: &Path, file: &str) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    ["--cafile", &path("ca.crt"), "--cert", &path(&format!("{file}.crt")), "--key", &path(&format!("{file}.key"))]
        .map(str::to_owned)
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_asked_for_checked_and_read_again_for_each_connection() {
    let mut world = World::new();
    let folder = world.folder.path().to_owned();
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.write(&folder);
    authority.issue(&folder, "server", "broker");
    // Right in form, but of an authority that nobody here knows.
    stranger.issue(&folder, "station", "st-01");
    let secure = free_port();
    let listener = format!(
        "listener {secure} 127.0.0.1\ncafile {0}/ca.crt\ncertfile {0}/server.crt\nkeyfile {0}/server.key\n\
         require_certificate true\nuse_identity_as_username true",
        folder.display()
    );
    let mut server = Server::mosquitto(&folder, &listener);
    server.start().await;
    let mut flags = flags(&folder, "station");
    flags.extend(["-p".to_owned(), secure.to_string(), "-t".to_owned(), "x".to_owned(), "-n".to_owned()]);
    let stranger = tokio::process::Command::new("mosquitto_pub").args(["-h", "127.0.0.1"]).args(&flags).output().await;
    assert!(!stranger.unwrap().status.success(), "the broker takes no stranger");

    let mut presence =
        Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/state/presence"), "-F", ">%p"]).await;
    world.start(Mqtt::Broker(secured(secure, &folder, "station")), None).await;
    world.happen(1).await;
    authority.issue(&folder, "station", "st-01");
    assert_eq!(json(&presence.message().await)["online"], true);
    world.delivered("mqtt").await;
    world.stop().await;
    assert_eq!(json(&presence.message().await)["reason"], "shutdown");

    // A broker whose certificate we do not trust hears nothing; once its authority is named, it does.
    Authority::new().write(&folder);
    world.start(Mqtt::Broker(secured(secure, &folder, "station")), None).await;
    authority.write(&folder);
    assert_eq!(json(&presence.message().await)["online"], true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_read_again_for_each_connection() {
    let mut world = World::new();
    let folder = world.folder.path().to_owned();
    let users = folder.join("users");
    let made = ["-b", "-c", &users.display().to_string(), "st-01", "right"].map(str::to_owned);
    assert!(tokio::process::Command::new("mosquitto_passwd").args(&made).status().await.unwrap().success());
    let extra = format!("password_file {}\nallow_anonymous false", users.display());
    let mut server = Server::mosquitto(&folder, &extra);
    server.start().await;
    let topic = format!("{OWN}/state/presence");
    let login = ["-u", "st-01", "-P", "right", "-q", "1", "-t", &topic, "-F", ">%p"];
    let mut presence = Subscriber::new(server.port, &login).await;
    let password_file = file(&folder, "password", b"wrong\n");
    let settings = Settings {
        username: Some("st-01".to_owned()),
        password_file: Some(password_file.clone()),
        ..Settings::plain("127.0.0.1", server.port)
    };
    assert!(!format!("{settings:?}").contains("wrong"));
    world.start(Mqtt::Broker(settings.clone()), None).await;
    std::fs::write(&password_file, "right\nand a second line that is not part of it\n").unwrap();
    assert_eq!(json(&presence.message().await)["online"], true);
    world.stop().await;
    std::fs::remove_file(&password_file).unwrap();
    assert!(settings.check().unwrap_err().to_string().contains("password"), "a missing file is found at start");
}
