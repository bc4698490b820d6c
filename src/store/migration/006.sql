-- A million past sessions are as good as none: the sessions of one device, of one project, of one outcome and of one image
-- are found without looking at the others. (The id of a session sorts by time.)
DROP INDEX session_device;
CREATE INDEX session_device ON session(mac, id);
CREATE INDEX session_project ON session(project, id);
CREATE INDEX session_outcome ON session(coalesce(outcome, 'open'), id);
CREATE INDEX session_image ON session(image, started_at);
