//! Long work on an image: its file is fetched or comes in, then it is looked at. One row a job; the images room finds
//! the open ones, does the work and reports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::command::CommandId;
use crate::core::image::Digest;
use crate::core::refusal::Refusal;
use crate::core::shown::JobShown;
use crate::core::text::serde_by_text;
use crate::core::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Of the command that began it, or made by the station for an upload.
    pub id: CommandId,
    /// `image.add` or `image.upload`.
    pub kind: String,
    /// Of the image.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
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
        if self.image.is_some() { "ingest" } else { "fetch" }
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
