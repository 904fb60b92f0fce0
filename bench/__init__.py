"""Measurements, which pytest never runs. Timings are ratios, or two figures of the same run."""
