"""vit-cifar10: a vision transformer of our own for 32x32 pictures, trained on CIFAR-10; weights in this repository."""

from __future__ import annotations

from models.cifar10_classifier import classifier_entry
from models.trained import TrainedWeights

MODEL = classifier_entry("vit-cifar10", TrainedWeights("vit"), "ViT classifier, 7 layers, 32x32 pictures")
