-- A switch for whoever looks after the database: while there is a row in it, no fix is made and no link is written, whatever
-- the configuration says.
CREATE TABLE po_exporter.stop (
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    who text NOT NULL DEFAULT session_user,
    why text
);
COMMENT ON TABLE po_exporter.stop IS 'While there is a row here, po-exporter writes nothing to the trading tables: INSERT INTO po_exporter.stop (why) VALUES (...); DELETE lets it go on.';
GRANT SELECT ON po_exporter.stop TO po_exporter_fixer, po_exporter_reader;

COMMENT ON SCHEMA po_exporter IS '{"made_by": "po-exporter install", "version": 3}';
