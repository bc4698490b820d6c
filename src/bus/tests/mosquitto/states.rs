//! What stands retained at the broker, the last replies to long work, and requests to more than one station.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::bus::tests::LONG;
use crate::core::command::CommandId;
use crate::core::job::Job;
use crate::core::observation::Observation;
use crate::core::refusal::Refusal;

async fn ask(port: u16, who: &str, name: &str, body: &str) {
    let topic = format!("acme/bootline/v1/{who}/cmd/{}", name.replace('.', "/"));
    client("mosquitto_pub", port, &["-V", "5", "-q", "1", "-t", &topic, "-m", body]).await;
}

/// Reads on until a state fits.
async fn until(subscriber: &mut Subscriber, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let body = subscriber.message().await;
        if !body.is_empty() && fits(&json(&body)) {
            return json(&body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_each_request_to_any_station_comes_to_exactly_one() {
    let (mut world, server) = world("").await;
    let mut second = World::named("st-02", "acme");
    second.start(station(&server), None).await;
    online(server.port).await;
    let presence = ["-t", "acme/bootline/v1/st-02/state/presence", "-F", ">%p"];
    Subscriber::new(server.port, &presence).await.message().await;
    let inbox = "acme/bootline/v1/_reply/erp";
    let mut replies = Subscriber::new(server.port, &["-q", "1", "-t", inbox, "-F", ">%p"]).await;
    for n in 0..20 {
        let body = format!(r#"{{"command_id":"any-{n:05}","reply_to":"{inbox}"}}"#);
        ask(server.port, "_any", "station.info", &body).await;
    }
    let mut answered = std::collections::BTreeMap::new();
    let mut stations = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let reply = json(&replies.message().await);
        stations.insert(reply["station"].as_str().unwrap().to_owned());
        *answered.entry(reply["command_id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(answered.len(), 20, "{answered:?}");
    assert_eq!(stations.len(), 2, "both have work: {stations:?}");

    // Of all stations each one answers. Whatever came twice would stand before it.
    ask(server.port, "_all", "station.info", &format!(r#"{{"command_id":"all-00001","reply_to":"{inbox}"}}"#)).await;
    let mut both = Vec::new();
    for _ in 0..2 {
        let reply = json(&replies.message().await);
        assert_eq!((&reply["command_id"], &reply["code"]), (&Value::from("all-00001"), &Value::from(200)));
        both.push(reply["station"].as_str().unwrap().to_owned());
    }
    both.sort();
    assert_eq!(both, ["st-01", "st-02"]);
    // And nothing is changed on all of them at once.
    let body = format!(r#"{{"command_id":"all-00002","reply_to":"{inbox}","params":{{"name":"a","image":"b"}}}}"#);
    ask(server.port, "_all", "project.create", &body).await;
    assert_eq!(json(&replies.message().await)["error"]["code"], "forbidden");
    world.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_a_will_that_comes_late_is_put_right() {
    let (mut world, server) = world("").await;
    let here = online(server.port).await;
    let topic = format!("{OWN}/state/presence");
    let stale = r#"{"v":1,"online":false,"boot_id":"b-old","session":"s-1","reason":"connection_lost"}"#;
    let mut presence = Subscriber::new(server.port, &["-q", "1", "-t", &topic, "-F", ">%p"]).await;
    assert_eq!(json(&presence.message().await)["online"], true);
    client("mosquitto_pub", server.port, &["-V", "5", "-q", "1", "-r", "-t", &topic, "-m", stale]).await;
    assert_eq!(json(&presence.message().await)["session"], "s-1");
    let again = json(&presence.message().await);
    assert_eq!((&again["online"], &again["session"]), (&Value::Bool(true), &here["session"]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_a_project_stand_at_the_broker_until_it_goes() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    // One that was deleted while the station was away.
    let gone = format!("{OWN}/state/project/long-gone");
    let topics = format!("{OWN}/state/project/#");
    let mut states = Subscriber::new(server.port, &["-q", "1", "-t", &topics, "-F", ">%t %p"]).await;
    client("mosquitto_pub", server.port, &["-V", "5", "-q", "1", "-r", "-t", &gone, "-m", "{}"]).await;
    assert_eq!(states.message().await, format!("{gone} {{}}"));
    assert_eq!(states.message().await, format!("{gone} "), "it is taken away");
    world.provision().await;
    let own = format!("{OWN}/state/project/gateway");
    loop {
        let state = states.message().await;
        let body = json(state.strip_prefix(&format!("{own} ")).unwrap());
        assert_eq!((&body["status"], &body["revision"]), (&Value::from("active"), &Value::from(1)));
        if body["counts"]["open"] == 1 {
            break;
        }
    }
    let retained = Subscriber::new(server.port, &["-t", &own, "-F", ">%r %A %p"]).await.message().await;
    assert!(retained.starts_with("1 "), "{retained}");
    let abort = br#"{"params":{"device":"dca632010203"}}"#;
    assert_eq!(commands::answer(&world.ledger, "device.abort", abort, Transport::Rest).await.code, 200);
    while !states.message().await.contains(r#""aborted":1"#) {}
    let delete = br#"{"params":{"project":"gateway"}}"#;
    let off = commands::answer(&world.ledger, "project.deactivate", delete, Transport::Rest).await;
    let deleted = commands::answer(&world.ledger, "project.delete", delete, Transport::Rest).await;
    assert_eq!((off.code, deleted.code), (200, 200), "{deleted:?}");
    while states.message().await != format!("{own} ") {}
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_tells_how_far_each_sink_is() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    // Somebody takes events, or there is one more: an alarm.
    let _erp = Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/evt/#")]).await;
    world.happen(1).await;
    world.delivered("mqtt").await;
    world.stop().await;
    world.happen(2).await;
    world.start(station(&server), None).await;
    let mut info = Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/state/info"), "-F", ">%p"]).await;
    let told = until(&mut info, |info| info["newest_sequence"] == 2).await;
    let sink = told["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == "mqtt").unwrap();
    assert_eq!((&sink["cursor"], &sink["backlog"]), (&1.into(), &1.into()));
    let job = told["commands"].as_array().unwrap().iter().find(|offer| offer["name"] == "image.add").unwrap();
    assert_eq!((&job["mode"], &told["agent"]), (&Value::from("job"), &Value::from("bootline")));
    world.stop().await;
}

const LONG_WORK: &str =
    r#"{"command_id":"fetch-001","correlation_id":"order-7","params":{"url":"http://10.0.0.9/big.img?key=s3cret"}}"#;

/// Asks for an image from a URL; what comes of it is told by the test in the place of the images room.
async fn long_work(world: &World, port: u16) -> Job {
    let (topic, inbox) = (format!("{OWN}/cmd/image/add"), "acme/bootline/v1/_reply/erp/9");
    let asked = ["-V", "5", "-q", "1", "-t", &topic, "-e", inbox, "-D", "publish", "correlation-data", "abc"];
    let accepted = json(&client("mosquitto_rr", port, &[&asked[..], &["-m", LONG_WORK]].concat()).await);
    assert_eq!((&accepted["status"], &accepted["final"]), (&Value::from("accepted"), &Value::Bool(false)));
    world.ledger.open_jobs().await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn long_work_is_followed_to_its_end_and_answered_twice() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    let mut states = Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/job/+"), "-F", ">%p"]).await;
    let inbox = "acme/bootline/v1/_reply/erp/9";
    let mut replies = Subscriber::new(server.port, &["-q", "1", "-t", inbox, "-F", ">%r %D %p"]).await;
    let job = long_work(&world, server.port).await;
    assert!(replies.message().await.contains("\"accepted\""));
    let queued = until(&mut states, |_| true).await;
    assert_eq!((&queued["state"], &queued["command_id"]), (&Value::from("queued"), &Value::from("fetch-001")));
    world.observe(Observation::JobBegun { job: job.id.clone() }).await;
    until(&mut states, |state| state["state"] == "in_progress").await;
    world.observe(Observation::JobProgressed { job: job.id.clone(), done: 25, total: 100 }).await;
    let far = until(&mut states, |state| state["progress"]["percent"] == 25).await;
    assert_eq!((&far["stage"], &far["correlation_id"]), (&Value::from("fetch"), &Value::from("order-7")));

    // It ends while the broker does not hear the station; the last reply waits.
    world.stop().await;
    let refusal = Refusal::new(502, "fetch_failed", "no answer");
    world.observe(Observation::JobFailed { job: job.id.clone(), refusal }).await;
    world.start(station(&server), None).await;
    let last = replies.message().await;
    let body = json(last.strip_prefix("0 abc ").unwrap_or_else(|| panic!("{last}")));
    assert_eq!((&body["status"], &body["final"], &body["code"]), (&"failed".into(), &true.into(), &502.into()));
    assert_eq!((&body["correlation_id"], &body["replayed"]), (&Value::from("order-7"), &Value::Bool(false)));
    let failed = until(&mut states, |state| state["state"] == "failed").await;
    assert_eq!(failed["error"]["code"], "fetch_failed");
    assert!(failed["expires_at"].is_string() && !failed.to_string().contains("s3cret"), "{failed}");
    // Asked again, the command has its last answer, and nothing is done twice.
    let (topic, other) = (format!("{OWN}/cmd/image/add"), "acme/bootline/v1/_reply/erp/10");
    let again = ["-V", "5", "-q", "1", "-t", &topic, "-e", other, "-m", LONG_WORK];
    let again = json(&client("mosquitto_rr", server.port, &again).await);
    assert_eq!((&again["status"], &again["replayed"]), (&Value::from("failed"), &Value::Bool(true)));
    assert!(world.ledger.open_jobs().await.unwrap().is_empty());
    let sent = async {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while !world.ledger.replies_due("mqtt").await.unwrap().is_empty() {
            beat.tick().await;
        }
    };
    timeout(LONG, sent).await.expect("the row goes when the broker has the reply");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_job_says_so_to_whoever_began_it() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    let inbox = "acme/bootline/v1/_reply/erp/9";
    let mut replies = Subscriber::new(server.port, &["-q", "1", "-t", inbox, "-F", ">%p"]).await;
    let job: CommandId = long_work(&world, server.port).await.id;
    assert!(replies.message().await.contains("\"accepted\""));
    ask(server.port, "st-01", "job.cancel", &format!(r#"{{"params":{{"job":"{job}"}}}}"#)).await;
    let last = json(&replies.message().await);
    assert_eq!((&last["status"], &last["final"]), (&Value::from("canceled"), &Value::Bool(true)));
    world.stop().await;
}
