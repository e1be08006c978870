"""A loaded bundle: checked runs, streams, latency."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from qcompiler.errors import QcompileError, UsageError
from qcompiler.runtime.bundle_folder import BundleFolder
from qcompiler.runtime.latency import Latency
from qcompiler.runtime.signature import Array, check_feeds
from qcompiler.runtime.states import pair_states
from qcompiler.runtime.stream import Stream


class Engine(Protocol):
    """What runs the graph."""

    @property
    def runtime(self) -> str:
        """Its name."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, for feeds that were checked."""


class RuntimeModel:
    """A bundle that runs; made by `qcompiler.runtime.load`. Runs of one model are not for several threads at once.

    Attributes:
        inputs: Name, element type and shape of each input, as in the manifest.
        state_scales: Of each state that goes from run to run as int8 codes, what one code stands for.
        latency: Times of the runs so far.
    """

    def __init__(self, bundle: BundleFolder, engine: Engine) -> None:
        self._engine = engine
        self.target, self.inputs, self.outputs = bundle.target, bundle.inputs, bundle.outputs
        self.state_scales = bundle.scales
        self._states = bundle.states
        self.latency = Latency()

    @property
    def runtime(self) -> str:
        """ "onnxruntime" or "tensorrt"."""
        return self._engine.runtime

    @property
    def states(self) -> dict[str, str]:
        """Inputs that carry a state, each with the output that is its next value; empty for most models."""
        return self._states or pair_states(self.inputs, self.outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            UsageError: Feeds that the model doesn't take, or that it fails on; one line that names the input.
        """
        check_feeds(self.inputs, feeds)
        start = time.perf_counter()
        try:
            outputs = self._engine.run(feeds)
        except QcompileError:
            raise
        except Exception as error:  # onnxruntime raises many unrelated types
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise UsageError(f"the model fails on {shapes}: {str(error).strip().splitlines()[0][:300]}") from error
        self.latency.add(time.perf_counter() - start)
        return outputs

    def stream(self, states: Mapping[str, Array] | None = None, *, pairs: Mapping[str, str] | None = None) -> Stream:
        """A sequence of runs in which each one's states are the next one's inputs.

        Args:
            states: First states, by input or output name, such as the outputs of a prefill; others begin at zero.
                Floats for a state of codes are rounded to them.
            pairs: Input to output, where the names don't say it.

        Raises:
            UsageError: The model carries no state, or `pairs` or `states` name what it doesn't have.
        """
        return Stream(self, self.states if pairs is None else dict(pairs), states or {})
