-- The flights of New York, January 2013, as a stream and what can be seen in it.
-- Load the rows with: zcat examples/data/flights-2013-01.csv.gz | psql -c '\copy flights from stdin csv header'

CREATE STREAM flights (
    ts timestamptz NOT NULL,             -- scheduled departure
    carrier text NOT NULL,
    flight int NOT NULL,
    tailnum text,
    origin text NOT NULL,
    dest text NOT NULL,
    distance int NOT NULL CHECK (distance > 0),
    sched_dep_time int NOT NULL,
    dep_time int,                        -- null: cancelled
    dep_delay int,
    sched_arr_time int NOT NULL,
    arr_time int,
    arr_delay int,                       -- null: cancelled or diverted
    air_time int,
    WATERMARK FOR ts AS ts
);

-- Three hours late or more at the destination.
CREATE STREAM very_late AS
    SELECT ts, carrier || ' ' || flight AS flight, origin || '-' || dest AS route, arr_delay
    FROM flights
    WHERE arr_delay >= 180;

CREATE STREAM cancelled AS
    SELECT ts, carrier || ' ' || flight AS flight, origin || '-' || dest AS route
    FROM flights
    WHERE dep_time IS NULL;

CREATE STREAM diverted AS
    SELECT ts, carrier || ' ' || flight AS flight, origin || '-' || dest AS route
    FROM flights
    WHERE dep_time IS NOT NULL AND air_time IS NULL;

-- Each route once, when it is first flown.
CREATE STREAM routes AS
    SELECT DISTINCT origin, dest FROM flights;

-- A stream over streams: everything that upsets passengers, in the order of the flights.
CREATE STREAM trouble AS
    SELECT 'very late' AS what, flight, route FROM very_late
    UNION ALL
    SELECT 'cancelled' AS what, flight, route FROM cancelled
    UNION ALL
    SELECT 'diverted' AS what, flight, route FROM diverted;

-- The first five cancellations of long flights.
CREATE STREAM first_long_cancelled AS
    SELECT ts, carrier, flight, dest, distance
    FROM flights
    WHERE dep_time IS NULL AND distance > 2000
    LIMIT 5;
