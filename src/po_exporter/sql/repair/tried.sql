-- How often a fix was made on an order already. $1: the fix; $2: the order.
SELECT count(*) AS times FROM po_exporter.record
WHERE entity = 'order' AND entity_id = $2 AND fix = $1 AND undoes IS NULL
