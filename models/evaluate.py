#!/usr/bin/env python3
"""Prints the tables of the model card, from the tables of features.

    pip install -r models/requirements-train.txt
    python models/evaluate.py full                  # or lite; some ten minutes
    python models/evaluate.py full --quick          # leave out asl-letters by photo and asl-hg by signer
    python models/evaluate.py full --search dumps/full --data DATA     # the search, and the weights of its trust

Every figure is of held-out hands: a whole source at a time, or a part of one: a fifth of asl-letters by source photo,
a signer of asl-hg (P5 and P6 share photos and count as one). Pictures without a hand and hands without a letter are
held out in five parts by class or photo. Tables of landmarks by the signers of a held-out source are held out too.
"""

import argparse
import hashlib
from pathlib import Path

import train  # first: it sets the number of threads
import numpy as np
import pack
import table as tables
from scipy.optimize import minimize_scalar
from table import LANDMARKS, LETTERS

# The service's thresholds (crates/vision/src/search.rs, letter.rs).
PRESENCE, STOP_TRUST, NO_HAND_LIMIT = 0.3, 0.9, 0.5
HOPEFUL_TRUST = 0.1
# Attempts after which a search without a hopeful candidate ends. A dump holds the palms that were looked at alone: the
# service's first rule, which ends a search without a palm left to look at, cannot be seen in it, and its pictures
# without a hand are cheaper.
GIVE_UP = [3]
# Number of the attempt that looks closer.
CLOSER = 1
# What an attempt's passes of palm detection take, in passes of the landmark model. 0: the whole photo. The second looks
# at one or two parts.
PALM_COST = [0.28, 0.6, 1.5, 0]
SOURCES = ["asl-letters", "asl-hg", "asl-plain", "asl-webcam", "asl-crops"]
SAME_SIGNERS = {"asl-crops": ["tavenguyen"]}
STILL = np.array([letter not in "JZ" for letter in LETTERS])


class Upright:
    """The baseline: logistic regression on upright landmarks."""

    def fit(self, table, chosen, landmarks=None):
        rows = chosen & train.hands(table) & (table.kind == "best")
        x = table.x[rows][:, :LANDMARKS]
        self.scaler = train.Scaler(x)
        targets = train.one_hot(table.y()[rows], len(LETTERS))
        self.model = train.Regression(1.0).fit(self.scaler(x), targets, np.ones(len(x), np.float32))
        return self

    def logits(self, x):
        return self.model.logits(self.scaler(x[:, :LANDMARKS]))

    def doubt(self, x):
        return np.full(len(x), -60.0)


def part_of(name, parts):
    """Returns a part, 0 to parts - 1, that depends on the name alone."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % parts


def folds(table, by_source):
    """Returns the name of each row's fold."""
    def fold(kind, group):
        if kind not in SOURCES:
            return SOURCES[part_of(group, 5)] if by_source else f"asl-letters {part_of(group, 5)}"
        if by_source:
            return kind
        return f"asl-letters {part_of(group, 5)}" if kind == "asl-letters" else f"{kind} {group}"
    pairs = list(zip(table.set.tolist(), table.group.tolist()))
    known = {pair: fold(*pair) for pair in set(pairs)}
    return np.array([known[pair] for pair in pairs])


def held_out(make, table, landmarks, rows, fold, names):
    """Returns logits and the logit of no hand for `rows`, each by a classifier that did not see its fold."""
    logits, doubt = np.zeros((len(rows), len(LETTERS)), np.float32), np.zeros(len(rows), np.float32)
    of_table, of_rows = fold
    for name in names:
        known = landmarks.without(SAME_SIGNERS.get(name, []))
        model = make().fit(table, of_table != name, known)
        mask = of_rows == name
        logits[mask], doubt[mask] = model.logits(rows.x[mask]), model.doubt(rows.x[mask])
    return logits, doubt


def by_letter(right, y):
    """Returns the percent right of each letter."""
    return {LETTERS[number]: 100 * right[y == number].mean() for number in np.unique(y)}


def still(percents):
    return np.mean([value for letter, value in percents.items() if letter not in "JZ"])


def accuracy(table, landmarks, size, by_source):
    """Prints accuracy by source, and returns what the held-out classifiers say of the best looks."""
    fold = folds(table, by_source)
    names = SOURCES if by_source else sorted({name for name in fold if name.startswith(("asl-letters", "asl-hg"))})
    best = (table.kind == "best") & train.hands(table) & np.isin(fold, names)
    rows, y = tables.select(table, best), table.y()[best]
    result, letters = {}, {}
    print("| held out | hands | classifier | mean of letters, without J and Z | all hands | below 80 % |\n|---|---|---|---|---|---|")
    for classifier, make in [("baseline", Upright), ("this", lambda: train.Letters(size))]:
        logits, doubt = held_out(make, table, landmarks, rows, (fold, fold[best]), names)
        null = train.sigmoid(doubt) >= NO_HAND_LIMIT
        right = (logits.argmax(1) == y) & ~null
        for source in SOURCES:
            mask = rows.set == source
            if mask.any():
                percents = by_letter(right[mask], y[mask])
                low = ", ".join(f"{letter} {value:.0f}" for letter, value in percents.items() if value < 80)
                print(f"| {source} | {mask.sum()} | {classifier} | {still(percents):.1f} | {100 * right[mask].mean():.1f} | {low} |", flush=True)
                letters.setdefault(classifier, []).append(percents)
        result[classifier] = logits, doubt, y, rows
    for classifier, percents in letters.items():
        print(f"\n{classifier}: mean of sources {np.mean([still(each) for each in percents]):.1f}; by letter, mean of sources: "
              + ", ".join(f"{letter} {np.mean([each[letter] for each in percents if letter in each]):.0f}" for letter in LETTERS))
    return result["this"]


def calibration(size, logits, doubt, y, rows):
    """Prints calibration: answers that are not null, every source with the same weight, without J and Z."""
    use = (train.sigmoid(doubt) < NO_HAND_LIMIT) & STILL[y]
    logits, y, source = logits[use], y[use], rows.set[use]
    weight = np.array([1 / (source == name).sum() for name in source])
    weight /= weight.sum()

    def surprise(temperature):
        p = train.softmax(logits / temperature)[np.arange(len(y)), y]
        return -(weight * np.log(p + 1e-12)).sum()

    temperature = minimize_scalar(surprise, bounds=(0.2, 5), method="bounded").x
    p = train.softmax(logits / train.TEMPERATURE[size])
    confidence, right = p.max(1), p.argmax(1) == y
    at = np.minimum((confidence * 15).astype(int), 14)
    error = sum(abs((weight * (right - confidence))[at == number].sum()) for number in range(15))
    print(f"\nbest temperature {temperature:.2f}, in use {train.TEMPERATURE[size]}; calibration error {100 * error:.1f} %\n")
    print("| confidence at least | answers | of these right |\n|---|---|---|")
    for least in (0, 0.5, 0.6, 0.7, 0.8, 0.9):
        sure = confidence >= least
        print(f"| {least} | {100 * weight[sure].sum():.0f} | {100 * (weight * right)[sure].sum() / weight[sure].sum():.1f} |")


def logit(p):
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


def fit_trust(signs, seen):
    """Returns weights and constant of a logistic regression."""
    z = np.concatenate([signs, np.ones((len(signs), 1))], 1)
    weights = np.zeros(z.shape[1])
    for _ in range(50):
        p = train.sigmoid(z @ weights)
        curve = (z * (p * (1 - p))[:, None]).T @ z + 1e-3 * np.eye(len(weights))
        weights -= np.linalg.solve(curve, z.T @ (p - seen) + 1e-3 * weights)
    return weights


def search(table, landmarks, size, dumps, data):
    """Prints what the search finds in the photos of dumps, with classifiers that did not see their source."""
    dump = tables.join([tables.read_dump(path) for path in dumps])
    shows, overlapping = pack.shown(dump, data), pack.overlaps(dump, data)
    mask = (dump.kind == "candidate") & (dump.set != "asl-digits")
    rows, shows, overlapping = tables.select(dump, mask), shows[mask], overlapping[mask]
    attempt, y = dump.attempt[mask], rows.y()
    fold = folds(table, True), folds(rows, True)
    logits, doubt = held_out(lambda: train.Letters(size), table, landmarks, rows, fold, SOURCES)
    p, no_hand = train.softmax(logits / train.TEMPERATURE[size]), train.sigmoid(doubt)
    guess, scenes = p.argmax(1), rows.set == "hands-in-scenes"
    seen = np.where(scenes, overlapping >= 0.3, np.isin(shows, ["best", "look"]))
    signs = np.stack([logit(rows.presence), logit(no_hand), logit(p.max(1)), rows.palm, rows.palm == 0], 1)
    judged = ~((rows.set == "asl-crops") & (y < 0))
    weights = fit_trust(signs[judged], seen[judged])
    print("trust: weights", np.round(weights, 3).tolist(), "\n")
    trust = np.where(rows.presence >= PRESENCE, train.sigmoid(signs @ weights[:-1] + weights[-1]), 0)
    photos = {}
    for row, key in enumerate(zip(rows.set.tolist(), rows.label.tolist(), rows.photo.tolist())):
        photos.setdefault(key, []).append(row)

    def find(candidates, stop, give_up):
        """Returns the row that is taken for the hand, or None, and the cost in passes of the landmark model."""
        best, cost = None, 0
        for number, palm_cost in enumerate(PALM_COST):
            most = trust[best] if best is not None else 0
            if number == CLOSER and most >= HOPEFUL_TRUST:
                continue
            if number in give_up and most < HOPEFUL_TRUST:
                break
            cost += palm_cost
            for row in candidates:
                if attempt[row] != number:
                    continue
                cost += 1
                if trust[row] > (trust[best] if best is not None else 0):
                    best = row
                if best is not None and trust[best] >= stop:
                    return best, cost
        return best, cost

    print("| stop at trust | gives up early | " + " | ".join([*SOURCES, "hands-in-scenes", "no-hand"]) + " |")
    print("|---|---|" + "---|" * (len(SOURCES) + 2))
    for stop, give_up in [(0.8, GIVE_UP), (STOP_TRUST, GIVE_UP), (STOP_TRUST, []), (0.95, GIVE_UP), (0.98, GIVE_UP)]:
        results = {}
        for (kind, label, _), candidates in photos.items():
            best, cost = find(candidates, stop, give_up)
            null = best is None or no_hand[best] >= NO_HAND_LIMIT
            if kind == "no-hand":
                right = null
            elif kind == "hands-in-scenes":
                right = not null and overlapping[best] >= 0.3
            elif label in LETTERS:
                right = not null and guess[best] == y[best]
            else:
                continue
            results.setdefault(kind, []).append((right, null, cost, label))
        cells = []
        for kind in [*SOURCES, "hands-in-scenes", "no-hand"]:
            right, null, cost, label = (np.array(column) for column in zip(*results[kind]))
            if kind in SOURCES:
                percent = still(by_letter(right, tables.classes(label)))
            else:
                percent = 100 * right.mean()
            cells.append(f"{percent:.1f} right, {100 * null.mean():.1f} null, {cost.mean():.2f}")
        print(f"| {stop} | {'yes' if give_up else 'no'} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", default="full", help="the landmark model: full or lite")
    parser.add_argument("--table", type=Path, help="a table of features (default: training/SIZE.npz)")
    parser.add_argument("--quick", action="store_true", help="hold out whole sources alone")
    parser.add_argument("--search", nargs="+", metavar="DUMP", help="evaluate the search on dumps of `cargo xtask features`")
    parser.add_argument("--data", type=Path, help="the folder with the data sets, for --search")
    arguments = parser.parse_args()
    table = tables.load(arguments.table or tables.HERE / f"training/{arguments.size}.npz")
    landmarks = tables.load_landmarks()
    if arguments.search:
        if not arguments.data:
            parser.error("--search needs --data: the boxes of hands-in-scenes are there")
        search(table, landmarks, arguments.size, arguments.search, arguments.data)
        return
    print(f"# Whole sources held out, {arguments.size} landmark model: percent right; null counts as wrong\n")
    calibration(arguments.size, *accuracy(table, landmarks, arguments.size, True))
    if not arguments.quick:
        print("\n# Source photos (asl-letters) and signers (asl-hg) held out\n")
        calibration(arguments.size, *accuracy(table, landmarks, arguments.size, False))


if __name__ == "__main__":
    main()
