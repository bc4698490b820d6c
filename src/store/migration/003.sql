-- EEPROM images, and what they hash to with another bootconf.txt.
CREATE TABLE firmware(
  id   TEXT PRIMARY KEY,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE firmware_edit(
  firmware TEXT NOT NULL,
  bootconf TEXT NOT NULL,
  sha256   TEXT NOT NULL,
  PRIMARY KEY(firmware, bootconf)
) STRICT;
