"""The trading database: how it is reached, and how its tables are presented under canonical names."""
