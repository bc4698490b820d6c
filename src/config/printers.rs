//! Printers of labels.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::config::file::{File, Span};
use crate::config::{ConfigError, secret, wrong};
use crate::core::label::{PrinterName, Printers};
use crate::labels::{self, Ftp, Ipp, Printer, Security, Way};

/// Exactly one of `tcp`, `ftp`, `command` and `ipp`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedPrinter {
    pub name: PrinterName,
    pub tcp: Option<String>,
    pub ftp: Option<WantedFtp>,
    pub command: Option<Vec<String>>,
    pub ipp: Option<String>,
    pub format: Option<String>,
    pub ca: Option<PathBuf>,
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
    #[serde(default = "one_hour")]
    pub expire: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedFtp {
    pub url: String,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
}

const fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

const fn one_hour() -> Span {
    Span(Duration::from_secs(3600))
}

/// What the core knows of them.
pub fn queues(file: &File) -> Result<Printers, ConfigError> {
    let mut printers = Printers::new();
    for wanted in &file.printers {
        if printers.insert(wanted.name.clone(), wanted.expire.0).is_some() {
            return Err(wrong("printers", format!("two printers are called {}", wanted.name)));
        }
        if wanted.expire.0.is_zero() || wanted.timeout.0.is_zero() {
            return Err(wrong("printers", format!("{}: timeout and expire are more than nothing", wanted.name)));
        }
    }
    for slot in &file.slots {
        let known = |name: &String| printers.keys().any(|printer| printer.as_str() == name);
        if let Some(name) = slot.printer.as_ref().filter(|name| !known(name)) {
            return Err(wrong("slots", format!("{}: there is no printer {name:?}", slot.name)));
        }
    }
    Ok(printers)
}

pub fn settings(file: &File) -> Result<labels::Settings, ConfigError> {
    Ok(labels::Settings { printers: file.printers.iter().map(one).collect::<Result<_, _>>()? })
}

fn one(wanted: &WantedPrinter) -> Result<Printer, ConfigError> {
    let named = |what: String| wrong("printers", format!("{}: {what}", wanted.name));
    let way = match (&wanted.tcp, &wanted.ftp, &wanted.command, &wanted.ipp) {
        (Some(address), None, None, None) => Way::Tcp(with_port(address, 9100).map_err(named)?),
        (None, Some(ftp), None, None) => Way::Ftp(self::ftp(ftp, &named)?),
        (None, None, Some(argv), None) => match argv.first() {
            Some(program) if !program.is_empty() => Way::Command(argv.clone()),
            _ => return Err(named("command is a list that begins with a program".to_owned())),
        },
        (None, None, None, Some(url)) => Way::Ipp(ipp(url, wanted).map_err(named)?),
        _ => return Err(named("give one of tcp, ftp, command and ipp".to_owned())),
    };
    if wanted.ca.is_some() && !matches!(&way, Way::Ipp(Ipp { security: Security::Tls { .. }, .. })) {
        return Err(named("ca goes with ipps://".to_owned()));
    }
    if wanted.format.is_some() && wanted.ipp.is_none() {
        return Err(named("format goes with ipp".to_owned()));
    }
    Ok(Printer { name: wanted.name.clone(), way, timeout: wanted.timeout.0 })
}

fn with_port(address: &str, port: u16) -> Result<String, String> {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(address.to_owned())
        }
        None if !address.is_empty() => Ok(format!("{address}:{port}")),
        _ => Err(format!("not host or host:port: {address:?}")),
    }
}

fn ftp(wanted: &WantedFtp, named: &dyn Fn(String) -> ConfigError) -> Result<Ftp, ConfigError> {
    let url = Url::parse(&wanted.url).map_err(|error| named(format!("ftp.url {:?}: {error}", wanted.url)))?;
    let host = url.host_str().filter(|_| url.scheme() == "ftp");
    let host = host.ok_or_else(|| named(format!("ftp.url is ftp://host/folder, not {:?}", wanted.url)))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(named("username and password_file, and none of both in ftp.url".to_owned()));
    }
    let folder = url.path().trim_matches('/').to_owned();
    if folder.contains(['%', '\r', '\n']) {
        return Err(named(format!("a plain folder in ftp.url, not {folder:?}")));
    }
    let username = wanted.username.clone().unwrap_or_else(|| "anonymous".to_owned());
    let password = wanted.password_file.as_deref().map(|path| secret("printers password_file", path)).transpose()?;
    let password = password.unwrap_or_default();
    if [&username, &password].iter().any(|word| word.contains(['\r', '\n'])) {
        return Err(named("username and password have one line".to_owned()));
    }
    Ok(Ftp { address: format!("{host}:{}", url.port().unwrap_or(21)), folder, username, password })
}

fn ipp(text: &str, wanted: &WantedPrinter) -> Result<Ipp, String> {
    let url = Url::parse(text).map_err(|error| format!("ipp {text:?}: {error}"))?;
    let security = match url.scheme() {
        "ipp" => Some(Security::Plain),
        "ipps" => Some(Security::Tls { ca: wanted.ca.clone() }),
        _ => None,
    };
    let (Some(host), Some(security)) = (url.host_str(), security) else {
        return Err(format!("ipp is ipp://host/path or ipps://host/path, not {text:?}"));
    };
    let format = wanted.format.as_deref().unwrap_or("application/octet-stream");
    if !format.contains('/') || !format.bytes().all(|b| b.is_ascii_graphic()) || format.len() > 100 {
        return Err(format!("not a media type: {format:?}"));
    }
    Ok(Ipp {
        uri: url.to_string(),
        address: format!("{host}:{}", url.port().unwrap_or(631)),
        path: url.path().to_owned(),
        format: format.to_owned(),
        security,
    })
}
