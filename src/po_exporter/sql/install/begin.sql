-- All of it in one transaction: it is done, or nothing is. With the tables locked, no standby is waited for.
BEGIN READ WRITE;
SET LOCAL synchronous_commit = local;
SET LOCAL statement_timeout = '20s';
SET LOCAL idle_in_transaction_session_timeout = '10s';
-- What comes first waits for VACUUM, for CREATE INDEX CONCURRENTLY and other DDL; whoever waits so holds up neither
-- readers nor writers.
SET LOCAL lock_timeout = '5s';
