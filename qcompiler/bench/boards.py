"""Peak rates of Jetson Orin modules: the figures behind the estimates, each derived from published ones.

Sources, all NVIDIA's:
[AGX] Jetson AGX Orin Series Technical Brief v1.2 (2022): 16 SMs (64 GB) of 128 CUDA cores, up to 1.3 GHz; 170 sparse,
      so 85 dense INT8 TOPS of the GPU; 5.3 FP32 TFLOPS; 256-bit LPDDR5, 204.8 GB/s.
[NX]  Jetson Orin NX Series Data Sheet DS-10712-001 v1.1 (2023): 1024 CUDA and 32 tensor cores, 918 MHz (16 GB);
      102.4 GB/s.
[NANO] Jetson Orin Nano Series Data Sheet DS-11105-001 (2023): 1024 CUDA and 32 tensor cores (8 GB), 625 MHz, 40 sparse
      and 20 dense INT8 TOPS; 128-bit LPDDR5, 68 GB/s.
[SUPER] Jetson Orin Nano Super Developer Kit data sheet (December 2024): 1020 MHz, 67 sparse INT8 TOPS, 102 GB/s.

From [AGX]: 85e12 / (16 SMs * 1.3e9) = 4086, so 4096 dense INT8 operations an SM and clock (a multiplication and an
addition count as two). The same number gives [NANO]'s 20 and [SUPER]'s 33. FP16 runs at half of it on Ampere's tensor
cores. Outside tensor cores a CUDA core does one fused multiply-add a clock in FP32 (2 * 128 an SM) and two in FP16.
"""

from __future__ import annotations

from dataclasses import dataclass

_INT8, _FP16, _VECTOR_FP16 = 4096, 2048, 512  # operations an SM and clock


@dataclass(frozen=True, slots=True)
class Board:
    """Peak operations a second, and bytes a second to and from memory."""

    name: str
    title: str
    int8: float
    fp16: float
    vector: float
    bandwidth: float


def _orin(name: str, title: str, multiprocessors: int, hertz: float, bandwidth: float) -> Board:
    rate = multiprocessors * hertz
    return Board(name, title, rate * _INT8, rate * _FP16, rate * _VECTOR_FP16, bandwidth)


BOARDS: tuple[Board, ...] = (
    _orin("agx", "AGX Orin 64 GB, MAXN", 16, 1.3e9, 204.8e9),  # [AGX]
    _orin("nx", "Orin NX 16 GB", 8, 918e6, 102.4e9),  # [NX]
    _orin("nano", "Orin Nano 8 GB", 8, 625e6, 68e9),  # [NANO]
    _orin("nano-super", "Orin Nano 8 GB, Super mode", 8, 1020e6, 102e9),  # [SUPER]
)
