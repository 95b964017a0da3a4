"""`trio-gw applications`: applications of a running gateway, their keys and subscriptions.

It works as the pages of the portal do, with a session of the user: people who are no administrators
reach their own applications.
"""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import aligned, print_problems
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from trio_gw.cli.client import PortalClient

COLUMNS = ("NAME", "OWNER", "KEYS", "SUBSCRIPTIONS", "TIER", "UUID")
_SIZE = "200"
_API = "an API: NAME:VERSION, or its id"
_APP = "an application: its name or UUID"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    admin_options.arguments(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, summary: str, *places: tuple[str, str]) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=summary, description=f"{summary}.")
        for place, meaning in places:
            made.add_argument(place, metavar=place.upper(), help=meaning)
        return made

    app, api = ("application", _APP), ("api", _API)
    action("list", "list the own applications, or all for administrators").add_argument(
        "--json", action="store_true", help="print JSON instead of a table"
    )
    action("show", "show one as JSON", app)
    added = action("add", "add one", ("name", "its name"))
    added.add_argument("--description", default="", help="what it is for")
    added.add_argument("--tier", default="Unlimited", help="its limit (see trio-gw tiers)")
    action("remove", "remove one; its keys and connections end", app)
    key = action("key", "make a key, or a new secret for it; shown once", app)
    key.add_argument("--validity", type=int, metavar="SECONDS", help="life of its tokens")
    key.add_argument(
        "--keep-tokens", action="store_true", help="tokens of the old secret stay valid"
    )
    gone = action("revoke-key", "revoke a key; its tokens and connections end", app)
    for one in (key, gone):
        one.add_argument("--sandbox", action="store_true", help="the key for sandbox backends")
    action("subscribe", "subscribe to an API, or set the tier", app, api).add_argument(
        "--tier", help="the limit on this API (see trio-gw tiers)"
    )
    action("unsubscribe", "take a subscription away; its connections end", app, api)
    action("block", "block a subscription, as a publisher", app, api).add_argument(
        "--production-only", action="store_true", help="sandbox keys still work"
    )
    action("unblock", "unblock a subscription, as a publisher", app, api)
    revoked = action("revoke", "revoke tokens, without taking a key away")
    which = revoked.add_mutually_exclusive_group(required=True)
    which.add_argument("--jti", help="one token, by its id")
    which.add_argument("--consumer-key", help="all so far of a key")
    which.add_argument("--subject", help="all so far of a user")


def main(options: argparse.Namespace) -> int:
    """Do it; return 0, or 1 if the gateway refuses."""
    try:
        with client.PortalClient(options) as gateway:
            _ACTIONS[options.action](gateway, options)
    except client.RefusedError as error:
        print_problems(error.problems)
        print(f"trio-gw applications: {escape(str(error))}", file=sys.stderr)
        return 1
    return 0


def _list(gateway: PortalClient, options: argparse.Namespace) -> None:
    found = _all(gateway)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    lines = [COLUMNS]
    for one in found:
        keys = ", ".join(kind.lower() for kind in one["keys"]) or "-"
        apis = ", ".join(each["title"] for each in one["subscriptions"]) or "-"
        lines.append((one["name"], one["owner"], keys, apis, one["tier"], one["uuid"]))
    print(aligned(lines))


def _show(gateway: PortalClient, options: argparse.Namespace) -> None:
    print(json.dumps(_named(gateway, options.application), indent=2))


def _add(gateway: PortalClient, options: argparse.Namespace) -> None:
    body = {"name": options.name, "description": options.description, "tier": options.tier}
    print(f"added: {escape(options.name)} ({gateway.send('POST', '/applications', body)['uuid']})")


def _remove(gateway: PortalClient, options: argparse.Namespace) -> None:
    gateway.send("DELETE", _path(_named(gateway, options.application)))
    print(f"removed: {escape(options.application)}")


def _key(gateway: PortalClient, options: argparse.Namespace) -> None:
    body: dict[str, Any] = {"keep_tokens": options.keep_tokens}
    if options.validity is not None:
        body["validity"] = options.validity
    app = _named(gateway, options.application)
    made = gateway.send("POST", f"{_path(app)}/keys/{_kind(options)}", body)
    pair = shlex.quote(f"{made['consumer_key']}:{made['consumer_secret']}")
    print(f"consumer key:    {made['consumer_key']}")
    print(f"consumer secret: {made['consumer_secret']}  (not shown again)")
    print(f"curl -u {pair} -d grant_type=client_credentials {made['token_url']}")


def _revoke_key(gateway: PortalClient, options: argparse.Namespace) -> None:
    app = _named(gateway, options.application)
    gateway.send("DELETE", f"{_path(app)}/keys/{_kind(options)}")
    print(f"revoked: the {_kind(options).lower()} key of {escape(options.application)}")


def _subscribe(gateway: PortalClient, options: argparse.Namespace) -> None:
    body = {} if options.tier is None else {"tier": options.tier}
    app = _named(gateway, options.application)
    made = gateway.send("PUT", f"{_path(app)}/subscriptions/{_api(gateway, options)}", body)
    print(escape(f"subscribed: {options.application} to {made['title']}, tier {made['tier']}"))


def _unsubscribe(gateway: PortalClient, options: argparse.Namespace) -> None:
    app = _named(gateway, options.application)
    found = [one for one in app["subscriptions"] if options.api in (one["api"], one["title"])]
    if not found:
        raise client.RefusedError(f"{options.application} is not subscribed to {options.api}")
    gateway.send("DELETE", f"{_path(app)}/subscriptions/{quote(found[0]['api'], safe='')}")
    print(escape(f"unsubscribed: {options.application} from {options.api}"))


def _block(gateway: PortalClient, options: argparse.Namespace) -> None:
    state = "UNBLOCKED"
    if options.action == "block":
        state = "PROD_ONLY_BLOCKED" if options.production_only else "BLOCKED"
    api = _api(gateway, options)
    listed = gateway.send("GET", f"/apis/{api}/subscriptions")["items"]
    app = _only(
        [one["application"] for one in listed],
        options.application,
        f"no application {options.application!r} is subscribed to {options.api}",
    )
    gateway.send("PUT", f"{_path(app)}/subscriptions/{api}", {"state": state})
    print(escape(f"{state}: {options.application} at {options.api}"))


def _revoke(gateway: PortalClient, options: argparse.Namespace) -> None:
    given = {
        "jti": options.jti,
        "consumer_key": options.consumer_key,
        "subject": options.subject,
    }
    gateway.send("POST", "/revocations", {name: text for name, text in given.items() if text})
    print("revoked")


_ACTIONS: dict[str, Callable[[PortalClient, argparse.Namespace], None]] = {
    "list": _list,
    "show": _show,
    "add": _add,
    "remove": _remove,
    "key": _key,
    "revoke-key": _revoke_key,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "block": _block,
    "unblock": _block,
    "revoke": _revoke,
}


def _all(gateway: PortalClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        query = {"page": str(len(found) // int(_SIZE) + 1), "size": _SIZE}
        answer = gateway.send("GET", "/applications", query=query)
        found += answer["items"]
        if not answer["items"] or len(found) >= answer["total"]:
            return found


def _named(gateway: PortalClient, name: str) -> dict[str, Any]:
    answer = gateway.send("GET", "/applications", query={"q": name, "size": _SIZE})
    return _only(answer["items"], name, f"there is no application {name!r}")


def _only(found: list[dict[str, Any]], name: str, missing: str) -> dict[str, Any]:
    """Return the application with this UUID or name. Raises `RefusedError`."""
    same = [one for one in found if one["uuid"] == name] or [
        one for one in found if one["name"] == name
    ]
    if not same:
        raise client.RefusedError(missing)
    if len(same) > 1:
        raise client.RefusedError(f"{len(same)} applications are named {name!r}: give the UUID")
    return same[0]


def _api(gateway: PortalClient, options: argparse.Namespace) -> str:
    """Return the id of an API, quoted for a path."""
    name = options.api.rpartition(":")[0] or options.api
    answer = gateway.send("GET", "/apis", query={"q": name, "size": _SIZE})
    for one in answer["items"]:
        if options.api in (one["id"], one["title"]):
            return quote(one["id"], safe="")
    return quote(options.api, safe="")


def _path(app: dict[str, Any]) -> str:
    return f"/applications/{quote(app['uuid'], safe='')}"


def _kind(options: argparse.Namespace) -> str:
    return "SANDBOX" if options.sandbox else "PRODUCTION"
