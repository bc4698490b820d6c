-- Long work on images: fetched, looked at.
CREATE TABLE job(
  id      TEXT PRIMARY KEY,
  image   TEXT,
  state   TEXT NOT NULL CHECK(state IN ('running','succeeded','failed','canceled')),
  started INTEGER NOT NULL,
  body    TEXT NOT NULL
) STRICT;
CREATE INDEX job_open ON job(id) WHERE state = 'running';
CREATE INDEX job_image ON job(image, started) WHERE image IS NOT NULL;

-- What becomes of an image while it is kept: its served form, its last check.
CREATE TABLE keeping(
  image TEXT PRIMARY KEY,
  body  TEXT NOT NULL
) STRICT;

-- Where an image is zero; too long for an event.
CREATE TABLE zero_map(
  image TEXT PRIMARY KEY,
  body  TEXT NOT NULL
) STRICT;
