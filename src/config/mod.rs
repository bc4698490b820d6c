//! The configuration: a YAML file and the environment become values that can run, or one clear error.

mod boot;
mod file;
mod http;
mod legacy;
mod line;
mod overrides;
mod printers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::address::Pool;
use crate::core::floor::{Deadlines, Settings};
use crate::core::role::Role;
use crate::core::text::is_segment;
use crate::http::{Listeners, Settings as HttpSettings};
use crate::{bus, dhcp, images, labels, netconsole, switches, tftp};

use crate::config::file::{File, Mode, Mqtt, Nats, Prefixed, Serve, Sparkplug, Switch, Transcode};

/// Where the file is looked for when nobody names one.
const PLACES: [&str; 2] = ["conf/bootline.yml", "/etc/bootline/bootline.yml"];

/// A configuration that can run.
#[derive(Clone, Debug)]
pub struct Config {
    pub root: String,
    pub core: Settings,
    pub interface: String,
    pub server: Ipv4Addr,
    pub prefix_len: u8,
    /// Nothing when another DHCP server does it.
    pub dhcp: Option<dhcp::Settings>,
    pub tftp: tftp::Settings,
    pub netconsole: Option<netconsole::Settings>,
    pub http: HttpSettings,
    pub bus: bus::Settings,
    /// Of those who send commands over a bus.
    pub bus_role: Role,
    pub images: images::Settings,
    pub switches: switches::Settings,
    pub labels: labels::Settings,
    pub events: Events,
    pub data: PathBuf,
    /// What runs, but not as it was written.
    pub warnings: Vec<String>,
}

/// What is kept of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    pub keep: Duration,
    pub cap_bytes: u64,
}

/// Finds the file: as named, or in the usual places.
pub fn find(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    match named {
        Some(path) => Ok(path),
        None => PLACES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or_else(|| ConfigError::Nowhere { places: PLACES.join(", ") }),
    }
}

/// Reads the file at `path`; `environment` overrides it, `data` overrides both.
pub fn load(path: &Path, environment: &BTreeMap<String, String>, data: Option<PathBuf>) -> Result<Config, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let mut file = parse(path, &text, environment)?;
    if let Some(data) = data {
        file.data = Some(data);
    }
    checked(file)
}

fn parse(path: &Path, text: &str, environment: &BTreeMap<String, String>) -> Result<File, ConfigError> {
    let fault = |error: serde_yaml::Error| ConfigError::File { path: path.to_owned(), what: error.to_string() };
    // The file alone first: its errors carry line and column.
    let alone: Option<File> = serde_yaml::from_str(text).map_err(fault)?;
    let overrides = overrides::of(environment)?;
    if overrides.is_empty() {
        return Ok(alone.unwrap_or_default());
    }
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).map_err(fault)?;
    for (name, keys, word) in &overrides {
        overrides::set(&mut value, keys, word).map_err(|what| ConfigError::Override { name: name.clone(), what })?;
    }
    serde_yaml::from_value(value).map_err(|error| ConfigError::Override {
        name: overrides.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(", "),
        what: error.to_string(),
    })
}

fn wrong(key: &'static str, what: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, what: what.into() }
}

fn checked(file: File) -> Result<Config, ConfigError> {
    let (file, warnings) = file.with_legacy()?;
    if !is_segment(&file.station.id) {
        return Err(wrong("station.id", format!("not [A-Za-z0-9_-]{{1,64}}: {:?}", file.station.id)));
    }
    let levels: Vec<&str> = file.station.root.split('/').filter(|_| !file.station.root.is_empty()).collect();
    if levels.len() > 5 || !levels.iter().all(|level| is_segment(level)) {
        return Err(wrong(
            "station.root",
            format!("not up to five levels of [A-Za-z0-9_-]{{1,64}}: {:?}", file.station.root),
        ));
    }
    let Prefixed { address: server, prefix_len } = file.network.address;
    let data = file.data.clone().unwrap_or_else(|| PathBuf::from("data"));
    let devices = file.http.devices.unwrap_or_else(|| SocketAddrV4::new(server, 80));
    let pool = pool(&file)?;
    let dhcp = dhcp(&file, &pool, devices)?;
    Ok(Config {
        root: file.station.root.clone(),
        core: Settings {
            station: file.station.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pool: pool.clone(),
            max_attempts: file.sessions.max_attempts.max(1),
            deadlines: Deadlines {
                silence: file.sessions.silence.0,
                stall: file.sessions.stall.0,
                firmware: file.sessions.firmware.0,
                step: file.sessions.step.0,
            },
            line: line::line(&file)?,
        },
        interface: file.network.interface.clone(),
        server,
        prefix_len,
        dhcp,
        tftp: tftp::Settings {
            listen: file.network.tftp.listen.unwrap_or_else(|| SocketAddrV4::new(server, 69)),
            interface: (!server.is_loopback()).then(|| file.network.interface.clone()),
            bootfiles: file.bootfiles.clone().unwrap_or_else(|| PathBuf::from("bootfiles")),
            devices_http: devices,
            mtu: 1500,
        },
        netconsole: (file.network.netconsole == Switch::On)
            .then(|| netconsole::Settings { interface: file.network.interface.clone() }),
        http: HttpSettings {
            devices,
            operators: file.http.operators,
            listeners: if file.is_legacy() { Listeners::One } else { Listeners::Two },
            tls: http::tls(&file, &data)?,
            access: http::access(&file),
        },
        bus: bus(&file, &data)?,
        bus_role: file.bus.role,
        images: images_of(&file.images),
        switches: line::switches(&file)?,
        labels: printers::settings(&file)?,
        events: Events { keep: file.events.keep.0, cap_bytes: file.events.cap.0 },
        data,
        warnings,
    })
}

fn dhcp(file: &File, pool: &Pool, devices: SocketAddrV4) -> Result<Option<dhcp::Settings>, ConfigError> {
    let boot = boot::files(&file.network.dhcp.boot, devices)?;
    let role = match file.network.dhcp.mode {
        Mode::Off => return Ok(None),
        Mode::Proxy => dhcp::ask::Role::Proxy,
        Mode::Server => dhcp::ask::Role::Server,
    };
    Ok(Some(dhcp::Settings {
        interface: file.network.interface.clone(),
        server: pool.server,
        prefix_len: file.network.address.prefix_len,
        pool: pool.first..=pool.last,
        reserved: pool.reservations.iter().map(|(mac, address)| (*address, *mac)).collect(),
        serve: match file.network.dhcp.serve {
            Serve::Pi => dhcp::ask::Serve::Pi,
            Serve::PiPxe => dhcp::ask::Serve::PiPxe,
            Serve::All => dhcp::ask::Serve::All,
        },
        role,
        boot,
        port: 67,
        client_port: 68,
        boot_port: 4011,
    }))
}

fn images_of(wanted: &file::Images) -> images::Settings {
    images::Settings {
        transcode: wanted.transcode == Transcode::Auto,
        cache_bytes: wanted.cache.0,
        rehash: wanted.rehash.0.map(|every| every.0),
        reserve_bytes: wanted.reserve.0,
        upload_expiry: wanted.upload_expiry.0,
    }
}

fn pool(file: &File) -> Result<Pool, ConfigError> {
    let Prefixed { address: server, prefix_len } = file.network.address;
    let mask = u32::MAX << (32 - u32::from(prefix_len));
    let network = u32::from(server) & mask;
    let (first_host, last_host) = (Ipv4Addr::from(network + 1), Ipv4Addr::from((network | !mask) - 1));
    let (first, last) = file.network.dhcp.range.map_or((first_host, last_host), |range| (range.first, range.last));
    let inside = |address: Ipv4Addr| (first_host..=last_host).contains(&address);
    if !inside(first) || !inside(last) {
        return Err(wrong("network.dhcp.range", format!("{first}-{last} is not inside {first_host}-{last_host}")));
    }
    let mut reservations = BTreeMap::new();
    for reservation in &file.network.dhcp.reservations {
        let address = reservation.address;
        if !inside(address) || address == server {
            return Err(wrong("network.dhcp.reservations", format!("{address} is not a free address of the network")));
        }
        if reservations.values().any(|taken| *taken == address) {
            return Err(wrong("network.dhcp.reservations", format!("{address} is reserved twice")));
        }
        if reservations.insert(reservation.mac, address).is_some() {
            return Err(wrong("network.dhcp.reservations", format!("device {} is named twice", reservation.mac)));
        }
    }
    Ok(Pool { server, first, last, lease: file.network.dhcp.lease.0, reservations })
}

fn bus(file: &File, data: &Path) -> Result<bus::Settings, ConfigError> {
    let mqtt = match &file.bus.mqtt {
        Mqtt::Off => bus::Mqtt::Off,
        Mqtt::Embedded => embedded(file, data)?,
        Mqtt::Broker(broker) => bus::Mqtt::Broker(mqtt(broker)?),
    };
    let nats = match &file.bus.nats {
        Nats::Off => None,
        Nats::Server(server) => Some(nats(server)?),
    };
    let sparkplug = match &file.bus.sparkplug {
        Sparkplug::Off => None,
        Sparkplug::On(_) if matches!(mqtt, bus::Mqtt::Off) => {
            return Err(wrong("bus.sparkplug", "it goes over bus.mqtt, which is off"));
        }
        Sparkplug::On(on) => Some(on.group.clone()),
    };
    let scheme = if matches!(file.http.tls, http::Tls::Off) { "http" } else { "https" };
    let rest = Some(format!("{scheme}://{}/api/v1", file.http.operators));
    Ok(bus::Settings { rest, mqtt, sparkplug, nats, catch_up: file.bus.catch_up.0 })
}

#[cfg(feature = "embedded-broker")]
fn embedded(file: &File, data: &Path) -> Result<bus::Mqtt, ConfigError> {
    if !file.bus.mqtt_listen.ip().is_loopback() {
        let what = format!(
            "{} is not a loopback address; the embedded broker asks nobody for a password",
            file.bus.mqtt_listen
        );
        return Err(wrong("bus.mqtt_listen", what));
    }
    Ok(bus::Mqtt::Embedded(bus::embedded::Settings { listen: file.bus.mqtt_listen, folder: data.join("broker") }))
}

#[cfg(not(feature = "embedded-broker"))]
fn embedded(_: &File, _: &Path) -> Result<bus::Mqtt, ConfigError> {
    Err(wrong("bus.mqtt", "this bootline was built without the embedded broker; name one: {url: mqtt://host:1883}"))
}

fn mqtt(broker: &file::Broker) -> Result<bus::mqtt::Settings, ConfigError> {
    let url = |what: &str| wrong("bus.mqtt.url", format!("{what}: {:?}", broker.url));
    let (scheme, rest) =
        broker.url.split_once("://").ok_or_else(|| url("not mqtt://host:port or mqtts://host:port"))?;
    let (tls, standard) = match scheme {
        "mqtt" => (false, 1883),
        "mqtts" => (true, 8883),
        _ => return Err(url("not mqtt:// or mqtts://")),
    };
    if rest.contains('@') {
        return Err(url("a password does not belong into the URL; use username and password_file"));
    }
    let (host, port) = match rest.trim_end_matches('/').rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| url("not a port"))?),
        None => (rest.trim_end_matches('/'), standard),
    };
    let client = match (&broker.cert, &broker.key) {
        (Some(cert), Some(key)) => Some(bus::mqtt::ClientCertificate { cert: cert.clone(), key: key.clone() }),
        (None, None) => None,
        _ => return Err(wrong("bus.mqtt", "cert and key go together")),
    };
    Ok(bus::mqtt::Settings {
        host: host.to_owned(),
        port,
        username: broker.username.clone(),
        password_file: broker.password_file.clone(),
        tls: tls.then(|| bus::mqtt::Tls { ca: broker.ca.clone(), client }),
        require_consumer: broker.require_consumer,
        sparkplug: None,
    })
}

fn nats(server: &file::NatsServer) -> Result<bus::nats::Settings, ConfigError> {
    use crate::bus::nats::{AGAIN, ClientCertificate, Login, Settings, Tls};

    let file::NatsServer { creds, nkey, username, password_file, token_file, .. } = server;
    let login = match (creds, nkey, username, password_file, token_file) {
        (None, None, None, None, None) => Login::Anonymous,
        (Some(creds), None, None, None, None) => Login::Credentials(creds.clone()),
        (None, Some(nkey), None, None, None) => Login::Nkey(nkey.clone()),
        (None, None, Some(user), Some(file), None) => Login::Password { user: user.clone(), file: file.clone() },
        (None, None, None, None, Some(file)) => Login::Token(file.clone()),
        _ => {
            let what = "give one login: creds, or nkey, or username and password_file, or token_file";
            return Err(wrong("bus.nats", what));
        }
    };
    let client = match (&server.cert, &server.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(ClientCertificate { cert: cert.clone(), key: key.clone() }),
        _ => return Err(wrong("bus.nats", "cert and key go together")),
    };
    if !(1..=5).contains(&server.replicas) {
        return Err(wrong("bus.nats.replicas", format!("{} copies; a stream has 1 to 5", server.replicas)));
    }
    let settings = Settings {
        url: server.url.clone(),
        login,
        tls: Tls { ca: server.ca.clone(), client, first: server.tls_first },
        manage_streams: server.manage_streams,
        replicas: server.replicas,
        allow_anonymous: server.allow_anonymous,
        again: AGAIN,
    };
    settings.sound().map_err(|error| wrong("bus.nats", error.to_string()))?;
    Ok(settings)
}

/// The first line of a file; never in the configuration itself, never in an error.
fn secret(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(key, format!("cannot read {}: {error}", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("no configuration file: name one with --config or $BOOTLINE_CONFIG, or put it at one of: {places}")]
    Nowhere { places: String },
    #[error("cannot read the configuration {path}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// With line and column, as the YAML library says it.
    #[error("{path}: {what}")]
    File { path: PathBuf, what: String },
    #[error("environment {name}: {what}")]
    Override { name: String, what: String },
    /// Each value alone is well-formed, but it cannot run.
    #[error("{key}: {what}")]
    Value { key: &'static str, what: String },
}
