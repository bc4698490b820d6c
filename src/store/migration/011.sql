-- What was there once is called in the history as it was called then.
CREATE TABLE former(
  kind TEXT NOT NULL CHECK(kind IN ('project','image','firmware')),
  id   TEXT NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY(kind, id)
) STRICT;
-- As far as the journal still tells; the later name replaces the earlier one.
INSERT OR REPLACE INTO former(kind, id, name)
  SELECT 'project', json_extract(data, '$.id'), json_extract(data, '$.name')
  FROM (SELECT seq, json_extract(CAST(body AS TEXT), '$.data') AS data FROM event
        WHERE name IN ('project.created', 'project.updated'))
  WHERE json_extract(data, '$.id') IS NOT NULL AND json_extract(data, '$.name') IS NOT NULL
    AND json_extract(data, '$.id') NOT IN (SELECT id FROM project)
  ORDER BY seq;
INSERT OR REPLACE INTO former(kind, id, name)
  SELECT 'image', json_extract(data, '$.image'), json_extract(data, '$.name')
  FROM (SELECT seq, json_extract(CAST(body AS TEXT), '$.data') AS data FROM event WHERE name = 'image.removed')
  WHERE json_extract(data, '$.image') IS NOT NULL AND json_extract(data, '$.name') IS NOT NULL
  ORDER BY seq;
INSERT OR REPLACE INTO former(kind, id, name)
  SELECT 'firmware', json_extract(data, '$.firmware'), json_extract(data, '$.name')
  FROM (SELECT seq, json_extract(CAST(body AS TEXT), '$.data') AS data FROM event WHERE name = 'firmware.removed')
  WHERE json_extract(data, '$.firmware') IS NOT NULL AND json_extract(data, '$.name') IS NOT NULL
  ORDER BY seq;

-- Devices whose identity is in doubt: the alarm that tells so ends with the last of them. Until now it never ended.
CREATE TABLE doubt(
  doubt TEXT NOT NULL,
  mac   TEXT NOT NULL,
  PRIMARY KEY(doubt, mac)
) STRICT;
