"""Photographs as model inputs, and the judgement of saliency maps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.assets import data_folder, package_file
from models.metrics import pearson, sqnr
from models.zoo import Array, Feeds, Scores, TestSet

SIDE = 224
CALIBRATION = 32
SAMPLES_PACKAGE = "scikit-image==0.26.0"
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
# Pictures that scikit-image's wheel carries; disjoint halves, so no photograph is in both sets.
SAMPLES = {
    "calibration": ("astronaut.png", "brick.png", "camera.png", "cell.png", "retina.jpg", "motorcycle_left.png"),
    "test": ("chelsea.png", "coffee.png", "coins.png", "rocket.jpg", "gravel.png", "ihc.png"),
}


def to_input(image: Any) -> Array:
    """A PIL image stretched to 224 x 224, normalized with ImageNet's statistics, float32 [1, 3, 224, 224]."""
    from PIL import Image

    pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32) / 255.0
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1)[None], dtype=np.float32)


def calibration() -> list[Feeds]:
    """CALIBRATION photographs, or crops of the samples where no data set is at hand."""
    labelled = _labelled()
    if labelled:
        return [{"input_image": to_input(_open(photo))} for photo, _ in labelled[:CALIBRATION]]
    return [{"input_image": array} for array in _crops("calibration", CALIBRATION)]


def timing() -> Feeds:
    """One photograph."""
    return test_set(True).batches[0]


def test_set(quick: bool) -> TestSet:
    """The photographs that calibration leaves, with masks where a data set is at hand."""
    labelled = _labelled()[CALIBRATION:]
    if quick:
        labelled = labelled[:24]
    masks = [_mask(mask) for _, mask in labelled]
    inputs = [to_input(_open(photo)) for photo, _ in labelled] or _crops("test", 12 if quick else 36)

    def score(outputs: Sequence[Array]) -> Scores:
        if not masks:
            return {}
        found = [output.reshape(SIDE, SIDE) > 0.5 for output in outputs]
        return {"iou": float(np.mean([_iou(map_, mask) for map_, mask in zip(found, masks, strict=True)]))}

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        a, b = np.concatenate(list(outputs)), np.concatenate(list(reference))
        return {"sqnr_db": sqnr(a, b), "map_pearson": pearson(a, b), "iou_to_float": _iou(a > 0.5, b > 0.5)}

    return TestSet([{"input_image": array} for array in inputs], score, fidelity)


def _iou(a: Array, b: Array) -> float:
    return float((a & b).sum() / max(int((a | b).sum()), 1))


def _labelled() -> list[tuple[Path, Path]]:
    """Pairs of photograph and mask, in a seeded order; empty without data."""
    folder = data_folder("duts")
    if folder is None:
        return []
    pairs = [(photo, folder / "mask" / f"{photo.stem}.png") for photo in sorted((folder / "image").glob("*.jpg"))]
    pairs = [pair for pair in pairs if pair[1].exists()]
    random.Random(0).shuffle(pairs)
    return pairs


def _open(file: Path) -> Any:
    from PIL import Image

    return Image.open(file)


def _mask(file: Path) -> Array:
    return np.asarray(_open(file).convert("L").resize((SIDE, SIDE))) > 127


def _crops(split: str, count: int) -> list[Array]:
    """`count` crops of the sample pictures, at seeded places and sizes, half of them mirrored."""
    from PIL import ImageOps

    pictures = [_open(package_file(f"skimage/data/{name}", SAMPLES_PACKAGE)).convert("RGB") for name in SAMPLES[split]]
    rng = random.Random(split)
    crops = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        side = int(min(picture.size) * rng.uniform(0.6, 1.0))
        left, top = rng.randint(0, picture.width - side), rng.randint(0, picture.height - side)
        crop = picture.crop((left, top, left + side, top + side))
        crops.append(to_input(ImageOps.mirror(crop) if index % 2 else crop))
    return crops
