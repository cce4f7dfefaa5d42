"""Makes the sidecar's roles, its own schema and what its change feed needs in a database; and takes them away again."""
