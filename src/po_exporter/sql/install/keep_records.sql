-- The records are the evidence of what was changed in the trading tables: they are not dropped unasked.
DO $$
DECLARE
    kept bigint := 0;
BEGIN
    IF to_regclass('po_exporter.record') IS NOT NULL THEN
        LOCK TABLE po_exporter.record IN ACCESS EXCLUSIVE MODE;
        SELECT count(*) INTO kept FROM po_exporter.record;
    END IF;
    IF kept > 0 THEN
        RAISE EXCEPTION 'po_exporter.record holds % row(s), the evidence of what was changed: copy them, and give '
            '--drop-data where they may go', kept USING ERRCODE = 'dependent_objects_still_exist';
    END IF;
END
$$;
