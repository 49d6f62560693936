BEGIN;
INSERT INTO orders (id, customer, total) VALUES ('o-3', 'linus', 12.50);
INSERT INTO outbox (event_id, type, customer, payload) VALUES ('e-3', 'shop.order.placed', 'linus', '{"order":"o-3","total":12.50}');
COMMIT;
BEGIN;
INSERT INTO orders (id, customer, total) VALUES ('o-4', 'mallory', 1.00);
INSERT INTO outbox (event_id, type, customer, payload) VALUES ('e-4', 'shop.order.placed', 'mallory', '{"order":"o-4","total":1.00}');
ROLLBACK;
