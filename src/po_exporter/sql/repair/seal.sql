-- Seals what was committed; how many records that were.
SELECT po_exporter.seal() AS sealed
