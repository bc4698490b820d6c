//! Long work: the file of an image is fetched or comes in, then it is looked at; events are sent again. One row a job;
//! the room that does such work finds the open ones, does it and reports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::command::{Actor, Command, CommandId};
use crate::core::delivery::Replay;
use crate::core::image::Digest;
use crate::core::refusal::Refusal;
use crate::core::reply::{Reply, Status};
use crate::core::shown::JobShown;
use crate::core::text::serde_by_text;
use crate::core::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Of the command that began it, or made by the station for an upload.
    pub id: CommandId,
    /// `image.add`, `image.upload` or `events.replay`.
    pub kind: String,
    /// Of the image, or of the sink.
    pub name: String,
    /// Where it is fetched from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<ImageUrl>,
    /// As it was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its file is here, in whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    pub state: JobState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    pub started_at: Timestamp,
    /// Until then it waits for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// By whom, if a command began it: whoever asked hears how it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Of events that are sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

/// What of the command is needed at the end of its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub actor: Actor,
    pub transport: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

impl Asked {
    pub fn of(command: &Command) -> Self {
        Self {
            actor: command.actor.clone(),
            transport: command.transport.as_str().to_owned(),
            correlation_id: command.correlation_id.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    Succeeded,
    Failed,
    Canceled,
}

impl JobState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

impl Job {
    pub fn is_open(&self) -> bool {
        self.state == JobState::Running
    }

    /// What is done now: `fetch` the file, then `ingest` it.
    pub const fn stage(&self) -> &'static str {
        match (&self.replay, self.image) {
            (Some(_), _) => "replay",
            (None, Some(_)) => "ingest",
            (None, None) => "fetch",
        }
    }

    /// The word of the contract for where it stands.
    pub const fn phase(&self) -> &'static str {
        match (self.state, self.begun_at) {
            (JobState::Running, None) => "queued",
            (JobState::Running, Some(_)) => "in_progress",
            (state, _) => state.as_str(),
        }
    }

    /// The last answer to the command that began it, once it has ended.
    pub fn reply(&self, station: &str) -> Option<Reply> {
        let (asked, at) = (self.asked.as_ref()?, self.ended_at?);
        let (status, error) = match self.state {
            JobState::Running => return None,
            JobState::Succeeded => (Status::Succeeded, None),
            JobState::Failed => {
                let unknown = || Refusal::new(500, "internal", "the job failed and left no reason");
                (Status::Failed, Some(self.error.clone().unwrap_or_else(unknown)))
            }
            JobState::Canceled => (Status::Canceled, Some(Refusal::new(409, "canceled", "job.cancel has ended it"))),
        };
        Some(Reply {
            v: 1,
            command_id: self.id.clone(),
            name: self.kind.clone(),
            station: station.to_owned(),
            status,
            is_final: true,
            code: error.as_ref().map_or(200, |refusal| refusal.status),
            replayed: false,
            at,
            correlation_id: asked.correlation_id.clone(),
            job: Some(self.id.clone()),
            result: error.is_none().then(|| json!({"job": self.shown()})),
            error: error.map(Into::into),
        })
    }

    #[must_use]
    pub fn ended(&self, state: JobState, error: Option<Refusal>, at: Timestamp) -> Self {
        Self { state, error, ended_at: Some(at), ..self.clone() }
    }

    /// For people: of a URL without what may be secret in it.
    pub fn shown(&self) -> Value {
        json!(JobShown {
            id: self.id.clone(),
            kind: self.kind.clone(),
            name: self.name.clone(),
            url: self.url.as_ref().map(|url| url.shown().to_owned()),
            sha256: self.sha256,
            image: self.image,
            size_bytes: self.size_bytes,
            state: self.state,
            error: self.error.clone(),
            started_at: self.started_at,
            ended_at: self.ended_at,
            stage: self.stage().to_owned(),
            replay: self.replay.clone(),
        })
    }
}

/// `http://` or `https://`, without a user and a password: those would end up in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageUrl(String);

impl ImageUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the query, which may hold the signature of a store.
    pub fn shown(&self) -> &str {
        self.0.split(['?', '#']).next().unwrap_or_default()
    }

    /// The last part of the path.
    pub fn file_name(&self) -> &str {
        let (_, rest) = self.shown().split_once("://").unwrap_or_default();
        rest.split_once('/').map_or("", |(_, path)| path.rsplit('/').next().unwrap_or_default())
    }
}

impl std::fmt::Display for ImageUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for ImageUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageUrl({})", self.shown())
    }
}

impl std::str::FromStr for ImageUrl {
    type Err = String;

    /// The text itself is not repeated in the error: it may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("not a URL to fetch an image from: {why}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("it must begin with http:// or https://");
        };
        if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return wrong("only http:// and https:// are fetched");
        }
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.contains('@') {
            return wrong("a user or a password does not belong into it");
        }
        if host.is_empty() || text.len() > 4096 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return wrong("it has no host, a space or more than 4096 characters");
        }
        Ok(Self(text.to_owned()))
    }
}

serde_by_text!(ImageUrl);

/// `image.add`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageAdd {
    /// Where the image is fetched from; redirects are followed.
    pub url: ImageUrl,
    /// In the library; the last part of the URL where it is left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Of the file; another one is rejected.
    #[serde(default)]
    pub sha256: Option<Digest>,
}

/// `job.cancel`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobName {
    /// The `command_id` of the command that began it.
    pub job: CommandId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls_are_taken() {
        let url: ImageUrl = "https://example.com/a/b.img.xz?signature=s3cret".parse().unwrap();
        assert_eq!((url.shown(), url.file_name()), ("https://example.com/a/b.img.xz", "b.img.xz"));
        assert!(!format!("{url:?}").contains("s3cret"));
        for wrong in
            ["file:///etc/passwd", "ftp://x/y", "http://", "http:///a", "http://user:pw@host/", "http://a b/", "/a"]
        {
            let error = wrong.parse::<ImageUrl>().unwrap_err();
            assert!(!error.contains("pw"), "{error}");
        }
    }
}
