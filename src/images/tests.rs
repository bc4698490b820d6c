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
use crate::images as room;
use crate::ledger::{Clock, Follower};

struct World {
    data: TempDir,
    ledger: Ledger,
    images: Images,
    journal: Follower,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<Result<(), Fault>>>,
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
            line: crate::core::slot::Line::default(),
        };
        let (ledger, _) = Ledger::open(&data.path().join("bootline.db"), "", settings, Clock::default()).unwrap();
        let images = Images::open(data.path(), settings_of_room(), ledger.clone()).unwrap();
        let journal = ledger.follow(0);
        let mut world = Self { data, ledger, images, journal, stop: CancellationToken::new(), running: None };
        world.start();
        world
    }

    fn start(&mut self) {
        self.running = Some(tokio::spawn(self.images.clone().run(self.stop.clone())));
    }

    /// Ends the room in order.
    async fn end(&mut self) {
        self.stop.cancel();
        self.running.take().unwrap().await.unwrap().unwrap();
    }

    /// The room in another life of the process, with another configuration.
    async fn restart(&mut self, settings: room::Settings) {
        if self.running.is_some() {
            self.end().await;
        }
        self.stop = CancellationToken::new();
        self.images = Images::open(self.data.path(), settings, self.ledger.clone()).unwrap();
        self.start();
    }

    async fn command(&self, name: &str, params: serde_json::Value) -> crate::core::command::Reply {
        let minted_id = Uuid::now_v7().to_string().parse().unwrap();
        let envelope =
            Envelope { name: Some(name), id: None, minted_id, transport: Transport::Rest, now: self.ledger.now() };
        self.ledger.command(serde_json::json!({"params": params}).to_string().as_bytes(), &envelope).await
    }

    /// Looks again and again; the runtime goes on between.
    async fn until<T>(&self, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let patience = std::time::Instant::now();
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            assert!(patience.elapsed() < Duration::from_secs(30), "it never came");
            tokio::task::yield_now().await;
        }
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
        let reply = self.command("image.delete", serde_json::json!({"image": image.id})).await;
        assert_eq!(reply.status, Status::Succeeded);
    }

    fn files(&self, folder: &str) -> usize {
        fs::read_dir(self.data.path().join(folder)).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count()
    }
}

fn settings_of_room() -> room::Settings {
    room::Settings { rehash: None, reserve_bytes: 0, ..room::Settings::default() }
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
    let job = world.images.take_path("Gateway 1.0", "a.img", None).await.unwrap();
    let image = world.images.proven(&job).await.unwrap();
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
    while world.images.file(gone.id).exists() {
        tokio::task::yield_now().await;
    }
    world.end().await;
    assert!(world.images.file(back.id).exists());
    assert!(world.ledger.cursor(SINK).await.unwrap() > 0, "it keeps its place");
    assert_eq!(world.told("image.added", 3).await.len(), 3);
}

#[test]
fn a_full_disk_is_said_as_such() {
    let refusal = refusal_of(&io::Error::from_raw_os_error(nix::libc::ENOSPC));
    assert_eq!((refusal.status, refusal.code.as_str(), refusal.retryable), (507, "disk_full", true));
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..size).map(next).collect()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

#[tokio::test]
async fn a_file_that_is_no_image_fails_its_job_and_leaves_nothing() {
    let mut world = World::new();
    let broken = &zstd(&noise(51_200))[..10_000];
    let job = world.images.receive("a.img.zst", || Ok(None), chunked(broken)).await.unwrap();
    let refusal = world.images.proven(&job).await.unwrap_err();
    assert_eq!(refusal.code, "broken_zstd");
    let told = &world.told("image.rejected", 1).await[0];
    assert_eq!((&told["code"], &told["sha256"]), (&"broken_zstd".into(), &digest(broken).to_string().into()));
    let job = world.ledger.job(job.id.as_str()).await.unwrap().unwrap();
    assert_eq!((job.state, job.error.unwrap().code), (JobState::Failed, "broken_zstd".to_owned()));
    world.until(async |world| (world.files("images") == 0).then_some(())).await;
}

#[tokio::test]
async fn an_image_that_was_not_looked_at_when_the_power_went_is_looked_at_after() {
    let mut world = World::new();
    world.end().await;
    let raw = noise(51_200);
    let job = world.images.receive("a.img.zst", || Ok(None), chunked(&zstd(&raw))).await.unwrap();
    let reply = world.command("project.create", serde_json::json!({"name": "P", "image": "a.img.zst", "active": true}));
    assert_eq!(reply.await.status, Status::Succeeded, "a project may name it already");
    let list = world.command("image.list", serde_json::json!({})).await.result.unwrap();
    assert_eq!(list["images"][0]["state"], "ingesting");
    world.restart(settings_of_room()).await;
    let image = world.images.proven(&job).await.unwrap();
    assert_eq!((image.raw_sha256, image.raw_size_bytes), (digest(&raw), 51_200));
    assert_eq!(world.told("image.added", 1).await[0]["id"], image.id.to_string());
}

#[tokio::test]
async fn what_modules_cannot_decode_is_packed_anew_and_proven() {
    let world = World::new();
    let raw = noise(200 * 512);
    let image = world.take(&zstd(&raw)).await.unwrap();
    let form = world
        .until(async |world| world.ledger.keepings().await.unwrap().remove(&image.id).and_then(|kept| kept.form))
        .await;
    let file = fs::read(world.data.path().join(format!("images/cache/{}.gz", image.id))).unwrap();
    assert_eq!((form.size_bytes, form.sha256), (file.len() as u64, digest(&file)));
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(file.as_slice()).read_to_end(&mut plain).unwrap();
    assert!(plain == raw);
    assert_eq!(fs::read(world.images.file(image.id)).unwrap().len() as u64, image.size_bytes, "the original is kept");
    world.delete(&image).await;
    world.until(async |world| (world.files("images/cache") == 0).then_some(())).await;
}

#[tokio::test]
async fn a_form_that_is_gone_is_made_again_after_a_restart() {
    let mut world = World::new();
    let image = world.take(&zstd(&noise(51_200))).await.unwrap();
    let path = world.data.path().join(format!("images/cache/{}.gz", image.id));
    let made = async |world: &World| world.ledger.keepings().await.unwrap().get(&image.id)?.form.clone();
    world.until(made).await;
    world.end().await;
    fs::remove_file(&path).unwrap();
    fs::write(world.data.path().join("images/cache/stray.gz"), b"?").unwrap();
    world.restart(settings_of_room()).await;
    world.until(async |_| (path.exists()).then_some(())).await;
    world.until(made).await;
    assert_eq!(world.files("images/cache"), 1);
}

#[tokio::test]
async fn a_file_that_has_changed_is_found_by_reading_it_and_healed_by_the_same_upload() {
    let mut world = World::new();
    let image = world.take(&[1; 1024]).await.unwrap();
    fs::write(world.images.file(image.id), [2; 1024]).unwrap();
    // Everything is due at once, and again and again: what was read in a millisecond of this test is not read twice.
    let settings = room::Settings { rehash: Some(Duration::from_millis(1)), ..settings_of_room() };
    world.restart(settings).await;
    assert_eq!(world.told("station.alarm.raised", 1).await[0]["code"], "image.damaged");
    world.restart(settings_of_room()).await;
    world.take(&[1; 1024]).await.unwrap();
    assert_eq!(world.told("station.alarm.cleared", 1).await[0]["code"], "image.damaged");
    assert_eq!(fs::read(world.images.file(image.id)).unwrap(), [1; 1024]);
}

#[tokio::test]
async fn an_image_does_not_take_what_is_left_to_the_ledger() {
    let mut world = World::new();
    world.restart(room::Settings { reserve_bytes: 1 << 60, ..settings_of_room() }).await;
    let refusal = world.take(&[1; 512]).await.unwrap_err();
    assert_eq!((refusal.status, refusal.code.as_str()), (507, "disk_full"));
    assert_eq!(world.images.begin_upload("a", 512, None).await.unwrap_err().code, "disk_full");
    assert_eq!(world.files("images/incoming"), 0);
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart_and_becomes_an_image() {
    let mut world = World::new();
    let raw = noise(4096);
    let upload = world.images.begin_upload("a.img", 4096, Some(digest(&raw))).await.unwrap();
    let cut = stream::iter([Ok(Bytes::copy_from_slice(&raw[..1000])), Err(io::Error::other("reset"))]);
    assert_eq!(world.images.append(upload.id, 0, cut).await.unwrap().offset, 1000);
    assert_eq!(world.images.append(upload.id, 7, chunked(&raw)).await.unwrap_err().code, "offset_mismatch");
    world.restart(settings_of_room()).await;
    assert_eq!(world.images.upload(upload.id).await.unwrap().offset, 1000);
    assert_eq!(world.images.append(upload.id, 1000, chunked(&noise(5000))).await.unwrap_err().code, "too_large");
    let at = world.images.upload(upload.id).await.unwrap().offset;
    let begun = usize::try_from(at).unwrap();
    let refused = world.images.append(upload.id, at, chunked(&raw[begun..])).await.unwrap_err();
    // What came in the middle was another file: the sum says so.
    assert_eq!(refused.code, "sha256_mismatch");
    assert_eq!(world.told("image.rejected", 1).await[0]["code"], "sha256_mismatch");
    assert_eq!(world.images.upload(upload.id).await.unwrap_err().status, 404);

    let upload = world.images.begin_upload("a.img", 4096, Some(digest(&raw))).await.unwrap();
    world.images.append(upload.id, 0, chunked(&raw[..1000])).await.unwrap();
    let done = world.images.append(upload.id, 1000, chunked(&raw[1000..])).await.unwrap();
    assert!(done.done);
    assert_eq!(world.told("image.added", 1).await[0]["id"], digest(&raw).to_string());
    assert!(world.images.upload(upload.id).await.unwrap().done, "a lost answer can be asked for");
    assert_eq!(world.files("images/uploads"), 0);
}

#[tokio::test]
async fn one_request_at_a_time_sends_to_an_upload() {
    let world = World::new();
    let upload = world.images.begin_upload("a.img", 4096, None).await.unwrap();
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(&[0; 512]))]);
    let images = world.images.clone();
    let task = tokio::spawn(async move { images.append(upload.id, 0, first.chain(stream::pending())).await });
    let locked = world.until(async |world| world.images.upload(upload.id).await.err()).await;
    assert_eq!((locked.status, locked.code.as_str()), (423, "locked"));
    task.abort();
    let stands = world.until(async |world| world.images.upload(upload.id).await.ok()).await;
    assert_eq!(stands.offset, 512, "what came is kept");
    world.images.abandon_upload(upload.id).await.unwrap();
    assert_eq!(world.images.upload(upload.id).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn an_upload_that_nobody_goes_on_with_is_given_up() {
    let mut world = World::new();
    world.images.begin_upload("a.img", 4096, None).await.unwrap();
    world.restart(room::Settings { upload_expiry: Duration::ZERO, ..settings_of_room() }).await;
    world.until(async |world| (world.files("images/uploads") == 0).then_some(())).await;
}
