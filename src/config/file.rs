//! The YAML as a person writes it. Unknown keys are errors; what is left out has the documented value.

pub mod line;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::config::file::line::{ManagedSwitch, Places, Power, Slot};
use crate::config::http::{Local, Networks, Tls};
use crate::config::legacy::CmProvisionServer;
use crate::config::printers::WantedPrinter;
use crate::core::device::Mac;
use crate::core::role::Role;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub station: Station,
    pub network: Network,
    pub http: Http,
    pub sessions: Sessions,
    pub images: Images,
    pub events: Events,
    pub bus: Bus,
    pub switches: Vec<ManagedSwitch>,
    pub slots: Vec<Slot>,
    pub printers: Vec<WantedPrinter>,
    pub places: Places,
    pub power: Power,
    pub data: Option<PathBuf>,
    pub bootfiles: Option<PathBuf>,
    /// The predecessor's whole configuration.
    #[serde(rename = "cmProvisionServer")]
    pub cm_provision_server: Option<CmProvisionServer>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Station {
    pub id: String,
    pub root: String,
}

impl Default for Station {
    fn default() -> Self {
        Self { id: "st-01".to_owned(), root: String::new() }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub interface: String,
    pub address: Prefixed,
    pub dhcp: Dhcp,
    pub tftp: Tftp,
    pub netconsole: Switch,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            interface: "eth1".to_owned(),
            address: Prefixed { address: Ipv4Addr::new(192, 168, 5, 1), prefix_len: 16 },
            dhcp: Dhcp::default(),
            tftp: Tftp::default(),
            netconsole: Switch::Off,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dhcp {
    pub mode: Mode,
    pub range: Option<Range>,
    pub lease: Span,
    pub serve: Serve,
    pub reservations: Vec<Reservation>,
    pub boot: Boot,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            mode: Mode::Server,
            range: None,
            lease: Span(Duration::from_secs(3600)),
            serve: Serve::Pi,
            reservations: Vec::new(),
            boot: Boot::default(),
        }
    }
}

/// What clients load that are no Raspberry Pi.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Boot {
    pub ipxe: Option<String>,
    pub bios: Option<String>,
    pub efi_ia32: Option<String>,
    pub efi_x64: Option<String>,
    pub efi_arm32: Option<String>,
    pub efi_arm64: Option<String>,
    pub http_ia32: Option<String>,
    pub http_x64: Option<String>,
    pub http_arm32: Option<String>,
    pub http_arm64: Option<String>,
    pub u_boot: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Server,
    Proxy,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Serve {
    #[serde(rename = "pi")]
    Pi,
    #[serde(rename = "pi+pxe")]
    PiPxe,
    #[serde(rename = "all")]
    All,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    pub mac: Mac,
    #[serde(deserialize_with = "address")]
    pub address: Ipv4Addr,
    /// For people who read the file.
    #[serde(default, rename = "name")]
    _name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tftp {
    #[serde(deserialize_with = "some_address")]
    pub listen: Option<SocketAddrV4>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    #[serde(deserialize_with = "some_address")]
    pub devices: Option<SocketAddrV4>,
    #[serde(deserialize_with = "address")]
    pub operators: SocketAddr,
    pub tls: Tls,
    pub loopback: Local,
    pub hosts: Vec<String>,
    pub legacy_open: Networks,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            devices: None,
            operators: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: Tls::Off,
            loopback: Local::Open,
            hosts: Vec::new(),
            legacy_open: Networks(Vec::new()),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    pub max_attempts: u32,
    pub silence: Span,
    pub stall: Span,
    pub firmware: Span,
    pub step: Span,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            silence: Span(Duration::from_secs(120)),
            stall: Span(Duration::from_secs(15 * 60)),
            firmware: Span(Duration::from_secs(10 * 60)),
            step: Span(Duration::from_secs(2 * 60)),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    pub transcode: Transcode,
    pub cache: Size,
    pub rehash: OrOff,
    pub reserve: Size,
    pub upload_expiry: Span,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            transcode: Transcode::Auto,
            cache: Size(20 << 30),
            rehash: OrOff(Some(Span(Duration::from_secs(7 * 86_400)))),
            reserve: Size(256 << 20),
            upload_expiry: Span(Duration::from_secs(86_400)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transcode {
    Auto,
    Off,
}

/// What is kept of the journal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    pub keep: Span,
    pub cap: Size,
}

impl Default for Events {
    fn default() -> Self {
        Self { keep: Span(Duration::from_secs(90 * 86_400)), cap: Size(4 << 30) }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bus {
    pub mqtt: Mqtt,
    #[serde(deserialize_with = "address")]
    pub mqtt_listen: SocketAddr,
    pub sparkplug: Sparkplug,
    pub nats: Nats,
    pub catch_up: Rate,
    /// Of those who send commands over a bus.
    pub role: Role,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            mqtt: Mqtt::Embedded,
            mqtt_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
            sparkplug: Sparkplug::Off,
            nats: Nats::Off,
            catch_up: Rate(Some(1000)),
            role: Role::Operator,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Mqtt {
    Embedded,
    Off,
    Broker(Broker),
}

/// A broker of the site's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// `mqtt://host:port` or `mqtts://host:port`
    pub url: String,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    #[serde(default)]
    pub require_consumer: bool,
}

#[derive(Clone, Debug)]
pub enum Sparkplug {
    Off,
    On(SparkplugGroup),
}

/// As which node of a Sparkplug group the station shows itself: by its id.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparkplugGroup {
    pub group: String,
}

#[derive(Clone, Debug)]
pub enum Nats {
    Off,
    Server(Box<NatsServer>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsServer {
    /// `nats://host:port` or `tls://host:port`
    pub url: String,
    pub creds: Option<PathBuf>,
    pub nkey: Option<PathBuf>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    #[serde(default)]
    pub tls_first: bool,
    #[serde(default = "yes")]
    pub manage_streams: bool,
    #[serde(default = "one")]
    pub replicas: usize,
    #[serde(default)]
    pub allow_anonymous: bool,
}

const fn yes() -> bool {
    true
}

const fn one() -> usize {
    1
}

/// A word or a map: an untagged enum would only say that nothing matched.
pub struct WordOrMap<T> {
    pub expected: &'static str,
    pub word: fn(&str) -> Option<T>,
}

impl<'de, T: FromMap<'de>> Visitor<'de> for WordOrMap<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<T, E> {
        (self.word)(word).ok_or_else(|| E::invalid_value(de::Unexpected::Str(word), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::from_map(map)
    }
}

pub trait FromMap<'de>: Sized {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;
}

impl<'de> FromMap<'de> for Mqtt {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Broker::deserialize(MapAccessDeserializer::new(map)).map(Self::Broker)
    }
}

impl<'de> FromMap<'de> for Sparkplug {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        SparkplugGroup::deserialize(MapAccessDeserializer::new(map)).map(Self::On)
    }
}

impl<'de> FromMap<'de> for Nats {
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        NatsServer::deserialize(MapAccessDeserializer::new(map)).map(|server| Self::Server(Box::new(server)))
    }
}

impl<'de> Deserialize<'de> for Mqtt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = |word: &str| match word {
            "embedded" => Some(Self::Embedded),
            "off" => Some(Self::Off),
            _ => None,
        };
        deserializer.deserialize_any(WordOrMap { expected: "embedded, off or {url: mqtt://host:port, ..}", word })
    }
}

impl<'de> Deserialize<'de> for Sparkplug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = |word: &str| (word == "off").then_some(Self::Off);
        deserializer.deserialize_any(WordOrMap { expected: "off or {group: ..}", word })
    }
}

impl<'de> Deserialize<'de> for Nats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = |word: &str| (word == "off").then_some(Self::Off);
        deserializer.deserialize_any(WordOrMap { expected: "off or {url: nats://host:port, ..}", word })
    }
}

/// `192.168.5.1/16`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixed {
    pub address: Ipv4Addr,
    pub prefix_len: u8,
}

impl FromStr for Prefixed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not an address with its prefix length, such as 192.168.5.1/16: {text:?}");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        let prefix_len = prefix.parse().ok().filter(|len| (1..=30).contains(len)).ok_or_else(wrong)?;
        Ok(Self { address, prefix_len })
    }
}

/// `192.168.5.2-192.168.255.254`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a range such as 192.168.5.2-192.168.5.250: {text:?}");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let (first, last) = (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
        if first > last { Err(wrong()) } else { Ok(Self { first, last }) }
    }
}

/// `90s`, `15m`, `1h`, `2d`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a duration such as 500ms, 90s, 15m, 1h or 2d: {text:?}");
        if let Some(number) = text.strip_suffix("ms") {
            let number: u64 = number.parse().map_err(|_| wrong())?;
            return if number == 0 { Err(wrong()) } else { Ok(Self(Duration::from_millis(number))) };
        }
        let unit = text.chars().last().filter(char::is_ascii).ok_or_else(wrong)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
        if number == 0 { Err(wrong()) } else { Ok(Self(Duration::from_secs(u64::from(number) * seconds))) }
    }
}

/// A duration, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrOff(pub Option<Span>);

impl FromStr for OrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { text.parse().map(|span| Self(Some(span))) }
    }
}

/// So many a second, or `off` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Option<u32>);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of events a second from 1 to 1000000, or off")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Rate, E> {
                let rate = u32::try_from(number).ok().filter(|rate| (1..=1_000_000).contains(rate));
                rate.map(|rate| Rate(Some(rate)))
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                match (text, text.parse()) {
                    ("off", _) => Ok(Rate(None)),
                    (_, Ok(number)) => self.visit_u64(number),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// `512MiB`, `20GiB`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a size such as 512MiB or 20GiB: {text:?}");
        let (number, shift) = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
            (Some(number), _) => (number, 20),
            (_, Some(number)) => (number, 30),
            _ => return Err(wrong()),
        };
        number.trim().parse::<u32>().map(|number| Self(u64::from(number) << shift)).map_err(|_| wrong())
    }
}

/// An address; the standard library's error does not say what it was given.
fn address<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| de::Error::custom(format!("not an address such as 192.168.5.1 or 192.168.5.1:80: {text:?}")))
}

fn some_address<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<Option<T>, D::Error> {
    address(deserializer).map(Some)
}

macro_rules! read_by_text {
    ($($name:ty),+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

read_by_text!(Prefixed, Range, Span, OrOff, Size);
