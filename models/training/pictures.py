"""What the classifiers of CIFAR-10 share: the schedule, the loop over augmented pictures, top-1."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.cifar10 import CLASSES, MEAN, STD
from models.training.augment import augment, mix
from models.training.data import load_pictures
from models.training.run import (
    Run,
    benchmark,
    compiled,
    cosine,
    optimizer_for,
    rounded,
    save,
    say,
    timed_steps,
)


@dataclass(frozen=True)
class PictureRecipe:
    """The schedule: 14000 steps of 512 are 146 passes over 49000 pictures.

    Attributes:
        held_back: Last training pictures, kept out for the validation curve (nothing is selected by it).
        average: Decay of the running average of the weights, which is what is kept.
    """

    steps: int = 14000
    batch: int = 512
    lr: float = 1e-3
    floor: float = 0.005
    warmup: int = 1000
    weight_decay: float = 0.05
    clip: float = 1.0
    smoothing: float = 0.1
    average: float = 0.9995
    held_back: int = 1000
    validate_every: int = 1000


SMOKE = PictureRecipe(steps=16, batch=48, warmup=4, average=0.8, held_back=128, validate_every=8)


def train_classifier(name: str, model: nn.Module, recipe: PictureRecipe, options: Run) -> dict[str, Any]:
    """The recipe on a fresh `model`, whose `config` is a dataclass; writes NAME's files and gives the card.

    Call seed_everything before making the model.
    """
    device = options.device
    train_set, test_set = load_pictures(options.data, options.stand_in)
    images = torch.from_numpy(train_set.images.transpose(0, 3, 1, 2).copy()).to(device)
    labels = torch.from_numpy(train_set.labels).to(device)
    test_images = torch.from_numpy(test_set.images.transpose(0, 3, 1, 2).copy()).to(device)
    test_labels = torch.from_numpy(test_set.labels).to(device)
    used = len(images) - recipe.held_back
    model = model.to(device).train()
    mean = copy.deepcopy(model).eval()
    optimizer = optimizer_for(model, recipe.lr, recipe.weight_decay, (0.9, 0.999))
    draw = torch.Generator().manual_seed(options.seed)
    passes = -(-recipe.steps * recipe.batch // used) + 1
    fast: list[Any] = [model]
    order: list[Tensor] = []

    def indices(i: int) -> Tensor:
        """Pictures of step i: pass after pass, each in its own order, whatever is left over to the next."""
        start, found = i * recipe.batch, []
        while len(order) * used < start + recipe.batch and len(order) <= passes:
            order.append(torch.randperm(used, generator=draw).to(device))
        for k in range(start // used, (start + recipe.batch - 1) // used + 1):
            found.append(order[k][max(start - k * used, 0) : start + recipe.batch - k * used])
        return torch.cat(found)

    def loss_on(chosen: Tensor) -> Tensor:
        targets = F.one_hot(labels[chosen], len(CLASSES)).float()
        targets = targets * (1.0 - recipe.smoothing) + recipe.smoothing / len(CLASSES)
        pictures, targets = mix(augment(images[chosen].float() / 255.0), targets)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = fast[0](normalized(pictures))
        return F.cross_entropy(logits.float(), targets)

    def trial(candidate: Callable[..., Any]) -> None:
        fast[0] = candidate
        loss_on(torch.arange(recipe.batch, device=device)).backward()
        model.zero_grad(set_to_none=True)

    fast[0] = compiled(model, options, trial)

    def step(i: int) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * cosine(i, recipe.steps, recipe.warmup, recipe.floor)
        loss = loss_on(indices(i))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        decay = min(recipe.average, (i + 1) / (i + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1.0 - decay)
        return loss.detach()

    say(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, {used} pictures, {recipe}")
    if options.benchmark:
        benchmark(step, recipe.steps, device)
        return {}
    curve: list[dict[str, float]] = []
    losses: list[Tensor] = []
    done = 0
    for i in timed_steps(recipe.steps, options, curve):
        losses.append(step(i))
        done = i + 1
        if done % 200 == 0 or done == recipe.steps:
            point = {"step": done, "train": float(torch.stack(losses).mean())}
            if done % recipe.validate_every == 0 or done == recipe.steps:
                point["val_top1"] = top1(mean, images[used:], labels[used:])
            curve.append(point)
            losses = []
    card = {
        "module": f"{type(model).__module__}:{type(model).__name__}",
        "config": asdict(model.config),
        "recipe": asdict(recipe),
        "steps_done": done,
        "ended": "all steps done" if done == recipe.steps else f"out of time after {options.minutes} minutes",
        "scores": {"top1": top1(rounded(mean), test_images, test_labels), "pictures": len(test_labels)},
        "scores_before_float16": {"top1": top1(mean, test_images, test_labels)},
        "validation_top1": top1(mean, images[used:], labels[used:]),
    }
    return save(options, name, mean, card, curve)


def normalized(pictures: Tensor) -> Tensor:
    """(x - MEAN) / STD by channel, on 0..1: as cifar10.normalize does it."""
    return (pictures - pictures.new_tensor(MEAN)[:, None, None]) / pictures.new_tensor(STD)[:, None, None]


def top1(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of uint8 pictures [n, 3, 32, 32] that get their label, in float32."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    right = 0
    with torch.no_grad():
        for part, truth in zip(images.split(500), labels.split(500), strict=True):
            right += int((model(normalized(part.float() / 255.0)).argmax(-1) == truth).sum())
    torch.set_float32_matmul_precision(precision)
    return right / len(labels)
