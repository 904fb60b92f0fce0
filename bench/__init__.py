"""Measurements, which pytest never runs. Times are compared within one run."""
