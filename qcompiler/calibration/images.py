"""A folder of images as records: decoded, resized to the model's input, normalized."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.feeds import ArrayRows, Record
from qcompiler.calibration.inputs import InputSpec
from qcompiler.errors import CalibrationError, UsageError

_FREE_SIDE = 224  # where the model leaves height and width open
_FORMS = "imagenet, 0..1, -1..1 or mean=0.5,0.5,0.5;std=0.5,0.5,0.5"


@dataclass(frozen=True, slots=True)
class Normalization:
    """(x / 255 - mean) / std per channel; one number stands for all channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, pixels: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.float32]:
        """Pixels [H, W, C] to floats of the same shape."""
        mean, std = (np.broadcast_to(np.array(item, np.float32), (channels,)) for item in (self.mean, self.std))
        return np.asarray((pixels.astype(np.float32) / 255 - mean) / std, np.float32)


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def parse_preprocess(text: str) -> Normalization:
    """The normalization that --preprocess names; UsageError where it is none."""
    named = {"imagenet": IMAGENET, "0..1": Normalization((0.0,), (1.0,)), "-1..1": Normalization((0.5,), (0.5,))}
    if text in named:
        return named[text]
    match = re.fullmatch(r"mean=([^;]+);std=([^;]+)", text.replace(" ", ""))
    try:
        mean, std = ([float(item) for item in part.split(",")] for part in match.groups()) if match else ([], [])
    except ValueError:
        mean, std = [], []
    if (
        len(mean) not in (1, 3)
        or len(std) not in (1, 3)
        or min(std, default=0.0) <= 0
        or not np.isfinite([*mean, *std]).all()
    ):
        raise UsageError(f"{text!r} is no preprocessing", where="--preprocess", hint=f"use {_FORMS}")
    return Normalization(tuple(mean), tuple(std))


@dataclass(frozen=True, slots=True)
class _Layout:
    height: int
    width: int
    channels: int
    channels_last: bool


def image_records(
    paths: Sequence[Path], inputs: Sequence[InputSpec], preprocess: str | None, where: str
) -> Callable[[], Iterator[Record]]:
    """A function that starts a pass over the images, one record each.

    Raises:
        CalibrationError: The model takes no image, pillow is missing, or no normalization was given.
        UsageError: The normalization is not one we know.
    """
    layout = _layout(inputs, where)
    if preprocess is None:
        raise CalibrationError(
            "an image folder needs its normalization", where=where, hint=f"give --preprocess {_FORMS}"
        )
    normalization = parse_preprocess(preprocess)
    if layout.channels == 1 and len(normalization.mean) == 3:
        normalization = Normalization((float(np.mean(normalization.mean)),), (float(np.mean(normalization.std)),))
    try:
        from PIL import Image
    except ImportError as error:
        raise CalibrationError(
            "reading images needs pillow", where=where, hint="pip install 'qcompile-onnx[images]'"
        ) from error

    def records() -> Iterator[Record]:
        for path in paths:
            pixels = _decode(Image, path, layout)
            array: npt.NDArray[Any] = normalization.apply(pixels, layout.channels)
            if not layout.channels_last:
                array = array.transpose(2, 0, 1)
            if inputs[0].dtype == np.uint8:
                array = pixels if layout.channels_last else pixels.transpose(2, 0, 1)
            yield Record(str(path), {inputs[0].name: ArrayRows(array[None])}, True)

    return records


def _decode(image_module: Any, path: Path, layout: _Layout) -> npt.NDArray[np.uint8]:
    try:
        with image_module.open(path) as image:
            plain = image.convert("L" if layout.channels == 1 else "RGB")
            resized = plain.resize((layout.width, layout.height), image_module.Resampling.BILINEAR)
            pixels = np.asarray(resized, np.uint8)
    except Exception as error:  # pillow raises many unrelated types for damaged files
        raise CalibrationError(
            f"not a readable image: {error}", where=str(path), hint="remove it or convert it"
        ) from error
    return pixels.reshape(layout.height, layout.width, layout.channels)


def _layout(inputs: Sequence[InputSpec], where: str) -> _Layout:
    shape = inputs[0].shape if len(inputs) == 1 else ()
    if len(shape) != 4:
        listed = ", ".join(map(str, inputs))
        raise CalibrationError(
            f"an image folder fits no model with inputs {listed}", where=where, hint="use .npz files"
        )
    channels_last = shape[3] in (1, 3) and shape[1] not in (1, 3)
    channels = shape[3] if channels_last else shape[1]
    if not isinstance(channels, int):
        channels = 3
    if channels not in (1, 3):
        raise CalibrationError(f"input {inputs[0]} has {channels} channels", where=where, hint="use .npz files")
    height, width = (shape[1], shape[2]) if channels_last else (shape[2], shape[3])
    size = [side if isinstance(side, int) else _FREE_SIDE for side in (height, width)]
    return _Layout(size[0], size[1], channels, channels_last)
