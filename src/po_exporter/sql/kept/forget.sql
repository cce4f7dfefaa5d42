-- The database is not watched any more, at this address or under this name: what is open there, and what waits to be
-- told, is nobody's. $1: the database; $2: our term; $3: what is said of the letters that waited.
WITH leads AS (
    SELECT FROM po_exporter.leader WHERE database = $1 AND term = $2 FOR SHARE
), forgotten AS (
    DELETE FROM po_exporter.incidents i USING leads WHERE i.database = $1
), set_aside AS (
    UPDATE po_exporter.outbox o SET set_aside = clock_timestamp(), error = $3::text
    FROM leads WHERE o.database = $1 AND o.sent IS NULL AND o.set_aside IS NULL
)
SELECT EXISTS (SELECT FROM leads) AS leads
