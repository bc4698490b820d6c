//! The library with a real ledger.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::stream;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::core::address::Pool;
use crate::core::command::{Envelope, Status, Transport};
use crate::core::floor::{Deadlines, Settings};
use crate::ledger::{Clock, Follower};

struct World {
    data: TempDir,
    ledger: Ledger,
    images: Images,
    journal: Follower,
}

impl World {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let pool = Pool {
            server: Ipv4Addr::new(10, 0, 0, 1),
            first: Ipv4Addr::new(10, 0, 0, 2),
            last: Ipv4Addr::new(10, 0, 0, 200),
            lease: Duration::from_secs(3600),
            reservations: BTreeMap::new(),
        };
        let settings = Settings {
            station: "st-01".to_owned(),
            version: "0.0.0".to_owned(),
            pool,
            max_attempts: 3,
            deadlines: Deadlines::default(),
        };
        let (ledger, _) = Ledger::open(&data.path().join("bootline.db"), "", settings, Clock::default()).unwrap();
        let images = Images::open(data.path(), ledger.clone()).unwrap();
        let journal = ledger.follow(0);
        Self { data, ledger, images, journal }
    }

    async fn take(&self, bytes: &[u8]) -> Result<Image, Refusal> {
        self.images.take("a.img", || Ok(None), chunked(bytes)).await
    }

    /// The events of one name, as many as are waited for.
    async fn told(&mut self, name: &str, count: usize) -> Vec<serde_json::Value> {
        let mut told = Vec::new();
        while told.len() < count {
            let page = self.journal.next().await.unwrap();
            let bodies = page.iter().filter(|event| event.name == name).map(|event| &event.body);
            told.extend(bodies.map(|body| serde_json::from_slice::<serde_json::Value>(body).unwrap()["data"].clone()));
        }
        told
    }

    async fn delete(&self, image: &Image) {
        let minted_id = uuid::Uuid::now_v7().to_string().parse().unwrap();
        let envelope = Envelope {
            name: Some("image.delete"),
            id: None,
            minted_id,
            transport: Transport::Rest,
            now: self.ledger.now(),
        };
        let body = serde_json::json!({"params": {"image": image.id}}).to_string();
        assert_eq!(self.ledger.command(body.as_bytes(), &envelope).await.status, Status::Succeeded);
    }

    fn files(&self, folder: &str) -> usize {
        fs::read_dir(self.data.path().join(folder)).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count()
    }
}

fn chunked(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
    let chunks: Vec<_> = bytes.chunks(100).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

#[tokio::test]
async fn an_upload_becomes_an_image_that_the_factory_hears_of() {
    let mut world = World::new();
    let image = world.take(&[7; 1024]).await.unwrap();
    assert_eq!(image.id, Digest::new(Sha256::digest([7; 1024]).into()));
    assert_eq!(fs::read(world.images.file(image.id)).unwrap(), [7; 1024]);
    assert_eq!(world.told("image.added", 1).await[0]["id"], image.id.to_string());
    assert_eq!(world.images.damaged(&[image]), []);
}

#[tokio::test]
async fn the_same_image_twice_at_once_is_one_image() {
    let mut world = World::new();
    let (one, two) = tokio::join!(world.take(&[1; 51_200]), world.take(&[1; 51_200]));
    assert_eq!(one.unwrap().id, two.unwrap().id);
    assert_eq!((world.files("images"), world.files("images/incoming")), (1, 0));
    world.take(&[2; 512]).await.unwrap();
    assert_eq!(world.told("image.added", 2).await.len(), 2);
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing_and_is_told() {
    let mut world = World::new();
    let upload = stream::iter([Ok(Bytes::from_static(&[0; 512])), Err(io::Error::other("reset"))]);
    assert_eq!(world.images.take("a.img", || Ok(None), upload).await.unwrap_err().code, "upload_cut");
    assert_eq!(world.told("image.rejected", 1).await[0]["code"], "upload_cut");
    assert_eq!((world.files("images"), world.files("images/incoming")), (0, 0));
}

#[tokio::test]
async fn a_client_that_is_gone_is_an_upload_that_was_cut_off() {
    let mut world = World::new();
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(&[0; 512]))]);
    let images = world.images.clone();
    let task = tokio::spawn(async move { images.take("a.img", || Ok(None), first.chain(stream::pending())).await });
    while world.files("images/incoming") == 0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert_eq!(world.told("image.rejected", 1).await[0]["code"], "upload_cut");
    assert_eq!((world.files("images"), world.files("images/incoming")), (0, 0));
}

#[tokio::test]
async fn a_no_does_not_wait_for_the_end_of_the_upload() {
    let world = World::new();
    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(b"PK\x03\x04 zip")));
    let refusal = world.images.take("a.img.zip", || Ok(None), endless).await.unwrap_err();
    assert_eq!(refusal.code, "unsupported_compression");
    assert_eq!(world.files("images/incoming"), 0);
}

#[tokio::test]
async fn a_file_in_the_import_folder_is_taken_in_by_its_path() {
    let mut world = World::new();
    fs::write(world.data.path().join("import/a.img"), [3; 512]).unwrap();
    let image = world.images.take_path("Gateway 1.0", "a.img", None).await.unwrap();
    assert_eq!((image.name.as_str(), image.size_bytes), ("Gateway 1.0", 512));
    assert!(world.data.path().join("import/a.img").exists());
    let refusal = world.images.take_path("a", "../bootline.db", None).await.unwrap_err();
    assert_eq!(refusal.code, "invalid_params");
    assert_eq!(world.told("image.added", 1).await[0]["name"], "Gateway 1.0");
}

#[tokio::test]
async fn a_deleted_image_loses_its_file_unless_it_was_taken_in_again() {
    let mut world = World::new();
    let (gone, back) = (world.take(&[1; 512]).await.unwrap(), world.take(&[2; 512]).await.unwrap());
    world.delete(&back).await;
    world.delete(&gone).await;
    world.take(&[2; 512]).await.unwrap();
    let stop = CancellationToken::new();
    let follower = tokio::spawn(world.images.clone().run(stop.clone()));
    while world.images.file(gone.id).exists() {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    follower.await.unwrap().unwrap();
    assert!(world.images.file(back.id).exists());
    assert_eq!(world.ledger.cursor(SINK).await.unwrap(), world.ledger.newest());
    assert_eq!(world.told("image.added", 3).await.len(), 3);
}

#[test]
fn a_full_disk_is_said_as_such() {
    let refusal = refusal_of(&io::Error::from_raw_os_error(nix::libc::ENOSPC));
    assert_eq!((refusal.status, refusal.code.as_str(), refusal.retryable), (507, "disk_full", true));
}
