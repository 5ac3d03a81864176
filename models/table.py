"""Reads and writes the tables that the letter classifier is trained on, and the dumps they are made from.

`training/NAME.npz` (NumPy, compressed) holds one row for every look of the landmark model at a region of a photo:

    set, label, group, kind, photo   uint8 / uint16, indices into the arrays of names `*_names`
    palm, presence, right            uint8, 0..255 for 0..1: palm score, presence, probability of a right hand
    x                                uint8 [columns, rows]: the classifier's input, stored column by column
    low, step                        float32 [columns]: value = low + step * x

The columns are the classifier's input of `crates/vision/src/letter.rs`: 63 landmark coordinates, 12 directions, and
the landmark model's pooled features (full 1,152, lite 672). The step of a geometric column is 1/20 of its standard
deviation, that of a pooled feature 1/8. It is larger where 256 steps would not cover the range.

`kind` is `best` for the look that shows a photo's hand best, `look` for others at the same hand, and `nothing` for
looks at anything else.

`training/landmarks.npz` holds landmarks alone, from other people's tables (pack.py): the 75 geometric columns in 16
bits, the class, the table's name, and whether depth is missing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
LANDMARKS = 63
GEOMETRY = 75
LETTERS = [chr(ord("A") + i) for i in range(26)]
NO_HAND = "-"
NAMES = ["set", "label", "group", "kind", "photo"]
SHARES = ["palm", "presence", "right"]
# 75 geometric columns in 16 bits: units of 1/3200.
FINE = 3200


@dataclass
class Table:
    """Rows of features. Every array has one entry a row."""

    x: np.ndarray
    set: np.ndarray
    label: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    photo: np.ndarray
    palm: np.ndarray
    presence: np.ndarray
    right: np.ndarray

    def __len__(self):
        return len(self.x)

    def y(self):
        """Returns each row's class: 0 to 25 for A to Z, -1 for any other label."""
        return classes(self.label)


@dataclass
class Dump(Table):
    """A dump of `cargo xtask features`: all looks, with the number of the attempt and the landmarks' box.

    The box is left, top, width and height, in pixels of the photo.
    """

    attempt: np.ndarray
    box: np.ndarray


@dataclass
class Landmarks:
    """Landmarks of hands that show a letter: geometric columns, classes, names of the tables, and missing depth."""

    x: np.ndarray
    y: np.ndarray
    table: np.ndarray
    flat: np.ndarray

    def without(self, tables):
        """Returns the rows of all other tables."""
        keep = ~np.isin(self.table, tables)
        return Landmarks(self.x[keep], self.y[keep], self.table[keep], self.flat[keep])


def classes(labels):
    numbers = {letter: i for i, letter in enumerate(LETTERS)}
    return np.array([numbers.get(label, -1) for label in labels.tolist()])


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
    for name in NAMES:
        names, index = np.unique(getattr(table, name), return_inverse=True)
        arrays[name] = index.astype(np.uint8 if len(names) < 256 else np.uint16)
        arrays[name + "_names"] = names
    for name in SHARES:
        arrays[name] = np.rint(255 * np.clip(getattr(table, name), 0, 1)).astype(np.uint8)
    np.savez_compressed(path, **arrays)


def load(path):
    """Reads a table that `save` wrote."""
    with np.load(path) as file:
        arrays = dict(file)
    return Table(
        x=np.ascontiguousarray((arrays["low"][:, None] + arrays["step"][:, None] * arrays["x"]).T),
        **{name: arrays[name + "_names"][arrays[name]] for name in NAMES},
        **{name: arrays[name].astype(np.float32) / 255 for name in SHARES},
    )


def read_dump(path):
    """Reads a dump of `cargo xtask features`: PATH.csv and PATH.f32."""
    lines = Path(f"{path}.csv").read_text().splitlines()[1:]
    cells = [line.split(",") for line in lines]
    column = {name: np.array([row[i] for row in cells])
              for i, name in enumerate(["set", "photo", "label", "group", "width", "height", "kind"])}
    number = np.array([row[7:15] for row in cells], np.float32)
    return Dump(
        x=np.fromfile(f"{path}.f32", "<f4").reshape(len(cells), -1),
        **{name: column[name] for name in NAMES},
        **{name: number[:, 1 + i] for i, name in enumerate(SHARES)},
        attempt=number[:, 0].astype(int),
        box=number[:, 4:8],
    )


def join(tables):
    """Returns all rows of several tables or dumps."""
    fields = tables[0].__dataclass_fields__
    return type(tables[0])(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in fields})


def select(table, mask):
    """Returns the rows of a mask, as a table."""
    return Table(**{name: getattr(table, name)[mask] for name in ["x", *NAMES, *SHARES]})


def save_landmarks(path, landmarks):
    names, index = np.unique(landmarks.table, return_inverse=True)
    np.savez_compressed(path, x=np.rint(landmarks.x * FINE).astype(np.int16).T.copy(), y=landmarks.y.astype(np.uint8),
                        table=index.astype(np.uint8), table_names=names, flat=landmarks.flat)


def load_landmarks():
    """Reads training/landmarks.npz."""
    with np.load(HERE / "training/landmarks.npz") as file:
        return Landmarks(np.ascontiguousarray(file["x"].T.astype(np.float32) / FINE), file["y"].astype(int),
                         file["table_names"][file["table"]], file["flat"])
