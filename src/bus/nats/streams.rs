//! The stream and the buckets that a station needs, as code. What is not there is made; what is there with other
//! settings is told and stays as it is: somebody may have had a reason.

use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};

use crate::bus::nats::connection::{News, Trouble};
use crate::bus::relay::MAX_EVENT;
use crate::bus::topic::Subjects;

pub const EVENTS: &str = "BOOTLINE_EVT";
/// `{station}`: presence, `{station}.info`: the birth certificate.
pub const STATIONS: &str = "bootline_stations";
/// `{station}.{command_id}`: the state of long commands.
pub const JOBS: &str = "bootline_jobs";
/// `{station}.{project}`: its counts.
pub const PROJECTS: &str = "bootline_projects";

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Headers of an event, rounded up.
const HEADERS: usize = 1024;

/// Everything that a station writes to.
pub fn all(replicas: usize) -> [Config; 4] {
    [
        events(replicas),
        bucket(STATIONS, 1, Duration::ZERO, replicas),
        // A job is written anew while it runs, so this is a day after its end.
        bucket(JOBS, 1, DAY, replicas),
        bucket(PROJECTS, 10, Duration::ZERO, replicas),
    ]
}

pub fn events(replicas: usize) -> Config {
    Config {
        name: EVENTS.to_owned(),
        description: Some("events of bootline stations, CloudEvents 1.0".to_owned()),
        subjects: vec![Subjects::ALL_EVENTS.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: 90 * DAY,
        // An event that was stored but whose acknowledgement was lost is sent again, perhaps after a long weekend.
        duplicate_window: 3 * DAY,
        deny_delete: true,
        allow_direct: true,
        num_replicas: replicas,
        ..Config::default()
    }
}

/// `create_key_value` of async-nats 0.51 fails on nats-server 2.9.10, whose account answer lacks two fields. These are
/// the flags that it would set.
fn bucket(name: &str, history: i64, max_age: Duration, replicas: usize) -> Config {
    Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        storage: StorageType::File,
        max_messages_per_subject: history,
        max_age,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        num_replicas: replicas,
        ..Config::default()
    }
}

/// Makes a stream where it is not there. Gives what is otherwise with one that is.
pub async fn prepare(context: &Context, news: &News, wanted: Config) -> Result<Vec<String>, Trouble> {
    let name = wanted.name.clone();
    if let Some(found) = look(context, news, &name).await? {
        return Ok(differences(&wanted, &found));
    }
    match make(context, news, &wanted).await? {
        Made::New => Ok(Vec::new()),
        // Another connection or station was faster.
        Made::There => {
            let found = look(context, news, &name).await?;
            Ok(found.map_or_else(Vec::new, |found| differences(&wanted, &found)))
        }
    }
}

async fn look(context: &Context, news: &News, name: &str) -> Result<Option<Config>, Trouble> {
    let (what, asked) = (format!("cannot look for the stream {name}"), format!("STREAM.INFO.{name}"));
    let found = news.answer(&what, &asked, async {
        match context.get_stream(name).await {
            Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                _ => Err(error),
            },
        }
    });
    found.await.map_err(|trouble| hint(context, trouble))
}

/// Whether there is such a stream.
pub async fn is_there(context: &Context, news: &News, name: &str) -> Result<bool, Trouble> {
    Ok(look(context, news, name).await?.is_some())
}

enum Made {
    New,
    There,
}

async fn make(context: &Context, news: &News, wanted: &Config) -> Result<Made, Trouble> {
    let name = &wanted.name;
    let (what, asked) = (format!("cannot make the stream {name}"), format!("STREAM.CREATE.{name}"));
    let made = news.answer(&what, &asked, async {
        match context.create_stream(wanted).await {
            Ok(_) => Ok(Ok(Made::New)),
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                    Ok(Ok(Made::There))
                }
                // Storage, limits of the account, a cluster that is too small: not mended by waiting.
                CreateStreamErrorKind::JetStream(said) => Ok(Err(said.to_string())),
                _ => Err(error),
            },
        }
    });
    made.await?.map_err(|said| Trouble::Refused(format!("{what}: {said}")))
}

/// A server without JetStream has nobody who answers.
fn hint(context: &Context, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Away(text) if !context.client().server_info().jetstream => {
            Trouble::Refused(format!("{text}; the server runs without JetStream"))
        }
        Trouble::Refused(text) => Trouble::Refused(format!(
            "{text}; with bus.nats.manage_streams: false the station does not ask for streams that others make"
        )),
        trouble @ Trouble::Away(_) => trouble,
    }
}

/// What of a stream would lose, repeat or refuse what we send. More than was asked for is as good.
fn differences(wanted: &Config, found: &Config) -> Vec<String> {
    let mut told = Vec::new();
    let name = &wanted.name;
    let mut tell = |is_other: bool, what: String| {
        if is_other {
            told.push(format!("stream {name}: {what}"));
        }
    };
    for subject in wanted.subjects.iter().filter(|subject| !found.subjects.contains(subject)) {
        tell(true, format!("it does not take {subject} but {:?}", found.subjects));
    }
    let shorter = |wanted: Duration, found: Duration| !found.is_zero() && (wanted.is_zero() || found < wanted);
    let days = |time: Duration| format!("{} h", time.as_secs() / 3600);
    tell(shorter(wanted.max_age, found.max_age), format!("messages are kept for {}", days(found.max_age)));
    tell(
        found.duplicate_window < wanted.duplicate_window,
        format!("repeats are known for {}, not {}", days(found.duplicate_window), days(wanted.duplicate_window)),
    );
    tell(found.retention != wanted.retention, format!("retention is {:?}", found.retention));
    tell(found.storage != wanted.storage, format!("storage is {:?}", found.storage));
    tell(found.discard != wanted.discard, format!("discard is {:?}", found.discard));
    // None or a negative number is as many as come.
    let history = |config: &Config| Some(config.max_messages_per_subject).filter(|most| *most > 0).unwrap_or(i64::MAX);
    tell(
        history(found) < history(wanted),
        format!("only {} messages a subject are kept", found.max_messages_per_subject),
    );
    tell(wanted.allow_rollup && !found.allow_rollup, "keys cannot be purged (allow_rollup_hdrs)".to_owned());
    tell(wanted.deny_delete && !found.deny_delete, "messages can be deleted (deny_delete)".to_owned());
    tell(wanted.allow_direct && !found.allow_direct, "direct reads are off (allow_direct)".to_owned());
    tell(found.no_ack, "it acknowledges nothing (no_ack)".to_owned());
    tell(found.sealed, "it is sealed".to_owned());
    let smallest = i32::try_from(MAX_EVENT + HEADERS).expect("64 KiB fit");
    tell(
        (1..smallest).contains(&found.max_message_size),
        format!("messages over {} bytes are refused", found.max_message_size),
    );
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_keeps_more_is_as_good_and_one_that_loses_is_told() {
        let wanted = events(1);
        let better = Config { max_age: Duration::ZERO, duplicate_window: 4 * DAY, num_replicas: 3, ..wanted.clone() };
        assert_eq!(differences(&wanted, &wanted), Vec::<String>::new());
        assert_eq!(differences(&wanted, &better), Vec::<String>::new());
        for (found, word) in [
            (Config { max_age: DAY, ..wanted.clone() }, "kept for 24 h"),
            (Config { duplicate_window: DAY, ..wanted.clone() }, "repeats"),
            (Config { subjects: vec!["x.>".to_owned()], ..wanted.clone() }, "does not take"),
            (Config { retention: RetentionPolicy::WorkQueue, ..wanted.clone() }, "retention"),
            (Config { storage: StorageType::Memory, ..wanted.clone() }, "storage"),
            (Config { max_messages_per_subject: 1, ..wanted.clone() }, "a subject"),
            (Config { max_message_size: 1000, ..wanted.clone() }, "1000 bytes"),
            (Config { no_ack: true, ..wanted.clone() }, "acknowledges"),
        ] {
            let told = differences(&wanted, &found);
            assert!(told.len() == 1 && told[0].contains(word) && told[0].contains(EVENTS), "{word}: {told:?}");
        }
        let [_, _, jobs, projects] = all(1);
        assert_eq!(differences(&jobs, &jobs), Vec::<String>::new());
        assert_eq!(differences(&projects, &Config { max_messages_per_subject: 64, ..projects.clone() }).len(), 0);
        assert_eq!(differences(&projects, &Config { allow_rollup: false, ..projects.clone() }).len(), 1);
    }
}
