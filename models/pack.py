#!/usr/bin/env python3
"""Makes the committed tables of `training/` from dumps of `cargo xtask features`, and from tables of landmarks.

    cargo xtask features --data DATA --output dumps/full --landmarks full
    python models/pack.py full dumps/full --data DATA          # writes models/training/full.npz
    python models/pack.py landmarks --data DATA                # writes models/training/landmarks.npz

DATA is a folder with the data sets of the model card: `asl-letters/train.csv` with its photos in
`asl-letters/train/`; `asl-hg`, `asl-plain`, `asl-webcam`, `asl-crops` and `asl-digits` with a folder for each label;
`no-hand/`; `hands-in-scenes/` with an XML file of boxes for each photo; `asl-now-landmarks.csv`; `landmarks/`.
"""

import argparse
import csv
from pathlib import Path
from xml.etree import ElementTree

import train  # first: it sets the number of threads
import numpy as np
import table as tables
from table import LETTERS

# Below this presence, the region found in a photo of a hand mostly shows something else.
LEAST_PRESENCE = 0.5
# Candidates of later attempts at a hand resemble each other: one in four is kept.
KEEP_CANDIDATES = 0.25
# Rows of a letter and a signer that are taken from a table of landmarks, spread over its recordings.
MOST_LANDMARKS = 40

# The tables of landmarks: by what x is multiplied to become square, whether z is there, and letters left out, since
# they are wrong, another alphabet's, or movements.
SOURCES = {
    "csci218": (4 / 3, True, "J"),
    "subtitle": (4 / 3, True, ""),
    "asl-ai": (16 / 9, True, "J"),
    "gesturespeak": (16 / 9, True, "CDGJMOQX"),
    "nejohnson": (4 / 3, True, "KMORXZ"),
    "subodh": (4 / 3, True, "MZ"),
    "speech-capstone": (1, False, ""),
    "alateegi": (4 / 3, False, ""),
    "insitee": (1, False, "EG"),
    "fluency": (1, False, "JMT"),
    "sanchar": (1, False, "BKSX"),
    "tavenguyen": (1, False, "EKX"),
}


def best_looks(dump):
    """Returns each photo's best candidate, as a row number for each row."""
    best, key = {}, list(zip(dump.set.tolist(), dump.label.tolist(), dump.photo.tolist()))
    for row in np.flatnonzero(dump.kind == "candidate"):
        if key[row] not in best or dump.presence[row] > dump.presence[best[key[row]]]:
            best[key[row]] = row
    return np.array([best.get(k, -1) for k in key])


def overlap(box, other):
    """Returns intersection over union of two boxes: left, top, width, height."""
    left, top = max(box[0], other[0]), max(box[1], other[1])
    right, bottom = min(box[0] + box[2], other[0] + other[2]), min(box[1] + box[3], other[1] + other[3])
    shared = max(0, right - left) * max(0, bottom - top)
    return shared / (box[2] * box[3] + other[2] * other[3] - shared)


def overlaps(dump, data):
    """Returns how far each look at a photo of hands-in-scenes overlaps with the nearest hand's box; 0 elsewhere."""
    boxes, result = {}, np.zeros(len(dump))
    for row in np.flatnonzero(dump.set == "hands-in-scenes"):
        name = dump.photo[row]
        if name not in boxes:
            corners = [[float(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
                       for item in ElementTree.parse(data / "hands-in-scenes" / f"{Path(name).stem}.xml").iter("object")]
            boxes[name] = [(a, b, c - a, d - b) for a, b, c, d in corners]
        result[row] = max((overlap(dump.box[row], box) for box in boxes[name]), default=0)
    return result


def shown(dump, data):
    """Returns what each look shows: `best`, `look` or `nothing`; an empty name where that is not known.

    A look shows the photo's hand if its landmarks lie where the best candidate's do. In hands-in-scenes, the boxes of
    the hands tell.
    """
    best = best_looks(dump)
    middle, size = dump.box[:, :2] + dump.box[:, 2:] / 2, dump.box[:, 2:].max(1)
    away = np.linalg.norm(middle - middle[best], axis=1) / size[best]
    growth = size / size[best]
    photos_of_hands = ~np.isin(dump.set, ["no-hand", "hands-in-scenes"]) & (best >= 0)
    present = dump.presence >= LEAST_PRESENCE
    result = np.full(len(dump), "", "U7")
    result[photos_of_hands & present & (away < 0.35) & (growth > 0.6) & (growth < 1.6)] = "look"
    certain = photos_of_hands & (dump.presence[best] > 0.95) & (dump.set != "asl-digits")
    result[certain & (dump.kind == "candidate") & (away > 0.75)] = "nothing"
    result[(dump.kind == "background") | (dump.set == "no-hand")] = "nothing"
    scenes, overlapping = dump.set == "hands-in-scenes", overlaps(dump, data)
    result[scenes & present & (overlapping >= 0.3)] = "look"
    result[scenes & (overlapping < 0.02)] = "nothing"
    result[(np.arange(len(dump)) == best) & (result == "look")] = "best"
    return result


def pack(name, dumps, data, output):
    """Writes the table of some dumps, and prints the largest error of its quantisation."""
    dump = tables.join([tables.read_dump(path) for path in dumps])
    dump.kind, kind = shown(dump, data), dump.kind
    chosen = np.random.default_rng(5).random(len(dump)) < KEEP_CANDIDATES
    table = tables.select(dump, (dump.kind != "") & ((dump.kind != "look") | (kind != "candidate") | chosen))
    tables.save(output, table)
    again = tables.load(output)
    worst = np.abs(again.x - table.x).max(0) / (table.x.std(0) + 1e-3)
    print(f"{output}: {len(again)} rows of {again.x.shape[1]} columns; largest error {worst.max():.2f} standard deviations")


def spread(rows, recording, most, random):
    """Returns at most so many of the rows, taken from the recordings in turns."""
    rows = random.permutation(rows)
    seen, turn = {}, []
    for row in rows:
        turn.append(seen.get(recording[row], 0))
        seen[recording[row]] = turn[-1] + 1
    return rows[np.argsort(turn, kind="stable")][:most]


def read_source(data, name):
    """Reads a table of landmarks: geometric columns of right hands, and classes."""
    scale, deep, left_out = SOURCES[name]
    with open(data / f"landmarks/{name}.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    with open(data / f"landmarks/{name}.rows.csv", newline="") as file:
        notes = list(csv.DictReader(file))
    values = np.array([row[1:] for row in rows], np.float64).reshape(len(rows), 21, -1)
    points = np.zeros((len(rows), 21, 3))
    points[:, :, : values.shape[2]] = values
    points[:, :, [0, 2]] *= scale
    label = np.array([row[0] for row in rows])
    side = np.array([int(note["side"]) for note in notes])
    signer = np.array([note.get("signer", "") for note in notes])
    recording = [note["recording"] for note in notes]
    random, kept = np.random.default_rng(0), []
    for letter in LETTERS:
        for who in sorted(set(signer)) if letter not in left_out else []:
            rows = np.flatnonzero((label == letter) & (signer == who) & (side != 0))
            kept.extend(spread(rows, recording, MOST_LANDMARKS, random))
    points[:, :, 0] *= side[:, None]
    return train.geometry(points[kept]), tables.classes(label[kept]), not deep


def read_asl_now(data):
    """Reads ASLNow!, which does not state sides: they are told by depth."""
    with open(data / "asl-now-landmarks.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    with open(data / "landmarks/asl-now.sides.csv", newline="") as file:
        side = np.array([int(note["side"]) for note in csv.DictReader(file)])
    points = np.array([row[1:64] for row in rows], np.float64).reshape(-1, 21, 3)
    points[:, :, [0, 2]] *= 4 / 3  # x and z are relative to the width of 4:3 pictures
    points[:, :, 0] *= side[:, None]
    return train.geometry(points), tables.classes(np.array([row[0] for row in rows])), False


def pack_landmarks(data, output):
    """Writes the tables of landmarks."""
    sources = {"asl-now": read_asl_now(data), **{name: read_source(data, name) for name in SOURCES}}
    x, y, table, flat = [], [], [], []
    for name, (columns, numbers, missing) in sources.items():
        x.append(columns)
        y.append(numbers)
        table.extend([name] * len(numbers))
        flat.extend([missing] * len(numbers))
        print(f"{name}: {len(numbers)} rows")
    landmarks = tables.Landmarks(np.concatenate(x), np.concatenate(y), np.array(table), np.array(flat))
    tables.save_landmarks(output, landmarks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the landmark model, full or lite; or landmarks")
    parser.add_argument("dump", nargs="*", help="paths of dumps, without .csv and .f32")
    parser.add_argument("--data", type=Path, required=True, help="the folder with the data sets")
    parser.add_argument("--output", type=Path, help="file to write (default: models/training/NAME.npz)")
    arguments = parser.parse_args()
    output = arguments.output or tables.HERE / f"training/{arguments.name}.npz"
    if arguments.name == "landmarks":
        pack_landmarks(arguments.data, output)
    else:
        pack(arguments.name, arguments.dump, arguments.data, output)


if __name__ == "__main__":
    main()
