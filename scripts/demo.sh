#!/bin/bash
# Replays the bundled flights through the example pipelines on a server of its own, prints what
# they detect, and stops the server.
#
#   scripts/demo.sh PATH_OF_AUSPEX
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")/.."

work=$(mktemp -d)
server=
finish() {
    local code=$?
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT

# A pipe tells when the port is open, and which one it is.
mkfifo "$work/said"
"$binary" server --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/said" 2>&1 &
server=$!
exec 3<"$work/said"
port=
while [ -z "$port" ] && read -r line <&3; do
    echo "$line" >>"$work/log"
    case $line in *"listening on "*) port=${line##*listening on 127.0.0.1:}; port=${port%%[!0-9]*} ;; esac
done
if [ -z "$port" ]; then
    echo "the server did not start:" >&2
    cat "$work/log" >&2
    exit 1
fi
# What it says later goes to the log; the reader ends with the server.
cat <&3 >>"$work/log" &

export PGHOST=127.0.0.1 PGPORT=$port PGUSER=auspex PGDATABASE=auspex PGSSLMODE=disable PSQLRC=/dev/null PAGER=cat
sql() { psql -X -q -v ON_ERROR_STOP=1 "$@"; }

echo "A server listens on port $port. Its streams and continuous queries (examples/flights.sql):"
sql -f examples/flights.sql
sql -c 'SHOW STREAMS'

echo "The same queries as a VPL pipeline (examples/delays.vpl):"
{ echo 'CREATE PIPELINE delays AS $vpl$'; cat examples/delays.vpl; echo '$vpl$;'; } | sql -f -
sql -c 'SHOW PIPELINES'

rows=27004
began=$(date +%s%N)
zcat examples/data/flights-2013-01.csv.gz | sql -c '\copy flights from stdin csv header'
took=$((($(date +%s%N) - began) / 1000000))
echo "Loaded $rows flights of January 2013 with COPY in $took ms; they are durable."
zcat examples/data/flights-2013-01.csv.gz | sql -c '\copy delays."Flight" from stdin csv header'
echo

echo "What went wrong (stream trouble, which reads three other streams):"
sql -c "SELECT what, count(*) AS flights FROM trouble GROUP BY what ORDER BY flights DESC"

echo "The longest delays (stream very_late):"
sql -c "SELECT ts AS scheduled, flight, route, arr_delay / 60 || ' h ' || arr_delay % 60 || ' min' AS late
        FROM very_late ORDER BY arr_delay DESC LIMIT 5"

echo "The worst days for cancellations (stream cancelled):"
sql -c "SELECT (ts - INTERVAL '5 hours')::date AS new_york_day, count(*) AS cancelled
        FROM cancelled GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3"

echo "The first long flights that were cancelled (stream first_long_cancelled):"
sql -c "SELECT _offset, * FROM first_long_cancelled ORDER BY _offset LIMIT 3"

echo "SUBSCRIBE reads a stream from any offset; here the last three routes that were new:"
sql -c "COPY (SUBSCRIBE TO routes FROM OFFSET 183 UNTIL NOW) TO STDOUT"
echo

echo "The VPL pipeline found the same:"
sql -c "SELECT (SELECT count(*) FROM trouble) AS sql, (SELECT count(*) FROM delays.\"Trouble\") AS vpl"
