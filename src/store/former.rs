//! Names of what is gone, for the history: it shows projects, images and firmware as they were called.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::store::StoreError;

/// What was there; each has a table of its name whose rows have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Former {
    Project,
    Image,
    Firmware,
}

impl Former {
    const ALL: [Self; 3] = [Self::Project, Self::Image, Self::Firmware];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Image => "image",
            Self::Firmware => "firmware",
        }
    }
}

/// Of a row that is about to go.
pub fn keep(connection: &Connection, kind: Former, id: &str) -> Result<(), StoreError> {
    let table = kind.as_str();
    let sql = format!(
        "INSERT OR REPLACE INTO former(kind, id, name) \
         SELECT '{table}', id, json_extract(body, '$.name') FROM {table} WHERE id = ?1"
    );
    connection.prepare_cached(&sql)?.execute([id])?;
    Ok(())
}

/// All of them, by kind and id.
pub fn names(connection: &Connection) -> Result<HashMap<(Former, String), String>, StoreError> {
    let mut names = HashMap::new();
    let mut statement = connection.prepare_cached("SELECT id, name FROM former WHERE kind = ?1")?;
    for kind in Former::ALL {
        for row in statement.query_map([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (id, name) = row?;
            names.insert((kind, id), name);
        }
    }
    Ok(names)
}
