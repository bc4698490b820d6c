//! The library with a real ledger: what is kept, what is refused, and what survives a restart.

use std::fs;

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::core::command::{Envelope, Reply, Status, Transport};
use crate::core::firmware::Chip;
use crate::core::firmware::eeprom::tests::{of_2711, of_2712};
use crate::core::floor::{Deadlines, Settings};
use crate::ledger::Clock;

const BUILT: u32 = 1_785_801_600;

struct World {
    data: TempDir,
    ledger: Ledger,
    room: Firmwares,
}

fn open(data: &Path) -> (Ledger, Firmwares) {
    let pool = crate::core::address::Pool {
        server: std::net::Ipv4Addr::new(10, 0, 0, 1),
        first: std::net::Ipv4Addr::new(10, 0, 0, 2),
        last: std::net::Ipv4Addr::new(10, 0, 0, 9),
        lease: std::time::Duration::from_secs(3600),
        reservations: std::collections::BTreeMap::new(),
    };
    let settings = Settings {
        station: "st-01".to_owned(),
        version: "0".to_owned(),
        pool,
        max_attempts: 3,
        deadlines: Deadlines::default(),
        line: crate::core::slot::Line::default(),
    };
    let (ledger, _) = Ledger::open(&data.join("bootline.db"), "", settings, Clock::default()).unwrap();
    let room = Firmwares::open(data, ledger.clone()).unwrap();
    (ledger, room)
}

impl World {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (ledger, room) = open(data.path());
        Self { data, ledger, room }
    }

    async fn take(&self, image: Vec<u8>) -> Result<Firmware, Refusal> {
        self.room.take("pieeprom.bin", None, Ok(image.into())).await
    }

    async fn order(&self, name: &str, params: &str) -> Reply {
        let minted_id = Uuid::now_v7().to_string().parse().unwrap();
        let now = self.ledger.now();
        let envelope = Envelope { name: Some(name), id: None, minted_id, transport: Transport::Rest, now };
        self.ledger.command(format!(r#"{{"params":{params}}}"#).as_bytes(), &envelope).await
    }

    async fn names(&self) -> Vec<String> {
        self.ledger.events(0, 100).await.unwrap().into_iter().map(|event| event.name).collect()
    }

    fn files(&self) -> usize {
        let whole = fs::read_dir(self.data.path().join("firmware")).unwrap().count() - 1;
        whole + fs::read_dir(self.data.path().join("firmware/incoming")).unwrap().count()
    }

    /// Follows the journal until the condition holds.
    async fn until(&self, holds: impl AsyncFn(&Self) -> bool) {
        let stop = CancellationToken::new();
        let follower = tokio::spawn(self.room.clone().run(stop.clone()));
        while !holds(self).await {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        follower.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_image_is_kept_by_its_sum_with_what_it_tells() {
    let world = World::new();
    let image = of_2711(BUILT, "[all]\nA=1\n");
    let firmware = world.take(image.clone()).await.unwrap();
    assert_eq!((firmware.id, firmware.chip), (digest(&image), Chip::Bcm2711));
    assert_eq!((firmware.version.as_str(), firmware.built), ("2026-08-04 8ba17717", Some(BUILT)));
    assert_eq!((firmware.bootconf.as_str(), firmware.room_bytes), ("[all]\nA=1\n", 4076));
    assert_eq!(world.room.content(firmware.id).await.unwrap(), image);
    let signature = world.room.signature(firmware.id).await.unwrap();
    assert_eq!(signature, format!("{}\nts: {}\n", firmware.id, BUILT + 60));
    assert_eq!(world.take(of_2712(BUILT, "")).await.unwrap().chip, Chip::Bcm2712);
    world.take(image).await.unwrap();
    assert_eq!(world.names().await, ["firmware.added", "firmware.added"], "the same again is no news");
    assert_eq!(world.files(), 2);
}

#[tokio::test]
async fn what_is_no_eeprom_image_is_told_and_not_kept() {
    let world = World::new();
    for (image, code) in [
        (Vec::new(), "firmware_size"),
        (vec![0; 512], "firmware_size"),
        (vec![0; 512 << 10], "firmware_content"),
        (vec![0xff; 2 << 20], "firmware_content"),
    ] {
        assert_eq!(world.take(image).await.unwrap_err().code, code);
    }
    let wrong = world.room.take("a", Some(Digest::new([0; 32])), Ok(of_2711(BUILT, "").into())).await.unwrap_err();
    assert_eq!(wrong.code, "sha256_mismatch");
    assert_eq!(world.take(Vec::new()).await.unwrap_err().status, 400);
    assert_eq!(world.names().await, ["firmware.rejected"; 6]);
    assert!(world.room.take(" ", None, Ok(Bytes::new())).await.is_err());
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn a_restart_finds_what_was_taken_in_and_clears_what_was_half() {
    let World { data, ledger, room } = World::new();
    let firmware = room.take("pieeprom.bin", None, Ok(of_2711(BUILT, "").into())).await.unwrap();
    fs::write(data.path().join("firmware/incoming/x.part"), b"half").unwrap();
    drop((ledger, room));
    let (ledger, room) = open(data.path());
    assert_eq!(ledger.firmware().await.unwrap(), vec![firmware.clone()]);
    assert_eq!(fs::read_dir(data.path().join("firmware/incoming")).unwrap().count(), 0);
    let world = World { data, ledger, room };
    world.room.check().await.unwrap();
    assert_eq!(world.names().await, ["firmware.added"]);
    fs::write(world.data.path().join("firmware").join(firmware.id.to_string()), b"torn").unwrap();
    world.room.check().await.unwrap();
    assert_eq!(world.names().await.last().unwrap(), "station.alarm.raised");
    assert_eq!(world.room.content(firmware.id).await.unwrap_err().code, "firmware_missing");
    world.take(of_2711(BUILT, "")).await.unwrap();
    world.room.check().await.unwrap();
    assert_eq!(world.names().await.last().unwrap(), "station.alarm.cleared");
    assert!(world.room.content(firmware.id).await.is_ok(), "another upload has healed it");
}

#[tokio::test]
async fn a_device_gets_the_image_that_the_settings_of_its_project_make() {
    let world = World::new();
    let image = of_2711(BUILT, "[all]\nA=1\n");
    let firmware = world.take(image.clone()).await.unwrap();
    let taken = crate::core::image::Image {
        id: Digest::new([1; 32]),
        name: "a.img".to_owned(),
        size_bytes: 512,
        compression: crate::core::image::Compression::Raw,
        raw_sha256: Digest::new([1; 32]),
        raw_size_bytes: 512,
        survey: crate::core::image::Survey::default(),
        added_at: world.ledger.now(),
    };
    world.ledger.submit(Input::Observed(Observation::ImageIngested(taken))).await.unwrap();
    let wish = r#"{"image":"pieeprom.bin","settings":{"BOOT_ORDER":"0xf2461"}}"#;
    let params = format!(r#"{{"name":"G","image":"a.img","active":true,"firmware":{wish}}}"#);
    assert_eq!(world.order("project.create", &params).await.status, Status::Succeeded);
    world.room.prepare().await.unwrap();
    let bootconf = "[all]\nA=1\nBOOT_ORDER=0xf2461\n";
    let edited = Eeprom::parse(image).unwrap().with_bootconf(bootconf.as_bytes()).unwrap();
    let plan = FirmwarePlan {
        image: firmware.id,
        chip: firmware.chip,
        version: firmware.version.clone(),
        built: firmware.built,
        bootconf: Some(bootconf.to_owned()),
        sha256: digest(&edited),
        size_bytes: 512 << 10,
        allow_downgrade: false,
    };
    assert_eq!(world.room.planned(&plan).await.unwrap(), edited);
    let other = FirmwarePlan { sha256: firmware.id, ..plan };
    assert_eq!(world.room.planned(&other).await.unwrap_err().code, "firmware_missing");
}

#[tokio::test]
async fn a_file_is_taken_in_by_a_command_and_a_deleted_one_goes() {
    let world = World::new();
    fs::write(world.data.path().join("import/pieeprom.bin"), of_2711(BUILT, "")).unwrap();
    let reply = world.order("firmware.add", r#"{"path":"pieeprom.bin","name":"CM4"}"#).await;
    assert_eq!(reply.status, Status::Accepted);
    world.order("firmware.add", r#"{"path":"../bootline.db"}"#).await;
    world.until(async |world| world.names().await.contains(&"firmware.rejected".to_owned())).await;
    let known = world.ledger.firmware().await.unwrap();
    assert_eq!(known[0].name, "CM4");
    assert_eq!(world.order("firmware.delete", r#"{"firmware":"CM4"}"#).await.status, Status::Succeeded);
    world.until(async |world| world.files() == 0).await;
    assert_eq!(world.ledger.cursor(SINK).await.unwrap(), world.ledger.newest());
    assert!(world.data.path().join("import/pieeprom.bin").exists());
}
