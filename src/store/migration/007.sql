-- Sinks: whether they are wanted, and how they fare.
ALTER TABLE sink ADD COLUMN bus     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1;
ALTER TABLE sink ADD COLUMN state   TEXT NOT NULL DEFAULT 'down';
ALTER TABLE sink ADD COLUMN reason  TEXT;
ALTER TABLE sink ADD COLUMN since   INTEGER NOT NULL DEFAULT 0;
UPDATE sink SET bus = 1 WHERE name IN ('mqtt', 'nats');

-- Events that a sink would not take; resolved when they were sent after all, or given up.
CREATE TABLE dead_letter(
  sink     TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  reason   TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  resolved INTEGER,
  PRIMARY KEY(sink, seq)
) STRICT;
CREATE INDEX dead_letter_open ON dead_letter(sink, seq) WHERE resolved IS NULL;
-- They are told by events from now on.
DELETE FROM alarm WHERE code LIKE 'bus.deadletter.%';

CREATE INDEX command_received ON command(received);
