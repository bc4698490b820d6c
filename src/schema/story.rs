//! A day at a station, told to the core: what it says and answers are the examples. Ids, times and sequences are the same
//! each time, and one module runs through most of it, so the examples read together.

mod day;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::core::address::Pool;
use crate::core::command::{Command, Envelope, Reply, Status, Transport};
use crate::core::delivery::Delivery;
use crate::core::device::Mac;
use crate::core::event::Event;
use crate::core::floor::{Deadlines, Fact, Floor, Settings};
use crate::core::job::Job;
use crate::core::observation::{Input, Observation};
use crate::core::plan::{SessionId, StepName};
use crate::core::project::Project;
use crate::core::refusal::Refusal;
use crate::core::slot::Line;
use crate::core::time::Timestamp;
use crate::core::view::{Answer, Telemetry};
use crate::ledger::Identity;
use crate::ledger::cloudevent::{self, Cause, Mark};

/// 2025-11-22 06:00 UTC
const BEGAN: Timestamp = Timestamp::from_millis(1_763_791_200_000);
/// What UUIDs of that time begin with.
const IDS: u128 = 0x019a_aa44_7d00_7000_8000_0000_0000_0000;

pub struct Story {
    floor: Floor,
    now: Timestamp,
    identity: Identity,
    seq: u64,
    /// Name and envelope, in order.
    events: Vec<(&'static str, Value)>,
    /// Name, request and reply.
    exchanges: Vec<(String, Value, Value)>,
    session: Option<SessionId>,
}

impl Story {
    /// From the start of the station to its end.
    pub fn tell() -> Self {
        let settings = Settings {
            station: "st-01".to_owned(),
            version: "1.0.0".to_owned(),
            pool: Pool {
                server: Ipv4Addr::new(192, 168, 5, 1),
                first: Ipv4Addr::new(192, 168, 5, 2),
                last: Ipv4Addr::new(192, 168, 5, 250),
                lease: Duration::from_secs(3600),
                reservations: BTreeMap::new(),
            },
            max_attempts: 3,
            deadlines: Deadlines::default(),
            line: Line {
                powered: BTreeSet::from(["sw1".to_owned()]),
                quarantine_after: Some(2),
                printers: day::printers(),
                ..Line::default()
            },
        };
        let identity = Identity {
            station: settings.station.clone(),
            root: String::new(),
            epoch: "7c1e90ab".to_owned(),
            version: settings.version.clone(),
        };
        let mut story = Self {
            floor: Floor::new(settings),
            now: BEGAN,
            identity,
            seq: 0,
            events: Vec::new(),
            exchanges: Vec::new(),
            session: None,
        };
        story.day();
        story
    }

    pub const fn began(&self) -> Timestamp {
        BEGAN
    }

    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn delivery(&self) -> &Delivery {
        self.floor.delivery()
    }

    /// The fullest event of this name.
    pub fn event(&self, name: &str) -> Option<Value> {
        let named = self.events.iter().filter(|(told, _)| *told == name);
        named.max_by_key(|(_, event)| event.to_string().len()).map(|(_, event)| event.clone())
    }

    /// The first request of this name that was carried out, and its reply.
    pub fn exchange(&self, name: &str) -> Option<(Value, Value)> {
        let mut named = self.exchanges.iter().filter(|(asked, _, reply)| asked == name && reply["error"].is_null());
        named.next().map(|(_, request, reply)| (request.clone(), reply.clone()))
    }

    /// A job that runs.
    pub fn job(&self) -> Value {
        self.exchange("image.add").map(|(_, reply)| reply["result"]["job"].clone()).unwrap_or_default()
    }

    /// A project as it was made.
    pub fn project(&self) -> Project {
        let made = self.exchange("project.create").map(|(_, reply)| reply["result"]["project"].clone());
        serde_json::from_value(made.unwrap_or_default()).unwrap_or_else(|wrong| panic!("no project: {wrong}"))
    }

    /// A job that runs, as the station keeps it.
    pub fn fetch(&self) -> Job {
        let Some((request, reply)) = self.exchange("image.add") else { panic!("the story fetches no image") };
        let mut job = reply["result"]["job"].clone();
        job["begun_at"] = json!(BEGAN.plus(Duration::from_secs(60)));
        job["asked"] = json!({
            "actor": request["actor"], "transport": "mqtt", "correlation_id": request["correlation_id"],
        });
        serde_json::from_value(job).unwrap_or_else(|wrong| panic!("no job: {wrong}"))
    }

    pub fn telemetry(&self) -> Telemetry {
        Telemetry {
            v: 1,
            mac: day::DEVICE,
            session: self.session.unwrap_or(SessionId(Uuid::nil())),
            attempt: 1,
            step: StepName::Write,
            bytes: 1_073_741_824,
            bytes_total: 3_221_225_472,
            percent: 33,
            at: BEGAN.plus(Duration::from_secs(120)),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    fn tell_of(&mut self, observation: Observation) -> Answer {
        self.submit(&Input::Observed(observation), &Cause::default())
            .unwrap_or_else(|refusal| panic!("the story does not hold: {refusal}"))
    }

    fn tick(&mut self) {
        self.submit(&Input::Tick, &Cause::default()).unwrap_or_else(|refusal| panic!("no tick: {refusal}"));
    }

    /// Asks as the ERP would.
    fn ask(&mut self, name: &str, params: &Value) {
        let request = json!({
            "v": 1,
            "command_id": format!("erp-4711-{:04}", self.exchanges.len() + 1),
            "name": name,
            "issued_at": self.now,
            "expires_at": self.now.plus(Duration::from_secs(3600)),
            "actor": {"type": "erp", "id": "sap-production"},
            "correlation_id": "order-4711",
            "params": params,
        });
        let envelope = Envelope {
            name: None,
            id: None,
            minted_id: "not-used-0".parse().unwrap_or_else(|wrong| panic!("{wrong}")),
            transport: Transport::Mqtt,
            now: self.now,
        };
        let command = Command::parse(request.to_string().as_bytes(), &envelope)
            .unwrap_or_else(|refusal| panic!("{name} is not understood: {refusal}"));
        let cause = Cause { command_id: Some(command.id.to_string()), correlation_id: command.correlation_id.clone() };
        let reply = match self.submit(&Input::Commanded(Box::new(command)), &cause) {
            Ok(Answer::Reply(reply)) => *reply,
            other => panic!("{name} came to nothing: {other:?}"),
        };
        self.note(name, request, &reply);
    }

    fn note(&mut self, name: &str, request: Value, reply: &Reply) {
        debug_assert!(matches!(reply.status, Status::Succeeded | Status::Accepted), "{reply:?}");
        self.exchanges.push((name.to_owned(), request, json!(reply)));
    }

    fn submit(&mut self, input: &Input, cause: &Cause) -> Result<Answer, Refusal> {
        let decision = self.floor.decide(input, self.now)?;
        for fact in decision.facts {
            self.floor.apply(&fact, self.now);
            if let Fact::Event(event) = fact {
                self.say(&event, cause);
            }
        }
        self.pass(Duration::from_millis(850));
        Ok(decision.answer)
    }

    fn say(&mut self, event: &Event, cause: &Cause) {
        self.seq += 1;
        let id = Uuid::from_u128(IDS + u128::from(self.seq));
        let recorded = cloudevent::named(&Mark { id, seq: self.seq, at: self.now }, &self.identity, event, cause);
        let body = serde_json::from_slice(&recorded.body).expect("an event is JSON");
        self.events.push((event.name(), body));
    }

    fn mac_of(n: u8) -> Mac {
        Mac::new([0xdc, 0xa6, 0x32, 0x01, 0x02, n])
    }
}
