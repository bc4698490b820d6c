-- Last replies of long work: who waits where, and once the work has ended, what is to be said. A row goes when the broker
-- has the reply.
CREATE TABLE reply_outbox(
  n           INTEGER PRIMARY KEY AUTOINCREMENT,
  command_id  TEXT NOT NULL,
  transport   TEXT NOT NULL,
  address     TEXT NOT NULL,
  correlation BLOB NOT NULL,
  body        BLOB,
  not_after   INTEGER,
  UNIQUE(command_id, transport, address, correlation)
) STRICT;
CREATE INDEX reply_due ON reply_outbox(transport, n) WHERE body IS NOT NULL;

