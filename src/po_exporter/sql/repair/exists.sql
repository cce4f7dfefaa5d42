-- Which of these positions there are.
SELECT p.id::text AS id FROM positions p WHERE p.id = ANY(:position)
