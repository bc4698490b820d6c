-- Labels: templates, their texts by revision, and one row for each that waits for its printer.
CREATE TABLE label(id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE label_text(
  label    TEXT NOT NULL,
  revision INTEGER NOT NULL,
  text     TEXT NOT NULL,
  PRIMARY KEY(label, revision)
) STRICT;
-- A number is never given twice, also when its row is gone.
CREATE TABLE label_job(
  job     INTEGER PRIMARY KEY AUTOINCREMENT,
  printer TEXT NOT NULL,
  body    TEXT NOT NULL
) STRICT;
CREATE INDEX label_job_printer ON label_job(printer, job);
