#!/usr/bin/env python3
"""Prints the tables of the model card, from the tables of features alone.

    pip install -r models/requirements-train.txt
    python models/evaluate.py full            # or lite; a few minutes each
    python models/evaluate.py full --quick    # without the no-hand tables
    cargo xtask features --data DATA --output dumps/today --found
    python models/evaluate.py full --today dumps/today    # the component's search and operators alone

Every figure is of held-out hands: by source photo (asl-letters, 5 parts), by signer (asl-hg; P5 and P6 share photos
and count as one), by class (no-hand, 2 halves).
"""

import argparse
import hashlib

import train  # first: it sets the number of threads
import numpy as np
import table as tables
from scipy.optimize import minimize_scalar
from table import GEOMETRY, LANDMARKS, LETTERS

# The service's thresholds (crates/vision/src/search.rs, letter.rs): the least presence of a hand, the presence that
# stops the search, and the least probability of no hand that makes the answer null.
PRESENCE, STOP_PRESENCE, NO_HAND_LIMIT = 0.3, 0.98, 0.5
MOVING = [LETTERS.index("J"), LETTERS.index("Z")]
CHOSEN, OTHERS = "asl-letters", "asl-hg"


class Upright:
    """The baseline: logistic regression on upright landmarks, without jitter."""

    def fit(self, table, chosen, landmarks=None):
        rows = chosen & train.hands(table) & (table.kind == "found")
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


def folds(table):
    """Returns each row's part: a fifth of asl-letters by photo, a signer of asl-hg, a half of any other set."""
    def fold(kind, group):
        if kind == CHOSEN:
            return f"photos {part_of(group, 5)}"
        return group if kind == OTHERS else f"half {part_of(group, 2)}"
    pairs = list(zip(table.set.tolist(), table.group.tolist()))
    known = {pair: fold(*pair) for pair in set(pairs)}
    return np.array([known[pair] for pair in pairs])


class Looks:
    """The classifier's answers for held-out photos: for the hand that was found, and for a second look at it."""

    def __init__(self):
        self.data = {}

    def put(self, name, table, model, rows):
        values = {"y": table.y()[rows], "logits": model.logits(table.x[rows]), "doubt": model.doubt(table.x[rows]),
                  "presence": table.presence[rows], "mirrored": table.mirrored[rows], "group": table.group[rows]}
        parts = self.data.setdefault(name, {part: [] for part in values})
        for part, value in values.items():
            parts[part].append(value)

    def add(self, table, model, rows):
        first, second = (np.flatnonzero(rows & (table.kind == kind)) for kind in ("found", "refined"))
        assert (table.photo[first] == table.photo[second]).all()
        self.put("first", table, model, first)
        self.put("second", table, model, second)

    def done(self):
        for name, parts in self.data.items():
            parts = {part: np.concatenate(values) for part, values in parts.items()}
            setattr(self, name, argparse.Namespace(**parts))
        return self


def refused(look, presence=None, limit=None):
    """Returns a mask of the hands that are answered with null."""
    presence, limit = presence or PRESENCE, limit or NO_HAND_LIMIT
    return (look.presence < presence) | (train.sigmoid(look.doubt) >= limit)


def protocols(table, fold):
    """Returns the protocols: by name, the held-out set and pairs of masks (rows to train on, rows held out)."""
    letters, signers = table.set == CHOSEN, table.set == OTHERS
    rest = ~letters & ~signers
    everything = [(~(fold == part) | ~mask, mask & (fold == part), mask)
                  for mask in (letters, signers) for part in sorted(set(fold[mask]))]
    five = [item[:2] for item in everything if item[2] is letters]
    signer = [item[:2] for item in everything if item[2] is signers]
    return {
        "asl-letters, 5 parts by source photo; trained on all else": (CHOSEN, five),
        "asl-letters, 5 parts by source photo; trained on asl-letters": (CHOSEN, [(a & ~signers, b) for a, b in five]),
        "asl-hg, signer by signer; trained on all else": (OTHERS, signer),
        "asl-hg, signer by signer; trained on asl-hg": (OTHERS, [(a & ~letters, b) for a, b in signer]),
        "asl-hg; trained on asl-letters": (OTHERS, [(letters | rest, signers)]),
        "asl-letters; trained on asl-hg": (CHOSEN, [(signers | rest, letters)]),
    }


def held_out(table, make, items, landmarks):
    looks = Looks()
    for chosen, rows in items:
        looks.add(table, make().fit(table, chosen, landmarks), rows)
    return looks.done()


def share(part, whole):
    return f"{100 * part / whole:5.1f}" if whole else "    –"


def accuracy(photos, look, guess, null):
    """Returns the percent right of the still letters, of J and Z, and of all; then the number right by letter.

    A miss and a null count as wrong. `photos` has the number of photos of each letter.
    """
    right = np.bincount(look.y[(guess == look.y) & ~null], minlength=len(LETTERS))
    moving = np.isin(np.arange(len(LETTERS)), MOVING)
    return [share(right[mask].sum(), photos[mask].sum()) for mask in (~moving, moving, moving | ~moving)], right


def calibration_error(probabilities, y, bins=15):
    confidence, right = probabilities.max(1), probabilities.argmax(1) == y
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    return sum(abs(right[at == b].mean() - confidence[at == b].mean()) * (at == b).mean() for b in range(bins) if (at == b).any())


def likelihood(logits, y, temperature):
    return np.log(train.softmax(logits / temperature)[np.arange(len(y)), y] + 1e-12).mean()


def pictures(table, rows):
    """Returns the rows of each no-hand picture by its name, in the order of the service's attempts."""
    result = {}
    for row in np.flatnonzero(rows):
        result.setdefault(table.photo[row], []).append(row)
    return result


def taken(table, doubt, rows, presence, limit):
    """Returns True if the service takes something in this picture for a hand.

    The search takes the first candidate with `STOP_PRESENCE`, else the one with the highest presence.
    """
    chosen = rows[0]
    for row in rows:
        if table.presence[row] > table.presence[chosen]:
            chosen = row
        if table.presence[chosen] >= STOP_PRESENCE:
            break
    return table.presence[chosen] >= presence and doubt[chosen] < limit


def no_hand_halves(table, fold, size):
    """Yields the rows of the sets without letters in two halves, each with a classifier trained on all else."""
    for half in ("half 0", "half 1"):
        out = ~np.isin(table.set, [CHOSEN, OTHERS]) & (fold == half)
        yield out, train.Letters(size, letters=[]).fit(table, ~out)


def today(table, fold, landmarks, size, dump):
    """Prints the answers for a dump of the component's search and operators, beside those for the table.

    The classifiers are trained on the table without the hands in question.
    """
    new = tables.read_dump(dump)
    print("# In the sandbox: percent right; a miss and a null count as wrong\n")
    print("| held out; trained on | photos | the table | the component | J, Z too: the table | the component | the same answer | null: the table | the component |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (kind, items) in protocols(table, fold).items():
        if not name.endswith("all else"):
            continue
        answers = {}
        for chosen, rows in items:
            model = train.Letters(size).fit(table, chosen, landmarks)
            out = rows & (table.kind == "found")
            known = set(table.photo[out])
            same = (new.set == kind) & (new.kind == "found") & np.array([photo in known for photo in new.photo])
            for which, (rows_of, mask) in enumerate([(table, out), (new, same)]):
                look = argparse.Namespace(presence=rows_of.presence[mask], doubt=model.doubt(rows_of.x[mask]))
                guess = np.where(refused(look), -1, model.logits(rows_of.x[mask]).argmax(1))
                for photo, y, letter in zip(rows_of.photo[mask], rows_of.y()[mask], guess):
                    answers.setdefault((photo, y), [-1, -1])[which] = letter
        y = np.array([y for _, y in answers])
        both = np.array(list(answers.values()))
        still = ~np.isin(y, MOVING)
        cells = [share((both[mask, which] == y[mask]).sum(), mask.sum()) for mask in (still, still | ~still) for which in (0, 1)]
        null = [f"{(both[:, which] < 0).sum()}" for which in (0, 1)]
        print(f"| {name} | {len(y)} | {' | '.join(cells)} | {share((both[:, 0] == both[:, 1]).sum(), len(y))} | {' | '.join(null)} |", flush=True)
    taken_for_hands = [0, 0]
    for out, model in no_hand_halves(table, fold, size):
        known = set(table.photo[out & (table.set == "no-hand")])
        for which, rows_of in enumerate((table, new)):
            doubt = train.sigmoid(model.doubt(rows_of.x))
            groups = pictures(rows_of, rows_of.set == "no-hand")
            taken_for_hands[which] += sum(
                taken(rows_of, doubt, rows, PRESENCE, NO_HAND_LIMIT) for photo, rows in groups.items() if photo in known)
    pictures_of = len(set(new.photo[new.set == "no-hand"]))
    print(f"\nno-hand pictures with a letter, of {pictures_of}: the table {taken_for_hands[0]}, the component {taken_for_hands[1]}")
    for name in (CHOSEN, OTHERS):
        rows = (new.set == name) & (new.kind == "found")
        print(f"{name}: one pass of palm detection is enough for {share((new.palm_passes[rows] == 1).sum(), rows.sum())} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", default="full", help="the landmark model: full or lite")
    parser.add_argument("--table", help="a table of features (default: training/SIZE.npz)")
    parser.add_argument("--quick", action="store_true", help="leave out the no-hand tables")
    parser.add_argument("--tried", action="store_true", help="add the classifier trained without ASLNow!")
    parser.add_argument("--today", help="a dump of `cargo xtask features --found`: print the component's answers for it alone")
    arguments = parser.parse_args()
    table = tables.load(arguments.table or tables.HERE / f"training/{arguments.size}.npz")
    landmarks = tables.load_landmarks()
    fold = folds(table)
    if arguments.today:
        today(table, fold, landmarks, arguments.size, arguments.today)
        return
    temperature = train.TEMPERATURE[arguments.size]

    print(f"# Accuracy, percent, {arguments.size} landmark model; a miss and a null count as wrong\n")
    print("| held out; trained on | classifier | A–Z without J, Z | J, Z | all | second look: all |")
    print("|---|---|---|---|---|---|")
    kept = {}
    number = {kind: np.bincount(
        np.concatenate([table.y()[(table.set == kind) & (table.kind == "found")],
                        [LETTERS.index(label) for name, label, _ in table.missed if name == kind]]).astype(int),
        minlength=len(LETTERS)) for kind in (CHOSEN, OTHERS)}
    for name, (kind, items) in protocols(table, fold).items():
        rows = [("baseline", Upright, None), ("this", lambda: train.Letters(arguments.size), landmarks)]
        if arguments.tried:
            rows.insert(1, ("without ASLNow!", rows[1][1], None))
        for classifier, make, more in rows:
            looks = held_out(table, make, items, more)
            first, second = (train.softmax(look.logits / temperature) for look in (looks.first, looks.second))
            null = refused(looks.first)
            cells, right = accuracy(number[kind], looks.first, first.argmax(1), null)
            again = accuracy(number[kind], looks.first, second.argmax(1), null)[0][2]
            print(f"| {name} | {classifier} | {' | '.join(cells)} | {again} |", flush=True)
            if classifier == "this":
                kept[name] = looks.first, right, first, number[kind]
    names = list(kept)
    photos, signers = names[0], names[2]

    print("\n# By letter: percent right, held out by source photo and by signer, trained on all else\n")
    print("| letter | asl-letters | asl-hg | most often taken for |\n|---|---|---|---|")
    for index, letter in enumerate(LETTERS):
        cells, wrong = [], {}
        for name in (photos, signers):
            look, right, guesses, total = kept[name]
            cells.append(share(right[index], total[index]))
            for guess in guesses[look.y == index].argmax(1):
                if guess != index:
                    wrong[guess] = wrong.get(guess, 0) + 1
        most = sorted(wrong.items(), key=lambda item: -item[1])[:3]
        print(f"| {letter} | {' | '.join(cells)} | {', '.join(f'{LETTERS[g]} ({n})' for g, n in most)} |")

    print("\n# By presence and by hand: asl-letters, percent right\n")
    look, _, guesses, _ = kept[photos]
    right = guesses.argmax(1) == look.y
    print("| presence | photos | right |\n|---|---|---|")
    for low, high in [(0, 0.2), (0.2, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 0.98), (0.98, 1.01)]:
        mask = (look.presence >= low) & (look.presence < high)
        print(f"| {low}–{min(high, 1)} | {mask.sum()} | {share(right[mask].sum(), mask.sum())} |")
    for name, mask in [("right hands", ~look.mirrored), ("left hands", look.mirrored)]:
        print(f"| {name} | {mask.sum()} | {share(right[mask].sum(), mask.sum())} |")

    print("\n# By signer: asl-hg, percent right\n")
    look, _, guesses, _ = kept[signers]
    right = guesses.argmax(1) == look.y
    print(", ".join(f"{signer} {share(right[look.group == signer].sum(), (look.group == signer).sum()).strip()}"
                    for signer in sorted(set(look.group))))

    print("\n# Calibration: answers that are not null\n")
    use = {name: ~refused(kept[name][0]) for name in names}
    logits, y = (np.concatenate([getattr(kept[name][0], what)[use[name]] for name in (photos, signers)]) for what in ("logits", "y"))
    print("| held out | best temperature | calibration error, 15 bins | mean confidence | right |\n|---|---|---|---|---|")
    for name in [*names, "asl-letters and asl-hg, trained on all else"]:
        if name in kept:
            logits1, y1 = kept[name][0].logits[use[name]], kept[name][0].y[use[name]]
        else:
            logits1, y1 = logits, y
        best = minimize_scalar(lambda t: -likelihood(logits1, y1, t), bounds=(0.2, 5), method="bounded").x
        p = train.softmax(logits1 / temperature)
        print(f"| {name} | {best:.2f} | {calibration_error(p, y1):.3f} | {p.max(1).mean():.3f} | {(p.argmax(1) == y1).mean():.3f} |")
    print(f"\nTemperature in use: {temperature}.")

    if arguments.quick:
        return
    print("\n# No hand\n")
    doubt = np.full(len(table), np.nan)
    nothing, digits = table.set == "no-hand", table.set == "asl-digits"
    for out, model in no_hand_halves(table, fold, arguments.size):
        doubt[out] = train.sigmoid(model.doubt(table.x[out]))
    groups = pictures(table, nothing)
    ours = {name: (train.sigmoid(kept[name][0].doubt), kept[name][0].presence,
                   kept[name][2].argmax(1) == kept[name][0].y) for name in (photos, signers)}
    found = digits & (table.kind == "found")
    ours["asl-digits"] = doubt[found], table.presence[found], np.ones(found.sum(), bool)
    print("Percent. `no-hand`: pictures without a hand that get a letter. The other columns: hands that are answered with "
          "null, of those found / of those that are otherwise answered right.\n")
    print("| presence | threshold of P(-) | no-hand | asl-letters | asl-hg | asl-digits |")
    print("|---|---|---|---|---|---|")
    for presence in (0.3, 0.7, 0.9):
        for limit in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.01):
            wrong = sum(taken(table, doubt, rows, presence, limit) for rows in groups.values())
            lost = []
            for d, p, right in ours.values():
                null = (d >= limit) | (p < presence)
                lost.append(f"{share(null.sum(), len(d))} / {share((null & right).sum(), right.sum())}")
            print(f"| {presence} | {limit if limit < 1 else 'none'} | {' | '.join([share(wrong, len(groups)), *lost])} |")


if __name__ == "__main__":
    main()
