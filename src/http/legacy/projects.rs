//! Projects as the predecessor knows them: three images by size, a LED, an EEPROM image, and one active project.

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use serde_json::{Map, Value, json};

use crate::core::project::{Project, ProjectId};
use crate::http::legacy::files::{Eeproms, Images, Kind};
use crate::http::legacy::form::{Fields, Wrong};
use crate::http::legacy::results::Names;
use crate::http::legacy::{command, told};
use crate::http::operator::Operator;

const GIB: u64 = 1 << 30;
/// Of anything above 16 GiB; no module has more.
const ANY: u64 = 1 << 50;

pub async fn create(State(operator): State<Operator>, request: Request) -> Result<Json<Value>, Wrong> {
    let mut form = Fields::form(request).await?;
    let name = form.text("project_name");
    let active = form.truth("active");
    let first = match form.optional("image8Gb").or_else(|| form.optional("image")) {
        Some(image) => image,
        None => form.text("image8Gb"),
    };
    let (second, third) = (form.optional("image16Gb"), form.optional("image32Gb"));
    let (led, eeprom) = (form.optional_number("cm_status_led"), form.optional("eeprom"));
    let on_success = form.optional_truth("cm_status_led_on_onsuccess").unwrap_or(false);
    form.end()?;

    let image = Images::find(&operator.ledger, &first).await?.id;
    let mut sized = [image; 2];
    for (place, name) in sized.iter_mut().zip([second, third]) {
        if let Some(name) = name {
            *place = Images::find(&operator.ledger, &name).await?.id;
        }
    }
    let mut params = json!({"name": name, "image": image, "again": "allow", "active": active});
    if sized != [image; 2] {
        let size = |up_to_bytes: u64, image| json!({"up_to_bytes": up_to_bytes, "image": image});
        params["sizes"] = json!([size(8 * GIB, image), size(16 * GIB, sized[0]), size(ANY, sized[1])]);
    }
    if let Some(gpio) = led.filter(|gpio| *gpio >= 0) {
        params["status_led"] = json!({"gpio": gpio, "on_success": on_success});
    }
    if let Some(eeprom) = eeprom {
        let image = Eeproms::find(&operator.ledger, &eeprom).await?.id;
        // The predecessor writes what it is given; an image that ends netboot may be just what is wanted at the end.
        params["firmware"] = json!({"image": image, "force_boot_order": true, "allow_downgrade": true});
    }
    match command(&operator, "project.create", params).await {
        Ok(_) => Ok(told(format!("Project '{name}' created successfully"))),
        Err(problem) if problem.code == "already_exists" => {
            Err(Wrong::new(400, format!("Project '{name}' already exists")))
        }
        Err(problem) => Err(problem.into()),
    }
}

async fn find(operator: &Operator, name: &str) -> Result<Option<Project>, Wrong> {
    let projects = operator.ledger.projects().await?;
    let by_id = |project: &&Project| project.id.as_str() == name;
    let found = projects.iter().find(|project| project.name == name).or_else(|| projects.iter().find(by_id));
    Ok(found.cloned())
}

async fn asked(operator: &Operator, query: Option<&str>) -> Result<(String, Option<Project>), Wrong> {
    let mut fields = Fields::query(query);
    let name = fields.text("project_name");
    fields.end()?;
    let project = find(operator, &name).await?;
    Ok((name, project))
}

/// Where no size is given, all three are the one image.
fn by_size(project: &Project, names: &Names) -> [String; 3] {
    [8 * GIB, 16 * GIB, 32 * GIB].map(|size| names.image(project.image_for(Some(size))))
}

fn shown(project: &Project, names: &Names) -> Value {
    let [first, second, third] = by_size(project, names);
    json!({
        "active": project.active,
        "image8Gb": first,
        "image16Gb": second,
        "image32Gb": third,
        "cmStatusLed": project.status_led.map_or_else(|| json!(-1), |led| json!(led.gpio)),
        "cmStatusLedOnOnsuccess": project.status_led.is_some_and(|led| led.on_success),
        "eeprom": project.firmware.as_ref().map_or_else(String::new, |recipe| names.eeprom(recipe.image)),
    })
}

pub async fn by_name(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Result<Json<Value>, Wrong> {
    let (name, project) = asked(&operator, query.as_deref()).await?;
    let project = project.ok_or_else(|| Wrong::new(404, format!("Project \"{name}\" not found")))?;
    Ok(Json(shown(&project, &Names::read(&operator.ledger).await?)))
}

pub async fn list(State(operator): State<Operator>) -> Result<Json<Value>, Wrong> {
    let names = Names::read(&operator.ledger).await?;
    let projects = operator.ledger.projects().await?;
    let all: Map<String, Value> =
        projects.iter().map(|project| (project.name.clone(), shown(project, &names))).collect();
    Ok(Json(Value::Object(all)))
}

pub async fn set_active(State(operator): State<Operator>, request: Request) -> Result<Json<Value>, Wrong> {
    let mut form = Fields::form(request).await?;
    let name = form.text("project_name");
    form.end()?;
    let wrong = || Wrong::new(500, format!("Error setting project '{name}' as active"));
    let project = find(&operator, &name).await?.ok_or_else(wrong)?;
    command(&operator, "project.activate", json!({"project": project.id}))
        .await
        .map_err(|problem| if [401, 403, 503].contains(&problem.status) { problem.into() } else { wrong() })?;
    Ok(told(format!("Project '{name}' set as active")))
}

/// The active one of those that no rule names.
async fn current(operator: &Operator) -> Result<Project, Wrong> {
    let rules = command(operator, "rules.get", json!({})).await?;
    let ruled = |id: &ProjectId| {
        let rules = rules["rules"].as_array().into_iter().flatten();
        rules.into_iter().any(|rule| rule["project"] == id.as_str())
    };
    let projects = operator.ledger.projects().await?;
    let active = projects.into_iter().find(|project| project.active && !ruled(&project.id));
    active.ok_or_else(|| Wrong::new(404, "No active project found"))
}

pub async fn active(State(operator): State<Operator>) -> Result<Json<Value>, Wrong> {
    let project = current(&operator).await?;
    Ok(Json(shown(&project, &Names::read(&operator.ledger).await?)))
}

pub async fn active_name(State(operator): State<Operator>) -> Result<Json<Value>, Wrong> {
    Ok(Json(json!(current(&operator).await?.name)))
}

pub async fn images(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Result<Json<Value>, Wrong> {
    let (name, project) = asked(&operator, query.as_deref()).await?;
    let wrong = || Wrong::new(404, format!("Error getting image for project \"{name}\""));
    let [first, second, third] = by_size(&project.ok_or_else(wrong)?, &Names::read(&operator.ledger).await?);
    Ok(Json(json!({"8Gb": first, "16Gb": second, "32Gb": third})))
}

/// An active project goes too: it is switched off first.
pub async fn remove(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Result<Json<Value>, Wrong> {
    let (name, project) = asked(&operator, query.as_deref()).await?;
    let wrong = || Wrong::new(500, format!("Error deleting project '{name}'"));
    let project = project.ok_or_else(wrong)?;
    let params = json!({"project": project.id});
    if project.active {
        command(&operator, "project.deactivate", params.clone()).await?;
    }
    command(&operator, "project.delete", params).await?;
    Ok(told(format!("Project '{name}' deleted successfully")))
}
