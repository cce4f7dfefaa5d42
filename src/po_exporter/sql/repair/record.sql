-- What was changed, in the transaction that changed it.
INSERT INTO po_exporter.record (run, actor, version, fix, entity, entity_id, before, after, reason, undoes)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb, $9, $10)
RETURNING id
