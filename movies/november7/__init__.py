"""The border to November 7, the external movie provider. Imports neither Flask nor the database.

`client` speaks our vocabulary; `flights` lets one request answer many callers; `session` caches
what was true; `transport` does what it takes on the wire to get a true answer, or raises.
"""
