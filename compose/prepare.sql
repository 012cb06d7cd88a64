-- Run once, by the superuser, in the database `metrics`: a hypertable, a plain table, and what it takes to follow them.
-- The connector's role owns both tables and their publication, so it can add new chunks to it.
CREATE ROLE airbyte LOGIN REPLICATION PASSWORD 'airbyte';
ALTER DATABASE metrics OWNER TO airbyte;
GRANT CREATE ON SCHEMA public TO airbyte;

SET ROLE airbyte;
CREATE TABLE devices (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO devices SELECT id, 'device ' || id FROM generate_series(1, 10) AS id;
CREATE TABLE metrics (time timestamptz NOT NULL, device int NOT NULL, value double precision, PRIMARY KEY (device, time));
SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day');
INSERT INTO metrics
SELECT time, device, device + extract(hour FROM time)
FROM generate_series('2024-01-01'::timestamptz, '2024-01-07 23:00', '1 hour') AS time, generate_series(1, 10) AS device;
CREATE PUBLICATION airbyte FOR TABLE devices, metrics;
RESET ROLE;

SELECT pg_create_logical_replication_slot('airbyte', 'pgoutput');
