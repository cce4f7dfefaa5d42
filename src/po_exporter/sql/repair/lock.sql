-- One row of a trading table, kept from everybody else's changes until the transaction ends. NOWAIT: where somebody is
-- changing it, that is said at once; nobody waits for us, and we for nobody. $1: its id.
SELECT {columns}, to_jsonb(t)::text AS whole, t.xmin::text || t.ctid::text AS version
FROM {table} AS t WHERE t.{id} = $1::text::{id_type}
FOR UPDATE NOWAIT
