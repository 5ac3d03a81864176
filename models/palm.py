#!/usr/bin/env python3
"""Fine-tunes MediaPipe's lite palm detection on hands that sign letters, near, far and before anything.

    pip install -r models/requirements-palm.txt
    cargo xtask features --data DATA --output dumps/full --landmarks full
    python models/palm.py dumps/full --data DATA --minutes 36      # palm_detection_tuned.onnx; two cores
    python models/palm.py dumps/full --data DATA --evaluate        # prints what each model finds

DATA is the folder that pack.py reads. The hands are those that the dump's best looks show; where their landmarks lie
says where the palm is. Every training picture is made anew: a photo turned and scaled, or hands cut out and put before
other pictures at any size, with their colours changed, or no hand at all. What is held out (`held_out`) is never seen:
whole sources, a fifth of the source photos, signers, and half of the pictures without a hand.

The graph stays as it is, so that every program that runs MediaPipe's model runs this one.
"""

import argparse
import copy
import csv
import math
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import onnx
import torch
import torch.multiprocessing
from onnx import helper, numpy_helper
from torch import distributed
from torch.nn import functional

import table as tables
import train
from pack import overlap

HERE = tables.HERE
LITE, TUNED = HERE / "palm_detection_lite.onnx", HERE / "palm_detection_tuned.onnx"
# The sides that are trained, and how often the larger one is. Weights serve any side, so the service and the
# evaluation take others: what counts is the hands' size in pixels.
SIDES, SHARE_OF_192 = (128, 192), 0.55
EVALUATED = (96, 192, 256)
# The landmarks at the model's seven keypoints: wrist; bases of index, middle, ring and little finger; thumb.
KEYPOINTS = [0, 5, 9, 13, 17, 1, 2]
# The grids of the model: stride in pixels, anchors of a cell (LAYERS in crates/vision/src/palm.rs).
LAYERS = ((8, 2), (16, 6))
# Whole sources that training never sees.
UNSEEN = ("asl-webcam", "asl-plain")
# How often a hand of each source is taken.
WEIGHTS = {"asl-letters": 1.0, "asl-hg": 1.0, "asl-crops": 1.2, "asl-digits": 0.5}
# Least presence of a hand that is learned from.
LEAST_PRESENCE = 0.9
# Longest side of the photos in memory.
LONGEST = 640
PROCESSES = 2
BATCH = 16  # pictures of one process
# Largest change of a weight in a step, as a part of its tensor's root mean square: weights differ by a factor of 100.
RATE = 1.5e-3


# --- Photos and their hands -------------------------------------------------------------------------------------------


@dataclass
class Example:
    """A photo and the landmarks of the hands in it."""

    set: str
    photo: str
    label: str
    group: str
    image: np.ndarray
    hands: list = field(default_factory=list)  # [21, 2] each, in pixels
    boxes: list = field(default_factory=list)  # all hands of hands-in-scenes: left, top, width, height
    smaller: list = field(default_factory=list)  # the image and its halves


def find_file(data, name, label, photo):
    """Returns the path of a photo that the dump names."""
    folder = data / name / "train" if name == "asl-letters" else data / name
    parts = photo.split("-", 1)
    places = [folder / photo, folder / label / photo, folder / parts[0] / parts[-1], *folder.glob(f"*/{photo}")]
    return next((path for path in places if path.is_file()), None)


def landmarks_of(dump, row):
    """Returns the landmarks [21, 2] of a look, in pixels of the photo."""
    points = train.photo_points(dump.x[row : row + 1])[0, :, :2].astype(float)
    if dump.right[row] < 0.5:
        points[:, 0] *= -1
    low, high = points.min(0), points.max(0)
    left, top, width, height = dump.box[row]
    return (points - low) * np.mean([width, height] / np.maximum(high - low, 1e-6)) + [left, top]


def read_examples(path, data):
    """Reads the photos of a dump with their hands."""
    dump = tables.read_dump(path)
    rows = {}
    for row, key in enumerate(zip(dump.set.tolist(), dump.photo.tolist(), dump.label.tolist())):
        rows.setdefault(key, []).append(row)
    examples = []
    for (name, photo, label), looks in rows.items():
        file = find_file(data, name, label, photo)
        if file is None:
            raise SystemExit(f"{data} holds no {photo} of {name}")
        example = Example(name, photo, label, dump.group[looks[0]], cv2.imread(str(file))[:, :, ::-1].copy())
        scenes = name == "hands-in-scenes"
        if scenes:
            for item in ElementTree.parse(file.with_suffix(".xml")).iter("bndbox"):
                a, b, c, d = [float(item.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")]
                example.boxes.append((a, b, c - a, d - b))
        refined = [row for row in looks if dump.kind[row] == "refined"]
        candidates = [row for row in looks if dump.kind[row] == "candidate"]
        taken = []
        for row in refined or sorted(candidates, key=lambda row: -dump.presence[row]):
            box = dump.box[row]
            wrong = scenes and not any(overlap(box, other) > 0.25 for other in example.boxes)
            known = any(overlap(box, other) > 0.3 for other in taken)
            if dump.presence[row] < LEAST_PRESENCE or name == "no-hand" or wrong or known or (taken and not scenes):
                continue
            taken.append(box)
            example.hands.append(landmarks_of(dump, row))
        shrink(example)
        examples.append(example)
    return examples


def shrink(example):
    """Makes a photo no larger than LONGEST, and its halves."""
    longest = max(example.image.shape[:2])
    if longest > LONGEST:
        scale = LONGEST / longest
        example.image = cv2.resize(example.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        example.hands = [hand * scale for hand in example.hands]
        example.boxes = [tuple(value * scale for value in box) for box in example.boxes]
    example.smaller = [example.image]
    while max(example.smaller[-1].shape[:2]) > 140:
        half = cv2.resize(example.smaller[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        example.smaller.append(half)


def held_out(example):
    """Whether an example is for evaluation alone."""

    def one_in(count, text):
        return zlib.crc32(text.encode()) % count == 0

    if example.set in UNSEEN:
        return True
    if example.set == "asl-letters":
        return example.group in committed() or one_in(5, example.group)
    if example.set == "asl-hg":
        return "P7" in example.photo[:3] or example.group == "P7"
    if example.set == "asl-crops":
        return "_" not in example.photo or example.photo.split("_")[1] == LAST_SIGNER
    return one_in({"no-hand": 2, "hands-in-scenes": 4}.get(example.set, 5), example.photo)


# The last of the four signers of asl-crops.
LAST_SIGNER = "SNam"


def committed():
    """Returns the source photos of tests/photos."""
    with open(HERE / "../tests/photos/expected.csv") as file:
        return {row["source"].split("-")[0] for row in csv.DictReader(file)}


# --- Pictures to train on ---------------------------------------------------------------------------------------------


def affine(source, target, scale, rotation=0.0, flip=False, shear=0.0):
    """Returns the 2 × 3 matrix that moves the point `source` to `target`, scaled, rotated, flipped and sheared."""
    cosine, sine = math.cos(rotation) * scale, math.sin(rotation) * scale
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ [[1, shear], [0, 1]] @ np.diag([-1 if flip else 1, 1])
    return np.concatenate([matrix, (np.array(target) - matrix @ np.array(source))[:, None]], 1)


def moved(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


def placed(example, matrix, side, smooth, border=cv2.BORDER_CONSTANT):
    """Returns an example's photo in a square, and which of its pixels it covers, 0 to 1."""
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    level = 0
    while smooth and level + 1 < len(example.smaller) and scale * 2 ** (level + 1) <= 1:
        level += 1
    image = example.smaller[level]
    matrix = matrix.copy()
    matrix[:, :2] *= example.image.shape[1] / image.shape[1]
    picture = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)
    return picture, cv2.warpAffine(np.ones(image.shape[:2], np.float32), matrix, (side, side))


def blend(below, above, share):
    return (below * (1 - share[..., None]) + above * share[..., None]).astype(np.uint8)


def recoloured(picture, random):
    """Returns the picture in other light: brighter, darker, of another colour, grey or noisy."""
    x = picture.astype(np.float32)
    if random.random() < 0.8:
        x = 255 * np.clip(x / 255, 0, 1) ** np.exp(random.normal(0, 0.35)) * np.exp(random.normal(0, 0.25))
        x *= np.exp(random.normal(0, 0.1, 3)).astype(np.float32)
    if random.random() < 0.08:
        x *= random.uniform(0.15, 0.5)
    if random.random() < 0.3:
        x = (x - x.mean()) * random.uniform(0.5, 1.4) + x.mean()
    if random.random() < 0.12:
        x = np.repeat(x.mean(2, keepdims=True), 3, 2)
    if random.random() < 0.3:
        x += random.normal(0, random.uniform(1, 14), x.shape)
    return np.clip(x, 0, 255).astype(np.uint8)


class Pictures:
    """Makes pictures for training."""

    def __init__(self, examples, random):
        self.random = random
        self.nothing = [example for example in examples if example.set == "no-hand"]
        self.scenes = [example for example in examples if example.set == "hands-in-scenes"]
        self.hands = [example for example in examples if example.set in WEIGHTS and example.hands]
        weights = np.array([WEIGHTS[example.set] for example in self.hands])
        self.shares = np.cumsum(weights / weights.sum())

    def one_of(self, examples):
        return examples[self.random.integers(len(examples))]

    def hand(self):
        return self.hands[min(np.searchsorted(self.shares, self.random.random()), len(self.hands) - 1)]

    def tilt(self, usual, any_angle):
        """Returns a rotation: small usually, any with a probability."""
        return self.random.normal(0, usual) + self.random.uniform(-math.pi, math.pi) * (self.random.random() < any_angle)

    def background(self, side):
        random, kind = self.random, self.random.random()
        if kind < 0.75:
            example = self.one_of(self.nothing)
            height, width = example.image.shape[:2]
            scale = side / min(height, width) * np.exp(random.uniform(0, 0.9))
            middle = random.uniform(0.2, 0.8) * width, random.uniform(0.2, 0.8) * height
            matrix = affine(middle, (side / 2, side / 2), scale, random.normal(0, 0.1), random.random() < 0.5)
            return placed(example, matrix, side, True, cv2.BORDER_REFLECT_101)[0]
        if kind < 0.9:
            count = random.integers(2, 7)
            colours = random.integers(0, 255, (count, count, 3)).astype(np.uint8)
            way = cv2.INTER_LINEAR if random.random() < 0.6 else cv2.INTER_NEAREST
            return cv2.resize(colours, (side, side), interpolation=way)
        return np.full((side, side, 3), random.integers(0, 255, 3), np.uint8)

    def with_things(self, picture, most):
        """Puts up to `most` − 1 small pictures without a hand into a picture, so that an edge says nothing."""
        side, random = len(picture), self.random
        for _ in range(random.integers(0, most)):
            example = self.one_of(self.nothing)
            height, width = example.image.shape[:2]
            scale = side * np.exp(random.uniform(math.log(0.12), math.log(0.6))) / max(height, width)
            to = random.uniform(0, side), random.uniform(0, side)
            matrix = affine((width / 2, height / 2), to, scale, random.normal(0, 0.15), random.random() < 0.5)
            picture = blend(picture, *placed(example, matrix, side, True))
        return picture

    def photo(self, side):
        """Returns a photo of a hand as it is, a little moved."""
        random, example = self.random, self.hand()
        height, width = example.image.shape[:2]
        scale = side / max(height, width) / (1 + 2 * max(-0.12, random.normal(0.03, 0.1))) * np.exp(random.normal(0, 0.05))
        to = side / 2 + random.normal(0, 0.03, 2) * side
        matrix = affine((width / 2, height / 2), to, scale, self.tilt(0.12, 0.15), random.random() < 0.5, random.normal(0, 0.06))
        return placed(example, matrix, side, random.random() < 0.6)[0], [moved(example.hands[0], matrix)], []

    def composed(self, side):
        """Returns one or two hands of any size before another picture: cut out, with or without an arm, or as a photo."""
        random, hands = self.random, []
        picture = self.with_things(self.background(side), 3)
        for _ in range(1 if random.random() < 0.85 else 2):
            example = self.hand()
            size = np.exp(random.uniform(math.log(0.055), math.log(0.5))) * side
            edge = 0.8 * size
            to = random.uniform(edge, side - edge, 2) if edge < side / 2 else side / 2 + random.normal(0, 0.1, 2) * side
            matrix = affine(example.hands[0].mean(0), to, size / palm_size(example.hands[0]), self.tilt(0.3, 0.1),
                            random.random() < 0.5, random.normal(0, 0.06))
            hand = moved(example.hands[0], matrix)
            if any(math.dist(hand.mean(0), other.mean(0)) < 1.6 * max(palm_size(hand), palm_size(other)) for other in hands):
                continue
            above, share = placed(example, matrix, side, random.random() < 0.7)
            kind = random.random()
            if kind >= 0.3:
                share *= self.outline(hand, side, size, arm=kind < 0.8)
            if random.random() < 0.4:
                above = recoloured(above, random)
            picture = blend(picture, above, share)
            hands.append(hand)
        return picture, hands, []

    def outline(self, hand, side, size, arm):
        """Returns the share of a hand's surroundings in the picture: its hull, extended, with a soft edge."""
        random, points = self.random, hand
        if arm:
            down = hand[0] - hand[9]
            across = 0.3 * np.array([-down[1], down[0]])
            ends = [hand[0] + down * random.uniform(0.8, 2.5) + sign * across for sign in (1, -1)]
            points = np.concatenate([hand, ends])
        share = np.zeros((side, side), np.float32)
        cv2.fillConvexPoly(share, cv2.convexHull(points.astype(np.float32)).astype(np.int32), 1.0)
        margin = max(1, int(size * random.uniform(0.15, 0.5)))
        share = cv2.dilate(share, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1)))
        return cv2.GaussianBlur(share, (0, 0), max(0.6, size * random.uniform(0.02, 0.12)))

    def scene(self, side):
        """Returns a photo of hands-in-scenes, or a part of one. Hands whose landmarks are not known are ignored."""
        random, example = self.random, self.one_of(self.scenes)
        height, width = example.image.shape[:2]
        scale = side / max(height, width) * np.exp(random.uniform(-0.1, 0.9))
        whole = scale * max(height, width) < side * 1.1 or not example.hands
        middle = (width / 2, height / 2) if whole else example.hands[0].mean(0)
        to = side / 2 + random.normal(0, 0.12, 2) * side
        matrix = affine(middle, to, scale, random.normal(0, 0.12), random.random() < 0.5)
        corners = [np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]]) for x, y, w, h in example.boxes]
        ignored = [around(moved(points, matrix)) for points in corners]
        picture = placed(example, matrix, side, random.random() < 0.6)[0]
        return picture, [moved(hand, matrix) for hand in example.hands], ignored

    def without_a_hand(self, side):
        picture = self.with_things(self.background(side), 4)
        if self.random.random() < 0.3:  # the tiles of a photo of a hand, in another order
            tile, count = 16, side // 16
            image = cv2.resize(self.hand().image, (side, side)).reshape(count, tile, count, tile, 3).transpose(0, 2, 1, 3, 4)
            order = self.random.permutation(count * count)
            image = image.reshape(-1, tile, tile, 3)[order].reshape(count, count, tile, tile, 3)
            picture = np.ascontiguousarray(image.transpose(0, 2, 1, 3, 4)).reshape(side, side, 3)
        return picture, [], []

    def next(self, side):
        """Returns a picture, the landmarks of its hands, and boxes (left, top, right, bottom) that are ignored."""
        random, kind = self.random, self.random.random()
        make = next(make for limit, make in [(0.3, self.photo), (0.78, self.composed), (0.88, self.scene),
                                             (1.0, self.without_a_hand)] if kind < limit)
        picture, hands, ignored = make(side)
        ignored = list(ignored)
        if random.random() < 0.35:  # the bars of a photo that is no square
            bar = int(side * (1 - random.choice([0.75, 0.5625])) / 2)
            axis = 1 if random.random() < 0.7 else 0
            for part in (slice(0, bar), slice(side - bar, side)):
                picture[(part, slice(None)) if axis == 1 else (slice(None), part)] = 0
            hidden = [not bar < hand[KEYPOINTS].mean(0)[axis] < side - bar for hand in hands]
        else:
            hidden = [False] * len(hands)
        known = []
        for hand, away in zip(hands, hidden):
            if away or ((hand > 0) & (hand < side)).all(1).mean() <= 0.6:
                ignored.append(around(hand))
            else:
                known.append(hand)
        picture = recoloured(picture, random)
        if random.random() < 0.2:
            picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.4, 1.4))
        return picture, known, ignored

    def batch(self, side, count):
        pictures, hands, ignored = zip(*[self.next(side) for _ in range(count)])
        return np.stack(pictures), [[detection_of(hand) for hand in each] for each in hands], ignored


def around(points):
    return np.concatenate([points.min(0), points.max(0)])


def palm_size(hand):
    keypoints = hand[KEYPOINTS]
    return (keypoints.max(0) - keypoints.min(0)).max()


def detection_of(hand):
    """Returns the detection that the model should make of a hand: x, y, width, height, seven keypoints.

    MediaPipe's box is the square around the keypoints: so say its own detections of 313 photos (median of the ratio
    0.99, of the shift 0.01).
    """
    keypoints = hand[KEYPOINTS]
    middle, size = (keypoints.min(0) + keypoints.max(0)) / 2, palm_size(hand)
    return np.concatenate([middle, [size, size], keypoints.reshape(-1)]).astype(np.float32)


# --- The model --------------------------------------------------------------------------------------------------------


class Network(torch.nn.Module):
    """The model of an ONNX file with trainable weights. It runs the operators of palm detection."""

    def __init__(self, path):
        super().__init__()
        self.model = onnx.load(path)
        graph = self.model.graph
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        half = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
        uses = [name for node in graph.node for name in node.input]
        self.weights, self.source, self.constants = torch.nn.ParameterDict(), {}, {}
        for node in graph.node:
            for name in node.input[1:] if node.op_type in ("Conv", "PRelu") else []:
                source = half.get(name, name)
                value = torch.tensor(stored[source].astype(np.float32))
                if uses.count(name) > 1:  # a shared constant stays
                    self.constants[name] = value
                else:
                    self.source[name] = source
                    self.weights[key_of(source)] = torch.nn.Parameter(value)
        for name, value in stored.items():
            if value.dtype != np.float16 and name not in self.constants:
                self.constants[name] = torch.tensor(np.array(value))
        self.nodes = [node for node in graph.node if node.op_type != "Cast"]
        self.attributes = [{item.name: helper.get_attribute_value(item) for item in node.attribute} for node in self.nodes]
        # The layers before the first pooling stay: they see edges and colours, which are the same everywhere.
        for node in self.nodes:
            if node.op_type == "MaxPool":
                break
            for name in node.input[1:]:
                if name in self.source:
                    self.weight(name).requires_grad_(False)

    def weight(self, name):
        return self.weights[key_of(self.source[name])] if name in self.source else self.constants[name]

    def forward(self, pictures):
        """Returns boxes [n, anchors, 18] and raw scores [n, anchors] for pictures [n, 3, side, side] of 0 to 1."""
        values = {}
        for node, attributes in zip(self.nodes, self.attributes):
            x = values.get(node.input[0])
            match node.op_type:
                case "Transpose":
                    y = pictures if x is None else x.permute(attributes["perm"])
                case "Conv":
                    top, left, bottom, right = attributes.get("pads", [0] * 4)
                    if (top, left) != (bottom, right):
                        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
                    weight, bias = self.weight(node.input[1]), self.weight(node.input[2])
                    y = functional.conv2d(x, weight, bias, attributes["strides"], (top, left), 1, attributes["group"])
                case "PRelu":
                    y = functional.prelu(x, self.weight(node.input[1]).reshape(-1))
                case "Add":
                    y = x + values[node.input[1]]
                case "MaxPool":
                    y = functional.max_pool2d(x, attributes["kernel_shape"], attributes["strides"])
                case "Pad":
                    pads = self.constants[node.input[1]].tolist()
                    y = functional.pad(x, (pads[3], pads[7], pads[2], pads[6], pads[1], pads[5]))
                case "Resize":
                    y = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
                case "Reshape":
                    y = x.reshape(len(x), -1, int(self.constants[node.input[1]][-1]))
                case "Concat":
                    y = torch.cat([values[name] for name in node.input], 1)
                case other:
                    raise ValueError(f"an operator that is not known: {other}")
            values[node.output[0]] = y
        return values["boxes"], values["scores"][:, :, 0]

    def save(self, path):
        """Writes the model with its weights as they are now."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        trained = {source: self.weights[key_of(source)] for source in self.source.values()}
        for tensor in model.graph.initializer:
            if tensor.name in trained:
                old = numpy_helper.to_array(tensor)
                new = trained[tensor.name].detach().numpy().astype(old.dtype).reshape(old.shape)
                tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
        onnx.save(model, path)


def key_of(name):
    return name.replace(".", "_")


def anchors(side):
    """Returns the anchors' centres [anchors, 2] in pixels, as in crates/vision/src/palm.rs."""
    centres = []
    for stride, each in LAYERS:
        places = (np.arange(side // stride) + 0.5) * stride
        centres += [(x, y) for y in places for x in places for _ in range(each)]
    return torch.tensor(np.array(centres, np.float32))


def decoded(boxes, side):
    """Returns the detections of raw boxes, in pixels: x, y, width, height, seven keypoints."""
    centres = anchors(side)
    points = torch.cat([boxes[..., :2], boxes[..., 4:]], -1).unflatten(-1, (8, 2)) + centres[:, None]
    return torch.cat([points[..., 0, :], boxes[..., 2:4], points[..., 1:, :].flatten(-2)], -1)


# --- Training ---------------------------------------------------------------------------------------------------------

# What the error of each number of a detection counts. The wrist and the middle finger's base give the rotation.
COUNTS = torch.tensor([1.0] * 4 + [1, 1] + [0.3] * 2 + [1, 1] + [0.3] * 8)


def intersection_over_union(boxes, box):
    low = torch.maximum(boxes[:, :2] - boxes[:, 2:4] / 2, box[:2] - box[2:4] / 2)
    high = torch.minimum(boxes[:, :2] + boxes[:, 2:4] / 2, box[:2] + box[2:4] / 2)
    shared = (high - low).clamp(min=0).prod(1)
    return shared / (boxes[:, 2:4].clamp(min=1).prod(1) + box[2:4].prod() - shared + 1e-6)


def loss_of(boxes, scores, side, hands, ignored):
    """Returns the loss: focal loss of the scores, smooth L1 of the detections in units of the palm.

    Which anchors shall detect a palm is decided anew in each step, as the model has its own habits: those near its
    centre whose detections fit best, up to ten (as many as their overlap sums to).
    """
    centres = anchors(side)
    detections, probability = decoded(boxes, side), torch.sigmoid(scores)
    wanted, counted = torch.zeros_like(scores), torch.ones_like(scores)
    errors, positives = torch.zeros(()), 0
    for n, each in enumerate(ignored):
        for left, top, right, bottom in each:
            x, y = centres.T
            counted[n, (x > left) & (x < right) & (y > top) & (y < bottom)] = 0
    for n, each in enumerate(hands):
        for hand in map(torch.tensor, each):
            with torch.no_grad():
                near = ((centres - hand[:2]).abs().amax(1) < (hand[2] * 0.6).clamp(min=9)).nonzero()[:, 0]
                if not len(near):
                    continue
                fits = intersection_over_union(detections[n, near], hand)
                turn = (detections[n, near][:, [4, 5, 8, 9]] - hand[[4, 5, 8, 9]]).abs().mean(1) / hand[2]
                cost = turn.clamp(max=2) - 3 * torch.log(fits + 0.05) - torch.log(probability[n, near] + 1e-3)
                count = min(max(2, min(10, int(fits.topk(min(10, len(near))).values.sum()))), len(near))
                chosen = near[cost.topk(count, largest=False).indices]
                counted[n, near[fits > 0.4]] = 0
            wanted[n, chosen] = counted[n, chosen] = 1
            positives += count
            error = (detections[n, chosen] - hand) / hand[2]
            errors = errors + (functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.1, reduction="none") * COUNTS).sum()
    missed = torch.where(wanted > 0, 1 - probability, probability)
    entropy = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    return ((entropy * missed**1.5 * counted).sum() + 0.5 * errors) / max(positives, 1)


def train_process(rank, examples, minutes, port, output):
    """Trains in one of PROCESSES processes, each on pictures of its own. The first one writes the model."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=PROCESSES)
    pictures, together = Pictures(examples, np.random.default_rng(100 + rank)), np.random.default_rng(7)
    network = Network(LITE)
    mean = copy.deepcopy(network)  # the mean of the last weights is the result
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    sizes = [max(float(weight.detach().square().mean().sqrt()), 2e-3) for weight in weights]
    optimizer = torch.optim.AdamW([{"params": [weight]} for weight in weights], weight_decay=0.0, betas=(0.9, 0.98))
    start, step, done, losses = time.monotonic(), 0, torch.zeros(1), []
    while True:
        done[0] = (time.monotonic() - start) / (60 * minutes)
        distributed.broadcast(done, 0)
        if done >= 1:
            break
        rate = RATE * min(1, (step + 1) / 60) * (0.5 + 0.5 * math.cos(math.pi * float(done)))
        for group, size in zip(optimizer.param_groups, sizes):
            group["lr"] = rate * size
        side = SIDES[together.random() < SHARE_OF_192]
        batch, hands, ignored = pictures.batch(side, BATCH)
        batch = torch.tensor(batch).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
        loss = loss_of(*network(batch), side, hands, ignored)
        optimizer.zero_grad()
        loss.backward()
        gradient = torch.cat([weight.grad.reshape(-1) for weight in weights])
        distributed.all_reduce(gradient)
        gradient /= max(float(gradient.norm()), 1e-6)
        for weight, part in zip(weights, gradient.split([weight.numel() for weight in weights])):
            weight.grad.copy_(part.view_as(weight))
        optimizer.step()
        step += 1
        keep = min(0.998, 1 - 10 / (step + 10))
        with torch.no_grad():
            for old, new in zip(mean.parameters(), network.parameters()):
                old.mul_(keep).add_(new, alpha=1 - keep)
        losses.append(float(loss))
        if rank == 0 and step % 50 == 0:
            print(f"step {step}, {float(done):.0%} of the time: loss {np.mean(losses[-50:]):.3f}", flush=True)
    if rank == 0:
        mean.save(output)
        print(f"{output}: {step} steps of {PROCESSES * BATCH} pictures")


# --- Evaluation -------------------------------------------------------------------------------------------------------


def hand_region(detection):
    """Returns the region of a palm's hand: centre, side and rotation, as `hand_region` of palm.rs does."""
    x, y, width, height = detection[:4]
    wrist, base = detection[4:6], detection[8:10]
    rotation = math.pi / 2 - math.atan2(wrist[1] - base[1], base[0] - wrist[0])
    centre = np.array([x + height / 2 * math.sin(rotation), y - height / 2 * math.cos(rotation)])
    return centre, 2.6 * max(width, height), rotation


def shows(detection, wanted):
    """Whether the landmark model sees the hand in the region of a detection: near, of its size, upright."""
    (centre, side, rotation), (other, its_side, its_rotation) = hand_region(detection), hand_region(wanted)
    turn = abs((rotation - its_rotation + math.pi) % (2 * math.pi) - math.pi)
    return math.dist(centre, other) < 0.22 * its_side and 0.65 < side / its_side < 1.6 and turn < 0.6


def evaluation(examples):
    """Returns pictures by kind, with their hands: the sources, and small hands before pictures without one."""
    kinds, random = {}, np.random.default_rng(5)
    for example in examples:
        if example.hands or example.set == "no-hand":
            kinds.setdefault(example.set, []).append((example.image, example.hands))
    nothing = [example.image for example in examples if example.set == "no-hand"]
    hands = [example for example in examples if example.set in ("asl-letters", "asl-plain", "asl-hg") and example.hands]
    for _ in range(240):
        example, room = hands[random.integers(len(hands))], nothing[random.integers(len(nothing))]
        room, hand = cv2.resize(room, (800, 600)), example.hands[0]
        scale = 160 / (hand.max(0) - hand.min(0)).max()  # a fifth of the longer side
        image, hand = cv2.resize(example.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), hand * scale
        left, top = np.maximum(hand.min(0) - 30, 0).astype(int)
        image = image[top : int(hand[:, 1].max()) + 30, left : int(hand[:, 0].max()) + 30]
        x, y = random.integers(0, 800 - image.shape[1]), random.integers(0, 600 - image.shape[0])
        room[y : y + image.shape[0], x : x + image.shape[1]] = image
        kinds.setdefault("a fifth of the side", []).append((room, [hand - [left, top] + [x, y]]))
    return kinds


def evaluate(network, side, kinds):
    """Returns for each kind: hands that the best detection shows, at any score and from 0.5; or scores without a hand."""
    network.eval()
    results = {}
    for kind, pictures in kinds.items():
        best, right = [], []
        for image, hands in pictures:
            height, width = image.shape[:2]
            matrix = affine((width / 2, height / 2), (side / 2, side / 2), side / max(height, width))
            view = torch.tensor(cv2.warpAffine(image, matrix, (side, side))).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                boxes, scores = network(view)
            first = int(scores.argmax())
            best.append(float(torch.sigmoid(scores[0, first])))
            detection = decoded(boxes, side)[0, first].numpy()
            right.append(any(shows(detection, detection_of(moved(hand, matrix))) for hand in hands))
        best, right = np.array(best), np.array(right)
        results[kind] = (100 * right.mean(), 100 * (right & (best >= 0.5)).mean(), 100 * (best >= 0.5).mean())
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", help="a dump of `cargo xtask features`, without its ending")
    parser.add_argument("--data", type=Path, required=True, help="the folder with the data sets")
    parser.add_argument("--minutes", type=float, default=36, help="time to train (default: 36)")
    parser.add_argument("--output", type=Path, default=TUNED, help="the model to write or evaluate")
    parser.add_argument("--evaluate", action="store_true", help="train nothing; print what the models find")
    arguments = parser.parse_args()
    examples = read_examples(arguments.dump, arguments.data)
    if not arguments.evaluate:
        seen = [example for example in examples if not held_out(example)]
        port = 29500 + int(time.time()) % 400
        torch.multiprocessing.start_processes(train_process, (seen, arguments.minutes, port, arguments.output), PROCESSES, start_method="fork")
    kinds = evaluation([example for example in examples if held_out(example)])
    print("| pictures | model | side | best detection shows the hand, % | and has a score of 0.5, % | any score of 0.5, % |")
    print("|---|---|---|---|---|---|")
    for path in (LITE, arguments.output):
        network = Network(path)
        for side in EVALUATED:
            for kind, (shown, sure, any_score) in evaluate(network, side, kinds).items():
                print(f"| {kind} ({len(kinds[kind])}) | {path.stem} | {side} | {shown:.0f} | {sure:.0f} | {any_score:.0f} |", flush=True)


if __name__ == "__main__":
    main()
