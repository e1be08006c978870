"""swin-cifar10: a Swin transformer of our own, windows of 4x4 tokens with shifts; weights in this repository."""

from __future__ import annotations

from models.cifar10_classifier import classifier_entry
from models.trained import TrainedWeights

MODEL = classifier_entry("swin-cifar10", TrainedWeights("swin"), "Swin classifier, 3 stages, 32x32 pictures")
