"""Synthetic inputs: they run, and respect what the model says about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.calibration.index_bounds import index_bound
from qcompiler.calibration.synthetic import synthetic_batches
from qcompiler.errors import CalibrationError

BERT = """<ir_version: 8, opset_import: ["" : 17]>
bert (int64[batch, seq] input_ids, int64[batch, seq] attention_mask, int64[batch, seq] token_type_ids,
      int64[batch, seq] position_ids, float[batch, seq, 4] extra) => (float[batch, seq, 4] y)
<float[11, 4] words = {WORDS}, float[2, 4] types = {0., 0., 0., 0., 1., 1., 1., 1.}, float[130, 4] places = {PLACES}>
{
    a = Gather (words, input_ids)
    b = Gather (types, token_type_ids)
    ids32 = Cast <to = 6> (position_ids)
    c = Gather (places, ids32)
    ab = Add (a, b)
    abc = Add (ab, c)
    m = Cast <to = 1> (attention_mask)
    axis = Constant <value_ints = [2]> ()
    m3 = Unsqueeze (m, axis)
    masked = Mul (abc, m3)
    y = Add (masked, extra)
}""".replace("{WORDS}", "{" + "0., " * 43 + "0.}").replace("{PLACES}", "{" + "0., " * 519 + "0.}")


def _model(signature: str, body: str, constants: str = "") -> ir.Model:
    return ir.from_onnx_text(f'<ir_version: 8, opset_import: ["" : 17]>\nm {signature}\n{constants}\n{{\n{body}\n}}')


def test_token_models_get_ids_below_the_rows_masks_of_ones_and_positions() -> None:
    source = synthetic_batches(ir.from_onnx_text(BERT), samples=8, seed=1)
    feeds = list(source)
    assert (source.name, source.count, len(feeds)) == ("synthetic", 8, 8)
    assert {feed["input_ids"].shape[1] for feed in feeds} <= set(range(32, 129))
    assert len({feed["input_ids"].shape for feed in feeds}) > 3
    for feed in feeds:
        length = feed["input_ids"].shape[1]
        assert {array.shape[:2] for array in feed.values()} == {(1, length)}
        assert 0 <= feed["input_ids"].min() <= feed["input_ids"].max() < 11
        assert feed["attention_mask"].all()
        assert not feed["token_type_ids"].any()
        assert np.array_equal(feed["position_ids"], np.arange(length)[None])
    assert np.unique(np.concatenate([feed["input_ids"].ravel() for feed in feeds])).size == 11


def test_a_seed_gives_the_same_inputs_and_another_gives_others() -> None:
    model = ir.from_onnx_text(BERT)
    first, again, other = (synthetic_batches(model, samples=2, seed=seed) for seed in (3, 3, 4))
    for source in (first, again, other):
        list(source)
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("n, 3, h, w", (1, 3, 224, 224)),
        ("1, 3, 64, 64", (1, 3, 64, 64)),
        ("n, h, w, 3", (1, 224, 224, 3)),
        ("n, 3, 48, w", (1, 3, 48, 96)),
    ],
)
def test_images_are_smooth_fields_of_about_unit_deviation(shape: str, expected: tuple[int, ...]) -> None:
    model = _model(f"(float[{shape}] image) => (float[{shape}] y)", "y = Relu (image)")
    image = next(iter(synthetic_batches(model)))["image"]
    assert image.shape == expected
    assert 0.5 < image.std() < 1.5
    assert np.abs(image).max() < 3
    axis = 2 if expected[1] == 3 else 1
    assert np.abs(np.diff(image, axis=axis)).mean() < 0.3 * image.std()


def test_caches_start_empty_and_shapes_of_the_user_hold() -> None:
    cache = _model(
        "(float[batch, 2, past_len, 4] past_key, float[batch, 2, seq, 4] k) => (float[batch, 2, total, 4] y)",
        "y = Concat <axis = 2> (past_key, k)",
    )
    feed = next(iter(synthetic_batches(cache)))
    assert feed["past_key"].shape == (1, 2, 0, 4)
    given = next(iter(synthetic_batches(cache, shapes={"past_key": (2, 2, 5, 4)})))
    assert given["past_key"].shape == (2, 2, 5, 4)
    assert given["k"].shape[0] == 2


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"nope": (1,)}, "no input 'nope'"),
        ({"image": (1, 3, 5)}, "does not fit"),
        ({"image": (1, 4, 8, 8)}, "does not fit"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: Any, message: str) -> None:
    model = _model("(float[n, 3, h, w] image) => (float[n, 3, h, w] y)", "y = Relu (image)")
    with pytest.raises(CalibrationError, match=message):
        synthetic_batches(model, shapes=shapes)


def test_a_model_that_needs_other_shapes_says_so_with_a_hint() -> None:
    model = _model("(float[p, q] a, float[r, t] b) => (float[p, t] y)", "y = MatMul (a, b)")
    with pytest.raises(CalibrationError, match=r"cannot run a .*--calib"):
        synthetic_batches(model)
    assert next(iter(synthetic_batches(model, shapes={"a": (2, 3), "b": (3, 4)})))["a"].shape == (2, 3)


def test_bools_and_unseen_integers() -> None:
    model = _model("(bool[n, 2] on, int64[n, 2] k) => (int64[n, 2] y)", "zero = Sub (k, k)\ny = Where (on, k, zero)")
    feed = next(iter(synthetic_batches(model)))
    assert feed["on"].dtype == np.bool_
    assert set(np.unique(feed["k"])) <= {0, 1}


def test_index_bounds_reach_into_subgraphs_and_take_the_smallest() -> None:
    model = ir.from_onnx_text("""<ir_version: 8, opset_import: ["" : 17]>
    m (int64[s] ids, float[s] u, int64[s] free) => (float[s] y, float[s] z, int64[s] f)
    <float[9] table = {0.,0.,0.,0.,0.,0.,0.,0.,0.}, float[5] small = {0.,0.,0.,0.,0.}, float start = {0.}>
    {
        outer = Gather (table, ids)
        last, z = Scan <num_scan_inputs = 1, body = step (float h, int64 i) => (float h2, float o) {
            row = Gather (small, i)
            h2 = Add (h, row)
            o = Identity (h2)
        }> (start, ids)
        y = Add (outer, u)
        f = Identity (free)
    }""")
    ids, _, free = model.graph.inputs
    assert index_bound(ids) == 5
    assert index_bound(free) is None
