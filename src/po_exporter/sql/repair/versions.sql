-- Which version of each row there is; every change makes another one. $1: the ids.
SELECT t.{id}::text AS id, t.xmin::text || t.ctid::text AS version
FROM {table} AS t WHERE t.{id} = ANY ($1::text[]::{id_type}[])
