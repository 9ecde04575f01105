-- Turns the ledger's tables into ones of a part a day, so that old days are dropped and not deleted row by row: for
-- PostgreSQL 12 and later, with routers stopped or running (they wait for it, and their rows in memory).
--
--   psql -v ON_ERROR_STOP=1 -f partitions.sql DATABASE
--
-- `seq` is the microsecond of a row, times 2048: parts by it are parts by time. What there was stays in *_before. A job
-- has to make the parts of the next days in time, with the same EXECUTE of CREATE TABLE; rows of a day that has none go
-- to *_rest, and have to be moved before that day gets one. A day goes by DROP TABLE requests_20260131,
-- attempts_20260131, tags_20260131.
BEGIN;
ALTER TABLE attempts DROP CONSTRAINT attempts_seq_fkey;
ALTER TABLE tags DROP CONSTRAINT tags_seq_fkey;
DO $$
DECLARE
    name text;
    day bigint := extract(epoch FROM date_trunc('day', now(), 'UTC'))::bigint;
    bound CONSTANT bigint := 1000000 * 2048;  -- a second, in numbers of rows
BEGIN
    FOREACH name IN ARRAY ARRAY['requests', 'attempts', 'tags'] LOOP
        EXECUTE format('ALTER TABLE %1$s RENAME TO %1$s_before', name);
        EXECUTE format('CREATE TABLE %1$s (LIKE %1$s_before) PARTITION BY RANGE (seq)', name);
        EXECUTE format('ALTER TABLE %1$s ATTACH PARTITION %1$s_before FOR VALUES FROM (MINVALUE) TO (%2$s)',
                       name, (day + 86400) * bound);
        EXECUTE format('CREATE TABLE %1$s_rest PARTITION OF %1$s DEFAULT', name);
        FOR ahead IN 1..7 LOOP  -- from tomorrow on; a job makes the next ones
            EXECUTE format('CREATE TABLE %1$s_%2$s PARTITION OF %1$s FOR VALUES FROM (%3$s) TO (%4$s)', name,
                           to_char(to_timestamp(day + ahead * 86400) AT TIME ZONE 'UTC', 'YYYYMMDD'),
                           (day + ahead * 86400) * bound, (day + (ahead + 1) * 86400) * bound);
        END LOOP;
    END LOOP;
END $$;
ALTER TABLE requests ADD PRIMARY KEY (seq);
ALTER TABLE attempts ADD PRIMARY KEY (seq, number);
ALTER TABLE tags ADD PRIMARY KEY (seq, name);
CREATE INDEX ON requests (at);
COMMIT;
