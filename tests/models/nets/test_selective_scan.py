"""The forms of both scans agree, in values, carried states and gradients, at lengths on and off chunk borders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.nets import linear_scan, selective_scan, ssd

LENGTHS = [1, 31, 32, 77, 130]


def mamba_inputs(length: int) -> list[Tensor]:
    """u, dt, A, B, C, D and an initial state; steps up to about 4 with decays down to exp(-60)."""
    draw = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    b, e, n = 2, 12, 4
    dt = F.softplus(normal(b, length, e) * 2)
    return [
        normal(b, length, e),
        dt,
        -torch.rand(e, n, generator=draw) * 16,
        normal(b, length, n),
        normal(b, length, n),
        normal(e),
        normal(b, e, n),
    ]


def ssd_inputs(length: int) -> list[Tensor]:
    """x, dt, A, B, C, D and an initial state."""
    draw = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    b, h, p, n = 2, 3, 4, 5
    dt = F.softplus(normal(b, length, h) * 2)
    A = -torch.rand(h, generator=draw) * 16
    return [normal(b, length, h, p), dt, A, normal(b, length, n), normal(b, length, n), normal(h), normal(b, h, p, n)]


def run(scan: Any, inputs: list[Tensor], form: str) -> Any:
    """y and the last state in a form."""
    return scan(*inputs, form)


def by_hand(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence, a number at a time, in double precision."""
    u, dt, A, B, C, D, state = (t.double() for t in (u, dt, A, B, C, D, state))
    y = torch.zeros_like(u)
    state = state.clone()
    for b in range(u.shape[0]):
        for t in range(u.shape[1]):
            for e in range(u.shape[2]):
                for n in range(A.shape[1]):
                    decay = torch.exp(dt[b, t, e] * A[e, n])
                    state[b, e, n] = decay * state[b, e, n] + dt[b, t, e] * B[b, t, n] * u[b, t, e]
                    y[b, t, e] += C[b, t, n] * state[b, e, n]
                y[b, t, e] += D[e] * u[b, t, e]
    return y, state


@pytest.mark.parametrize("form", selective_scan.FORMS)
def test_forms_compute_the_recurrence(form: str) -> None:
    inputs = [t[:1, :3, :2] if t.dim() == 3 and t.shape[1] == 40 else t for t in mamba_inputs(40)]
    u, dt, A, B, C, D, state = inputs
    A, B, C, D, state = A[:2, :2], B[..., :2], C[..., :2], D[:2], state[:1, :2, :2]
    y, last = selective_scan.selective_scan(u, dt, A, B, C, D, state, form)
    expected, expected_last = by_hand(u, dt, A, B, C, D, state)
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last.double(), expected_last, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["chunked", "parallel"])
@pytest.mark.parametrize("length", LENGTHS)
def test_selective_scan_forms_agree_with_gradients(form: str, length: int) -> None:
    results = []
    for chosen in ("sequential", form):
        inputs = [tensor.requires_grad_() for tensor in mamba_inputs(length)]
        y, last = run(selective_scan.selective_scan, inputs, chosen)
        (y.sin().sum() + (2 * last).cos().sum()).backward()
        results.append([y, last, *(tensor.grad for tensor in inputs)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 63, 64, 150])
def test_ssd_forms_agree_with_gradients(length: int) -> None:
    results = []
    for chosen in ("sequential", "chunked"):
        inputs = [tensor.requires_grad_() for tensor in ssd_inputs(length)]
        y, last = run(ssd.ssd, inputs, chosen)
        (y.sin().sum() + (2 * last).cos().sum()).backward()
        results.append([y, last, *(tensor.grad for tensor in inputs)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_ssd_is_the_selective_scan_of_tied_decays() -> None:
    x, dt, A, B, C, D, state = ssd_inputs(70)
    y, last = ssd.ssd(x, dt, A, B, C, D, state)
    size = x.shape[-1]
    flat, last_flat = selective_scan.selective_scan(
        x.flatten(2),
        dt.repeat_interleave(size, dim=2),
        A.repeat_interleave(size)[:, None].expand(-1, B.shape[-1]),
        B,
        C,
        D.repeat_interleave(size),
        state.flatten(1, 2),
    )
    torch.testing.assert_close(y.flatten(2), flat, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last.flatten(1, 2), last_flat, atol=1e-4, rtol=1e-4)


def test_training_form_works_in_slices_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(selective_scan.selective_scan, mamba_inputs(40), "parallel")
    monkeypatch.setattr(linear_scan, "ELEMENTS", 1)
    sliced = run(selective_scan.selective_scan, mamba_inputs(40), "parallel")
    torch.testing.assert_close(sliced, whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("form", ["chunked", "parallel"])
def test_no_overflow_where_decays_are_total(form: str) -> None:
    u, dt, A, B, C, D, state = mamba_inputs(64)
    y, last = selective_scan.selective_scan(u, dt + 50, A - 10, B, C, D, state, form)
    assert torch.isfinite(y).all() and torch.isfinite(last).all()


def test_pair_decays_are_finite_and_causal() -> None:
    decays = selective_scan.pair_decays(torch.tensor([-1.0, -2.0, -300.0]))
    expected = torch.tensor([[0.0, -9e9, -9e9], [-2.0, 0.0, -9e9], [-302.0, -300.0, 0.0]]).exp()
    torch.testing.assert_close(decays, expected)


def test_autocast_does_not_reach_the_scan() -> None:
    inputs = mamba_inputs(40)
    plain = selective_scan.selective_scan(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        cast = selective_scan.selective_scan(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_unknown_form_is_named() -> None:
    with pytest.raises(ValueError, match=r"'fast'.*sequential, "):
        run(selective_scan.selective_scan, mamba_inputs(2), "fast")
