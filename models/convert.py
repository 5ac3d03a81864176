#!/usr/bin/env python3
"""Converts the four MediaPipe hand models from TFLite to ONNX.

    pip install -r models/requirements-convert.txt
    python models/convert.py            # compares the result with models/SHA256SUMS
    python models/convert.py --update   # rewrites models/SHA256SUMS

Source:   the PyPI wheel mediapipe 0.10.21, mediapipe/modules/{palm_detection,hand_landmark}/*.tflite
Licence:  Apache License 2.0, Copyright The MediaPipe Authors. The ONNX files stay under it.
Changes:  the file format; inputs, outputs and inner tensors are renamed; the landmark models have one
          more output, `features`: the values after the global average pooling, which feed the four heads.
          The weights are unchanged. MediaPipe stores them as 16-bit floats, and so do the ONNX files: every
          large tensor that float16 represents exactly is stored as float16, with a Cast before its use.

Input     `image`, RGB 0..1, channels last: [1,192,192,3] (palm), [1,224,224,3] (landmarks)
Outputs   palm:      `boxes` [1,2016,18], `scores` [1,2016,1]
          landmarks: `landmarks` [1,63], `presence` [1,1], `handedness` [1,1], `world_landmarks` [1,63],
                     `features` [1,N] (N = 672 for lite, 1152 for full)

Every run writes the same bytes.
"""

import argparse
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 7  # released together with opset 13
WHEEL = "mediapipe==0.10.21"
# All wheels of this version hold the same models. A fixed one makes the download work on any system.
WHEEL_TAGS = ["--python-version", "3.11", "--abi", "cp311", "--platform", "manylinux_2_28_x86_64"]
FLOAT16_FROM = 256  # elements; tensors up to this size stay in float32
TOLERANCE = 5e-4  # largest difference from TFLite, relative to the output's scale
HERE = Path(__file__).resolve().parent
SUMS = HERE / "SHA256SUMS"

# Outputs in the order of the TFLite file: the name, and the scale that differences are relative to
# (None: the largest value of that output).
PALM = {"boxes": 192.0, "scores": None}
LANDMARKS = {"landmarks": 224.0, "presence": 1.0, "handedness": 1.0, "world_landmarks": 0.1}


@dataclass(frozen=True)
class Model:
    name: str
    folder: str  # in mediapipe/modules
    sha256: str  # of the TFLite file
    outputs: dict
    features: int = 0  # number of pooled features; 0: no such output


MODELS = [
    Model("palm_detection_lite", "palm_detection",
          "e9a4aaddf90dda56a87235303cf00e4c2d3fb28725f68fd88772997dac905c18", PALM),
    Model("palm_detection_full", "palm_detection",
          "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54", PALM),
    Model("hand_landmark_lite", "hand_landmark",
          "048edd3645c9bf7397d19a9f6e3a42957d6e414c9bea6598030a2e9b624156e6", LANDMARKS, 672),
    Model("hand_landmark_full", "hand_landmark",
          "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3", LANDMARKS, 1152),
]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def download_wheel(folder):
    """Fetches the MediaPipe wheel from PyPI, without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
               "--only-binary", ":all:", *WHEEL_TAGS, "--dest", str(folder), WHEEL]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"error: cannot download {WHEEL}: pip failed; pass a wheel with --wheel")
    return next(Path(folder).glob("mediapipe-*.whl"))


def read_tflite(wheel, model):
    """Returns the model's bytes from the wheel, checked against the known hash."""
    member = f"mediapipe/modules/{model.folder}/{model.name}.tflite"
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"error: cannot read {member} in {wheel}: {error}")
    if sha256(data) != model.sha256:
        sys.exit(f"error: cannot use {member} in {wheel}: it is not the file of {WHEEL}\n"
                 f"  expected sha256 {model.sha256}\n  found    sha256 {sha256(data)}")
    return data


def convert(model, tflite):
    """Converts a model to ONNX with this project's names and a fixed order of nodes.

    Returns the serialised model and the model itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{model.name}.tflite")
        path.write_bytes(tflite)
        source, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET)
    graph = source.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producer = {output: node for node in graph.node for output in node.output}

    # The input and the outputs get fixed names.
    (image,) = graph.input
    names = {"": "", image.name: "image"}
    outputs = [(value.name, name, shape_of(value)) for value, name in zip(graph.output, model.outputs, strict=True)]
    if model.features:
        pool = next(node for node in graph.node if node.op_type == "GlobalAveragePool")
        squeeze = next(node for node in graph.node if pool.output[0] in node.input)
        assert squeeze.op_type == "Squeeze", squeeze.op_type
        outputs.append((squeeze.output[0], "features", [1, model.features]))
    for old, new, shape in outputs:
        assert old not in names and 0 not in shape, (old, shape)
        names[old] = new

    # Nodes are visited from the outputs back to the input, so that neither their order nor any name depends on
    # tf2onnx.
    nodes, tensors, counts = [], [], Counter()

    def name_input(label, op, index, name):
        """Returns the new name of a node's input. A constant is named and stored at its first use."""
        if name in names:
            return names[name]
        inputs = {"Conv": "xwb", "Gemm": "xwb", "PRelu": "xw"}.get(op, "0123")
        label = names[name] = f"{label}.{inputs[index]}"
        tensor, cast = store(label, constants[name])
        tensors.append(tensor)
        if cast:
            nodes.append(cast)
        return label

    def visit(name):
        if name not in producer or id(producer[name]) in done:
            return
        node = producer[name]
        done.add(id(node))
        for needed in node.input:
            visit(needed)
        counts[node.op_type] += 1
        label = f"{node.op_type.lower()}_{counts[node.op_type]}"
        inputs = [name_input(label, node.op_type, index, needed) for index, needed in enumerate(node.input)]
        for output in node.output:
            names.setdefault(output, label)
        new = helper.make_node(node.op_type, inputs, [names[output] for output in node.output], name=label)
        new.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        nodes.append(new)

    done = set()
    for old, _, _ in outputs:
        visit(old)

    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    result = helper.make_model(
        helper.make_graph(nodes, model.name, [value("image", shape_of(image))],
                          [value(new, shape) for _, new, shape in outputs], initializer=tensors),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="hand-gesture-api models/convert.py",
        doc_string="Copyright The MediaPipe Authors, Apache License 2.0. Changed: converted from TFLite to ONNX, "
                   "tensors renamed" + (", output `features` added." if model.features else "."))
    helper.set_model_props(result, {"license": "Apache-2.0", "source": f"{WHEEL} {model.name}.tflite",
                                    "source_sha256": model.sha256})
    onnx.checker.check_model(result, full_check=True)
    return result.SerializeToString(deterministic=True), result


def shape_of(value):
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def store(name, array):
    """Returns the initializer for a constant and, if it is stored as float16, the Cast to float32."""
    if array.dtype == np.float32 and array.size > FLOAT16_FROM:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if half.astype(np.float32).tobytes() == array.tobytes():
            cast = helper.make_node("Cast", [f"{name}.f16"], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
            return numpy_helper.from_array(half, f"{name}.f16"), cast
    return numpy_helper.from_array(array, name), None


def test_images(size):
    """Yields black, flat grey, noise and smooth pictures, all from fixed seeds."""
    yield np.zeros((size, size, 3))
    yield np.full((size, size, 3), 0.5)
    for seed in range(3):
        yield np.random.default_rng(seed).random((size, size, 3))
    y, x = np.mgrid[0:size, 0:size][..., None] / size
    for seed in range(5):
        a, b, c, d = np.random.default_rng(100 + seed).uniform(-9, 9, (4, 3))
        yield 0.5 + 0.25 * np.sin(a * x + b * y + c) + 0.25 * np.cos(d * x * y + a)
    disc = (x - 0.5) ** 2 + (y - 0.55) ** 2 < 0.06
    yield np.where(disc, [0.85, 0.65, 0.55], [0.15, 0.2, 0.25]) * (1 - 0.3 * x)


def verify(model, tflite, onnx_bytes):
    """Runs both models on the same pictures.

    Returns each output's largest difference, absolute and relative to its scale.
    """
    reference = tf.lite.Interpreter(
        model_content=tflite, num_threads=1, experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    reference.allocate_tensors()
    indexes = [output["index"] for output in reference.get_output_details()]
    if model.features:
        indexes.append(next(tensor["index"] for tensor in reference.get_tensor_details()
                            if tensor["name"].endswith("global_average_pooling2d/Mean")))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    scales = {**model.outputs, **({"features": None} if model.features else {})}
    assert [output.name for output in session.get_outputs()] == list(scales)

    worst = {name: (0.0, 0.0) for name in scales}
    for picture in test_images(session.get_inputs()[0].shape[1]):
        picture = picture.astype(np.float32)[None]
        reference.set_tensor(reference.get_input_details()[0]["index"], picture)
        reference.invoke()
        for (name, scale), index, found in zip(scales.items(), indexes, session.run(None, {"image": picture}), strict=True):
            wanted = reference.get_tensor(index)
            assert wanted.shape == found.shape and np.isfinite(found).all(), (name, wanted.shape, found.shape)
            difference = float(np.abs(wanted - found).max())
            relative = difference / (scale or max(1e-3, float(np.abs(wanted).max())))
            worst[name] = max(worst[name][0], difference), max(worst[name][1], relative)
    return worst


def read_sums():
    if not SUMS.exists():
        return {}
    return dict(reversed(line.split()) for line in SUMS.read_text().splitlines() if line)


def write(path, data):
    """Writes a file atomically."""
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="a mediapipe 0.10.21 wheel (default: pip downloads one)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the ONNX files (default: beside this script)")
    parser.add_argument("--update", action="store_true", help="rewrite SHA256SUMS instead of comparing with it")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*Interpreter is deprecated", category=UserWarning)

    sums, expected, failures = {}, read_sums(), []
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel or download_wheel(folder)
        for model in MODELS:
            tflite = read_tflite(wheel, model)
            data, parsed = convert(model, tflite)
            file = f"{model.name}.onnx"
            sums[file] = sha256(data)
            ops = Counter(node.op_type for node in parsed.graph.node)
            print(f"\n{file}: {len(data)} bytes, sha256 {sums[file]}")
            print("  operators:", ", ".join(f"{op} {count}" for op, count in sorted(ops.items())))
            wrong = []
            for name, (difference, relative) in verify(model, tflite, data).items():
                print(f"  {name}: largest difference {difference:.2g}, {relative:.2g} of its scale")
                if relative > TOLERANCE:
                    wrong.append(f"{file}: {name} differs from TFLite by {relative:.2g} of its scale, "
                                 f"expected {TOLERANCE:.2g} at most")
            if not arguments.update and expected.get(file) != sums[file]:
                wrong.append(f"{file}: sha256 is {sums[file]}, {SUMS.name} has {expected.get(file, 'none')}; "
                             "--update rewrites it")
            if not wrong:
                write(arguments.out / file, data)
            failures += wrong
    if failures:
        sys.exit("\nerror: " + "\nerror: ".join(failures) + "\nThese files were not written.")
    if arguments.update:
        write(SUMS, "".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items())).encode())
    print("\nAll four models are as expected.")


if __name__ == "__main__":
    main()
