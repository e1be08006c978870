"""The Mamba language models: forms, carried states and single steps give one answer; the past alone counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.nets.language_model import StateSpaceLM
from models.nets.mamba import Mamba, MambaConfig
from models.nets.mamba2 import Mamba2, Mamba2Config
from models.nets.states import causal_conv


def mamba() -> StateSpaceLM:
    return Mamba(MambaConfig(vocab_size=50, d_model=16, n_layer=2, d_state=4, dt_rank=3))


def mamba2() -> StateSpaceLM:
    return Mamba2(Mamba2Config(vocab_size=50, d_model=16, n_layer=2, d_state=8, head_dim=8))


@pytest.fixture(params=[mamba, mamba2], ids=["mamba", "mamba2"])
def model(request: pytest.FixtureRequest) -> StateSpaceLM:
    torch.manual_seed(0)
    make: Callable[[], StateSpaceLM] = request.param
    made = make().eval()
    with torch.no_grad():
        made.embedding.weight.mul_(50)  # so that logits are of a size where 1e-4 means something
    return made


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 50, (2, 75), generator=torch.Generator().manual_seed(1))


def test_forms_give_the_same_logits_and_states(model: StateSpaceLM, ids: Tensor) -> None:
    with torch.no_grad():
        expected = model(ids, form="sequential")
        torch.testing.assert_close(model(ids, form="chunked"), expected, atol=1e-4, rtol=1e-4)
        assert expected[0].std() > 0.1


def test_steps_equal_the_sequence(model: StateSpaceLM, ids: Tensor) -> None:
    states, rows = model.initial_states(2), []
    with torch.no_grad():
        expected, last = model(ids)
        for t in range(ids.shape[1]):
            logits, states = model.step(ids[:, t], states)
            rows.append(logits)
    torch.testing.assert_close(torch.stack(rows, 1), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(states, last, atol=1e-4, rtol=1e-4)


def test_step_takes_and_gives_a_time_axis(model: StateSpaceLM, ids: Tensor) -> None:
    with torch.no_grad():
        with_axis, _ = model.step(ids[:, :1], model.initial_states(2))
        without, _ = model.step(ids[:, 0], model.initial_states(2))
    assert with_axis.shape == (2, 1, 50)
    assert torch.equal(with_axis[:, 0], without)


def test_states_carry_over_a_cut(model: StateSpaceLM, ids: Tensor) -> None:
    with torch.no_grad():
        expected, _ = model(ids)
        first, states = model(ids[:, :33])
        second, _ = model(ids[:, 33:], states)
        fresh, _ = model(ids[:, 33:])
    torch.testing.assert_close(torch.cat([first, second], 1), expected, atol=1e-4, rtol=1e-4)
    assert (fresh - second).abs().max() > 1e-2


def test_the_future_does_not_count(model: StateSpaceLM, ids: Tensor) -> None:
    changed = ids.clone()
    changed[:, 40:] = (changed[:, 40:] + 1) % 50
    with torch.no_grad():
        before, after = model(ids)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :40], after[:, :40], atol=1e-5, rtol=1e-5)
    assert (before[:, 40:] - after[:, 40:]).abs().max() > 1e-2


def test_convolution_of_training_is_the_convolution() -> None:
    draw = torch.Generator().manual_seed(0)
    x, state = torch.randn(2, 9, 5, generator=draw), torch.randn(2, 5, 3, generator=draw)
    weight, bias = torch.randn(5, 1, 4, generator=draw), torch.randn(5, generator=draw)
    expected = causal_conv(x, state, weight, bias)
    torch.testing.assert_close(causal_conv(x, state, weight, bias, shifts=True), expected)
    torch.testing.assert_close(causal_conv(x[:, :1], state, weight, bias)[0], expected[0][:, :1])


@pytest.mark.parametrize("make", [Mamba, Mamba2])
def test_weights_fit_in_twelve_megabytes(make: Callable[[], StateSpaceLM]) -> None:
    parameters = sum(parameter.numel() for parameter in make().parameters())
    assert 4.5e6 < parameters < 6e6
