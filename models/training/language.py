"""Training of a language model on the corpus, the same for all three: random windows, early stop, held-out scores."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.corpus import Tokens
from models.training.data import load_text
from models.training.run import (
    Run,
    benchmark,
    compiled,
    cosine,
    optimizer_for,
    rounded,
    save,
    say,
    seed_everything,
    timed_steps,
)


@dataclass(frozen=True)
class TextRecipe:
    """The schedule. A batch of 32 windows of 512 is 16384 tokens; the training text has 2.74 M.

    Attributes:
        patience: Validations (one each `validate_every` steps) without a better loss before the run ends.
    """

    steps: int = 2000
    batch: int = 32
    context: int = 512
    lr: float = 2e-3
    floor: float = 0.05
    warmup: int = 150
    weight_decay: float = 0.1
    clip: float = 1.0
    validate_every: int = 100
    patience: int = 6


SMOKE = TextRecipe(steps=12, batch=4, context=64, warmup=2, validate_every=6)


def train_text(
    name: str,
    make: Callable[[bool], nn.Module],
    run: Run,
    recipe: TextRecipe | None = None,
    forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> dict[str, Any]:
    """Trains and saves a model whose `forward(ids)` gives (logits, state); its card.

    Args:
        make: The module to train, small where its argument (smoke) is true.
        forward: Logits while training, from the compiled module; the first output by default.
    """
    recipe = run.recipe(SMOKE if run.smoke else recipe or TextRecipe())
    logits_of = forward or (lambda m, ids: m(ids)[0])
    seed_everything(run)
    texts = load_text(run.data, run.stand_in)
    model = make(run.smoke).to(run.device).train()
    train = torch.from_numpy(texts["train"].ids.astype("int64")).to(run.device)
    windows = torch.arange(recipe.context + 1, device=run.device)
    draw = torch.Generator().manual_seed(run.seed)
    starts = torch.randint(0, len(train) - recipe.context, (recipe.steps, recipe.batch), generator=draw).to(run.device)
    optimizer = optimizer_for(model, recipe.lr, recipe.weight_decay, (0.9, 0.95))
    fast: list[Any] = [model]

    def loss_on(ids: Tensor) -> Tensor:
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda"):
            logits = logits_of(fast[0], ids[:, :-1])
        return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())

    def trial(candidate: Callable[..., Any]) -> None:
        fast[0] = candidate
        loss_on(train[starts[0].unsqueeze(1) + windows]).backward()
        model.zero_grad(set_to_none=True)

    fast[0] = compiled(model, run, trial)

    def step(i: int) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * cosine(i, recipe.steps, recipe.warmup, recipe.floor)
        loss = loss_on(train[starts[i % recipe.steps].unsqueeze(1) + windows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        return loss.detach()

    say(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, {len(train)} tokens, {recipe}")
    if run.benchmark:
        benchmark(step, recipe.steps, run.device)
        return {}
    curve: list[dict[str, float]] = []
    losses: list[Tensor] = []
    best_loss, best_step, best = math.inf, 0, model.state_dict()
    done, ended = 0, "all steps done"

    def validate() -> None:
        nonlocal best_loss, best_step, best
        val = score_tokens(model, texts["val"], recipe.context)["nats_per_token"]
        model.train()
        curve.append({"step": done, "train": float(torch.stack(losses).mean()), "val": val})
        losses.clear()
        if val < best_loss:
            best_loss, best_step, best = val, done, copy.deepcopy(model.state_dict())

    for i in timed_steps(recipe.steps, run, curve):
        losses.append(step(i))
        done = i + 1
        if done % recipe.validate_every == 0 or done == recipe.steps:
            validate()
            if done - best_step >= recipe.patience * recipe.validate_every:
                ended = f"validation did not improve for {recipe.patience} rounds"
                break
    else:
        if done < recipe.steps:
            ended = f"out of time after {run.minutes} minutes"
    if losses:
        validate()
    if best_step == 0:
        raise RuntimeError(f"{name}: the loss was never finite")
    model.load_state_dict(best)
    half, whole = rounded(model), model.eval()
    held_out = ("test_novel", "test_speeches")
    config = getattr(model, "config", None)
    card = {
        "module": f"{type(model).__module__}:{type(model).__name__}",
        "config": asdict(config) if is_dataclass(config) and not isinstance(config, type) else {},
        "recipe": asdict(recipe),
        "steps_done": done,
        "best_step": best_step,
        "ended": ended,
        "validation_nats_per_token": best_loss,
        "scores": {split: score_tokens(half, texts[split], recipe.context) for split in held_out},
        "scores_before_float16": {split: score_tokens(whole, texts[split], recipe.context) for split in held_out},
    }
    return save(run, name, model, card, curve)


def score_tokens(model: nn.Module, tokens: Tokens, context: int) -> dict[str, float]:
    """Losses over all of a split, in windows of `context` that do not overlap, in float32.

    Every token but the first is predicted once; a window's first from nothing but the token before it. Bits per byte
    are over the bytes of the text, the perplexity is per token.
    """
    model.eval()
    device = next(model.parameters()).device
    ids = torch.from_numpy(tokens.ids.astype("int64")).to(device)
    whole = (len(ids) - 1) // context * context
    rows = list(ids[: whole + 1].unfold(0, context + 1, context).split(16)) if whole else []
    if whole + 1 < len(ids):
        rows.append(ids[whole:].unsqueeze(0))
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    total = 0.0
    with torch.no_grad():
        for row in rows:
            logits = model(row[:, :-1])[0]
            total += float(F.cross_entropy(logits.flatten(0, 1), row[:, 1:].flatten(), reduction="sum").double())
    torch.set_float32_matmul_precision(precision)
    count = len(ids) - 1
    return {
        "bits_per_byte": total / math.log(2) / tokens.bytes,
        "perplexity": math.exp(total / count),
        "nats_per_token": total / count,
        "tokens": count,
    }
