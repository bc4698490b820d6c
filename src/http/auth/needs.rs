//! What a route needs before its handler is asked. Most are commands, and the door of commands asks the role itself.

use axum::http::Method;

use crate::core::role::Role;
use crate::http::auth::is_safe;

/// Unsafe calls below these are commands, or end a caller's own login; the preview of a label reads.
const COMMANDS: [&str; 12] = [
    "commands", "projects", "rules", "devices", "scripts", "labels", "jobs", "slots", "sinks", "events", "station",
    "session",
];

/// The least role, and what to call the deed. An unsafe route that nobody thought of is for admins.
pub fn of(method: &Method, path: &str) -> (Role, String) {
    let deed = || format!("{method} {path}");
    let Some(rest) = path.strip_prefix("/api/v1/") else { return (Role::Viewer, deed()) };
    let first = rest.split('/').next().unwrap_or_default();
    let least = match first {
        "tokens" => Role::Admin,
        _ if is_safe(method) || COMMANDS.contains(&first) => Role::Viewer,
        _ => Role::Admin,
    };
    (least, deed())
}

/// Unsafe calls that are no commands, by the name that they have in the journal. The parts of an upload belong to the
/// call that has begun it.
pub fn audited(method: &Method, path: &str) -> Option<&'static str> {
    let upload = path.starts_with("/api/v1/uploads/");
    match (method.as_str(), path) {
        ("POST", "/api/v1/images" | "/image/upload-image") => Some("image.upload"),
        ("POST", "/api/v1/images/import") => Some("image.import"),
        ("POST", "/api/v1/uploads") => Some("upload.begin"),
        ("DELETE", _) if upload => Some("upload.abandon"),
        ("POST", "/api/v1/firmware" | "/eeprom/upload-eeprom") => Some("firmware.upload"),
        ("POST", "/api/v1/firmware/import") => Some("firmware.import"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_for_viewers_and_what_is_no_command_for_admins() {
        for (method, path, least) in [
            (Method::GET, "/api/v1/sessions", Role::Viewer),
            (Method::GET, "/metrics", Role::Viewer),
            (Method::POST, "/api/v1/commands", Role::Viewer),
            (Method::PATCH, "/api/v1/projects/a", Role::Viewer),
            (Method::POST, "/api/v1/rules/test", Role::Viewer),
            (Method::POST, "/api/v1/slots/a/release", Role::Viewer),
            (Method::POST, "/api/v1/labels/a/print", Role::Viewer),
            (Method::POST, "/api/v1/images", Role::Admin),
            (Method::PATCH, "/api/v1/uploads/7", Role::Admin),
            (Method::POST, "/api/v1/firmware/import", Role::Admin),
            (Method::GET, "/api/v1/tokens", Role::Admin),
            (Method::POST, "/api/v1/something-new", Role::Admin),
        ] {
            assert_eq!(of(&method, path).0, least, "{method} {path}");
        }
    }
}
