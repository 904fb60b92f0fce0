"""Everything about November 7, the external movie provider. Imports neither Flask nor SQLAlchemy.

The rest of the product uses `client`. `singleflight` lets one request answer many callers,
`session` caches valid responses, and `transport` sends requests until one is answered validly.
"""
