-- The type of a column, with its precision. $1: the table; $2: the column.
SELECT format_type(a.atttypid, a.atttypmod) AS type
FROM pg_attribute a WHERE a.attrelid = $1::text::regclass AND a.attname = $2::text
