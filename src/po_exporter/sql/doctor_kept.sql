-- How many positions are not compared with their orders, because they are closed and keep their last size.
SELECT count(*) FROM positions p WHERE NOT p.compared
