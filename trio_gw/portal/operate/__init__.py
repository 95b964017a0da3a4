"""Operate: what the gateway does now and did in the last hours, and how to step in."""

from __future__ import annotations

from trio_gw.portal.operate import endpoints, events, pages

ROUTES = (*pages.ROUTES, *endpoints.ROUTES, *events.ROUTES)
