"""Measurements. Never run by pytest; every timing is a ratio, or two figures of one run."""
