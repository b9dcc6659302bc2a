"""Summarizes the latencies of calls."""

import statistics
from collections.abc import Sequence


def summary(latencies: Sequence[float], seconds: float) -> dict[str, float]:
    """Returns the calls, their rate per second, and two percentiles of latency in milliseconds.

    Raises ValueError if there are no latencies.
    """
    if not latencies:
        raise ValueError(f"no reply in {seconds:.2g} s: use more seconds")
    at_least_two = latencies if len(latencies) > 1 else [*latencies] * 2  # As quantiles needs.
    cuts = statistics.quantiles(at_least_two, n=100, method="inclusive")
    return {
        "calls": len(latencies),
        "rate": len(latencies) / seconds,
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
    }
