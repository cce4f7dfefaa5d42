"""Makes what the change feed needs in a database, and takes it away again."""
