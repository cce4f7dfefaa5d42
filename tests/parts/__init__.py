"""Real parts that the tests run against: PostgreSQL, PgBouncer, Prometheus, a faulty wire, the program itself."""
