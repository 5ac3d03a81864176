#!/usr/bin/env python3
"""Tests of `train.py --with FILE`, with small networks and a part of the tables: a minute.

    python -m unittest discover models
"""

import json
import tempfile
import unittest
from pathlib import Path

import train  # first: it sets the number of threads
import numpy as np
import table as tables

# Rows of the tables that the test trains on.
PART = 8


def answer(aspect, side):
    """Returns a hand as an answer of the service has it: landmarks as fractions of a photo's sides.

    The hand is made: thumb and little finger far out, and crossed fingers between, which no letter shows.
    """
    points = np.zeros((21, 3))
    points[0] = [0.0, 0.0, 0.0]
    tips = [(-0.9, -0.2), (0.35, -0.9), (-0.3, -1.0), (0.3, -0.6), (0.9, -0.3)]
    for finger, (x, y) in enumerate(tips):
        base = np.array([(finger - 2) * 0.2, -0.5, 0.0]) if finger else np.array([-0.3, -0.2, 0.0])
        for joint in range(4):
            part = joint / 3
            points[1 + 4 * finger + joint] = base + part * (np.array([x, y, -0.1]) - base)
    square = points * [side, 1, 1] * 0.2 + [0.5, 0.7, 0]
    return square / [aspect, 1, aspect]


def line(label, aspect=1.0, side="Right"):
    landmarks = answer(aspect, 1 if side == "Right" else -1).tolist()
    return json.dumps({"trace_id": "1" * 32, "created": 0, "label": label, "prediction": "A", "confidence": 0.5,
                       "model": {"name": "m", "version": "v"}, "aspect": aspect,
                       "hand": {"handedness": side, "landmarks": landmarks}})


class Corrections(unittest.TestCase):
    def file(self, *lines):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "feedback.jsonl"
        path.write_text("".join(f"{text}\n" for text in lines))
        return path

    def test_hand_is_the_same_whatever_its_side_and_the_photos_aspect(self):
        read = train.corrections(self.file(line("A"), line("B", 1.5), line("C", 0.5, "Left")))
        self.assertEqual(read.y.tolist(), [0, 1, 2])
        for x in read.x[1:]:
            np.testing.assert_allclose(x, read.x[0], atol=1e-5)

    def test_line_that_is_no_correction_is_named(self):
        for text in ["{", "{}", line("-"), line("AB"), line("A", 1.0).replace("Right", "Both"),
                     line("A").replace("\"landmarks\": [[", "\"landmarks\": [[0, 0, 0], [")]:
            with self.assertRaises(SystemExit) as error:
                train.corrections(self.file(line("A"), text))
            self.assertIn("cannot read line 2 of ", str(error.exception))
        with self.assertRaises(SystemExit):
            train.corrections(self.file())

    def test_model_trained_with_corrections_answers_them_right(self):
        table = tables.load(tables.HERE / "training/lite.npz")
        chosen = np.arange(len(table)) % PART == 0
        part = tables.select(table, chosen)
        landmarks = tables.load_landmarks()

        def model(learnt):
            network = train.Network(hidden=64, epochs=2, dropout=(0.2, 0.5), seed=1)
            made = train.Letters("lite", letters=[network], no_hand=train.Regression(0.02, 5))
            return made.fit(part, np.ones(len(part), bool), learnt)

        # The letter that this hand shows to the plain model, and another one.
        more = train.corrections(self.file(line("A")))
        plain = model(landmarks)
        columns = np.zeros((1, table.x.shape[1]), np.float32)
        columns[:, :tables.GEOMETRY] = more.x
        said = int(plain.logits(columns).argmax())
        other = tables.LETTERS[(said + 7) % 26]
        more = train.corrections(self.file(line(other), line(other, 1.5, "Left")))
        self.assertEqual(train.right(plain, more), 0)
        corrected = model(train.weighted(landmarks, more, train.CORRECTION_WEIGHT))
        self.assertEqual(train.right(corrected, more), 2)
        # What both have learnt from the tables stays.
        known = tables.Landmarks(landmarks.x[::50], landmarks.y[::50], landmarks.table[::50], landmarks.flat[::50])
        before, after = train.right(plain, known) / len(known.x), train.right(corrected, known) / len(known.x)
        print(f"{tables.LETTERS[said]} -> {other}; other hands: {before:.3f} -> {after:.3f}")
        self.assertGreater(after, before - 0.03)


if __name__ == "__main__":
    unittest.main()
