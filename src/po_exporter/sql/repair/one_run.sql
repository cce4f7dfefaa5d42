-- One run of fixes at a time, so that each counts those of the other.
SELECT pg_advisory_xact_lock(hashtext('po_exporter fix'))
