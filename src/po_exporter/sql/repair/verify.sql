-- The chain, calculated anew from what the records say: its length and head, the first record that does not fit, and how
-- many are not sealed yet. What is hashed is written out here: a function in the database could have been replaced.
WITH chain AS (
    SELECT r.id, r.place, r.hash, lag(r.place, 1, 0::bigint) OVER places AS place_before,
           sha256(coalesce(lag(r.hash) OVER places, '') || convert_to(jsonb_build_array(
               r.place, r.id, extract(epoch FROM r.at), r.run, r.actor, r.version, r.fix, r.entity, r.entity_id,
               r.before, r.after, r.reason, r.undoes)::text, 'UTF8')) AS expected
    FROM po_exporter.record r WHERE r.hash IS NOT NULL
    WINDOW places AS (ORDER BY r.place)
)
SELECT (SELECT count(*) FROM chain) AS sealed,
       (SELECT encode(hash, 'hex') FROM chain ORDER BY place DESC LIMIT 1) AS head,
       (SELECT json_build_object('id', id, 'place', place, 'gap', place <> place_before + 1)::text FROM chain
        WHERE hash <> expected OR place <> place_before + 1 ORDER BY place LIMIT 1) AS broken,
       (SELECT count(*) FROM po_exporter.record WHERE hash IS NULL) AS unsealed,
       (SELECT min(id) FROM po_exporter.record WHERE hash IS NULL) AS first_unsealed
