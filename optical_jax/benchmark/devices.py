"""Peak FLOP/s of devices (from data sheets, or measured by matrix products), memory, and versions."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from optical_jax.benchmark.timing import in_turns

PEAK_TFLOPS: dict[str, dict[str, float]] = {
    # Device kind in JAX -> dense peak by dtype of the factors, from the vendors' data sheets.
    "TPU v4": {"bfloat16": 275.0},
    "TPU v5 lite": {"bfloat16": 197.0},
    "TPU v5e": {"bfloat16": 197.0},
    "TPU v5": {"bfloat16": 459.0},
    "TPU v5p": {"bfloat16": 459.0},
    "TPU v6 lite": {"bfloat16": 918.0},
    "TPU v6e": {"bfloat16": 918.0},
    "NVIDIA A100": {"bfloat16": 312.0, "float32": 19.5},
    "NVIDIA H100": {"bfloat16": 989.0, "float32": 67.0},
    "NVIDIA H100 PCIe": {"bfloat16": 756.0, "float32": 51.0},
    "NVIDIA H100 NVL": {"bfloat16": 835.0, "float32": 60.0},
    "NVIDIA H200": {"bfloat16": 989.0, "float32": 67.0},
    "NVIDIA B200": {"bfloat16": 2250.0, "float32": 75.0},
}

MATMUL_WIDTHS = {"cpu": 1536, "gpu": 8192, "tpu": 8192}


def known_peak(kind: str, dtype: str) -> float | None:
    """Peak FLOP/s of one device by the longest matching prefix of its kind; None if unknown."""
    names = [name for name in PEAK_TFLOPS if kind.startswith(name)]
    peak = PEAK_TFLOPS[max(names, key=len)].get(dtype) if names else None
    return None if peak is None else peak * 1e12


def measured_peak(dtype: str) -> float:
    """Measured peak FLOP/s of one device: the fastest of several square matrix products."""
    width = MATMUL_WIDTHS.get(jax.default_backend(), 4096)
    precision = jax.lax.Precision.HIGHEST if dtype == "float32" else jax.lax.Precision.DEFAULT
    x = jax.random.normal(jax.random.key(0), (width, width), jnp.dtype(dtype))
    product = jax.jit(lambda x: jnp.dot(x, x, precision=precision))
    return 2.0 * width**3 / min(in_turns({"matmul": lambda: product(x)}, 20)["matmul"].seconds)


def peak_flops(dtype: str) -> tuple[float, str]:
    """Peak FLOP/s of all devices together, and its source, "table" or "measured"."""
    known = known_peak(jax.devices()[0].device_kind, dtype)
    one, source = (known, "table") if known else (measured_peak(dtype), "measured")
    return one * jax.device_count(), source


def peak_bytes() -> int:
    """Peak memory in bytes: of one device if it reports it, else of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def processor() -> str:
    """Name of the host's CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe_device() -> dict[str, Any]:
    return {
        "platform": jax.default_backend(),
        "kind": jax.devices()[0].device_kind,
        "count": jax.device_count(),
        "host": processor(),
        "host_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def describe_versions() -> dict[str, str]:
    names = ("optical_jax", "jax", "jaxlib", "flax", "optax", "ott-jax", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
