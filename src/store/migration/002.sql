-- The boot timeline takes in more than files: packets, the script, the bootloader's text.
CREATE TABLE timeline(
  n      INTEGER PRIMARY KEY,
  mac    TEXT NOT NULL,
  at     INTEGER NOT NULL,
  what   TEXT NOT NULL,
  name   TEXT NOT NULL,
  bytes  INTEGER NOT NULL,
  result TEXT NOT NULL
) STRICT;
CREATE INDEX timeline_device ON timeline(mac, at, n);
INSERT INTO timeline(mac, at, what, name, bytes, result)
  SELECT mac, at, 'file', name, bytes, result FROM boot_file WHERE mac IS NOT NULL ORDER BY n;
DROP TABLE boot_file;
