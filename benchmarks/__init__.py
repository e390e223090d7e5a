"""Measurements, each a command of its own: `python -m benchmarks.NAME`. No test asserts what they measure."""
