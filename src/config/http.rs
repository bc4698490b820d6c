//! The keys of `http` that say who may call the operator side, and how.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, de};

use crate::config::file::{File, FromMap, WordOrMap};
use crate::config::{ConfigError, wrong};
use crate::http::auth::{Access, Cidr, Legacy, Loopback, Scheme};
use crate::http::tls;

#[derive(Clone, Debug, Default)]
pub enum Tls {
    #[default]
    Off,
    SelfSigned,
    Files(Pair),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl<'de> FromMap<'de> for Tls {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Pair::deserialize(MapAccessDeserializer::new(map)).map(Self::Files)
    }
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = |word: &str| match word {
            "off" => Some(Self::Off),
            "self-signed" => Some(Self::SelfSigned),
            _ => None,
        };
        deserializer.deserialize_any(WordOrMap { expected: "off, self-signed or {cert: FILE, key: FILE}", word })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Local {
    #[default]
    Open,
    Token,
}

/// Networks as a person writes them.
#[derive(Clone, Debug)]
pub struct Networks(pub Vec<Cidr>);

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect::<Result<_, _>>().map(Self)
    }
}

pub fn access(file: &File) -> Access {
    let network = file.network.address;
    Access {
        loopback: match file.http.loopback {
            Local::Open => Loopback::Open,
            Local::Token => Loopback::Token,
        },
        hosts: file.http.hosts.clone(),
        listen: file.http.operators.ip(),
        scheme: if matches!(file.http.tls, Tls::Off) { Scheme::Http } else { Scheme::Https },
        legacy: match file.is_legacy() {
            true => Legacy::AllBut {
                devices: Cidr::v4(network.address, network.prefix_len),
                server: IpAddr::V4(network.address),
            },
            false => Legacy::From(file.http.legacy_open.0.clone()),
        },
    }
}

pub fn tls(file: &File, data: &Path) -> Result<Option<tls::Settings>, ConfigError> {
    if file.is_legacy() && !matches!(file.http.tls, Tls::Off) {
        return Err(wrong("http.tls", "devices speak plain http and share the one port of cmProvisionServer"));
    }
    Ok(match &file.http.tls {
        Tls::Off => None,
        Tls::Files(Pair { cert, key }) => Some(tls::Settings::Files { cert: cert.clone(), key: key.clone() }),
        Tls::SelfSigned => Some(tls::Settings::SelfSigned { folder: data.join("tls"), names: names(file) }),
    })
}

/// By all of these the station may be called.
fn names(file: &File) -> Vec<String> {
    let listen = Some(file.http.operators.ip()).filter(|address| !address.is_unspecified());
    let own = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    // A label of a DNS name has no underscore.
    let station = Some(file.station.id.clone()).filter(|id| !id.contains('_'));
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(listen.map(|address| address.to_string()));
    names.push(file.network.address.address.to_string());
    names.extend(own.filter(|name| !name.is_empty() && name.is_ascii()));
    names.extend(station);
    names.extend(file.http.hosts.iter().cloned());
    let mut unique = Vec::new();
    names.retain(|name| {
        let is_new = !unique.contains(name);
        unique.push(name.clone());
        is_new
    });
    names
}
