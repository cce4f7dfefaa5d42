-- Records, the newest first: $1: those of a run; $2: those with these ids; both NULL: all. $3: how many; NULL: all.
SELECT id, at, run, actor, version, fix, entity, entity_id, before::text, after::text, reason, undoes, place,
       encode(hash, 'hex') AS hash
FROM po_exporter.record
WHERE ($1::text IS NULL AND $2::bigint[] IS NULL) OR run = $1 OR id = ANY ($2)
ORDER BY id DESC LIMIT $3
