//! What takes long: a reader that was away, and an outage of days.

use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::bus::tests::is_long;
use crate::core::time::Timestamp;
use crate::ledger::Recorded;
use crate::store;

#[tokio::test(flavor = "multi_thread")]
async fn m09_a_reader_whose_queue_was_cut_off_finds_the_gap_and_reads_what_is_missing() {
    let (mut world, server) = world("max_queued_messages 1000").await;
    online(server.port).await;
    let own = format!("{OWN}/evt/#");
    let durable = ["-c", "-i", "erp", "-x", "3600", "-q", "1", "-t", &own, "-F", ">%p"];
    drop(Subscriber::new(server.port, &durable).await);
    // Gone means gone for the broker too, before the first event.
    let log = ["-t", "$SYS/broker/clients/disconnected", "-F", ">%p"];
    let mut gone = Subscriber::new(server.port, &log).await;
    while gone.message().await != "1" {}
    world.produce(0..1500).await;
    world.delivered("mqtt").await;

    let mut erp = Subscriber::new(server.port, &durable).await;
    world.happen(1500).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut contiguous = 0;
    let mut fetched = 0;
    while seen.len() < 1501 {
        let event: Value = json(&erp.message().await);
        let sequence: u64 = event["sequence"].as_str().unwrap().parse().unwrap();
        seen.insert(sequence);
        if sequence > contiguous + 1 {
            // As `GET /api/v1/events?after=` gives them: with the same ids and sequences.
            while contiguous + 1 < sequence {
                for missing in world.ledger.events(contiguous, 256).await.unwrap() {
                    contiguous = missing.seq;
                    fetched += usize::from(seen.insert(missing.seq));
                }
            }
        }
        contiguous = contiguous.max(sequence);
    }
    assert!(fetched >= 400, "the broker had dropped what it could not queue: {fetched}");
    assert_eq!(seen.iter().copied().collect::<Vec<_>>(), (1..=1501).collect::<Vec<_>>());
    world.stop().await;
}

/// Writes events of an outage into a new database.
fn outage(folder: &std::path::Path, count: u64) {
    let mut connection = store::open(&folder.join("bootline.db")).unwrap();
    let transaction = connection.transaction().unwrap();
    let padding = "x".repeat(700);
    for seq in 1..=count {
        let mac = format!("dca632{:06x}", seq % 5000);
        let body = format!(r#"{{"sequence":"{seq:020}","data":{{"mac":"{mac}","detail":"{padding}"}}}}"#);
        let event = Recorded {
            seq,
            id: Uuid::from_u128(seq.into()),
            name: "device.step.completed".to_owned(),
            kind: "device".to_owned(),
            subject: mac,
            occurred: Timestamp::from_millis(0),
            body: body.into_bytes().into(),
        };
        store::journal::append(&transaction, &event).unwrap();
    }
    transaction.commit().unwrap();
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn m14_an_outage_of_days_drains_with_flat_memory() {
    let count = if is_long() { 200_000 } else { 20_000 };
    let folder = tempfile::tempdir().unwrap();
    outage(folder.path(), count);
    let mut world = World::over(folder, "st-01", "acme");
    let mut server = Server::mosquitto(world.folder.path(), "");
    server.start().await;
    let quick = ["-q", "0", "-t", &format!("{OWN}/evt/#"), "-F", ">%p"];
    let mut erp = Subscriber::new(server.port, &quick).await;
    let start = std::time::Instant::now();
    world.start(station(&server), None).await;
    let (mut early, mut most) = (0, 0);
    for expected in 1..=count {
        let sequence: u64 = json(&erp.message().await)["sequence"].as_str().unwrap().parse().unwrap();
        assert_eq!(sequence, expected);
        if sequence == count / 10 {
            early = resident();
        }
        if sequence.is_multiple_of(1000) {
            most = most.max(resident());
        }
    }
    let took = start.elapsed();
    println!("{count} events in {took:?}; {early} bytes resident after a tenth, {most} at most");
    assert!(most < early + 24 * 1024 * 1024, "memory grew from {early} to {most} bytes");
    world.stop().await;
}
