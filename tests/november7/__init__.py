"""Tests of the provider's border."""
