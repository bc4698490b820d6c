//! Names on the bus: topics of MQTT and subjects of NATS, as `contract.md` §5 writes them. Pure text.

use crate::core::device::Mac;
use crate::core::text::is_segment;

/// How many levels a root may have: enterprise/site/area/line/cell.
const MAX_ROOT_LEVELS: usize = 5;
/// The longest reply address that a requester may name, in bytes.
const MAX_ADDRESS: usize = 256;

/// The topics of one station below its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// `{root}/bootline/v1`
    base: String,
    /// `{root}/bootline/v1/{station}`
    own: String,
}

impl Topics {
    pub fn new(root: &str, station: &str) -> Result<Self, NameError> {
        if !is_segment(station) || station.starts_with('_') {
            return Err(NameError::Station(station.to_owned()));
        }
        let levels = if root.is_empty() { 0 } else { root.split('/').count() };
        if levels > MAX_ROOT_LEVELS || (levels > 0 && !root.split('/').all(is_segment)) {
            return Err(NameError::Root(root.to_owned()));
        }
        let base = if root.is_empty() { "bootline/v1".to_owned() } else { format!("{root}/bootline/v1") };
        let own = format!("{base}/{station}");
        Ok(Self { base, own })
    }

    /// One topic for all events of one thing, because MQTT keeps order only inside a topic.
    pub fn event(&self, kind: &str, id: &str) -> String {
        format!("{}/evt/{kind}/{id}", self.own)
    }

    pub fn telemetry(&self, mac: Mac) -> String {
        format!("{}/telemetry/device/{mac}", self.own)
    }

    /// Where a message goes that only tries whether we may send.
    pub fn trial(&self) -> String {
        format!("{}/telemetry/check", self.own)
    }

    pub fn presence(&self) -> String {
        format!("{}/state/presence", self.own)
    }

    pub fn info(&self) -> String {
        format!("{}/state/info", self.own)
    }

    pub fn project(&self, id: &str) -> String {
        format!("{}/state/project/{id}", self.own)
    }

    /// The filter of our own project states: what a broker still keeps of projects that are gone.
    pub fn projects(&self) -> String {
        self.project("+")
    }

    pub fn job(&self, command_id: &str) -> String {
        format!("{}/job/{command_id}", self.own)
    }

    /// The filter of all requests to this station.
    pub fn requests(&self) -> String {
        format!("{}/cmd/#", self.own)
    }

    /// The filter of requests to any station: the broker gives each to one of those who share it.
    pub fn any_requests(&self) -> String {
        format!("$share/bootline/{}/_any/cmd/#", self.base)
    }

    /// The same, of a request that nobody makes: whoever shares all of it would be given what is meant for a station.
    pub fn any_trial(&self) -> String {
        format!("$share/bootline/{}/_any/cmd/check/check", self.base)
    }

    /// The filter of requests to every station.
    pub fn all_requests(&self) -> String {
        format!("{}/_all/cmd/#", self.base)
    }

    /// Where the reply to a request goes that named no address.
    pub fn reply(&self, name: &str) -> String {
        format!("{}/res/{}", self.own, name.replace('.', "/"))
    }

    /// `project.create` from `.../cmd/project/create`, and who is asked.
    pub fn command(&self, topic: &str) -> Option<(Audience, String)> {
        let (who, rest) = topic.strip_prefix(self.base.as_str())?.strip_prefix('/')?.split_once("/cmd/")?;
        let audience = match who {
            "_any" => Audience::Any,
            "_all" => Audience::All,
            station if self.own.strip_prefix(self.base.as_str())?.strip_prefix('/')? == station => Audience::One,
            _ => return None,
        };
        let (noun, verb) = rest.split_once('/')?;
        (is_segment(noun) && is_segment(verb)).then(|| (audience, format!("{noun}.{verb}")))
    }

    /// The project whose state a topic of ours is.
    pub fn project_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(self.own.as_str())?.strip_prefix("/state/project/")
    }

    /// A requester may have its reply sent to an inbox only. Otherwise it could make the station publish anywhere
    /// with the station's rights.
    pub fn reply_address(&self, address: &str) -> Result<(), AddressError> {
        if address.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong(address.len()));
        }
        if address.contains(['+', '#']) || address.chars().any(char::is_control) {
            return Err(AddressError::Wildcard);
        }
        let inbox = address.strip_prefix(self.base.as_str()).and_then(|rest| rest.strip_prefix("/_reply/"));
        match inbox {
            Some(inbox) if inbox.split('/').all(|level| !level.is_empty()) => Ok(()),
            _ => Err(AddressError::Elsewhere { inboxes: format!("{}/_reply/", self.base) }),
        }
    }
}

/// Who is asked by a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// This station.
    One,
    /// Whichever the broker chooses; it is us.
    Any,
    /// Every station: reads only.
    All,
}

/// The subjects of one station. NATS has no root: accounts keep tenants apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    station: String,
}

impl Subjects {
    /// Every event of every station: what the stream takes.
    pub const ALL_EVENTS: &'static str = "bootline.v1.*.evt.>";
    /// The group of commands that any one of the stations answers.
    pub const ANY_COMMANDS: &'static str = "bootline.v1.any.cmd";
    /// The group of commands that each of the stations answers.
    pub const ALL_COMMANDS: &'static str = "bootline.v1.all.cmd";

    pub fn new(station: &str) -> Result<Self, NameError> {
        if !is_segment(station) || station.starts_with('_') {
            return Err(NameError::Station(station.to_owned()));
        }
        if ["any", "all"].contains(&station) {
            return Err(NameError::Reserved(station.to_owned()));
        }
        Ok(Self { station: station.to_owned() })
    }

    /// A requester names any subject for its reply. What starts other things than an inbox gets none: it would be
    /// published with the station's rights.
    pub fn reply_address(address: &str) -> Result<(), AddressError> {
        if address.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong(address.len()));
        }
        if address.starts_with('$') || address.split('.').next() == Some("bootline") {
            return Err(AddressError::Elsewhere { inboxes: "_INBOX.".to_owned() });
        }
        Ok(())
    }

    /// The type stands at the end without its kind: a stream orders all of its subjects, so that costs nothing.
    pub fn event(&self, kind: &str, id: &str, name: &str) -> String {
        let event = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
        format!("bootline.v1.{}.evt.{kind}.{id}.{event}", self.station)
    }

    pub fn telemetry(&self, mac: Mac) -> String {
        format!("bootline.v1.{}.telemetry.device.{mac}", self.station)
    }

    /// Where a message goes that only tries whether we may send.
    pub fn trial(&self) -> String {
        format!("bootline.v1.{}.telemetry.check", self.station)
    }

    /// The group below which `{noun}.{verb}` are endpoints.
    pub fn commands(&self) -> String {
        format!("bootline.v1.{}.cmd", self.station)
    }
}

/// A configured name that cannot stand in a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("station id {0:?} is not [A-Za-z0-9_-]{{1,64}} without a leading underscore")]
    Station(String),
    #[error("station id {0:?} is the word for several stations on NATS")]
    Reserved(String),
    #[error("topic root {0:?} is not up to 5 levels of [A-Za-z0-9_-]{{1,64}} between slashes")]
    Root(String),
}

/// Why a reply is not sent where the requester wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the reply address has {0} bytes; at most 256")]
    TooLong(usize),
    #[error("the reply address has a wildcard or a control character in it")]
    Wildcard,
    #[error("replies go only below {inboxes}{{client}}")]
    Elsewhere { inboxes: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics::new("acme/west", "st-01").unwrap()
    }

    #[test]
    fn every_topic_is_the_one_of_the_contract() {
        let mac: Mac = "dc:a6:32:01:02:03".parse().unwrap();
        let topics = topics();
        for (topic, expected) in [
            (topics.event("device", "dca632010203"), "acme/west/bootline/v1/st-01/evt/device/dca632010203"),
            (topics.telemetry(mac), "acme/west/bootline/v1/st-01/telemetry/device/dca632010203"),
            (topics.presence(), "acme/west/bootline/v1/st-01/state/presence"),
            (topics.info(), "acme/west/bootline/v1/st-01/state/info"),
            (topics.requests(), "acme/west/bootline/v1/st-01/cmd/#"),
            (topics.reply("project.create"), "acme/west/bootline/v1/st-01/res/project/create"),
            (topics.any_requests(), "$share/bootline/acme/west/bootline/v1/_any/cmd/#"),
            (topics.all_requests(), "acme/west/bootline/v1/_all/cmd/#"),
            (topics.project("gateway"), "acme/west/bootline/v1/st-01/state/project/gateway"),
            (topics.job("ord-4711"), "acme/west/bootline/v1/st-01/job/ord-4711"),
        ] {
            assert_eq!(topic, expected);
        }
        assert_eq!(Topics::new("", "st-01").unwrap().presence(), "bootline/v1/st-01/state/presence");
    }

    #[test]
    fn a_name_that_would_break_a_topic_is_refused() {
        for station in ["", "a b", "a/b", "a.b", "_any", "#", "é", &"x".repeat(65)] {
            assert!(Topics::new("", station).is_err(), "{station:?}");
            assert!(Subjects::new(station).is_err(), "{station:?}");
        }
        for station in ["any", "all"] {
            assert_eq!(Subjects::new(station), Err(NameError::Reserved(station.to_owned())));
        }
        for root in ["/", "a/", "/a", "a//b", "a/+/b", "a/b/c/d/e/f", "a b"] {
            assert_eq!(Topics::new(root, "st"), Err(NameError::Root(root.to_owned())));
        }
        assert!(Topics::new("a/b/c/d/e", "st").is_ok());
    }

    #[test]
    fn a_command_is_named_by_its_topic() {
        let own = "acme/west/bootline/v1/st-01";
        for (rest, name) in [
            ("/cmd/project/create", Some("project.create")),
            ("/cmd/station/info", Some("station.info")),
            ("/cmd/project", None),
            ("/cmd/project/", None),
            ("/cmd//create", None),
            ("/cmd/project/create/now", None),
            ("/cmd/project/cre ate", None),
            ("/res/project/create", None),
            ("x/cmd/project/create", None),
        ] {
            let one = name.map(|name| (Audience::One, name.to_owned()));
            assert_eq!(topics().command(&format!("{own}{rest}")), one, "{rest}");
        }
        assert_eq!(topics().command("bootline/v1/st-01/cmd/project/create"), None);
        for (who, audience) in [
            ("_any", Some(Audience::Any)),
            ("_all", Some(Audience::All)),
            ("st-02", None),
            ("01", None),
            ("bootline/v1/st-01", None),
        ] {
            let asked = topics().command(&format!("acme/west/bootline/v1/{who}/cmd/station/info"));
            assert_eq!(asked.map(|(audience, _)| audience), audience, "{who}");
        }
        assert_eq!(topics().project_of(&format!("{own}/state/project/gateway")), Some("gateway"));
        assert_eq!(topics().project_of(&format!("{own}/state/info")), None);
    }

    #[test]
    fn a_reply_goes_to_an_inbox_and_nowhere_else() {
        let topics = topics();
        for address in ["acme/west/bootline/v1/_reply/erp", "acme/west/bootline/v1/_reply/erp/1/a b"] {
            assert_eq!(topics.reply_address(address), Ok(()), "{address}");
        }
        for address in [
            "",
            "#",
            "$SYS/broker",
            "bootline/v1/_reply/erp",
            "acme/west/bootline/v1/_reply",
            "acme/west/bootline/v1/_reply/",
            "acme/west/bootline/v1/_reply//x",
            "acme/west/bootline/v1/_reply/erp/#",
            "acme/west/bootline/v1/_reply/+/x",
            "acme/west/bootline/v1/_reply/erp/\0",
            "acme/west/bootline/v1/_replying/erp",
            "acme/west/bootline/v1/st-02/cmd/device/abort",
            "acme/west/bootline/v1/st-01/evt/device/dca632010203",
        ] {
            assert!(topics.reply_address(address).is_err(), "{address:?}");
        }
        let long = format!("acme/west/bootline/v1/_reply/{}", "x".repeat(256));
        assert_eq!(topics.reply_address(&long), Err(AddressError::TooLong(long.len())));
    }

    #[test]
    fn a_reply_over_nats_starts_nothing_else() {
        for address in ["_INBOX.erp.1", "_INBOX_erp.1", "_R_.x", "answers.erp"] {
            assert_eq!(Subjects::reply_address(address), Ok(()), "{address}");
        }
        for address in [
            "bootline.v1.st-01.evt.device.dca632010203.failed",
            "bootline.v1.st-02.cmd.device.abort",
            "$JS.API.STREAM.DELETE.BOOTLINE_EVT",
            "$KV.bootline_stations.st-01",
            &"x".repeat(257),
        ] {
            assert!(Subjects::reply_address(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_subject_ends_with_the_type_without_its_kind() {
        let subjects = Subjects::new("st-01").unwrap();
        for (kind, id, name, expected) in [
            ("device", "dca632010203", "device.step.started", "bootline.v1.st-01.evt.device.dca632010203.step.started"),
            ("device", "dca632010203", "device.failed", "bootline.v1.st-01.evt.device.dca632010203.failed"),
            ("station", "st-01", "station.alarm.raised", "bootline.v1.st-01.evt.station.st-01.alarm.raised"),
            ("station", "st-01", "events.lost", "bootline.v1.st-01.evt.station.st-01.events.lost"),
            ("rule", "rules", "rules.changed", "bootline.v1.st-01.evt.rule.rules.rules.changed"),
        ] {
            assert_eq!(subjects.event(kind, id, name), expected);
        }
        assert_eq!(subjects.commands(), "bootline.v1.st-01.cmd");
        assert_eq!(
            subjects.telemetry("dc:a6:32:01:02:03".parse().unwrap()),
            "bootline.v1.st-01.telemetry.device.dca632010203"
        );
    }
}
