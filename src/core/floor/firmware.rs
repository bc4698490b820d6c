//! EEPROM firmware: what projects may ask for, what a device gets, and what its report must show.

use std::collections::BTreeMap;

use serde_json::json;

use crate::core::command::{FirmwareAdd, FirmwareWish, ImageRef};
use crate::core::device::Mac;
use crate::core::event::Event;
use crate::core::firmware::{Firmware, FirmwarePlan, Recipe, bootconf};
use crate::core::floor::command::Effect;
use crate::core::floor::{Fact, Floor, Note};
use crate::core::image::Digest;
use crate::core::observation::{Evidence, Observation};
use crate::core::plan::Plan;
use crate::core::project::Project;
use crate::core::refusal::{Fault, Refusal};

/// The image of a plan has to be made first; the one who asked does that, and asks again.
pub const NOT_READY: &str = "firmware_not_ready";

/// Sums of edited images: by the image and its new `bootconf.txt`.
pub(super) type Edits = BTreeMap<(Digest, String), Digest>;

impl Floor {
    pub(super) fn firmware_observed(&self, observation: &Observation) -> Vec<Fact> {
        match observation {
            Observation::FirmwareIngested(firmware) if !self.firmware.contains_key(&firmware.id) => {
                vec![Event::FirmwareAdded(firmware.clone()).into()]
            }
            Observation::FirmwareRejected { name, code, detail, sha256 } => vec![
                Event::FirmwareRejected {
                    name: name.clone(),
                    code: code.clone(),
                    detail: detail.clone(),
                    sha256: *sha256,
                }
                .into(),
            ],
            Observation::FirmwareEdited { firmware, bootconf, sha256 }
                if self.firmware.contains_key(firmware) && !self.edits.contains_key(&(*firmware, bootconf.clone())) =>
            {
                let edited = Note::FirmwareEdited { firmware: *firmware, bootconf: bootconf.clone(), sha256: *sha256 };
                vec![edited.into()]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn find_firmware(&self, wanted: &ImageRef, pointer: &str) -> Result<&Firmware, Refusal> {
        let missing = || Refusal::not_found("firmware", wanted);
        let name = match wanted {
            ImageRef::Id(id) => return self.firmware.get(id).ok_or_else(missing),
            ImageRef::Name(name) => name,
        };
        let mut named = self.firmware.values().filter(|firmware| firmware.name == *name);
        let first = named.next().ok_or_else(missing)?;
        match named.next() {
            None => Ok(first),
            Some(_) => {
                let detail = format!("several firmware images are called {name:?}; name it by its sha256");
                Err(Refusal::invalid(pointer, detail))
            }
        }
    }

    /// What a project asks for, if it makes sense and does not cut its devices off.
    pub(super) fn recipe(&self, wish: &FirmwareWish) -> Result<Recipe, Refusal> {
        const AT: &str = "/params/firmware";
        let firmware = self.find_firmware(&wish.image, &format!("{AT}/image"))?;
        if let Some(text) = &wish.bootconf {
            if !wish.settings.is_empty() {
                let detail = "settings change the bootconf.txt of the image, bootconf replaces it: one of the two";
                return Err(Refusal::invalid(&format!("{AT}/settings"), detail));
            }
            bootconf::check_text(text).map_err(|wrong| Refusal::invalid(&format!("{AT}/bootconf"), wrong))?;
        }
        for (key, value) in &wish.settings {
            let pointer = format!("{AT}/settings/{}", key.replace('~', "~0").replace('/', "~1"));
            bootconf::check_setting(key, value).map_err(|wrong| Refusal::invalid(&pointer, wrong))?;
        }
        if let Some(other) = wish.allow_revisions.iter().find(|kind| kind.chip() != Some(firmware.chip)) {
            let detail = format!("firmware {:?} is for {}, not for {other}", firmware.name, firmware.chip.as_str());
            return Err(at(AT, "allow_revisions", Refusal::new(409, "firmware_chip", detail)));
        }
        let recipe = Recipe {
            image: firmware.id,
            settings: wish.settings.clone(),
            bootconf: wish.bootconf.clone(),
            allow_revisions: wish.allow_revisions.clone(),
            force_boot_order: wish.force_boot_order,
            allow_downgrade: wish.allow_downgrade,
        };
        let edited = recipe.edited(firmware);
        let text = edited.as_ref().unwrap_or(&firmware.bootconf);
        if edited.is_some() && text.len() > firmware.room_bytes as usize {
            let detail =
                format!("a bootconf.txt of {} bytes; the image has room for {}", text.len(), firmware.room_bytes);
            let field = if recipe.bootconf.is_some() { "bootconf" } else { "settings" };
            return Err(at(AT, field, Refusal::new(400, "firmware_too_long", detail)));
        }
        if !recipe.force_boot_order && !bootconf::has_network(text, firmware.chip) {
            let detail = "its BOOT_ORDER has no network (2) for every board: such a module never comes back here by itself; \
                          set BOOT_ORDER (0xf2461), or force_boot_order if that is what you want";
            return Err(at(AT, "settings", Refusal::new(409, "firmware_no_network", detail)));
        }
        Ok(recipe)
    }

    /// The job of the library: it reads files, the core does not.
    pub(super) fn add_firmware(wanted: &FirmwareAdd) -> Result<Effect, Refusal> {
        let name = wanted.name.as_deref().unwrap_or_else(|| wanted.path.rsplit('/').next().unwrap_or_default()).trim();
        let plain = |text: &str| (1..=200).contains(&text.chars().count()) && !text.contains(char::is_control);
        for (pointer, text) in [("/params/name", name), ("/params/path", wanted.path.as_str())] {
            if !plain(text) {
                return Err(Refusal::invalid(pointer, "between 1 and 200 characters, and none for control"));
            }
        }
        let requested =
            Event::FirmwareRequested { name: name.to_owned(), path: wanted.path.clone(), sha256: wanted.sha256 };
        Ok((vec![requested.into()], json!({"name": name, "path": wanted.path})))
    }

    pub(super) fn delete_firmware(&self, firmware: &Firmware) -> Result<Effect, Refusal> {
        let uses = |recipe: &Option<Recipe>| recipe.as_ref().is_some_and(|recipe| recipe.image == firmware.id);
        let project = self.projects.values().find(|project| uses(&project.firmware));
        let running = self.sessions.values().find(|session| {
            session.is_open() && session.plan.firmware.as_ref().is_some_and(|plan| plan.image == firmware.id)
        });
        let user = project
            .map(|project| format!("project {}", project.id))
            .or_else(|| running.map(|session| format!("session {}", session.id)));
        if let Some(user) = user {
            return Err(Refusal::new(409, "in_use", format!("firmware {} is used by {user}", firmware.id)));
        }
        let gone = Event::FirmwareRemoved { firmware: firmware.id, name: firmware.name.clone() };
        Ok((vec![gone.into()], json!({"firmware": firmware})))
    }

    /// The firmware of a project made concrete for one device.
    pub(super) fn plan_firmware(&self, project: &Project, mac: Mac) -> Result<Option<FirmwarePlan>, Refusal> {
        let Some(recipe) = &project.firmware else { return Ok(None) };
        let no = |code: &str, detail: String| Refusal::new(409, code, detail);
        let firmware = self.firmware.get(&recipe.image).ok_or_else(|| {
            no("no_firmware", format!("the firmware {} of project {} is gone", recipe.image, project.id))
        })?;
        let identity = self.devices.get(&mac).and_then(|device| device.identity);
        if let Some(identity) = identity.filter(|identity| identity.family != firmware.chip.family()) {
            let detail = format!(
                "firmware {:?} is for {}, device {mac} showed itself as {:?}",
                firmware.name,
                firmware.chip.as_str(),
                identity.family
            );
            return Err(no("firmware_chip", detail));
        }
        let revision = identity.and_then(|identity| identity.revision);
        if !recipe.allow_revisions.is_empty() && !revision.is_some_and(|revision| recipe.allows(revision)) {
            let board = revision.map_or_else(|| "unknown".to_owned(), |revision| revision.to_string());
            let detail =
                format!("project {} does not allow its firmware on device {mac}: board revision {board}", project.id);
            return Err(no("firmware_revision", detail));
        }
        let bootconf = recipe.edited(firmware);
        let sha256 = match &bootconf {
            None => firmware.id,
            Some(text) => *self.edits.get(&(firmware.id, text.clone())).ok_or_else(not_ready)?,
        };
        Ok(Some(FirmwarePlan {
            image: firmware.id,
            chip: firmware.chip,
            version: firmware.version.clone(),
            built: firmware.built,
            bootconf,
            sha256,
            size_bytes: firmware.size_bytes,
            allow_downgrade: recipe.allow_downgrade,
        }))
    }

    pub fn firmware(&self, id: &Digest) -> Option<&Firmware> {
        self.firmware.get(id)
    }

    pub fn learn_firmware(&mut self, firmware: Firmware) {
        self.firmware.insert(firmware.id, firmware);
    }

    pub fn learn_edit(&mut self, firmware: Digest, bootconf: String, sha256: Digest) {
        self.edits.insert((firmware, bootconf), sha256);
    }

    pub(super) fn forget_firmware(&mut self, id: &Digest) {
        self.firmware.remove(id);
        self.edits.retain(|(firmware, _), _| firmware != id);
    }
}

/// The station makes the image when it is asked for the first time; what is refused so is asked again.
fn not_ready() -> Refusal {
    Refusal::new(503, NOT_READY, "the firmware of the project is being made; ask again").retryable()
}

fn at(parent: &str, field: &str, refusal: Refusal) -> Refusal {
    let fault = Fault { pointer: format!("{parent}/{field}"), detail: refusal.detail.clone() };
    Refusal { errors: vec![fault], ..refusal }
}

/// Does the evidence of a firmware step bear out that the EEPROM holds what was planned?
pub(super) fn proves(plan: &Plan, evidence: &Evidence) -> Result<(), Refusal> {
    let Some(firmware) = &plan.firmware else { return Ok(()) };
    let sha256 = evidence.sha256.ok_or_else(|| Refusal::invalid("/sha256", "a completed firmware step needs it"))?;
    if sha256 != firmware.sha256 {
        let detail = format!("the EEPROM reads {sha256}, the image is {}", firmware.sha256);
        return Err(Refusal::new(409, "firmware.mismatch", detail));
    }
    let seen = evidence.firmware.clone().unwrap_or_default();
    let older = firmware.built.zip(seen.built_before).is_some_and(|(new, before)| new < before);
    if older && !seen.skipped && !firmware.allow_downgrade {
        let before = seen.version_before.unwrap_or_else(|| "a newer one".to_owned());
        let detail = format!("the EEPROM held {before} and was written with the older {}", firmware.version);
        return Err(Refusal::new(409, "firmware.downgrade", detail));
    }
    Ok(())
}

/// Which images the devices of active projects get with another `bootconf.txt`.
pub fn wanted_edits<'a>(
    projects: &'a [Project],
    firmware: &'a [Firmware],
) -> impl Iterator<Item = (&'a Firmware, String)> {
    projects.iter().filter(|project| project.active).filter_map(|project| {
        let recipe = project.firmware.as_ref()?;
        let firmware = firmware.iter().find(|firmware| firmware.id == recipe.image)?;
        Some((firmware, recipe.edited(firmware)?))
    })
}
