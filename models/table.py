"""Reads and writes the table of training features.

`training/NAME.npz` (NumPy, compressed) holds one row for every pass of the landmark model over a region of a photo:

    set, label, group, kind, photo   uint8 / uint16, indices into the arrays of names `*_names`
    palm, presence, right            uint8, 0..255 for 0..1: palm score, presence, probability of a right hand
    mirrored, palm_passes            uint8
    x                                uint8 [columns, rows]: the classifier's input, stored column by column
    low, step                        float32 [columns]: value = low + step * x
    missed                           uint16 [n, 3]: set, label, group of photos in which no hand was found

The columns are the classifier's input of `crates/vision/src/letter.rs`: 63 landmark coordinates, 12 directions, and
the landmark model's pooled features (full 1,152, lite 672). The step of a geometric column is 1/20 of its standard
deviation, that of a pooled feature 1/8. It is larger where 256 steps would not cover the range.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
LANDMARKS = 63
GEOMETRY = 75
LETTERS = [chr(ord("A") + i) for i in range(26)]
NO_HAND = "-"
ALTERED = "no-hand-altered"
NAMES = ["set", "label", "group", "kind", "photo"]
SHARES = ["palm", "presence", "right"]


@dataclass
class Table:
    """Rows of features. Every array has one entry a row; `missed` lists the photos without a row."""

    x: np.ndarray
    set: np.ndarray
    label: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    photo: np.ndarray
    palm: np.ndarray
    presence: np.ndarray
    right: np.ndarray
    mirrored: np.ndarray
    palm_passes: np.ndarray
    missed: list

    def __len__(self):
        return len(self.x)

    def y(self):
        """Returns each row's class: 0 to 25 for A to Z, -1 for any other label."""
        numbers = {letter: i for i, letter in enumerate(LETTERS)}
        return np.array([numbers.get(label, -1) for label in self.label])


def save(path, table):
    """Writes a table, with its float32 columns quantised to 8 bits."""
    x = table.x
    deviation = x.std(0) + 1e-3
    parts = np.where(np.arange(x.shape[1]) < GEOMETRY, 20, 8)
    low, high = x.min(0), x.max(0)
    step = np.maximum(deviation / parts, (high - low) / 255).astype(np.float32)
    low = low.astype(np.float32)
    arrays = {
        "x": np.clip(np.rint((x - low) / step), 0, 255).astype(np.uint8).T.copy(),
        "low": low,
        "step": step,
    }
    index = {}
    for name in NAMES:
        values = getattr(table, name)
        extra = [missed[NAMES.index(name)] for missed in table.missed] if name in NAMES[:3] else []
        names = sorted({*values.tolist(), *extra})
        index[name] = {value: i for i, value in enumerate(names)}
        kind = np.uint8 if len(names) < 256 else np.uint16
        arrays[name] = np.array([index[name][value] for value in values.tolist()], kind)
        arrays[name + "_names"] = np.array(names)
    for name in SHARES:
        arrays[name] = np.rint(255 * np.clip(getattr(table, name), 0, 1)).astype(np.uint8)
    for name in ["mirrored", "palm_passes"]:
        arrays[name] = getattr(table, name).astype(np.uint8)
    arrays["missed"] = np.array(
        [[index[name][value] for name, value in zip(NAMES, missed)] for missed in table.missed], np.uint16
    ).reshape(-1, 3)
    np.savez_compressed(path, **arrays)


def load(path):
    """Reads a table that `save` wrote."""
    with np.load(path) as file:
        arrays = dict(file)
    names = {name: arrays[name + "_names"] for name in NAMES}
    return Table(
        x=np.ascontiguousarray((arrays["low"][:, None] + arrays["step"][:, None] * arrays["x"]).T),
        **{name: names[name][arrays[name]] for name in NAMES},
        **{name: arrays[name].astype(np.float32) / 255 for name in SHARES},
        mirrored=arrays["mirrored"].astype(bool),
        palm_passes=arrays["palm_passes"],
        missed=[tuple(names[name][i] for name, i in zip(NAMES, row)) for row in arrays["missed"]],
    )


def read_dump(path):
    """Reads a dump of `cargo xtask features`: PATH.csv and PATH.f32."""
    lines = Path(f"{path}.csv").read_text().splitlines()[1:]
    cells = [line.split(",") for line in lines]
    rows = [row for row in cells if row[4] != "missed"]
    at = np.array([int(row[11]) for row in rows])
    numbers = np.fromfile(f"{path}.f32", "<f4").reshape(len(rows), -1)
    text = {name: np.array([row[i] for row in rows]) for i, name in enumerate(["set", "photo", "label", "group", "kind"])}
    share = {name: np.array([float(row[5 + i]) for row in rows], np.float32) for i, name in enumerate(SHARES)}
    return Table(
        x=numbers[at],
        **text,
        **share,
        mirrored=np.array([row[8] == "1" for row in rows]),
        palm_passes=np.array([int(row[9]) for row in rows]),
        missed=[(row[0], row[2], row[3]) for row in cells if row[4] == "missed"],
    )


def select(table, mask):
    """Returns the rows of a mask."""
    columns = {
        name: getattr(table, name)[mask]
        for name in ["x", *NAMES, *SHARES, "mirrored", "palm_passes"]
    }
    return Table(**columns, missed=table.missed)


def join(tables):
    """Returns all rows of several tables."""
    columns = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ["x", *NAMES, *SHARES, "mirrored", "palm_passes"]
    }
    return Table(**columns, missed=[missed for table in tables for missed in table.missed])


def save_landmarks(x, y):
    """Writes training/asl-now.npz: the 75 geometric columns in 16 bits, and the classes."""
    np.savez_compressed(
        HERE / "training/asl-now.npz", x=np.rint(x * 3200).astype(np.int16).T.copy(), y=y.astype(np.uint8)
    )


def load_landmarks():
    """Reads training/asl-now.npz: the 75 geometric columns, and the classes."""
    with np.load(HERE / "training/asl-now.npz") as file:
        return np.ascontiguousarray(file["x"].T.astype(np.float32) / 3200), file["y"].astype(int)
