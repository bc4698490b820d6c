//! The database: whole, and of a version that this program knows.

use std::path::Path;

use crate::app::check::finding::Finding;
use crate::store;

const SUBJECT: &str = "database";

pub fn look(path: &Path) -> Vec<Finding> {
    if !path.exists() {
        return vec![Finding::ok(SUBJECT, format!("{} will be made at the first start", path.display()))];
    }
    vec![match store::examine(path) {
        Ok(faults) if faults.is_empty() => Finding::ok(SUBJECT, format!("{} is whole", path.display())),
        Ok(faults) => Finding::fault(
            SUBJECT,
            format!("{} is damaged: {}", path.display(), faults.join("; ")),
            "stop bootline, keep the file, and restore the newest backup (bootline restore); then look at the disk",
        ),
        Err(error) => Finding::fault(
            SUBJECT,
            with_causes(&error),
            "read the sentence; a backup can be restored by bootline restore",
        ),
    }]
}

fn with_causes(error: &store::StoreError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::check::finding::Level;

    #[test]
    fn a_whole_a_damaged_and_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootline.db");
        assert_eq!(look(&path)[0].level, Level::Ok);
        let connection = store::open(&path).unwrap();
        assert_eq!(look(&path)[0].level, Level::Ok);
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(look(&path)[0].what.contains("version 99"), "{}", look(&path)[0].what);
        drop(connection);
        std::fs::write(&path, b"this is not a database at all, is it").unwrap();
        assert_eq!(look(&path)[0].level, Level::Fault);
    }
}
