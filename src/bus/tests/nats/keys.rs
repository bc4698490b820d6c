//! Who is who in these tests: nkeys, JWTs of an operator, certificates.

use std::path::{Path, PathBuf};

use async_nats::{Client, ConnectOptions};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as TlsKey};
use serde_json::{Value, json};

use super::Natsd;

/// An nkey.
pub struct Key(KeyPair);

impl Key {
    pub fn user() -> Self {
        Self(KeyPair::new_user())
    }

    pub fn public(&self) -> String {
        self.0.public_key()
    }

    pub fn seed(&self) -> String {
        self.0.seed().unwrap()
    }

    pub fn seed_file(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{}.nk", self.public()));
        std::fs::write(&path, format!("{}\n", self.seed())).unwrap();
        path
    }

    pub async fn connect(&self, natsd: &Natsd) -> Client {
        ConnectOptions::with_nkey(self.seed()).connect(natsd.url()).await.unwrap()
    }
}

/// A server in operator mode: its configuration, and a user's credentials.
pub struct Operator {
    pub config: String,
    pub creds: String,
}

impl Operator {
    pub fn new() -> Self {
        let (operator, user) = (KeyPair::new_operator(), KeyPair::new_user());
        let [account, system] = [(); 2].map(|()| KeyPair::new_account());
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let mine = jwt(&operator, &operator, json!({"type": "operator", "version": 2}));
        let fab = jwt(&operator, &account, json!({"type": "account", "version": 2, "limits": limits}));
        let sys = jwt(
            &operator,
            &system,
            json!({"type": "account", "version": 2, "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1,
            }}),
        );
        let limited =
            json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
        let me = jwt(&account, &user, limited);
        let config = format!(
            "operator: \"{mine}\"\nsystem_account: {1}\nresolver: MEMORY\nresolver_preload: {{ {0}: \"{fab}\", {1}: \"{sys}\" }}",
            account.public_key(),
            system.public_key()
        );
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\n{me}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().unwrap()
        );
        Self { config, creds }
    }
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = json!({
        "jti": "TEST", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "test",
        "nats": nats,
    });
    let text = format!("{header}.{}", part(&claims));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

/// An authority in a folder.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, TlsKey>,
}

impl Authority {
    /// Writes `{name}.pem`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let key = TlsKey::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Writes `{name}.crt` and `{name}.key` for a host or a client of this name.
    pub fn issue(&self, name: &str) -> [PathBuf; 2] {
        let key = TlsKey::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = ["crt", "key"].map(|kind| self.folder.join(format!("{name}.{kind}")));
        std::fs::write(&paths[0], certificate.pem()).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        paths
    }
}
