-- The tables of a shop, as shop.db has them. An order and its row of the outbox are written in one transaction:
--   BEGIN;
--   INSERT INTO orders (id, customer, total) VALUES ('o-3', 'ada', 12.50);
--   INSERT INTO outbox (event_id, type, customer, payload) VALUES ('e-3', 'shop.order.placed', 'ada', '{"order":"o-3","total":12.50}');
--   COMMIT;
CREATE TABLE orders (id text PRIMARY KEY, customer text NOT NULL, total numeric NOT NULL);
CREATE TABLE outbox (
  id integer PRIMARY KEY AUTOINCREMENT,
  event_id text NOT NULL UNIQUE,
  type text NOT NULL,
  customer text,
  payload json NOT NULL,
  sent_at timestamp
);
