#!/usr/bin/env python3
"""Trains the letter classifier from the table of features and writes it as ONNX.

    pip install -r models/requirements-train.txt
    python models/train.py              # letters_full.onnx, letters_lite.onnx, letters.txt
    python models/train.py full         # letters_full.onnx and letters.txt alone
    python models/train.py --with feedback.jsonl        # learns from corrections, too

FILE of --with is what `GET /feedback/export` of the service gives (docs/feedback.md). The model card (README.md) describes the classifier and its accuracy. evaluate.py prints the figures.
"""

import os

# One thread, so that every run adds the same sums in the same order.
for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ.setdefault(variable, "1")

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import minimize

import table as tables
from table import GEOMETRY, HERE, LANDMARKS, LETTERS, NO_HAND

OPSET = 13
IR_VERSION = 7
# Divisor of the letters' logits, calibrated on held-out photos and signers (evaluate.py prints the best value).
TEMPERATURE = {"full": 0.72, "lite": 0.75}
# Added to the logit of "no hand", so that NO_HAND_LIMIT of crates/vision/src/letter.rs, 0.5, balances the errors best.
# A probability of 0.1 becomes 0.5.
NO_HAND_SHIFT = {"full": 1.0, "lite": 2.2}

# A correction counts as so many hands of the tables, where a letter has some 1,700.
CORRECTION_WEIGHT = 20

PAIRS = np.array([(i, j) for i in range(21) for j in range(i)])
EPSILON = 1e-4  # keeps the square root of a distance away from 0


def differences(axis):
    """Returns the matrix from the 63 landmark coordinates to the differences of all pairs on one axis."""
    matrix = np.zeros((LANDMARKS, len(PAIRS)), np.float32)
    columns = np.arange(len(PAIRS))
    matrix[3 * PAIRS[:, 0] + axis, columns] = 1
    matrix[3 * PAIRS[:, 1] + axis, columns] = -1
    return matrix


ACROSS, DOWN = differences(0), differences(1)


def distances(x):
    """Returns the distances in the picture between all pairs of landmarks, in palm lengths."""
    landmarks = x[:, :LANDMARKS]
    return np.sqrt((landmarks @ ACROSS) ** 2 + (landmarks @ DOWN) ** 2 + np.float32(EPSILON))


def arrange(x):
    """Returns the columns in the classifier's own order: landmarks, directions, distances, pooled features."""
    return np.concatenate([x[:, :GEOMETRY], distances(x), x[:, GEOMETRY:]], 1)


SHAPE = GEOMETRY + len(PAIRS)  # the columns that come from the landmarks alone
DEPTHS = np.arange(2, LANDMARKS, 3)  # the columns with a depth


def geometry(points):
    """Returns the 75 geometric columns of crates/vision/src/letter.rs for right hands' landmarks [n, 21, 3]."""
    points = points.astype(np.float64)
    wrist = points[:, :1]
    palm = points[:, 9, :2] - wrist[:, 0, :2]
    length = np.maximum(np.hypot(palm[:, 0], palm[:, 1]), 1e-9)
    px, py = (palm / length[:, None]).T
    x, y, z = np.moveaxis((points - wrist) / length[:, None, None], 2, 0)
    upright = np.stack([px[:, None] * y - py[:, None] * x, -px[:, None] * x - py[:, None] * y, z], 2)
    parts = [upright.reshape(len(points), LANDMARKS), np.stack([px, py], 1)]
    for base, tip in [(1, 4), (5, 8), (9, 12), (13, 16), (17, 20)]:
        way = points[:, tip, :2] - points[:, base, :2]
        parts.append(way / np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-9)[:, None])
    return np.clip(np.concatenate(parts, 1), -10, 10).astype(np.float32)


def photo_points(x):
    """Returns the landmarks [n, 21, 3] as in the photo, in palm lengths, from the geometric columns."""
    u, v, z = np.moveaxis(x[:, :LANDMARKS].reshape(-1, 21, 3), 2, 0)
    px, py = x[:, LANDMARKS, None], x[:, LANDMARKS + 1, None]
    return np.stack([-py * u - px * v, px * u - py * v, z], 2)


def turned(x, random, sideways=0.3, nodding=0.3, rolling=0.18):
    """Returns the geometric columns of the hands as seen from elsewhere: rotated in space at random.

    `sideways`, `nodding` and `rolling` are standard deviations in radians.
    """
    points = photo_points(x).astype(np.float64)
    angles = [random.standard_normal((len(x), 1)) * spread for spread in (sideways, nodding, rolling)]
    (ca, sa), (cb, sb), (cc, sc) = [(np.cos(angle), np.sin(angle)) for angle in angles]
    px, py, pz = np.moveaxis(points, 2, 0)
    px, pz = ca * px + sa * pz, ca * pz - sa * px
    py, pz = cb * py + sb * pz, cb * pz - sb * py
    px, py = cc * px - sc * py, sc * px + cc * py
    return geometry(np.stack([px, py, pz], 2))


# Letters that are one handshape in two directions: hands of the first, turned, show the second. A D that points aside
# is a G, seen from the back; turned up, a G is no D.
PARTNERS = [("G", "Q"), ("Q", "G"), ("K", "P"), ("P", "K"), ("U", "H"), ("H", "U"), ("D", "G")]
# Hands of the first letter that are added as the second, as a share of its own. Measured: "Classifiers" in the model
# card (README.md).
PARTNER_SHARE = 0.2
# Letters that strangers show towards the camera or from its side more than the tables do. All their hands with depth
# are there once more, as seen from far aside.
ASIDE = "GMNPX"
INDEX_FINGER = slice(LANDMARKS + 4, LANDMARKS + 6)  # the columns with its direction in the photo


def partners(x, numbers, flat, random):
    """Returns hands of PARTNERS' letters, turned in the picture until they show the other letter.

    A G whose index finger points down, as that of a random Q does, is a Q. The tables show some of these letters from
    one side alone; their handshape is in there twice. `flat` is returned for the same hands.
    """
    def angle(rows):
        across, down = x[rows, INDEX_FINGER].T
        return np.arctan2(down, across)

    result = []
    for letter, other in PARTNERS:
        here, there = [np.flatnonzero(numbers == LETTERS.index(name)) for name in (letter, other)]
        count = int(PARTNER_SHARE * len(here)) if len(there) else 0
        hand, model = (random.choice(rows, count) if count else here[:0] for rows in (here, there))
        turn = angle(model) - angle(hand) + random.normal(0, 0.15, count)
        cosine, sine = np.cos(turn)[:, None], np.sin(turn)[:, None]
        px, py, pz = np.moveaxis(photo_points(x[hand]), 2, 0)
        points = np.stack([cosine * px - sine * py, sine * px + cosine * py, pz], 2)
        result.append((geometry(points), np.full(count, LETTERS.index(other)), flat[hand]))
    return [np.concatenate(parts) for parts in zip(*result)]


def from_aside(x, numbers, flat, random):
    """Returns the hands of ASIDE's letters as seen from far aside. Hands without depth are left out."""
    rows = np.flatnonzero(np.isin(numbers, [LETTERS.index(letter) for letter in ASIDE]) & ~flat)
    return turned(x[rows], random, sideways=1.0, nodding=0.4), numbers[rows], flat[rows]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-np.clip(z, -60, 60)))


def one_hot(y, classes):
    result = np.zeros((len(y), classes), np.float32)
    result[np.arange(len(y)), y] = 1
    return result


class Scaler:
    """Standardisation. Columns that are (almost) constant become 0."""

    DEAD = 1e-3
    FLOOR = 0.01

    def __init__(self, x):
        self.mean = x.mean(0, dtype=np.float64).astype(np.float32)
        deviation = x.std(0, dtype=np.float64)
        factor = np.where(deviation > self.DEAD, 1 / (deviation + self.FLOOR), 0)
        self.factor = factor.astype(np.float32)

    def __call__(self, x):
        return (x - self.mean) * self.factor


class Regression:
    """Multinomial logistic regression, trained with L-BFGS."""

    def __init__(self, c=0.02, iterations=150):
        self.c, self.iterations = c, iterations

    def fit(self, z, targets, weight):
        n, columns = z.shape
        classes = targets.shape[1]
        size = columns * classes

        def loss(parameters):
            matrix = parameters[:size].reshape(columns, classes).astype(np.float32)
            logits = z @ matrix + parameters[size:].astype(np.float32)
            logits -= logits.max(1, keepdims=True)
            e = np.exp(logits)
            total = e.sum(1, keepdims=True)
            likelihood = ((logits - np.log(total)) * targets).sum(1) @ weight.astype(np.float64)
            rest = (e / total - targets) * weight[:, None]
            gradient = (z.T @ rest).astype(np.float64).ravel() + parameters[:size] / self.c
            value = -likelihood + (parameters[:size] ** 2).sum() / (2 * self.c)
            return value / n, np.concatenate([gradient, rest.sum(0, dtype=np.float64)]) / n

        start = np.zeros(size + classes)
        options = {"maxiter": self.iterations, "ftol": 1e-7, "gtol": 1e-6}
        best = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
        self.matrix = best[:size].reshape(columns, classes).astype(np.float32)
        self.bias = best[size:].astype(np.float32)
        return self

    def logits(self, x):
        return x @ self.matrix + self.bias


class Network:
    """One hidden layer beside a linear path, trained with dropout and Adam."""

    def __init__(self, hidden=256, epochs=8, dropout=(0.3, 0.5), smoothing=0.05, decay=1e-3, seed=0):
        self.hidden, self.epochs, self.dropout = hidden, epochs, dropout
        self.smoothing, self.decay, self.seed = smoothing, decay, seed

    def fit(self, z, targets, weight, batch=128, rate=1e-3):
        random = np.random.default_rng(self.seed)
        n, columns = z.shape
        classes = targets.shape[1]
        weight = (weight / weight.mean()).astype(np.float32)
        targets = targets * (1 - self.smoothing) + np.float32(self.smoothing / classes)

        def normal(rows, width, variance):
            return random.standard_normal((rows, width), np.float32) * np.float32(np.sqrt(variance))

        def keep(shape, share):
            return (random.random(shape, np.float32) > share) / np.float32(1 - share)

        first, second = normal(columns, self.hidden, 2 / columns), normal(self.hidden, classes, 1 / self.hidden)
        linear = np.zeros((columns, classes), np.float32)
        parameters = [first, np.zeros(self.hidden, np.float32), second, np.zeros(classes, np.float32), linear]
        mean = [np.zeros_like(p) for p in parameters]
        square = [np.zeros_like(p) for p in parameters]
        step, steps = 0, self.epochs * (n // batch)
        for _ in range(self.epochs):
            order = random.permutation(n)
            for i in range(n // batch):
                chosen = order[i * batch : (i + 1) * batch]
                seen = z[chosen]
                seen = seen * keep(seen.shape, self.dropout[0])
                before = seen @ parameters[0] + parameters[1]
                kept = keep(before.shape, self.dropout[1])
                inner = np.maximum(before, 0) * kept
                logits = inner @ parameters[2] + parameters[3] + seen @ parameters[4]
                error = (softmax(logits) - targets[chosen]) * weight[chosen][:, None] / batch
                back = (error @ parameters[2].T) * kept * (before > 0)
                gradients = [seen.T @ back, back.sum(0), inner.T @ error, error.sum(0), seen.T @ error]
                step += 1
                speed = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
                for p, m, s, gradient in zip(parameters, mean, square, gradients):
                    m *= 0.9
                    m += 0.1 * gradient
                    s *= 0.999
                    s += 0.001 * gradient * gradient
                    update = m / (1 - 0.9**step) / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
                    if p.ndim == 2:
                        update = update + self.decay * p
                    p -= (speed * update).astype(np.float32)
        self.first = parameters[0], parameters[1]
        self.linear = parameters[4], parameters[3]
        self.second = parameters[2]
        return self

    def logits(self, x):
        inner = np.maximum(x @ self.first[0] + self.first[1], 0)
        return inner @ self.second + x @ self.linear[0] + self.linear[1]


def any_hands(table):
    """Returns a mask of the rows that show a hand, with or without a letter."""
    return table.kind != "nothing"


def hands(table):
    """Returns a mask of the rows that show a letter."""
    return any_hands(table) & np.isin(table.label, LETTERS)


def networks():
    """Returns the untrained networks of the shipped classifier."""
    return [
        Network(hidden=256, epochs=4, dropout=(0.2, 0.5), seed=1),
        Network(hidden=512, epochs=6, dropout=(0.15, 0.5), seed=2),
    ]


class Letters:
    """The whole classifier: the letters, and no hand."""

    def __init__(self, size="full", letters=None, no_hand=None):
        self.temperature, self.shift = TEMPERATURE[size], NO_HAND_SHIFT[size]
        self.networks = letters if letters is not None else networks()
        self.no_hand = no_hand or Regression(0.02, 80)

    def fit(self, table, chosen, landmarks=None):
        """Trains on the rows of a mask, and on landmarks alone (a `table.Landmarks`).

        The letters see only what comes from the landmarks. Pooled features tell signers and rooms apart as well as
        letters: with them, fewer letters of strangers are right.
        """
        letter = chosen & hands(table)
        rows, numbers, flat = table.x[letter], table.y()[letter], np.zeros(letter.sum(), bool)
        self.scaler = Scaler(arrange(rows))
        rows = rows[:, :GEOMETRY]
        if landmarks is not None:
            rows = np.concatenate([rows, landmarks.x])
            numbers, flat = np.concatenate([numbers, landmarks.y]), np.concatenate([flat, landmarks.flat])
        for number, network in enumerate(self.networks):
            random = np.random.default_rng(number)
            more = [make(rows, numbers, flat, random) for make in (partners, from_aside)]
            x, y, without_depth = [np.concatenate(parts) for parts in zip((rows, numbers, flat), *more)]
            z = self.seen(arrange(np.concatenate([x, turned(x, random)])))
            z[np.ix_(np.tile(without_depth, 2), DEPTHS)] = 0  # the mean
            network.fit(z, one_hot(np.tile(y, 2), len(LETTERS)), np.ones(len(z), np.float32))
        nothing = chosen & ~any_hands(table)
        if nothing.any():
            targets = one_hot(nothing[chosen].astype(int), 2)
            weight = np.where(nothing[chosen], (chosen & ~nothing).sum() / nothing.sum(), 1).astype(np.float32)
            self.no_hand.fit(self.scaler(arrange(table.x[chosen])), targets, weight)
        else:
            self.no_hand = None
        return self

    def seen(self, columns):
        """Returns what the letters' networks see of the arranged columns."""
        return (columns[:, :SHAPE] - self.scaler.mean[:SHAPE]) * self.scaler.factor[:SHAPE]

    def logits(self, x):
        z = self.seen(arrange(x))
        return sum(network.logits(z) for network in self.networks) / len(self.networks)

    def doubt(self, x):
        """Returns the logit of no hand."""
        if self.no_hand is None:
            return np.full(len(x), -60.0)
        two = self.no_hand.logits(self.scaler(arrange(x)))
        return two[:, 1] - two[:, 0] + self.shift

    def predict(self, x):
        """Returns the probabilities of the letters, and of no hand."""
        return softmax(self.logits(x) / self.temperature), sigmoid(self.doubt(x))


def to_onnx(model, columns):
    """Returns the classifier as ONNX: from `features` [1, columns] to `probabilities` [1, 27]."""
    nodes, weights = [], []

    def constant(name, value, small=True):
        value = np.asarray(value)
        if value.dtype == np.float32 and small and value.size >= 256:
            weights.append(numpy_helper.from_array(value.astype(np.float16), name + "_16"))
            nodes.append(helper.make_node("Cast", [name + "_16"], [name], name, to=TensorProto.FLOAT))
        else:
            weights.append(numpy_helper.from_array(value, name))
        return name

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def linear(x, matrix, bias, name):
        return node("Add", [node("MatMul", [x, constant(name + "_w", matrix)], name + "_m"),
                            constant(name + "_b", bias[None].astype(np.float32))], name)

    def regression(x, part, name):
        return linear(x, part.matrix, part.bias, name)

    def network(x, part, name):
        inner = node("Relu", [linear(x, *part.first, name + "_inner")], name + "_relu")
        second = node("MatMul", [inner, constant(name + "_second", part.second)], name + "_deep")
        return node("Add", [second, linear(x, *part.linear, name + "_flat")], name)

    axis = constant("axis", np.array([1], np.int64))

    def piece(x, begin, end, name):
        ends = [constant(f"{name}_{word}", np.array([value], np.int64)) for word, value in
                [("begin", begin), ("end", end)]]
        return node("Slice", [x, *ends, axis], name)

    points = piece("features", 0, LANDMARKS, "points")
    squares = []
    for name, matrix in [("across", ACROSS), ("down", DOWN)]:
        difference = node("MatMul", [points, constant(name + "_w", matrix)], name)
        squares.append(node("Mul", [difference, difference], name + "_squared"))
    total = node("Add", squares, "squared")
    total = node("Add", [total, constant("epsilon", np.array([[EPSILON]], np.float32))], "squared_not_zero")
    x = [piece("features", 0, GEOMETRY, "geometry"), node("Sqrt", [total], "distances"),
         piece("features", GEOMETRY, columns, "pooled")]
    x = node("Concat", x, "all", axis=1)
    x = node("Sub", [x, constant("mean", model.scaler.mean[None], small=False)], "centred")
    x = node("Mul", [x, constant("factor", model.scaler.factor[None], small=False)], "standardised")
    shape = piece(x, 0, SHAPE, "shape")

    together = None
    for i, part in enumerate(model.networks):
        logits = network(shape, part, f"letters{i}")
        together = logits if together is None else node("Add", [together, logits], f"together{i}")
    share = constant("share", np.array([[1 / (len(model.networks) * model.temperature)]], np.float32))
    together = node("Mul", [together, share], "scaled")
    letters = node("Softmax", [together], "letters", axis=1)

    # A softmax of two logits is the sigmoid of their difference.
    apart = constant("apart", np.array([[-1.0], [1.0]], np.float32))
    shift = constant("shift", np.array([[model.shift]], np.float32))
    nothing = node("MatMul", [regression(x, model.no_hand, "hand_or_not"), apart], "difference")
    nothing = node("Sigmoid", [node("Add", [nothing, shift], "difference_shifted")], "no_hand")
    hand = node("Sub", [constant("one", np.array([[1.0]], np.float32)), nothing], "hand")
    node("Concat", [node("Mul", [letters, hand], "letters_of_hand"), nothing], "probabilities", axis=1)

    graph = helper.make_graph(
        nodes, "letters",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, columns])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, len(LETTERS) + 1])],
        weights,
    )
    result = helper.make_model(graph, producer_name="models/train.py",
                               opset_imports=[helper.make_opsetid("", OPSET)])
    result.ir_version = IR_VERSION
    onnx.checker.check_model(result)
    return result.SerializeToString()


def run_onnx(data, x):
    """Returns the ONNX model's probabilities for rows."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"features": row[None].astype(np.float32)})[0][0] for row in x]
    return np.array(rows)


def atomically(path, data):
    """Writes a file atomically."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def corrections(path):
    """Reads an export of the service's corrections: a `table.Landmarks` of right hands.

    Landmarks are fractions of the photo's sides; x and z are relative to its width, so `aspect` makes them square.
    """
    points, labels = [], []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            hand, aspect = row["hand"], float(row["aspect"])
            landmarks = np.array(hand["landmarks"], np.float64).reshape(21, 3)
            side = {"Right": 1, "Left": -1}[hand["handedness"]]
            label = LETTERS.index(row["label"])
        except (KeyError, TypeError, ValueError) as error:
            sys.exit(f"error: cannot read line {number} of {path}: {error!r}; expected a line of GET /feedback/export")
        points.append(landmarks * [side * aspect, 1, aspect])
        labels.append(label)
    if not points:
        sys.exit(f"error: {path} holds no correction")
    count = len(points)
    return tables.Landmarks(geometry(np.array(points)), np.array(labels), np.full(count, "corrections"),
                            np.zeros(count, bool))


def weighted(landmarks, more, weight):
    """Returns landmarks with further ones, each of which is there `weight` times. Training turns each otherwise."""
    def both(name):
        return np.concatenate([getattr(landmarks, name), np.repeat(getattr(more, name), weight, axis=0)])

    return tables.Landmarks(both("x"), both("y"), both("table"), both("flat"))


def right(model, landmarks):
    """Returns how many hands get their letter. What comes from landmarks alone is all that the letters see."""
    columns = len(model.scaler.mean) - len(PAIRS)
    x = np.zeros((len(landmarks.x), columns), np.float32)
    x[:, :GEOMETRY] = landmarks.x
    return int((model.logits(x).argmax(1) == landmarks.y).sum())


def at_least_one(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="*", default=["full", "lite"],
                        help="the landmark model: full or lite (default: both)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    parser.add_argument("--with", dest="corrections", metavar="FILE", type=Path,
                        help="an export of corrections to learn from, too")
    parser.add_argument("--weight", type=at_least_one, default=CORRECTION_WEIGHT, metavar="N",
                        help="a correction counts as N hands of the tables (default: %(default)s)")
    arguments = parser.parse_args()
    landmarks, more = tables.load_landmarks(), None
    if arguments.corrections:
        more = corrections(arguments.corrections)
        landmarks = weighted(landmarks, more, arguments.weight)
    for size in arguments.size:
        table = tables.load(HERE / f"training/{size}.npz")
        model = Letters(size).fit(table, np.ones(len(table), bool), landmarks)
        if more is not None:
            print(f"letters_{size}.onnx: {right(model, more)} of {len(more.x)} corrections are answered right")
        data = to_onnx(model, table.x.shape[1])
        sample = table.x[:: max(1, len(table) // 500)]
        letters, nothing = model.predict(sample)
        expected = np.concatenate([letters * (1 - nothing[:, None]), nothing[:, None]], 1)
        difference = np.abs(run_onnx(data, sample) - expected).max()
        if difference > 0.02:
            sys.exit(f"error: cannot write letters_{size}.onnx: it differs from the Python model by {difference:.3f}, "
                     "expected 0.02 at most")
        atomically(arguments.output / f"letters_{size}.onnx", data)
        atomically(arguments.output / "letters.txt", "".join(f"{label}\n" for label in [*LETTERS, NO_HAND]).encode())
        print(f"letters_{size}.onnx: {len(data)} bytes from {len(table)} rows; "
              f"differs from the Python model by {difference:.4f} at most")


if __name__ == "__main__":
    main()
