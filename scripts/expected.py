#!/usr/bin/env python3
"""Writes examples/expected/*.csv: what the example pipelines must detect, computed without Auspex."""

import csv
import gzip
import pathlib

root = pathlib.Path(__file__).resolve().parent.parent / "examples"
with gzip.open(root / "data/flights-2013-01.csv.gz", "rt", newline="") as file:
    flights = list(csv.DictReader(file))

out = {name: [] for name in
       ["very_late", "cancelled", "diverted", "routes", "trouble", "first_long_cancelled"]}
seen = set()
for f in flights:
    name, route = f"{f['carrier']} {f['flight']}", f"{f['origin']}-{f['dest']}"
    kinds = []
    if f["arr_delay"] and int(f["arr_delay"]) >= 180:
        out["very_late"].append([f["ts"], name, route, f["arr_delay"]])
        kinds.append("very late")
    if not f["dep_time"]:
        out["cancelled"].append([f["ts"], name, route])
        kinds.append("cancelled")
        if int(f["distance"]) > 2000 and len(out["first_long_cancelled"]) < 5:
            out["first_long_cancelled"].append([f["ts"], f["carrier"], f["flight"], f["dest"], f["distance"]])
    if f["dep_time"] and not f["air_time"]:
        out["diverted"].append([f["ts"], name, route])
        kinds.append("diverted")
    out["trouble"].extend([kind, name, route] for kind in kinds)
    if route not in seen:
        seen.add(route)
        out["routes"].append([f["origin"], f["dest"]])

headers = {
    "very_late": ["ts", "flight", "route", "arr_delay"],
    "cancelled": ["ts", "flight", "route"],
    "diverted": ["ts", "flight", "route"],
    "routes": ["origin", "dest"],
    "trouble": ["what", "flight", "route"],
    "first_long_cancelled": ["ts", "carrier", "flight", "dest", "distance"],
}
folder = root / "expected"
folder.mkdir(exist_ok=True)
for name, rows in out.items():
    with open(folder / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(headers[name])
        writer.writerows(rows)
    print(f"{name}: {len(rows)} rows")
