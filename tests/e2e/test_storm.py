from __future__ import annotations

from benchmarks.storm import rage


def test_what_is_acknowledged_is_readable_at_once_whoever_else_registers() -> None:
    """For two minutes, with more of both: ``python -m benchmarks.storm``."""
    storm = rage(kernels=12, workers=3, seconds=5.0)
    assert storm.failures == []
    assert len(storm.registering_ms) > 100
