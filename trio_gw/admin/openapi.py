"""The description of the admin API for tools, served at `/swagger.json`: OpenAPI 2."""

from __future__ import annotations

from typing import Any

from trio_gw.admin import parameters
from trio_gw.admin.adapter import BASE, PART
from trio_gw.admin.openapi_managing import managing_paths


def _text(name: str, what: str, *, required: bool = False, **rules: str | int) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "type": "string",
        "description": what,
        "required": required,
        **rules,
    }


def _answers(**descriptions: str) -> dict[str, Any]:
    return {code.lstrip("_"): {"description": what} for code, what in descriptions.items()}


def document(version: str) -> dict[str, Any]:
    """Return the document for this version of the gateway."""
    refused = {"_401": "no or wrong credentials", "_422": "a parameter breaks its rules"}
    return {
        "swagger": "2.0",
        "info": {
            "title": "trio-gw adapter API",
            "version": version,
            "description": "Deploy, list and undeploy WebSocket APIs.",
        },
        "schemes": ["https"],
        "basePath": BASE,
        "produces": ["application/json"],
        "securityDefinitions": {
            "basic": {"type": "basic"},
            "bearer": {"type": "apiKey", "name": "Authorization", "in": "header"},
        },
        "security": [{"basic": []}, {"bearer": []}],
        "paths": {
            "/oauth2/token": {
                "post": {
                    "summary": "Get a token for a name and a password",
                    "operationId": "login",
                    "security": [],
                    "consumes": ["application/json"],
                    "parameters": [
                        {
                            "name": "credentials",
                            "in": "body",
                            "required": True,
                            "schema": {"$ref": "#/definitions/Credentials"},
                        }
                    ],
                    "responses": {
                        "200": {
                            "description": "the token",
                            "schema": {"$ref": "#/definitions/Token"},
                        },
                        **_answers(
                            _401="wrong name or password",
                            _422="a member breaks its rules",
                            _429="too many failed attempts",
                        ),
                    },
                }
            },
            "/apis": {
                "post": {
                    "summary": "Deploy a zipped API project",
                    "operationId": "deploy",
                    "consumes": ["multipart/form-data"],
                    "parameters": [
                        {"name": PART, "in": "formData", "type": "file", "required": True},
                        {"name": "override", "in": "query", "type": "boolean", "default": False},
                    ],
                    "responses": _answers(
                        _200="deployed and live",
                        _400="no such part, or no such form",
                        _409="the API, or its base path, is there already",
                        _413="the upload is too large",
                        _500="the project cannot be deployed; the body lists the problems",
                        **refused,
                    ),
                },
                "get": {
                    "summary": "List the APIs that are served, by host",
                    "operationId": "list",
                    "parameters": [
                        _text("query", "`type:ws`", maxLength=9, pattern=parameters.QUERY),
                        {
                            "name": "limit",
                            "in": "query",
                            "type": "integer",
                            "format": "int64",
                            "minimum": 1,
                            "maximum": parameters.MOST,
                        },
                    ],
                    "responses": {
                        "200": {
                            "description": "the APIs",
                            "schema": {"$ref": "#/definitions/Apis"},
                        },
                        **_answers(**refused),
                    },
                },
                "delete": {
                    "summary": "Undeploy an API",
                    "operationId": "undeploy",
                    "parameters": [
                        _text(
                            "apiName",
                            "its name",
                            required=True,
                            minLength=3,
                            maxLength=255,
                            pattern=parameters.NAME,
                        ),
                        _text(
                            "version",
                            "its version",
                            required=True,
                            minLength=1,
                            maxLength=15,
                            pattern=parameters.VERSION,
                        ),
                        _text(
                            "vhost",
                            "from this host only",
                            maxLength=255,
                            pattern=parameters.VHOST,
                        ),
                        _text(
                            "environments",
                            "from these environments only, joined by colons",
                            maxLength=255,
                            pattern=parameters.ENVIRONMENTS,
                        ),
                    ],
                    "responses": _answers(
                        _200="undeployed", _404="there is no such API there", **refused
                    ),
                },
            },
            **managing_paths(),
        },
        "definitions": {
            "Credentials": {
                "type": "object",
                "required": ["username", "password"],
                "properties": {
                    name: {"type": "string", "maxLength": 100, "pattern": parameters.CREDENTIAL}
                    for name in ("username", "password")
                },
            },
            "Token": {"type": "object", "properties": {"accessToken": {"type": "string"}}},
            "Apis": {
                "type": "object",
                "properties": {
                    "total": {"type": "integer"},
                    "count": {"type": "integer"},
                    "list": {"type": "array", "items": {"$ref": "#/definitions/Api"}},
                },
            },
            "Api": {
                "type": "object",
                "properties": {
                    **{
                        name: {"type": "string"}
                        for name in ("apiName", "version", "apiType", "context", "vhost")
                    },
                    "gateway-envs": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    }
