//! A visit to a NATS server: does it take our login, may we send, and is the stream there.

use async_nats::jetstream;

use crate::bus::nats::connection::{self, Connection};
use crate::bus::nats::settings::Settings;
use crate::bus::nats::streams;
use crate::bus::topic::Subjects;
use crate::bus::visit::{Trouble, in_time, is_about_certificates};

/// Asks for the stream and sends one message that means nothing to a telemetry subject of the station's own. True: the
/// stream is there.
pub async fn visit(settings: &Settings, station: &str) -> Result<bool, Trouble> {
    let subjects = Subjects::new(station).map_err(|error| Trouble::Settings(error.to_string()))?;
    settings.check().map_err(|error| Trouble::Settings(error.to_string()))?;
    in_time(async {
        let name = format!("bootline/{station}-check");
        let connection = Connection::open(settings, &name, station).await.map_err(at_the_door)?;
        let seen = look(&connection, settings, &subjects.trial()).await;
        connection.close().await;
        seen
    })
    .await
}

async fn look(connection: &Connection, settings: &Settings, trial: &str) -> Result<bool, Trouble> {
    let Connection { client, news } = connection;
    let away = |error: &dyn std::error::Error| Trouble::Away(connection::chain(error));
    client.publish(trial.to_owned(), "{}".into()).await.map_err(|error| away(&error))?;
    // The server answers in order: what it says of the message is there before its answer about the stream.
    let context = jetstream::new(client.clone());
    let stream = streams::is_there(&context, news, streams::EVENTS).await;
    if news.lacks_on(trial) {
        return Err(Trouble::Rights(format!("not authorized to publish to {trial}")));
    }
    match stream {
        Ok(false) if !settings.manage_streams => {
            Err(Trouble::Rights(format!("there is no stream {} and bus.nats.manage_streams is false", streams::EVENTS)))
        }
        Ok(there) => Ok(there),
        Err(connection::Trouble::Refused(why)) => Err(Trouble::Rights(why)),
        Err(connection::Trouble::Away(why)) => Err(Trouble::Away(why)),
    }
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
