"""Tests with psycopg 3: `psycopg_tests.py FUNCTION`. The server is found through PGHOST, PGPORT..."""

import datetime
import decimal
import json
import os
import socket
import struct
import sys
import threading
import uuid

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

UTC = datetime.timezone.utc


def connect(conninfo="", **arguments):
    arguments.setdefault("autocommit", True)
    return psycopg.connect(conninfo, **arguments)


def raises(kind, action, sqlstate=None):
    try:
        action()
    except kind as error:
        assert sqlstate is None or error.sqlstate == sqlstate, error.sqlstate
        return error
    raise AssertionError(f"{kind.__name__} expected")


def open_socket():
    return socket.create_connection((os.environ["PGHOST"], int(os.environ["PGPORT"])), timeout=30)


def session():
    """A connection without libpq, ready for a query."""
    raw = open_socket()
    send(raw, b"", struct.pack("!i", 196608) + b"user\0auspex\0database\0auspex\0\0")
    receive_until(raw, b"Z\0\0\0\5I")
    return raw


def send(raw, kind, body):
    raw.sendall(kind + struct.pack("!i", len(body) + 4) + body)


def receive_until(raw, end):
    received = b""
    while end not in received:
        piece = raw.recv(4096)
        assert piece, received
        received += piece


def receive_all(raw):
    received = b""
    try:
        while piece := raw.recv(4096):
            received += piece
    except ConnectionResetError:
        pass
    return received


def binary_parameters_and_results_of_every_type(dsn=""):
    values = [
        ("boolean", True), ("smallint", -7), ("integer", 123456), ("bigint", 2**62),
        ("double precision", 1.25e-7), ("real", 0.5), ("text", "žluťoučký\n'kůň'"), ("bytea", b"\x00\xff"),
        ("numeric(20,4)", decimal.Decimal("-1234567890.1234")),
        ("uuid", uuid.UUID("123e4567-e89b-12d3-a456-426614174000")),
        ("timestamptz", datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, UTC)),
        ("date", datetime.date(1969, 12, 31)), ("time", datetime.time(13, 14, 15, 500000)),
        ("interval", datetime.timedelta(days=3, hours=4, microseconds=5)),
        ("jsonb", Jsonb({"a": [1, None, "x"]})),
        ("bigint[]", [1, None, 3]), ("text[]", ["a b", "", None, 'q"q']),
        ("double precision[]", [1.5, -2.5]),
    ]
    with connect(dsn) as db:
        columns = ", ".join(f"c{i} {kind}" for i, (kind, _) in enumerate(values))
        db.execute(f"CREATE STREAM every_type ({columns})")
        db.execute("CREATE STREAM derived AS SELECT * FROM every_type")
        for parameters in ("%t", "%b", "%s"):
            places = ", ".join([parameters] * len(values))
            db.execute(f"INSERT INTO every_type VALUES ({places})", [value for _, value in values])
        expected = tuple(v.obj if isinstance(v, Jsonb) else v for _, v in values)
        for binary in (False, True):
            rows = db.execute("SELECT * FROM derived", binary=binary).fetchall()
            assert len(rows) == 3, rows
            for row in rows:
                assert row == expected, (binary, row, expected)


def null_parameters_and_inferred_types(dsn=""):
    with connect(dsn) as db:
        db.execute("CREATE STREAM s (a int, t text, at timestamptz)")
        db.execute("INSERT INTO s VALUES (%s, %s, %s)", [None, None, None])
        db.execute("INSERT INTO s VALUES (%s, %s, %s)", [1, "x", datetime.datetime(2024, 1, 1, tzinfo=UTC)])
        assert db.execute("SELECT a FROM s WHERE a = %s", [1]).fetchall() == [(1,)]
        assert db.execute("SELECT t FROM s WHERE t = %s LIMIT %s", ["x", 5]).fetchall() == [("x",)]
        moment = datetime.datetime(2024, 1, 2, tzinfo=UTC)
        assert db.execute("SELECT count(*) FROM s WHERE at < %s", [moment]).fetchone() == (1,)
        assert db.execute("SELECT %s::int + 1", [41]).fetchone() == (42,)
        assert db.execute("SELECT a FROM s WHERE a = ANY(%s)", [[1, 2]]).fetchall() == [(1,)]
        raises(errors.InvalidTextRepresentation, lambda: db.execute("INSERT INTO s (a) VALUES (%s)", ["one"]))


def copy_in_and_out_in_every_format(dsn=""):
    rows = [(1, "ann", 1.5), (2, None, None), (3, 'tab\t"quote"\\,é', -0.25)]
    with connect(dsn) as db:
        db.execute("CREATE STREAM s (id int, name text, x double precision)")
        for kind in ("text", "csv"):
            with db.cursor().copy(f"COPY s FROM STDIN (FORMAT {kind})") as copy:
                if kind == "text":
                    for row in rows:
                        copy.write_row(row)
                else:
                    text = '1,ann,1.5\n2,,\n3,"tab\t""quote""\\,é",-0.25\n'.encode()
                    for i in range(0, len(text), 7):
                        copy.write(text[i:i + 7])
        with db.cursor().copy("COPY s FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "float8"])
            for row in rows:
                copy.write_row(row)
        found = db.execute("SELECT id, name, x FROM s ORDER BY _offset").fetchall()
        assert found == rows * 3, found
        with db.cursor().copy("COPY (SELECT id, name, x FROM s WHERE _offset < 3) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "float8"])
            assert list(copy.rows()) == rows
        with db.cursor().copy("COPY (SELECT id, name, x FROM s WHERE _offset < 3) TO STDOUT") as copy:
            copy.set_types(["int4", "text", "float8"])
            assert list(copy.rows()) == rows
        # Arrow IPC: what comes out goes in.
        with db.cursor().copy("COPY (SELECT id, name, x FROM s WHERE _offset < 3) TO STDOUT (FORMAT arrow)") as copy:
            stream = b"".join(bytes(piece) for piece in copy)
        cursor = db.cursor()
        with cursor.copy("COPY s FROM STDIN (FORMAT arrow)") as copy:
            copy.write(stream)
        assert cursor.rowcount == 3 and cursor.statusmessage == "COPY 3", cursor.statusmessage
        found = db.execute("SELECT id, name, x FROM s WHERE _offset >= 9 ORDER BY _offset").fetchall()
        assert found == rows, found


def arrow_ipc_copy_is_refused_when_malformed(dsn=""):
    with connect(dsn) as db:
        db.execute("CREATE STREAM s (id int)")

        def copy_in(data):
            with db.cursor().copy("COPY s FROM STDIN (FORMAT arrow)") as copy:
                copy.write(data)

        raises(errors.DataError, lambda: copy_in(b"not an arrow stream at all"))
        raises(errors.DataError, lambda: copy_in(b"\xff\xff\xff\xff\x10\x00\x00\x00"))
        assert db.execute("SELECT count(*) FROM s").fetchone() == (0,)


def copy_that_breaks_off_leaves_nothing(dsn=""):
    with connect(dsn) as db:
        db.execute("CREATE STREAM s (id int)")

        def fail():
            with db.cursor().copy("COPY s FROM STDIN") as copy:
                copy.write_row((1,))
                raise ZeroDivisionError

        raises(ZeroDivisionError, fail)
        # A client that vanishes in the middle.
        with session() as raw:
            send(raw, b"Q", b"COPY s FROM STDIN\0")
            receive_until(raw, b"G\0")
            send(raw, b"d", b"1\n2\n3\n")
        assert db.execute("SELECT count(*) FROM s").fetchone() == (0,)


def rows_of_a_transaction_appear_together(dsn=""):
    with connect(dsn) as writer, connect(dsn) as reader:
        writer.execute("CREATE STREAM s (a int)")

        def count():
            return reader.execute("SELECT count(*) FROM s").fetchone()[0]

        with writer.transaction():
            writer.execute("INSERT INTO s VALUES (1)")
            writer.execute("INSERT INTO s VALUES (2), (3)")
            assert count() == 0
        assert count() == 3
        try:
            with writer.transaction():
                writer.execute("INSERT INTO s VALUES (4)")
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert count() == 3
        assert writer.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def errors_carry_sqlstate_position_and_hint(dsn=""):
    with connect(dsn) as db:
        db.execute("CREATE STREAM trades (symbol text, price double precision)")
        error = raises(errors.UndefinedColumn, lambda: db.execute("SELECT prize FROM trades"))
        assert error.diag.statement_position == "8", error.diag.statement_position
        assert "price" in (error.diag.message_hint or "") + error.diag.message_primary
        raises(errors.UndefinedTable, lambda: db.execute("SELECT 1 FROM nowhere"))
        raises(errors.SyntaxError, lambda: db.execute("SELEC 1"))
        raises(errors.FeatureNotSupported, lambda: db.execute("CREATE MATERIALIZED VIEW v AS SELECT 1 AS a"))
        raises(errors.DivisionByZero, lambda: db.execute("SELECT 1 / %s::int", [0]))
        with db.transaction():
            raises(errors.UndefinedTable, lambda: db.execute("SELECT 1 FROM nowhere"))
            raises(errors.InFailedSqlTransaction, lambda: db.execute("SELECT 1"))
            raise psycopg.Rollback
        assert db.execute("SELECT 1").fetchone() == (1,)


def server_side_cursor_fetches_in_pieces(dsn=""):
    with connect(dsn, autocommit=False) as db:
        db.execute("CREATE STREAM s (a int)")
        db.execute("INSERT INTO s SELECT * FROM generate_series(1, 1000)")
        db.commit()
        with db.cursor("c") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT a FROM s ORDER BY a")
            assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
            assert sum(row[0] for row in cursor) == 500500 - 6


def subscribe_cursor_waits_for_rows(dsn=""):
    with connect(dsn) as writer, connect(dsn, autocommit=False) as reader:
        writer.execute("CREATE STREAM s (a int)")
        writer.execute("INSERT INTO s VALUES (1), (2)")
        reader.execute("DECLARE c CURSOR FOR SUBSCRIBE TO s FROM BEGINNING WITH (METADATA = false)")
        assert reader.execute("FETCH 10 FROM c WITH (TIMEOUT '5 s')").fetchall() == [(1,), (2,)]
        assert reader.execute("FETCH 10 FROM c WITH (TIMEOUT '10 ms')").fetchall() == []
        found = []
        waiting = threading.Thread(target=lambda: found.extend(
            reader.execute("FETCH 10 FROM c WITH (TIMEOUT '30 s')").fetchall()))
        waiting.start()
        writer.execute("INSERT INTO s VALUES (3)")
        waiting.join()
        assert found == [(3,)], found
        reader.execute("CLOSE c")


def listen_wakes_an_idle_session(dsn=""):
    with connect(dsn) as writer, connect(dsn) as reader:
        writer.execute("CREATE STREAM s (a int, t text)")
        writer.execute("CREATE STREAM big AS SELECT a, t FROM s WHERE a > 10")
        reader.execute("LISTEN big")
        writer.execute("INSERT INTO s VALUES (5, 'no'), (50, 'yes'), (60, NULL)")
        received = [json.loads(n.payload) for n in reader.notifies(timeout=30, stop_after=2)]
        assert received == [{"a": 50, "t": "yes", "_offset": 0}, {"a": 60, "t": None, "_offset": 1}], received
        reader.execute("UNLISTEN big")
        writer.execute("INSERT INTO s VALUES (70, 'unheard')")
        writer.execute("SELECT count(*) FROM big")
        reader.execute("SELECT 1")
        assert list(reader.notifies(timeout=0)) == []


def notify_reaches_other_sessions(dsn=""):
    with connect(dsn) as sender, connect(dsn) as receiver:
        receiver.execute("LISTEN chat")
        sender.execute("NOTIFY chat, 'hello'")
        sender.execute("SELECT pg_notify('chat', 'again')")
        received = [(n.channel, n.payload, n.pid) for n in receiver.notifies(timeout=30, stop_after=2)]
        pid = sender.info.backend_pid
        assert received == [("chat", "hello", pid), ("chat", "again", pid)], received


def cancel_stops_a_running_subscription(dsn=""):
    with connect(dsn) as db, connect(dsn) as other:
        db.execute("CREATE STREAM s (a int)")
        other.execute("INSERT INTO s VALUES (1)")
        rows = db.cursor().stream("SUBSCRIBE TO s FROM BEGINNING")
        next(rows)
        db.cancel_safe()
        raises(errors.QueryCanceled, lambda: next(rows))
        # The session is usable again, and a cancel that comes too late hits nothing.
        db.cancel_safe()
        assert db.execute("SELECT 1").fetchone() == (1,)


def pipeline_mode_keeps_the_order(dsn=""):
    with connect(dsn) as db:
        db.execute("CREATE STREAM s (a int)")
        with db.pipeline() as pipeline:
            cursors = [db.execute("INSERT INTO s VALUES (%s)", [i]) for i in range(50)]
            pipeline.sync()
            last = db.execute("SELECT count(*), sum(a * _offset) FROM s")
            pipeline.sync()
            assert last.fetchone() == (50, sum(i * i for i in range(50)))
            assert all(c.rowcount == 1 for c in cursors)

        def fail():
            with db.pipeline():
                db.execute("INSERT INTO s VALUES (100)")
                db.execute("INSERT INTO nowhere VALUES (1)")
                db.execute("INSERT INTO s VALUES (101)")

        raises(errors.UndefinedTable, fail)
        # Statements up to the Sync are one implicit transaction.
        assert db.execute("SELECT count(*), max(a) FROM s").fetchone() == (50, 49)


def executemany_inserts_all_rows(dsn=""):
    with connect(dsn) as db:
        db.execute("CREATE STREAM s (a int, t text)")
        db.cursor().executemany("INSERT INTO s VALUES (%s, %s)", [(i, f"row {i}") for i in range(500)])
        assert db.execute("SELECT count(*), sum(a), min(t) FROM s").fetchone() == (500, 124750, "row 0")


def one_gibibyte_length_is_refused_and_the_server_stays(dsn=""):
    # Before the start-up: the connection is closed, with or without a word.
    with open_socket() as raw:
        raw.sendall(struct.pack("!ii", 2**30, 196608) + b"user\0auspex\0\0")
        receive_all(raw)
    # After it.
    with session() as raw:
        raw.sendall(b"Q" + struct.pack("!i", 2**30))
        received = receive_all(raw)
        assert received.startswith(b"E") and b"54000" in received, received
    with connect(dsn) as db:
        db.execute("CREATE STREAM s (id int, t text)")

        def copy_in(data):
            with db.cursor().copy("COPY s FROM STDIN (FORMAT binary)") as copy:
                copy.write(data)

        head = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
        raises(errors.ProgramLimitExceeded, lambda: copy_in(head + struct.pack("!hi", 2, 2**30)))
        raises(errors.DataError, lambda: copy_in(head + struct.pack("!hiih", 2, 4, 1, 0)))
        raises(errors.DataError, lambda: copy_in(b"\0" * 50))
        assert db.execute("SELECT count(*) FROM s").fetchone() == (0,)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
