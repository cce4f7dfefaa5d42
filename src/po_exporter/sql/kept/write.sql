-- What a poll changed in what is known, and what there is to tell of it: all, or nothing where another term has begun.
-- $1: the database; $2: our term; $3: courses to forget; $4, $5: names and states of courses;
-- $6 to $11: of each letter its channel, incident, summary, thread, the moment it was sent and that it was set aside (all
-- three NULL while it waits). One that was written already, by its summary's id, is not written twice.
WITH leads AS (
    SELECT FROM po_exporter.leader WHERE database = $1 AND term = $2 FOR SHARE
), forgotten AS (
    DELETE FROM po_exporter.incidents i USING leads WHERE i.database = $1 AND i.name = ANY ($3::text[])
), known AS (
    INSERT INTO po_exporter.incidents AS i (database, name, state)
    SELECT $1, k.name, k.state::jsonb FROM leads, unnest($4::text[], $5::text[]) AS k (name, state)
    ON CONFLICT (database, name) DO UPDATE SET state = excluded.state
), told AS (
    INSERT INTO po_exporter.outbox AS o (database, channel, incident, summary, thread, sent, set_aside)
    SELECT $1, l.channel, l.incident, l.summary::jsonb, l.thread::jsonb, l.sent, l.set_aside
    FROM leads, unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[])
                WITH ORDINALITY AS l (channel, incident, summary, thread, sent, set_aside, place)
    ORDER BY l.place
    ON CONFLICT (channel, (summary ->> 'id')) DO UPDATE
        SET thread = coalesce(excluded.thread, o.thread), sent = coalesce(excluded.sent, o.sent),
            set_aside = coalesce(excluded.set_aside, o.set_aside)
    RETURNING o.id, o.channel, o.summary ->> 'id' AS summary
)
SELECT EXISTS (SELECT FROM leads) AS leads,
       coalesce((SELECT json_agg(json_build_array(id, channel, summary)) FROM told), '[]')::text AS written
