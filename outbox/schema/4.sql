-- Version 4. doc.go explains every table.

-- What a person needs to mend a dead letter: how its attempts failed, what an edit made of its event, and from which subscription
-- it was taken. Rows that nobody mended have none of the last two.
ALTER TABLE deliveries ADD COLUMN history BLOB;             -- history.go has the format
ALTER TABLE deliveries ADD COLUMN edited BLOB;              -- a segment of the one event that is delivered
ALTER TABLE deliveries ADD COLUMN origin TEXT NOT NULL DEFAULT '';
