//! A visit to a broker, for the doctor: by the station's own login, under a name of its own so that a station that runs
//! is not disturbed, with nothing left behind.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

/// A broker that has not answered by then is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the station would not be heard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// What the configuration names cannot be used.
    #[error("{0}")]
    Settings(String),
    #[error("{0}")]
    Away(String),
    /// Neither side can be sure of the other.
    #[error("{0}")]
    Certificate(String),
    #[error("{0}")]
    Login(String),
    #[error("{0}")]
    Rights(String),
}

/// A subscription of the station's that the broker refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    pub what: Heard,
    /// As the station subscribes to it.
    pub filter: String,
    /// In the broker's own words.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Requests to this station.
    Requests,
    /// Requests to any station, or to all of them.
    Everyones,
    /// What the broker keeps of our own states.
    States,
    /// Who asks which services there are.
    Discovery,
}

/// What the libraries say of TLS stands in their texts alone.
pub fn is_about_certificates(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["certificate", "unknownissuer", "tls", "handshake"].iter().any(|word| text.contains(word))
}

pub async fn in_time<T>(visit: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let late = || Trouble::Away(format!("no answer within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, visit).await.unwrap_or_else(|_| Err(late()))
}
