-- History is asked by what a person knows of a session, newest first, in tables of a million rows. Board and circuit
-- stand in the body; as virtual columns they cost an index and no second copy.
ALTER TABLE session ADD COLUMN board TEXT AS (json_extract(body, '$.facts.jumper')) VIRTUAL;
ALTER TABLE session ADD COLUMN circuit TEXT AS (json_extract(body, '$.circuit')) VIRTUAL;
DROP INDEX session_device;
DROP INDEX session_started;
CREATE INDEX session_device  ON session(mac, started_at, id);
CREATE INDEX session_project ON session(project, started_at, id, outcome);
CREATE INDEX session_outcome ON session(outcome, started_at, id);
CREATE INDEX session_code    ON session(code, started_at, id) WHERE code IS NOT NULL;
CREATE INDEX session_image   ON session(image, started_at, id);
CREATE INDEX session_board   ON session(board, started_at, id) WHERE board IS NOT NULL;
CREATE INDEX session_circuit ON session(circuit, started_at, id) WHERE circuit IS NOT NULL;
-- Sums and searches read this one alone, never the bodies.
CREATE INDEX session_started ON session(started_at, id, mac, attempt, project, outcome, ended_at, code, detail, board, circuit);
CREATE INDEX device_names ON device(mac, serial, serial8);
CREATE INDEX device_low   ON device(serial8) WHERE serial8 IS NOT NULL;
CREATE INDEX event_name     ON event(name, seq);
CREATE INDEX event_occurred ON event(occurred, seq);
