//! Rows of tokens.

use rusqlite::{Connection, OptionalExtension};

use crate::core::image::Digest;
use crate::core::token::AccessToken;
use crate::store::{StoreError, tables};

pub fn all(connection: &Connection) -> Result<Vec<AccessToken>, StoreError> {
    tables::bodies(connection, "token", "SELECT body FROM token")
}

pub fn save(connection: &Connection, token: &AccessToken) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO token(name, sha256, body) VALUES (?1, ?2, ?3) ON CONFLICT(name) DO UPDATE \
             SET sha256 = excluded.sha256, body = excluded.body",
        )?
        .execute([token.name.as_str(), &token.sha256.to_string(), &tables::to_json("token", token)?])?;
    Ok(())
}

/// The one that is valid and has this hash.
pub fn find(connection: &Connection, sha256: Digest) -> Result<Option<AccessToken>, StoreError> {
    let body: Option<String> = connection
        .prepare_cached("SELECT body FROM token WHERE sha256 = ?1")?
        .query_row([sha256.to_string()], |row| row.get(0))
        .optional()?;
    let token: Option<AccessToken> = body.map(|body| tables::from_json("token", &body)).transpose()?;
    Ok(token.filter(AccessToken::is_valid))
}
