"""What the training scripts share: the command line, the step loop, rounding to float16, the card."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

STARTED = time.monotonic()
BENCHMARK_SECONDS = 12.0
Recipe = TypeVar("Recipe")


@dataclass(frozen=True)
class Run:
    """One run of a training script.

    Attributes:
        data: Folder with the training data (data.py). None fetches it; with `smoke` or `benchmark`, stand-ins do.
        out: Folder for weights, curves and card.
        smoke: A few small steps on whatever machine this is.
        minutes: The run stops, scores and saves what it has when this is over; the card says so.
        steps: Instead of the recipe's; the schedule is stretched to it.
        benchmark: Only measure seconds per step.
        compile: None compiles on a GPU where that works.
        overrides: Fields of the recipe to their values.
    """

    data: Path | None
    out: Path
    smoke: bool = False
    minutes: float = 9.0
    seed: int = 0
    steps: int | None = None
    benchmark: bool = False
    compile: bool | None = None
    overrides: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def stand_in(self) -> bool:
        """Whether generated data will do."""
        return self.smoke or self.benchmark

    @property
    def device(self) -> torch.device:
        """The GPU where there is one."""
        return torch.device("cuda" if torch.cuda.is_available() and not self.smoke else "cpu")

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the overrides; ValueError names a field that it lacks."""
        known = {f.name: type(getattr(recipe, f.name)) for f in dataclasses.fields(recipe)}  # type: ignore[arg-type]
        for name in self.overrides:
            if name not in known:
                raise ValueError(f"the recipe has no {name!r}; it has {', '.join(known)}")
        changes: dict[str, Any] = {name: known[name](value) for name, value in self.overrides.items()}
        if self.steps is not None and "steps" in known:
            changes["steps"] = self.steps
        return dataclasses.replace(recipe, **changes)  # type: ignore[type-var]

    def out_of_time(self) -> bool:
        """Whether `minutes` have passed since the run was made: loading data and compiling count."""
        return time.monotonic() - self.started > 60.0 * self.minutes


def parse(description: str | None, arguments: Sequence[str] | None = None) -> Run:
    """The command line of every script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="folder with the packed data or the npm package's extracted files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="a few steps on a small model, on the CPU")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--benchmark", action="store_true", help="print seconds per step and stop")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="a field of the recipe")
    given = vars(parser.parse_args(arguments))
    overrides = {}
    for item in given.pop("set"):
        name, _, value = item.partition("=")
        try:
            overrides[name] = float(value)
        except ValueError:
            parser.error(f"--set takes NAME=NUMBER, not {item!r}")
    return Run(**given, overrides=overrides)


def say(text: str) -> None:
    """A line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def seed_everything(run: Run) -> None:
    """Seeds torch on all devices; TF32 for float32 products that autocast leaves; one thread for a small run."""
    torch.manual_seed(run.seed)
    if run.smoke:
        torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")


def compiled(module: nn.Module, run: Run, trial: Callable[[Callable[..., Any]], object]) -> Callable[..., Any]:
    """torch.compile where it is wanted and a trial works, else the module itself, with a line that says so."""
    if run.compile is False or (run.compile is None and run.device.type != "cuda"):
        return module
    candidate = torch.compile(module)
    try:
        trial(candidate)
    except Exception as error:  # whatever the compiler's tool chain lacks on this machine
        if run.compile:
            raise
        say(f"not compiled: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
        return module
    say("compiled")
    return candidate


def optimizer_for(module: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW that decays matrices only: no vectors, no A_log, no embeddings or biases of position, no class token."""
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in module.named_parameters():
        matrix = parameter.dim() >= 2 and not name.endswith(("A_log", "position_embed", "position_bias", "class_token"))
        (decayed if matrix else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=next(module.parameters()).is_cuda)


def cosine(step: int, steps: int, warmup: int, floor: float) -> float:
    """Factor of the learning rate: linear over `warmup` steps, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def timed_steps(steps: int, run: Run, curve: list[dict[str, float]]) -> Iterator[int]:
    """Step numbers, ended early when time is over; a line every few seconds from the newest point of `curve`."""
    said = time.monotonic()
    for step in range(steps):
        if step > 0 and run.out_of_time():
            say(f"time is over: stopped after {step} of {steps} steps")
            return
        yield step
        if curve and time.monotonic() - said > 5.0:
            said = time.monotonic()
            say(f"{step + 1}/{steps} " + " ".join(f"{key} {value:.4g}" for key, value in curve[-1].items()))


def benchmark(step: Callable[[int], object], steps: int, device: torch.device) -> None:
    """Prints seconds per step after ten to warm up, the memory, and what the whole recipe would take."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for i in range(10):
        step(i % steps)
    wait()
    start, count = time.monotonic(), 0
    while count < 10 or time.monotonic() - start < BENCHMARK_SECONDS:
        step(count % steps)
        count += 1
        if count % 10 == 0:
            wait()
    wait()
    seconds = (time.monotonic() - start) / count
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    say(f"benchmark: {seconds * 1e3:.2f} ms a step, {memory:.1f} GiB; {steps} steps take {seconds * steps:.0f} s")


def rounded(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights went through float16."""
    copied = copy.deepcopy(module).eval()
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.copy_(parameter.half().float())
    return copied


def save(run: Run, name: str, module: nn.Module, card: dict[str, Any], curve: list[dict[str, float]]) -> dict[str, Any]:
    """Writes NAME.safetensors (float16), NAME.curve.json and NAME.card.json; the card, with what all cards have."""
    from safetensors.torch import save_file

    run.out.mkdir(parents=True, exist_ok=True)
    weights = run.out / f"{name}.safetensors"
    tensors: dict[str, Tensor] = {key: value.half().cpu().contiguous() for key, value in module.state_dict().items()}
    partial = weights.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(weights)
    weights.chmod(0o644)
    content = weights.read_bytes()
    device = torch.cuda.get_device_name() if run.device.type == "cuda" else "CPU"
    card = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "seed": run.seed,
        "smoke": run.smoke,
        **card,
        "seconds": round(time.monotonic() - STARTED, 1),
        "device": device,
        "torch": torch.__version__,
        "weights": {"file": weights.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
    }
    (run.out / f"{name}.curve.json").write_text(json.dumps(curve) + "\n", encoding="utf-8")
    (run.out / f"{name}.card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    say(f"{weights.name}: {json.dumps(card['scores'])}")
    return card
