"""Photographs as model inputs, and the judgement of saliency maps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.assets import data_folder
from models.bootstrap import Measure, mean
from models.metrics import pearson, sqnr
from models.packages import WheelFiles
from models.zoo import Array, Feeds, Scores, TestSet

SIDE = 224
CALIBRATION = 32
SAMPLES_PACKAGE = "scikit-image==0.26.0"
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
SAMPLE_HASHES = {
    "skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "skimage/data/brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "skimage/data/camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "skimage/data/cell.png": "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515",
    "skimage/data/retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "skimage/data/motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "skimage/data/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "skimage/data/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "skimage/data/coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "skimage/data/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "skimage/data/gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "skimage/data/ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
}
SAMPLES_ASSET = WheelFiles(SAMPLES_PACKAGE, SAMPLE_HASHES, python="3.12")  # of any Python: pictures alone
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

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        if not masks:
            return {}
        found = [output.reshape(SIDE, SIDE) > 0.5 for output in outputs]
        return {"iou": mean(np.array([_iou(map_, mask) for map_, mask in zip(found, masks, strict=True)]))}

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        a, b = np.concatenate(list(outputs)), np.concatenate(list(reference))
        return {"sqnr_db": sqnr(a, b), "map_pearson": pearson(a, b), "iou_to_float": _iou(a > 0.5, b > 0.5)}

    labels = {"mask": np.stack(masks)} if masks else {}
    return TestSet([{"input_image": array} for array in inputs], measures, fidelity, labels)


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

    pictures = [_open(SAMPLES_ASSET.file(f"skimage/data/{name}")).convert("RGB") for name in SAMPLES[split]]
    rng = random.Random(split)
    crops = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        side = int(min(picture.size) * rng.uniform(0.6, 1.0))
        left, top = rng.randint(0, picture.width - side), rng.randint(0, picture.height - side)
        crop = picture.crop((left, top, left + side, top + side))
        crops.append(to_input(ImageOps.mirror(crop) if index % 2 else crop))
    return crops
