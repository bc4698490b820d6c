CREATE TABLE meta(
  k TEXT PRIMARY KEY,
  v TEXT NOT NULL
) STRICT;

-- The journal: append-only, one total order, never reused numbers. It is the outbox of every bus too.
CREATE TABLE event(
  seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  id       TEXT NOT NULL UNIQUE,
  name     TEXT NOT NULL,
  kind     TEXT NOT NULL,
  subject  TEXT NOT NULL,
  occurred INTEGER NOT NULL,
  body     BLOB NOT NULL
) STRICT;
CREATE INDEX event_subject ON event(kind, subject, seq);

-- How far each sink has acknowledged.
CREATE TABLE sink(
  name      TEXT PRIMARY KEY,
  acked_seq INTEGER NOT NULL,
  updated   INTEGER NOT NULL
) STRICT;

-- Commands that were answered: same id, same content, same answer.
CREATE TABLE command(
  command_id TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  content    BLOB NOT NULL,
  transport  TEXT NOT NULL,
  received   INTEGER NOT NULL,
  reply      BLOB NOT NULL
) STRICT;

CREATE TABLE project(
  id   TEXT PRIMARY KEY,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE image(
  id   TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE device(
  mac     TEXT PRIMARY KEY,
  serial  TEXT,
  serial8 TEXT,
  seen_at INTEGER NOT NULL,
  body    TEXT NOT NULL
) STRICT;
CREATE INDEX device_serial ON device(serial) WHERE serial IS NOT NULL;
CREATE INDEX device_seen ON device(seen_at);

-- Every attempt, for good.
CREATE TABLE session(
  id         TEXT PRIMARY KEY,
  mac        TEXT NOT NULL,
  attempt    INTEGER NOT NULL,
  project    TEXT NOT NULL,
  image      TEXT NOT NULL,
  token      TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  outcome    TEXT CHECK(outcome IN ('passed','failed','aborted','interrupted')),
  ended_at   INTEGER,
  code       TEXT,
  detail     TEXT,
  body       TEXT NOT NULL
) STRICT;
CREATE INDEX session_device ON session(mac, started_at);
CREATE INDEX session_started ON session(started_at);
CREATE INDEX session_open ON session(id) WHERE outcome IS NULL;

CREATE TABLE lease(
  address  TEXT PRIMARY KEY,
  mac      TEXT NOT NULL UNIQUE,
  until_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE quarantine(
  address  TEXT PRIMARY KEY,
  until_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE alarm(
  code   TEXT PRIMARY KEY,
  detail TEXT NOT NULL,
  at     INTEGER NOT NULL
) STRICT;

-- The boot timeline: which files a device asked for.
CREATE TABLE boot_file(
  n       INTEGER PRIMARY KEY,
  mac     TEXT,
  address TEXT NOT NULL,
  at      INTEGER NOT NULL,
  name    TEXT NOT NULL,
  bytes   INTEGER NOT NULL,
  result  TEXT NOT NULL
) STRICT;
CREATE INDEX boot_file_device ON boot_file(mac, at);

-- Reports that came after the end of their session.
CREATE TABLE late_report(
  n       INTEGER PRIMARY KEY,
  session TEXT NOT NULL,
  at      INTEGER NOT NULL,
  what    TEXT NOT NULL
) STRICT;
