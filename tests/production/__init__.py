"""Tests of deployed servers: faults, load, restarts and operations."""
