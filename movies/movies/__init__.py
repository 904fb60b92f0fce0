"""Searches, movies, ratings and vote counts."""
