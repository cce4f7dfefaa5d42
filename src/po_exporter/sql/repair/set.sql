-- The one statement that changes a row of a trading table. It is locked, and as it was seen. $1: its id.
UPDATE {table} AS t SET {assignments} WHERE t.{id} = $1::text::{id_type}
