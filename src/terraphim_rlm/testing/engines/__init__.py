"""Engines, ours and others, that play the same script with the same model: for conformance and for benchmarks."""
