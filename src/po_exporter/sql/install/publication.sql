-- The publication, which by itself costs nothing: it says what a slot is to hand on. SHARE UPDATE EXCLUSIVE on both
-- tables. No column list and no row filter: beside REPLICA IDENTITY FULL, a column list makes every UPDATE fail.
CREATE PUBLICATION {publication} FOR TABLE {orders}, {positions} WITH (publish = 'insert, update, delete, truncate');
