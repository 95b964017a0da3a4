"""Routing: which topic of which API a request belongs to.

`compiler` builds an immutable `RouteTable` from API projects, `table` matches requests against
it, and `Live` holds the current one. *feed* replaces it, *proxy* reads it.
"""
