-- The orders that share a value with one that changed, where a check looks at such a group.
SELECT o.id::text AS id FROM scoped_orders o LIMIT :most
