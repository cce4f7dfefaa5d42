-- What the steps have made, each by its name and nothing by CASCADE: where somebody else's thing is in the schema, or
-- rests on something in it, this fails, and nothing has changed.
DROP FUNCTION IF EXISTS po_exporter.seal(integer);
DROP FUNCTION IF EXISTS po_exporter.hash_of(bytea, po_exporter.record);
DROP TABLE IF EXISTS po_exporter.stop, po_exporter.record, po_exporter.outbox, po_exporter.incidents, po_exporter.leader;
DROP FUNCTION IF EXISTS po_exporter.keep_record();
DROP SCHEMA po_exporter;
