//! Key-value buckets, written as what they are: messages of a stream, with an acknowledgement. So a station needs the
//! right to publish on its own keys and no other.

use async_nats::header::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::stream::{DirectGetError, DirectGetErrorKind};
use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::bus::nats::connection::{News, Trouble};

const OPERATION: &str = "KV-Operation";

pub struct Kv {
    pub context: Context,
    pub news: News,
}

impl Kv {
    pub async fn put(&self, bucket: &str, key: &str, body: Bytes) -> Result<(), Trouble> {
        self.write(bucket, key, HeaderMap::new(), body).await
    }

    /// Takes a key away with all that it ever held.
    pub async fn purge(&self, bucket: &str, key: &str) -> Result<(), Trouble> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "PURGE");
        headers.insert("Nats-Rollup", "sub");
        self.write(bucket, key, headers, Bytes::new()).await
    }

    async fn write(&self, bucket: &str, key: &str, headers: HeaderMap, body: Bytes) -> Result<(), Trouble> {
        let what = format!("cannot write {key} into the bucket {bucket}");
        let subject = subject(bucket, key);
        let written = async {
            let acknowledged = async { self.context.publish_with_headers(subject.clone(), headers, body).await?.await };
            match acknowledged.await {
                Ok(_) => Ok(None),
                Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                    Ok(Some(format!("{what}: there is no such bucket")))
                }
                Err(error) => Err::<_, PublishError>(error),
            }
        };
        self.news.answer(&what, &subject, written).await?.map_or(Ok(()), |missing| Err(Trouble::Refused(missing)))
    }

    /// The keys below `{prefix}.` that hold something, without the prefix.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, Trouble> {
        let what = format!("cannot list the bucket {bucket}");
        let asked = format!("STREAM.INFO.KV_{bucket}");
        let stream = self.context.get_stream_no_info(format!("KV_{bucket}"));
        let stream = self.news.answer(&what, &asked, stream).await?;
        let filter = subject(bucket, &format!("{prefix}.>"));
        let listed = async { stream.info_with_subjects(filter).await?.try_collect::<Vec<(String, usize)>>().await };
        let start = subject(bucket, &format!("{prefix}."));
        let mut keys = Vec::new();
        for (found, _) in self.news.answer(&what, &asked, listed).await? {
            let held = async {
                match stream.direct_get_last_for_subject(found.clone()).await {
                    Ok(message) => Ok(message.headers.get(OPERATION).is_none()),
                    Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(false),
                    Err(error) => Err::<_, DirectGetError>(error),
                }
            };
            if self.news.answer(&what, &found, held).await? {
                keys.extend(found.strip_prefix(start.as_str()).map(str::to_owned));
            }
        }
        Ok(keys)
    }
}

fn subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}
