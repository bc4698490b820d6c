-- Tokens of the operator side, by the hash of what their bearer shows.
CREATE TABLE token(
  name   TEXT PRIMARY KEY,
  sha256 TEXT NOT NULL,
  body   TEXT NOT NULL
) STRICT;
CREATE INDEX token_sha256 ON token(sha256);
