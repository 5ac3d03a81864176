#!/usr/bin/env python3
"""Writes what MediaPipe itself finds in the test photos, one JSON file per photo, as the reference for our own pipeline.

    pip install mediapipe==0.10.21 pillow      # Python 3.11 or 3.12
    python tests/landmarks/make.py [PHOTOS] [OUT]

PHOTOS is tests/photos by default, OUT the folder of this script. Each file holds, for the full and the lite models
(palm detection and landmarks together), null if no hand was found with MediaPipe's default settings, or

    handedness   as MediaPipe reports it: it takes the picture for a mirrored one, so a right hand is "Left"
    landmarks    21 times x, y, z: x and y relative to the photo's width and height, z in the unit of x
"""

import json
import sys
from pathlib import Path

import mediapipe as mp
import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
COMPLEXITY = {"full": 1, "lite": 0}


def find(hands, image):
    """The hand MediaPipe finds in an RGB picture, or None."""
    result = hands.process(image)
    if not result.multi_hand_landmarks:
        return None
    side = result.multi_handedness[0].classification[0]
    return {
        "handedness": {"label": side.label, "score": round(side.score, 6)},
        "landmarks": [[round(p.x, 6), round(p.y, 6), round(p.z, 6)] for p in result.multi_hand_landmarks[0].landmark],
    }


def main(photos, out):
    out.mkdir(parents=True, exist_ok=True)
    models = {
        name: mp.solutions.hands.Hands(
            static_image_mode=True, max_num_hands=1, model_complexity=complexity, min_detection_confidence=0.5)
        for name, complexity in COMPLEXITY.items()
    }
    for path in sorted(photos.glob("*.jpg")):
        image = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        height, width, _ = image.shape
        facts = {"source": f"mediapipe {mp.__version__}", "photo": path.name, "width": width, "height": height}
        facts |= {name: find(hands, image) for name, hands in models.items()}
        (out / f"{path.stem}.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")
        print(path.name, *(f"{name}: {'found' if facts[name] else 'nothing'}" for name in models))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "photos",
         Path(sys.argv[2]) if len(sys.argv) > 2 else HERE)
