-- What is known of each course.
SELECT name, state::text FROM po_exporter.incidents WHERE database = $1
