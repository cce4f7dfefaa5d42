-- Which identity the tables have now, noted as the publication's comment, so that --uninstall can restore it.
DO $$
BEGIN
    EXECUTE format('COMMENT ON PUBLICATION po_exporter IS %L', (
        SELECT json_build_object('made_by', 'po-exporter install', 'identity_before', json_agg(json_build_object(
                   'schema', n.nspname, 'table', c.relname, 'identity', c.relreplident,
                   'index', (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                             WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'))))
        FROM pg_publication p
        JOIN pg_publication_rel r ON r.prpubid = p.oid
        JOIN pg_class c ON c.oid = r.prrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE p.pubname = 'po_exporter'));
END
$$;
