-- Version 3. doc.go explains every table.

-- The order that an event keeps: rows with one key are handed out one after the other. State 3 is held.
ALTER TABLE deliveries ADD COLUMN key BLOB;
CREATE INDEX deliveries_by_key ON deliveries (subscription, state, offset) WHERE key IS NOT NULL;
