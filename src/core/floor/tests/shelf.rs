//! Images that are not ready, not whole, or go out in another form.

use super::*;
use crate::core::image::Form;
use crate::core::job::{Job, JobState};

fn job(id: &str) -> Job {
    Job {
        id: id.parse().unwrap(),
        kind: "image.upload".to_owned(),
        name: "a.img".to_owned(),
        url: None,
        sha256: None,
        image: Some(IMAGE),
        size_bytes: Some(100),
        state: JobState::Running,
        error: None,
        started_at: Timestamp::default(),
        begun_at: None,
        ended_at: None,
        asked: None,
        replay: None,
    }
}

impl World {
    fn refusal(&mut self, n: u8) -> Refusal {
        match self.script_with(n, Facts { storage_sectors: Some(1000), ..Facts::default() }) {
            Answer::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_project_may_name_an_image_that_is_not_ready_and_no_module_gets_it() {
    let mut world = World::new();
    world.tell(Observation::ImageStored(Box::new(job("upload-0001")))).unwrap();
    world.order("project.create", r#"{"name":"Gateway","image":"a.img","active":true}"#).unwrap();
    world.tell(Observation::ImageProgress { image: IMAGE, done: 40 << 20, total: 100 << 20 }).unwrap();
    let refusal = world.refusal(1);
    assert_eq!((refusal.status, refusal.code.as_str()), (503, "image_not_ready"), "the one status that curl repeats");
    assert!(refusal.detail.contains("40 % of 100 MiB"), "{refusal}");
    world.tell(Observation::ImageIngested(image())).unwrap();
    world.script(1).unwrap();
}

#[test]
fn everyone_who_waits_for_the_same_file_hears_that_it_is_no_image() {
    let mut world = World::new();
    world.tell(Observation::ImageStored(Box::new(job("upload-0001")))).unwrap();
    world.tell(Observation::ImageStored(Box::new(job("upload-0002")))).unwrap();
    let refusal = Refusal::new(400, "broken_xz", "cut off");
    world.tell(Observation::JobFailed { job: "upload-0001".parse().unwrap(), refusal }).unwrap();
    assert_eq!(world.news(), ["image.rejected"]);
    assert_eq!(world.order("job.cancel", r#"{"job":"upload-0002"}"#).unwrap_err().code, "not_found", "it has ended");
}

#[test]
fn a_damaged_image_is_not_written_until_it_is_whole_again() {
    let mut world = World::ready();
    world.news();
    let damage = Some("its file is gone".to_owned());
    world.tell(Observation::ImageChecked { image: IMAGE, damage: damage.clone() }).unwrap();
    world.tell(Observation::ImageChecked { image: IMAGE, damage }).unwrap();
    assert_eq!(world.news(), ["station.alarm.raised"], "said once");
    assert_eq!(world.refusal(1).code, "image_damaged");
    // The same file is uploaded again.
    world.tell(Observation::ImageStored(Box::new(job("upload-0001")))).unwrap();
    assert!(world.news().contains(&"station.alarm.cleared"));
    world.script(1).unwrap();
}

#[test]
fn the_plan_says_which_form_goes_out_and_that_form_stays_while_it_does() {
    let mut world = World::ready();
    let zstd = Image { compression: Compression::Zstd, id: Digest::new([9; 32]), name: "z".to_owned(), ..image() };
    world.tell(Observation::ImageIngested(zstd.clone())).unwrap();
    world.order("project.update", r#"{"project":"gateway","image":"z"}"#).unwrap();
    assert_eq!(world.refusal(1).code, "image_not_ready", "no module decodes zstd");
    let form = Form { compression: Compression::Gz, size_bytes: 77, sha256: RAW };
    world.tell(Observation::FormMade { image: zstd.id, form }).unwrap();
    let session = world.script(1).unwrap();
    let plan = &world.floor.session(session).unwrap().plan;
    assert_eq!((plan.compression, plan.size_bytes, plan.transcoded), (Compression::Gz, 77, true));
    let dropped = world.tell(Observation::FormDropped { image: zstd.id }).unwrap_err();
    assert_eq!(dropped.code, "in_use");
}

#[test]
fn a_command_that_takes_long_is_accepted_and_can_be_cancelled() {
    let mut world = World::new();
    let Answer::Reply(reply) = world.order("image.add", r#"{"url":"http://10.0.0.9/a.img?key=s3cret"}"#).unwrap()
    else {
        panic!("no reply")
    };
    assert_eq!((reply.code, reply.is_final), (202, false));
    let shown = serde_json::to_string(&reply).unwrap();
    assert!(!shown.contains("s3cret"), "{shown}");
    let name = format!(r#"{{"job":"{}"}}"#, reply.job.unwrap());
    world.order("job.cancel", &name).unwrap();
    assert_eq!(world.order("job.cancel", &name).unwrap_err().code, "not_found");
    // Accepted; then the end of the job, and the command that ended it.
    assert_eq!(world.news(), ["command.completed", "command.completed", "command.completed"]);
}
