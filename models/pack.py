#!/usr/bin/env python3
"""Packs the dumps of `cargo xtask features` into the committed tables of training features.

    cargo xtask features --data DATA --output dumps/full --landmarks full --tract
    python models/alter.py DATA/no-hand dumps/altered       # more pictures without a hand, for training alone
    cargo xtask features --data dumps/altered --output dumps/altered-full --landmarks full --tract
    python models/pack.py full dumps/full --altered dumps/altered-full      # writes models/training/full.npz
    python models/pack.py asl-now DATA/asl-now-landmarks.csv   # writes models/training/asl-now.npz

DATA is a folder with the data sets of the model card: `asl-letters/train.csv` with its photos in
`asl-letters/train/`, `asl-hg/LETTER/`, `asl-digits/DIGIT/`, `no-hand/`.
"""

import argparse
import csv

import numpy as np

import table as tables
import train


def pack(name, dumps, altered, output):
    """Writes the table of some dumps, and prints the largest error of its quantisation."""
    table = tables.join([tables.read_dump(dump) for dump in dumps])
    for dump in altered:
        more = tables.read_dump(dump)
        more.set = np.array([tables.ALTERED] * len(more))
        table = tables.join([table, more])
    path = output or tables.HERE / f"training/{name}.npz"
    tables.save(path, table)
    again = tables.load(path)
    worst = np.abs(again.x - table.x).max(0) / (table.x.std(0) + 1e-3)
    print(f"{path}: {len(again)} rows of {again.x.shape[1]} columns; largest error {worst.max():.2f} standard deviations")


def pack_landmarks(path):
    """Writes the table of ASLNow!'s landmarks.

    ASLNow! has left and right hands, but does not state which. Each hand is taken as the one that looks more like its
    letter. Faulty detections are left out: hands with a probability of 0.02 or less for their letter either way.
    """
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    points = np.array([row[1:64] for row in rows], np.float64).reshape(-1, 21, 3)
    points[:, :, [0, 2]] *= 4 / 3  # x and z are relative to the width of 4:3 pictures
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
    parser.add_argument("name", help="the landmark model, full or lite; or asl-now")
    parser.add_argument("file", nargs="+", help="paths of dumps, without .csv and .f32; or the table of ASLNow!")
    parser.add_argument("--altered", nargs="*", default=[], help="dumps of altered no-hand pictures")
    parser.add_argument("--output", help="file to write (default: models/training/NAME.npz)")
    arguments = parser.parse_args()
    if arguments.name == "asl-now":
        pack_landmarks(arguments.file[0])
    else:
        pack(arguments.name, arguments.file, arguments.altered, arguments.output)


if __name__ == "__main__":
    main()
