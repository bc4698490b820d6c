-- Scripts of the site, their texts by revision, and what they have printed.
CREATE TABLE script(
  id   TEXT PRIMARY KEY,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE script_text(
  script   TEXT NOT NULL,
  revision INTEGER NOT NULL,
  text     TEXT NOT NULL,
  PRIMARY KEY(script, revision)
) STRICT;

CREATE TABLE script_output(
  session   TEXT NOT NULL,
  script    TEXT NOT NULL,
  at        INTEGER NOT NULL,
  text      TEXT NOT NULL,
  truncated INTEGER NOT NULL,
  PRIMARY KEY(session, script)
) STRICT;
