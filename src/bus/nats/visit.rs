//! A visit to a NATS server: does it take our login, may we send, may we hear, and is the stream there.

use async_nats::jetstream;

use crate::bus::nats::connection::{self, Connection};
use crate::bus::nats::service::SERVICE;
use crate::bus::nats::settings::Settings;
use crate::bus::nats::streams;
use crate::bus::topic::Subjects;
use crate::bus::visit::{Heard, Trouble, Unheard, in_time, is_about_certificates};
use crate::core::command::{NAMES, is_read};

/// What a server lets us do that takes our login and what we send.
pub struct Seen {
    /// True: the stream is there.
    pub stream: Result<bool, Trouble>,
    pub unheard: Vec<Unheard>,
}

/// Sends one message that means nothing to a telemetry subject of the station's own, subscribes to what the station
/// subscribes to, and asks for the stream.
pub async fn visit(settings: &Settings, station: &str) -> Result<Seen, Trouble> {
    let subjects = Subjects::new(station).map_err(|error| Trouble::Settings(error.to_string()))?;
    settings.check().map_err(|error| Trouble::Settings(error.to_string()))?;
    in_time(async {
        let name = format!("bootline/{station}-check");
        let connection = Connection::open(settings, &name, station).await.map_err(at_the_door)?;
        let seen = look(&connection, settings, &subjects).await;
        connection.close().await;
        seen
    })
    .await
}

async fn look(connection: &Connection, settings: &Settings, subjects: &Subjects) -> Result<Seen, Trouble> {
    let Connection { client, news } = connection;
    let away = |error: &dyn std::error::Error| Trouble::Away(connection::chain(error));
    let trial = subjects.trial();
    client.publish(trial.clone(), "{}".into()).await.map_err(|error| away(&error))?;
    // Not in the stations' queue groups: what comes here is a copy.
    let mut ears = Vec::new();
    for subject in wanted(subjects) {
        ears.push(client.subscribe(subject).await.map_err(|error| away(&error))?);
    }
    // The server answers in order: what it says of all that is there before its answer about the stream.
    let context = jetstream::new(client.clone());
    let stream = streams::is_there(&context, news, streams::EVENTS).await;
    if news.lacks_on(&trial).is_some() {
        return Err(Trouble::Rights(format!("not authorized to publish to {trial}")));
    }
    let unheard = groups(subjects).into_iter().filter_map(|(what, group)| {
        let why = news.lacks_on(&format!("Subscription to \"{group}"))?;
        Some(Unheard { what, filter: format!("{group}>"), why })
    });
    let unheard = unheard.collect();
    let stream = match stream {
        Ok(false) if !settings.manage_streams => {
            Err(Trouble::Rights(format!("there is no stream {} and bus.nats.manage_streams is false", streams::EVENTS)))
        }
        Ok(there) => Ok(there),
        Err(connection::Trouble::Refused(why)) => Err(Trouble::Rights(why)),
        Err(connection::Trouble::Away(why)) => return Err(Trouble::Away(why)),
    };
    Ok(Seen { stream, unheard })
}

/// The beginnings of what the station subscribes to.
fn groups(subjects: &Subjects) -> [(Heard, String); 4] {
    [
        (Heard::Requests, format!("{}.", subjects.commands())),
        (Heard::Everyones, format!("{}.", Subjects::ANY_COMMANDS)),
        (Heard::Everyones, format!("{}.", Subjects::ALL_COMMANDS)),
        (Heard::Discovery, "$SRV.".to_owned()),
    ]
}

/// Every subject that it subscribes to. Of denied ones only the first few are remembered, so each group comes early.
fn wanted(subjects: &Subjects) -> Vec<String> {
    let [(_, own), (_, any), (_, all), (_, discovery)] = groups(subjects);
    let mut wanted = vec![format!("{discovery}PING"), format!("{discovery}PING.{SERVICE}")];
    // One of the reading ones first: all three groups have it.
    let (reads, rest): (Vec<_>, Vec<_>) = NAMES.into_iter().partition(|name| is_read(name));
    for name in reads {
        wanted.extend([&own, &any, &all].map(|group| format!("{group}{name}")));
    }
    for name in rest {
        wanted.extend([&own, &any].map(|group| format!("{group}{name}")));
    }
    wanted
}

fn at_the_door(trouble: connection::Trouble) -> Trouble {
    match trouble {
        connection::Trouble::Refused(why) | connection::Trouble::Away(why) if is_about_certificates(&why) => {
            Trouble::Certificate(why)
        }
        connection::Trouble::Refused(why) => Trouble::Login(format!("the server refused us: {why}")),
        connection::Trouble::Away(why) => Trouble::Away(why),
    }
}
