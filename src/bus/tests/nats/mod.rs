//! NATS against nats-server: the one of Debian 12, and a current one that `tests/run` fetches.

mod acl;
mod conformance;
mod events;
mod keys;
mod login;
mod requests;
mod streams;

use std::path::{Path, PathBuf};

use async_nats::Client;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::{self, Message};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use super::broker::{Server, free_port};
use super::{LONG, Tally, World};
use crate::bus::{Mqtt, nats};

/// Names the program of a current nats-server.
const CURRENT: &str = "BOOTLINE_NATS_SERVER";

/// A nats-server to run.
pub struct Program(&'static str);

impl Program {
    fn debian() -> Option<Self> {
        Some(Self("nats-server"))
    }

    /// Fetched by `tests/run`; without it nothing is tested, which CI does not take.
    fn current() -> Option<Self> {
        match std::env::var(CURRENT) {
            Ok(path) => Some(Self(Box::leak(path.into_boxed_str()))),
            Err(_) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{CURRENT} is not set; see tests/run"),
            Err(_) => {
                eprintln!("skipped: {CURRENT} names no nats-server; tests/run fetches one");
                None
            }
        }
    }
}

/// The same story against both servers.
macro_rules! on_both {
    ($story:ident) => {
        mod $story {
            use super::super::Program;

            #[tokio::test(flavor = "multi_thread")]
            async fn on_debians_server() {
                if let Some(program) = Program::debian() {
                    super::$story(&program).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_a_current_server() {
                if let Some(program) = Program::current() {
                    super::$story(&program).await;
                }
            }
        }
    };
}
use on_both;

/// A server with JetStream in a folder, and more lines of configuration.
struct Natsd {
    server: Server,
    config: PathBuf,
    fixed: String,
}

impl Natsd {
    fn new(program: &Program, folder: &Path, extra: &str) -> Self {
        let port = free_port();
        let config = folder.join(format!("nats-{port}.conf"));
        let store = folder.join(format!("nats-{port}"));
        let fixed = format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n", store.display());
        let natsd = Self { server: Server::nats(program.0, port, &config), config, fixed };
        natsd.write(extra);
        natsd
    }

    fn write(&self, extra: &str) {
        std::fs::write(&self.config, format!("{}{extra}\n", self.fixed)).unwrap();
    }

    /// Without JetStream.
    fn write_bare(&self) {
        std::fs::write(&self.config, format!("listen: \"127.0.0.1:{}\"\n", self.server.port)).unwrap();
    }

    /// Another configuration for the running server.
    fn reload(&self, extra: &str) {
        self.write(extra);
        self.server.hangup();
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.server.port)
    }

    /// How a station speaks to it that needs no login.
    fn settings(&self) -> nats::Settings {
        nats::Settings::plain(self.url())
    }

    async fn client(&self) -> Client {
        async_nats::connect(self.url()).await.unwrap()
    }
}

/// A station with a server that takes anyone.
async fn world(program: &Program) -> (World, Natsd) {
    let mut world = World::new();
    let mut natsd = Natsd::new(program, world.folder.path(), "");
    natsd.server.start().await;
    world.start(Mqtt::Off, Some(natsd.settings())).await;
    (world, natsd)
}

/// Everything in the stream, in its order.
async fn stored(client: &Client) -> Vec<Message> {
    let context = jetstream::new(client.clone());
    let mut stream = context.get_stream("BOOTLINE_EVT").await.unwrap();
    let count = usize::try_from(stream.info().await.unwrap().state.messages).unwrap();
    let consumer = stream.create_consumer(OrderedConfig::default()).await.unwrap();
    let messages = consumer.messages().await.unwrap().take(count);
    timeout(LONG, messages.map(Result::unwrap).collect()).await.unwrap()
}

/// Waits until the station answers.
async fn asked(client: &Client, subject: &str, body: &str) -> async_nats::Message {
    let asking = async {
        loop {
            match client.request(subject.to_owned(), body.to_owned().into()).await {
                Ok(answer) => return answer,
                Err(error) => assert_eq!(error.kind(), RequestErrorKind::NoResponders, "{error}"),
            }
        }
    };
    timeout(LONG, asking).await.unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Waits until the station has made a bucket.
async fn bucket(client: &Client, name: &str) -> Store {
    let context = jetstream::new(client.clone());
    let mut last = None;
    let found = async {
        loop {
            match context.get_key_value(name).await {
                Ok(bucket) => return bucket,
                Err(error) => last = Some(error),
            }
        }
    };
    let found = timeout(LONG, found).await;
    found.unwrap_or_else(|_| panic!("no bucket {name}: {last:?}"))
}

/// Waits until a key holds what is looked for; gives it.
async fn holds(bucket: &Store, key: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let mut watch = bucket.watch_with_history(key).await.unwrap();
    let found = async {
        loop {
            let entry = watch.next().await.unwrap().unwrap();
            if !entry.value.is_empty() {
                let value = json(&entry.value);
                if fits(&value) {
                    return value;
                }
            }
        }
    };
    timeout(LONG, found).await.unwrap_or_else(|_| panic!("{key} does not come to hold it"))
}
