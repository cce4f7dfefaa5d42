-- The record of what was changed in the trading tables: written in the same transaction as the change, then sealed into
-- a chain of hashes, so that nobody changes it unnoticed.
CREATE TABLE po_exporter.record (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run text NOT NULL,
    actor text NOT NULL,
    version text NOT NULL,
    fix text NOT NULL,
    entity text NOT NULL CHECK (entity IN ('order', 'position')),
    entity_id text NOT NULL,
    before jsonb NOT NULL,
    after jsonb NOT NULL,
    reason text NOT NULL,
    undoes bigint,
    place bigint UNIQUE,
    hash bytea,
    CHECK ((place IS NULL) = (hash IS NULL)),
    -- What cannot be hashed, for its size or its encoding, would keep all that come after it from being sealed.
    CHECK (octet_length(convert_to(run || actor || version || fix || entity_id || before::text || after::text || reason,
                                   'UTF8')) <= 1000000)
);
COMMENT ON TABLE po_exporter.record IS 'What was changed, by whom and why. place and hash are empty until seal() has filled them; nothing is changed after that.';
CREATE INDEX record_unsealed ON po_exporter.record (id) WHERE hash IS NULL;
CREATE INDEX record_entity ON po_exporter.record (entity, entity_id);

CREATE FUNCTION po_exporter.keep_record() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.hash IS NULL AND NEW.hash IS NOT NULL
       AND to_jsonb(NEW) - 'place' - 'hash' = to_jsonb(OLD) - 'place' - 'hash' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a record is never changed, and never deleted' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER keep_record BEFORE UPDATE OR DELETE ON po_exporter.record
    FOR EACH ROW EXECUTE FUNCTION po_exporter.keep_record();
CREATE TRIGGER keep_records BEFORE TRUNCATE ON po_exporter.record
    FOR EACH STATEMENT EXECUTE FUNCTION po_exporter.keep_record();
-- Under session_replication_role = replica, too.
ALTER TABLE po_exporter.record ENABLE ALWAYS TRIGGER keep_record, ENABLE ALWAYS TRIGGER keep_records;

-- The hash of a record, given that of the one before it: of everything in it but the hash itself. Of the first, the one
-- before is empty. Times as their seconds, whatever the session's settings are.
CREATE FUNCTION po_exporter.hash_of(previous bytea, kept po_exporter.record) RETURNS bytea
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(previous || convert_to(jsonb_build_array(
        kept.place, kept.id, extract(epoch FROM kept.at), kept.run, kept.actor, kept.version, kept.fix, kept.entity,
        kept.entity_id, kept.before, kept.after, kept.reason, kept.undoes)::text, 'UTF8'))
$$;

-- Seals what has been committed and is not sealed yet, at most so many, in the order in which it is found; how many it
-- sealed. Two at once wait for one another. It is the only function that runs with rights of its own: of a role that
-- may read records and fill their empty place and hash.
CREATE FUNCTION po_exporter.seal(most integer DEFAULT 1000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept po_exporter.record;
    last bytea := '';
    at_place bigint := 0;
    sealed integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('po_exporter seal'));
    SELECT r.place, r.hash INTO at_place, last FROM po_exporter.record r
        WHERE r.place IS NOT NULL ORDER BY r.place DESC LIMIT 1;
    IF NOT FOUND THEN
        at_place := 0;
        last := '';
    END IF;
    FOR kept IN SELECT * FROM po_exporter.record r WHERE r.hash IS NULL ORDER BY r.id LIMIT most LOOP
        at_place := at_place + 1;
        kept.place := at_place;
        last := po_exporter.hash_of(last, kept);
        UPDATE po_exporter.record r SET place = at_place, hash = last WHERE r.id = kept.id;
        sealed := sealed + 1;
    END LOOP;
    RETURN sealed;
END
$$;
REVOKE ALL ON FUNCTION po_exporter.keep_record(), po_exporter.hash_of(bytea, po_exporter.record),
    po_exporter.seal(integer) FROM PUBLIC;

GRANT USAGE ON SCHEMA po_exporter TO po_exporter_fixer, po_exporter_sealer;
GRANT SELECT ON po_exporter.leader TO po_exporter_fixer; -- a write compares the leader's term
GRANT SELECT ON po_exporter.record TO po_exporter_fixer, po_exporter_sealer;
GRANT INSERT (run, actor, version, fix, entity, entity_id, before, after, reason, undoes) ON po_exporter.record
    TO po_exporter_fixer;
GRANT UPDATE (place, hash) ON po_exporter.record TO po_exporter_sealer;
GRANT EXECUTE ON FUNCTION po_exporter.hash_of(bytea, po_exporter.record) TO po_exporter_sealer;
GRANT EXECUTE ON FUNCTION po_exporter.seal(integer) TO po_exporter_reader;

-- It takes CREATE to be given something in the schema, for this one moment.
GRANT CREATE ON SCHEMA po_exporter TO po_exporter_sealer;
ALTER FUNCTION po_exporter.seal(integer) OWNER TO po_exporter_sealer;
REVOKE CREATE ON SCHEMA po_exporter FROM po_exporter_sealer;

COMMENT ON SCHEMA po_exporter IS '{"made_by": "po-exporter install", "version": 2}';
