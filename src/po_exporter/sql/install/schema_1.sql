-- What a restart, or another replica, must not forget. Each row belongs to one of the configuration's databases, by its
-- name there.
CREATE TABLE po_exporter.leader (
    database text PRIMARY KEY,
    term bigint NOT NULL,
    replica text NOT NULL,
    since timestamptz NOT NULL
);
COMMENT ON TABLE po_exporter.leader IS 'Who leads: each take-over is another term, which every write of a leader compares.';

CREATE TABLE po_exporter.incidents (
    database text NOT NULL,
    name text NOT NULL,
    state jsonb NOT NULL,
    PRIMARY KEY (database, name)
);
COMMENT ON TABLE po_exporter.incidents IS 'What is known of the course of each check that is, or was lately, past its threshold; and, as "digest", of the day.';

CREATE TABLE po_exporter.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    database text NOT NULL,
    channel text NOT NULL,
    incident text NOT NULL,
    summary jsonb NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries integer NOT NULL DEFAULT 0,
    error text,
    thread jsonb,
    sent timestamptz,
    set_aside timestamptz
);
COMMENT ON TABLE po_exporter.outbox IS 'What there is to tell, written before it is sent: sent, set aside, or still waiting.';
CREATE INDEX outbox_waiting ON po_exporter.outbox (database, id) WHERE sent IS NULL AND set_aside IS NULL;
CREATE INDEX outbox_incident ON po_exporter.outbox (database, incident);
CREATE UNIQUE INDEX outbox_once ON po_exporter.outbox (channel, (summary ->> 'id'));

GRANT USAGE ON SCHEMA po_exporter TO po_exporter_reader;
GRANT SELECT, INSERT, UPDATE ON po_exporter.leader TO po_exporter_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON po_exporter.incidents, po_exporter.outbox TO po_exporter_reader;

COMMENT ON SCHEMA po_exporter IS '{"made_by": "po-exporter install", "version": 1}';
