"""Tests of the client of November 7."""
