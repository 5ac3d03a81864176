#!/usr/bin/env python3
"""Packs what `cargo xtask features` wrote into the committed tables of training features.

    cargo xtask features --data DATA --output dumps/full --palm lite --landmarks full
    python models/alter.py DATA/no-hand dumps/altered       # more pictures without a hand, for training alone
    cargo xtask features --data dumps/altered --output dumps/altered-full --palm lite --landmarks full --only no-hand
    python models/pack.py full dumps/full --altered dumps/altered-full      # writes models/training/full.npz
    python models/pack.py asl-now DATA/asl-now-landmarks.csv   # writes models/training/asl-now.npz

DATA is a folder with the data sets of the model card: `asl-letters/train.csv` and its photos in
`asl-letters/train/`, `asl-hg/LETTER/`, `asl-digits/DIGIT/`, `no-hand/`.
"""

import argparse
import csv

import numpy as np

import table as tables
import train


def best_looks(dump, data):
    """Of all palm candidates in a photo of a hand (dumped like no-hand pictures), the one with the most presence."""
    with open(f"{data}/asl-letters/train.csv", newline="") as file:
        known = {row["file"]: row for row in csv.DictReader(file)}
    table = tables.read_dump(dump)
    best, seen = {}, {}
    for row, (photo, kind) in enumerate(zip(table.photo.tolist(), table.kind.tolist())):
        seen[photo, kind] = seen.get((photo, kind), 0) + 1
        if seen[photo, kind] <= 2 and (photo not in best or table.presence[row] > table.presence[best[photo]]):
            best[photo] = row
    table = tables.select(table, np.array(sorted(best.values())))
    table.set = np.array(["asl-letters"] * len(table))
    table.kind = np.array(["best"] * len(table))
    table.label = np.array([known[photo]["label"] for photo in table.photo])
    table.group = np.array([known[photo]["source"] for photo in table.photo])
    return table


def pack(name, dumps, altered, candidates, output):
    table = tables.join([tables.read_dump(dump) for dump in dumps])
    # Of the digits one look each is enough: they only say what is a hand.
    table = tables.select(table, ~((table.set == "asl-digits") & (table.kind != "found")))
    for dump in altered:
        more = tables.read_dump(dump)
        more.set = np.array([tables.ALTERED] * len(more))
        table = tables.join([table, more])
    if candidates:
        table = tables.join([table, best_looks(*candidates)])
    path = output or tables.HERE / f"training/{name}.npz"
    tables.save(path, table)
    again = tables.load(path)
    worst = np.abs(again.x - table.x).max(0) / (table.x.std(0) + 1e-3)
    print(f"{path}: {len(again)} rows of {again.x.shape[1]} columns; worst error {worst.max():.2f} standard deviations")


def pack_landmarks(path):
    """ASLNow! has left and right hands, but doesn't say which: take the one that looks more like its letter.

    What looks like its letter (probability below 0.02) neither way is left out: faulty detections.
    """
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    points = np.array([row[1:64] for row in rows], np.float64).reshape(-1, 21, 3)
    points[:, :, [0, 2]] *= 4 / 3  # relative to the width of 4:3 pictures
    y = np.array([tables.LETTERS.index(row[0]) for row in rows])
    table = tables.load(tables.HERE / "training/full.npz")
    judge = train.Letters(letters=[train.Part(train.Network(hidden=256, epochs=6, dropout=(0.2, 0.5)), True, turns=0)])
    judge.fit(table, train.hands(table))
    sides = [train.geometry(points), train.geometry(points * [-1, 1, 1])]
    empty = np.zeros((len(points), table.x.shape[1] - tables.GEOMETRY), np.float32)
    likely = [judge.predict(np.concatenate([side, empty], 1))[0][np.arange(len(y)), y] for side in sides]
    x = np.where((likely[0] >= likely[1])[:, None], *sides)
    good = np.maximum(*likely) > 0.02
    tables.save_landmarks(x[good], y[good])
    print(f"training/asl-now.npz: {good.sum()} of {len(good)} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="full or lite: the landmark model; or asl-now")
    parser.add_argument("file", nargs="+", help="dumps' paths without .csv and .f32; or ASLNow!'s table")
    parser.add_argument("--altered", nargs="*", default=[], help="dumps of altered no-hand pictures")
    parser.add_argument("--candidates", nargs=2, help="a dump of letters' photos as no-hand pictures; the data folder")
    parser.add_argument("--output", help="file to write, instead of models/training/NAME.npz")
    arguments = parser.parse_args()
    if arguments.name == "asl-now":
        pack_landmarks(arguments.file[0])
    else:
        pack(arguments.name, arguments.file, arguments.altered, arguments.candidates, arguments.output)


if __name__ == "__main__":
    main()
