-- A number as a column keeps it. $1: the number.
SELECT ($1::text::{type})::text AS value
