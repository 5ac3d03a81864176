#!/usr/bin/env python3
"""Makes more pictures without a hand from existing ones: rotated, cropped, shaded, blurred. For training alone.

    pip install pillow==13.0.0
    python models/alter.py DATA/no-hand OUTPUT     # writes OUTPUT/no-hand and empty folders beside it
"""

import argparse
import random
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

# The landmark model mistakes dogs, cats and faces for hands most often. They get three versions, other classes one.
LIKE_HANDS = ["Faces_easy", "Leopards", "beaver", "cougar_face", "dalmatian", "hedgehog", "kangaroo", "llama", "okapi",
              "panda", "rhino", "wild_cat"]


def altered(picture, chance, version):
    """Returns one altered version (0, 1 or 2) of a picture."""
    if version != 1:
        picture = ImageOps.mirror(picture)
    angle = [chance.uniform(-20, 20), chance.choice([90, 270]) + chance.uniform(-20, 20), 180 + chance.uniform(-30, 30)]
    grey = chance.choice([(0, 0, 0), (255, 255, 255), (128, 128, 128)])
    picture = picture.rotate(angle[version], resample=Image.BICUBIC, expand=True, fillcolor=grey)
    share = chance.uniform(0.55, 0.95)
    width, height = (int(side * share) for side in picture.size)
    x, y = chance.randint(0, picture.size[0] - width), chance.randint(0, picture.size[1] - height)
    scale = chance.uniform(0.8, 1.6)
    picture = picture.crop((x, y, x + width, y + height))
    picture = picture.resize((max(64, int(width * scale)), max(64, int(height * scale))), Image.BICUBIC)
    picture = ImageEnhance.Brightness(picture).enhance(chance.uniform(0.7, 1.3))
    picture = ImageEnhance.Contrast(picture).enhance(chance.uniform(0.7, 1.4))
    picture = ImageEnhance.Color(picture).enhance(chance.uniform(0.3, 1.6))
    if chance.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 1.5)))
    return picture


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of JPEG pictures without a hand")
    parser.add_argument("output", type=Path, help="folder to write to, laid out as `cargo xtask features` expects")
    arguments = parser.parse_args()
    for name in ["no-hand", "asl-hg", "asl-digits", "asl-letters/train"]:
        (arguments.output / name).mkdir(parents=True, exist_ok=True)
    (arguments.output / "asl-letters/train.csv").write_text("file,label,source\n")
    for path in sorted(arguments.pictures.glob("*.jpg")):
        chance = random.Random(path.name)
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
        versions = 3 if path.stem.rsplit("-", 1)[0] in LIKE_HANDS else 1
        for version in range(3):
            result, quality = altered(picture, chance, version), chance.randint(60, 95)
            if version < versions:
                result.save(arguments.output / "no-hand" / f"{path.stem}{'abc'[version]}.jpg", quality=quality)


if __name__ == "__main__":
    main()
