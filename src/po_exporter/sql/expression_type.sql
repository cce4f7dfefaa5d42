-- The type of a mapped expression, which takes the place of the NULL; of a domain, what it stands for.
WITH RECURSIVE base AS (
    SELECT oid, typtype, typbasetype FROM pg_type WHERE oid = pg_typeof((SELECT NULL))::oid
    UNION ALL
    SELECT t.oid, t.typtype, t.typbasetype FROM base JOIN pg_type t ON base.typtype = 'd' AND t.oid = base.typbasetype
)
SELECT format_type(oid, NULL) FROM base WHERE typtype <> 'd'
