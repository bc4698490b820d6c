//! Schemas of what is kept or sent beside the events: presence, the birth certificate, projects, jobs, progress. Never derive money
//! from them.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::bus::birth::{Absence, Info, Presence, Session};
use crate::bus::states::{JobReport, ProjectState};
use crate::core::shown::JobShown;
use crate::core::view::{JobProgress, Telemetry};
use crate::ledger::Counts;
use crate::schema::document::{Document, Side, writes};
use crate::schema::story::Story;
use crate::schema::{NAMESPACE, Published};

pub fn published(story: &Story) -> Vec<Published> {
    let since = story.began();
    let session = Session::new("b-55".to_owned(), format!("s-{}", since.millis()), since);
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("what the station writes is JSON");
    let mut presence = state::<Presence<'_>>("presence", "state/presence", read(&session.online()));
    presence.schema["examples"] = json!([presence.example, read(&session.offline(Absence::ConnectionLost))]);
    let project = story.project();
    let counts = Counts { passed: 1893, failed: 21, aborted: 2, interrupted: 4, open: 12 };
    let job = story.fetch();
    let progress = JobProgress { job: job.id.clone(), done: 268_435_456, total: 1_073_741_824 };
    let station = &story.identity().station;
    vec![
        presence,
        state::<Info<'_>>(
            "info",
            "state/info",
            json!(Info::of(story.identity(), "b-55", story.delivery(), Some("http://127.0.0.1:8080"))),
        ),
        state::<ProjectState<'_>>("project", "state/project/{project}", json!(ProjectState::of(&project, counts))),
        state::<JobReport<'_>>("job_report", "job/{command_id}", json!(JobReport::of(&job, station, Some(&progress)))),
        state::<JobShown>("job", "GET /api/v1/jobs/{id}", story.job()),
        state::<Telemetry>("telemetry", "telemetry/device/{mac}", json!(story.telemetry())),
    ]
}

fn state<T: JsonSchema + Serialize>(name: &str, place: &str, example: Value) -> Published {
    let mut generator = writes();
    let schema = generator.root_schema_for::<T>().to_value();
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let document = Document {
        id: format!("{NAMESPACE}:state:{name}:1.0"),
        title: place.to_owned(),
        schema,
        definitions: &definitions,
        side: Side::Written,
    };
    Published { path: format!("states/{name}"), schema: document.finish(), example }
}
