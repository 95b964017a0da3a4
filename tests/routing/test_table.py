"""The route table: hosts, base paths, order, conflicts, and swapping it."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from trio_gw.config.api import ApiProject, Cluster, Deployment, Endpoint, Topic, UriMapping
from trio_gw.config.settings import Environment
from trio_gw.routing.compiler import EMPTY, compile_table
from trio_gw.routing.conflicts import default_base_path
from trio_gw.routing.live import Live
from trio_gw.routing.table import MAX_CACHED, MAX_CACHED_LENGTH, RouteTable

if TYPE_CHECKING:
    from trio_gw.errors import Problem

BACKEND = Endpoint("ws", "backend", 2360, "/v2")
DEFAULT = (Environment("Default", "localhost"),)


def project(
    context: str = "/ctx",
    version: str = "1.0.0",
    topics: tuple[str | Topic, ...] = ("/*",),
    *,
    name: str = "",
    **fields: Any,
) -> ApiProject:
    name = name or context.strip("/")
    return ApiProject(
        folder=fields.pop("folder", f"{name}-{version}"),
        id=fields.pop("id", f"{name}:{version}"),
        name=name,
        version=version,
        context=context,
        topics=tuple(Topic(topic) if isinstance(topic, str) else topic for topic in topics),
        production=Cluster((BACKEND,)),
        **fields,
    )


def table(*projects: ApiProject, **options: Any) -> RouteTable:
    """Compile projects that are fine."""
    made, problems = compile_table(projects, options.pop("environments", DEFAULT), **options)
    assert problems == ()
    return made


def found(table: RouteTable, path: str, host: str = "localhost") -> str:
    """Name what answers: `<project's name>:<version> <topic>`, or nothing."""
    match = table.match(host, path)
    return f"{match.route.api.title} {match.route.topic.name}" if match else ""


def test_what_is_remembered_is_bounded_and_right() -> None:
    made = table(project(topics=("/rooms/{id}", "/lobby")))
    paths = [f"/ctx/1.0.0/rooms/{number}" for number in range(MAX_CACHED + 10)]
    for path in (*paths, *paths[:20]):
        match = made.match("localhost", path)
        assert match is not None
        assert match.parameters == {"id": path.rpartition("/")[2]}
    assert found(made, "/ctx/1.0.0/lobby") == found(made, "/ctx/1.0.0/lobby") == "ctx:1.0.0 /lobby"
    assert len(made._cache) <= MAX_CACHED
    assert found(made, "/ctx/1.0.0/rooms/" + "x" * MAX_CACHED_LENGTH) == "ctx:1.0.0 /rooms/{id}"
    assert all(len(host) + len(path) <= MAX_CACHED_LENGTH for host, path in made._cache)


# --- one API --------------------------------------------------------------------------------


def test_topics_below_the_base_path() -> None:
    made = table(project(topics=("/rooms/{roomID}", "/notifications", "/")))
    assert found(made, "/ctx/1.0.0/notifications") == "ctx:1.0.0 /notifications"
    assert found(made, "/ctx/1.0.0") == "ctx:1.0.0 /"
    assert found(made, "/ctx/1.0.0/") == "ctx:1.0.0 /"
    match = made.match("localhost", "/ctx/1.0.0/rooms/room%201/")
    assert match is not None
    assert match.parameters == {"roomID": "room%201"}
    assert match.route.pattern == "/ctx/1.0.0/rooms/{roomID}"


@pytest.mark.parametrize(
    "path",
    [
        *("/ctx", "/ctx/", "/", "", "*", "/ctx/2.0.0/x", "/ctx/1.0.0x", "/ctx/1.0.0x/a"),
        *("//ctx/1.0.0/x", "/CTX/1.0.0/x", "/ctx/1x0x0/x", "/ctx//1.0.0/x", "/x/ctx/1.0.0/x"),
        "/ctx/1.0.0%2Fx",
    ],
)
def test_paths_beside_the_base_path(path: str) -> None:
    assert found(table(project()), path) == ""


def test_a_parameter_named_twice_keeps_its_last_text() -> None:
    match = table(project(topics=("/{x}/{x}",))).match("localhost", "/ctx/1.0.0/1/2")
    assert match is not None
    assert match.parameters == {"x": "2"}


def test_a_context_that_ends_in_a_slash() -> None:
    """spec: project-format §7: requests need the double slash."""
    made = table(project("/ctx/"))
    assert found(made, "/ctx//1.0.0/x")
    assert not found(made, "/ctx/1.0.0/x")


def test_a_base_path_of_nothing() -> None:
    made = table(project("", "", topics=("/a", "/*"), name="trial"))
    assert found(made, "/a/") == "trial: /a"
    assert found(made, "/b/c") == "trial: /*"
    assert found(made, "") == "trial: /*"
    match = made.match("localhost", "/a")
    assert match is not None
    assert match.route.pattern == "/a"


def test_what_the_backend_is_asked() -> None:
    topic = Topic("/rooms/{id}", UriMapping("/r", (("room", "{uri.var.id}"),)))
    match = table(project(topics=(topic,))).match("localhost", "/ctx/1.0.0/rooms/7")
    assert match is not None
    assert match.route.backend_target(match, BACKEND, "q=1") == "/v2/r?room=7"


def test_clusters_by_key_type() -> None:
    sandbox = Cluster((Endpoint("ws", "sandbox", 1),))
    (row,) = table(project(sandbox=sandbox)).rows()
    route = row[2]
    assert route.cluster("production") == Cluster((BACKEND,))
    assert route.cluster("sandbox") == sandbox


@pytest.mark.parametrize(
    ("lifecycle", "secured", "asks"),
    [
        ("PUBLISHED", True, True),
        ("PUBLISHED", False, False),
        ("PROTOTYPED", True, False),
        ("BLOCKED", True, True),
    ],
)
def test_who_is_asked_for_a_credential(lifecycle: str, secured: bool, asks: bool) -> None:
    (row,) = table(project(topics=(Topic("/a", secured=secured),), lifecycle=lifecycle)).rows()
    assert row[2].secured is asks


# --- hosts ----------------------------------------------------------------------------------

US = Environment("US", "us.wso2.com")


def deployed(*places: tuple[str, str], **fields: Any) -> ApiProject:
    return project(deployments=tuple(Deployment(*place) for place in places), **fields)


def test_a_host_that_nobody_claims_is_the_default_environments() -> None:
    made = table(project())
    assert found(made, "/ctx/1.0.0", "127.0.0.1")
    assert found(made, "/ctx/1.0.0", "[::1]")


def test_strict_vhosts() -> None:
    made = table(project(), strict_vhosts=True)
    assert found(made, "/ctx/1.0.0", "localhost")
    assert not found(made, "/ctx/1.0.0", "127.0.0.1")
    assert not found(made, "/ctx/1.0.0", "")


def test_a_claimed_host_is_not_the_default_environments() -> None:
    made = table(project(), deployed(("US", ""), context="/us"), environments=(*DEFAULT, US))
    assert found(made, "/us/1.0.0", "us.wso2.com")
    assert not found(made, "/ctx/1.0.0", "us.wso2.com")
    assert not found(made, "/us/1.0.0", "localhost")
    assert not found(made, "/us/1.0.0", "eu.wso2.com")


def test_two_projects_that_differ_in_their_host_only() -> None:
    """Reference test D11."""
    environments = (*DEFAULT, US)
    made = table(
        project(name="here", topics=("/*", "/only")),
        deployed(("US", ""), name="there", topics=("/a",)),
        environments=environments,
    )
    assert found(made, "/ctx/1.0.0/only") == "here:1.0.0 /only"
    assert found(made, "/ctx/1.0.0/only", "us.wso2.com") == ""
    assert found(made, "/ctx/1.0.0/a", "us.wso2.com") == "there:1.0.0 /a"


def test_one_project_on_several_hosts() -> None:
    """Reference test D10."""
    made = table(
        deployed(("US", "localhost"), ("US", ""), ("Default", ""), ("Default", "eu.wso2.com")),
        environments=(*DEFAULT, US),
    )
    for host in ("localhost", "us.wso2.com", "eu.wso2.com"):
        assert found(made, "/ctx/1.0.0", host)
    assert [row[0] for row in made.rows()] == ["eu.wso2.com", "localhost", "us.wso2.com"]


@pytest.mark.parametrize(
    ("vhost", "host"),
    [
        ("API.Example.COM", "api.example.com"),
        ("example.com.", "example.com"),
        ("2001:DB8::1", "[2001:db8::1]"),
        ("*.Example.com", "a.example.com"),
        ("*.example.com.", "a.b.example.com"),
    ],
)
def test_vhosts_are_compared_as_a_request_writes_them(vhost: str, host: str) -> None:
    environments = (Environment("Default", vhost),)
    for made in (
        table(project(), environments=environments, strict_vhosts=True),
        table(deployed(("Default", vhost)), strict_vhosts=True),
    ):
        assert found(made, "/ctx/1.0.0", host)
        assert not found(made, "/ctx/1.0.0", f"x{host}x")


def test_wildcard_hosts() -> None:
    made = table(
        deployed(("Default", "*.wso2.com"), name="any"),
        deployed(("Default", "*.us.wso2.com"), name="us"),
        deployed(("Default", "eu.wso2.com"), name="eu"),
        strict_vhosts=True,
    )
    assert found(made, "/ctx/1.0.0", "a.wso2.com") == "any:1.0.0 /*"
    assert found(made, "/ctx/1.0.0", "us.wso2.com") == "any:1.0.0 /*"
    assert found(made, "/ctx/1.0.0", "a.us.wso2.com") == "us:1.0.0 /*"
    assert found(made, "/ctx/1.0.0", "a.b.us.wso2.com") == "us:1.0.0 /*"
    assert found(made, "/ctx/1.0.0", "eu.wso2.com") == "eu:1.0.0 /*"
    assert found(made, "/ctx/1.0.0", "wso2.com") == ""
    assert found(made, "/ctx/1.0.0", "xwso2.com") == ""
    assert found(made, "/ctx/1.0.0", "a.wso2.com.evil") == ""


def test_an_environment_that_is_not_known() -> None:
    made, problems = compile_table([deployed(("Mars", ""), ("Default", ""))], DEFAULT)
    (problem,) = problems
    assert problem.severity == "warning"
    assert "'Mars'" in problem.what
    assert found(made, "/ctx/1.0.0")


def test_no_environment_that_is_known() -> None:
    made, problems = compile_table([deployed(("Mars", "localhost"))], DEFAULT)
    assert [problem.severity for problem in problems] == ["warning", "warning"]
    assert "deployed nowhere" in problems[1].what
    assert not found(made, "/ctx/1.0.0")


def test_the_default_environment_always_exists() -> None:
    made = table(project(), environments=(US,))
    assert found(made, "/ctx/1.0.0", "localhost")


def test_the_default_environment_may_have_another_host() -> None:
    made = table(project(), environments=(Environment("Default", "gw"),), strict_vhosts=True)
    assert found(made, "/ctx/1.0.0", "gw")
    assert not found(made, "/ctx/1.0.0", "localhost")


# --- default version ------------------------------------------------------------------------


def test_default_version() -> None:
    """Reference test D12."""
    made = table(
        project("/defaultVersion", "1.0.0", ("/pet/{id}",)),
        project("/defaultVersion", "2.0.0", ("/store/inventory",), default_version=True),
    )
    title = "defaultVersion:2.0.0 /store/inventory"
    assert found(made, "/defaultVersion/store/inventory") == title
    assert found(made, "/defaultVersion/2.0.0/store/inventory") == title
    assert found(made, "/defaultVersion/1.0.0/pet/3") == "defaultVersion:1.0.0 /pet/{id}"
    assert found(made, "/defaultVersion/1.0.0/store/inventory") == ""
    assert found(made, "/defaultVersion/pet/3") == ""


def test_parameters_below_the_default_versions_path() -> None:
    """Reference test P1."""
    made = table(project("/testapi", "v1", ("/pets/{id}",), default_version=True))
    for path in ("/testapi/pets/7", "/testapi/v1/pets/7"):
        match = made.match("localhost", path)
        assert match is not None
        assert match.parameters == {"id": "7"}


def test_only_the_version_at_the_end_is_left_out() -> None:
    """Differs from the reference, where `/v1` with version `v1` answers everywhere."""
    api = project("/v1", "v1", default_version=True)
    assert default_base_path(api) == "/v1"
    made = table(api)
    assert found(made, "/v1/x")
    assert found(made, "/v1/v1/x")
    assert not found(made, "/x")


def test_other_versions_come_before_the_default_one() -> None:
    """Even where the default version's catch-all would match, and its path is the longer one."""
    made = table(
        project("/a", "1", ("/*",), default_version=True),
        project("/a", "2", ("/x",)),
    )
    assert found(made, "/a/2/x") == "a:2 /x"
    assert found(made, "/a/2/y") == "a:1 /*", "no topic of version 2, so the next one is tried"
    assert found(made, "/a/1/x") == "a:1 /*"
    assert [(base, route.api.version) for _, base, route in made.rows()] == [
        ("/a/2", "2"),
        ("/a/1", "1"),
        ("/a", "1"),
    ]


def test_other_apis_come_before_a_default_version_with_a_longer_base_path() -> None:
    made = table(
        project("/a/b/c", "1", ("/x",), name="default", default_version=True),
        project("/a", "b", ("/c/1/x",), name="other"),
    )
    assert found(made, "/a/b/c/1/x") == "other:b /c/1/x"
    assert found(made, "/a/b/c/x") == "default:1 /x"


# --- several APIs ---------------------------------------------------------------------------


def test_the_longest_base_path_is_tried_first() -> None:
    projects = [
        project("/a", "b", ("/*",), name="short"),
        project("/a/b", "c", ("/x",), name="long"),
    ]
    for made in (table(*projects), table(*projects[::-1])):
        assert found(made, "/a/b/c/x") == "long:c /x"
        assert found(made, "/a/b/c/y") == "short:b /*"
        assert found(made, "/a/b") == "short:b /*"


bases = st.lists(st.sampled_from(["a", "b", "1"]), min_size=1, max_size=3)


@given(st.data(), st.lists(st.tuples(bases, bases, st.booleans()), min_size=1, max_size=5))
@settings(max_examples=examples(300), deadline=None)
def test_the_answer_does_not_depend_on_the_order_of_projects(
    data: st.DataObject, drawn: list[tuple[list[str], list[str], bool]]
) -> None:
    projects: dict[str, ApiProject] = {}
    claimed: set[str] = set()
    for where, topic, default in drawn:
        *context, version = where
        api = project(
            "".join(f"/{part}" for part in context),
            version,
            ("/" + "/".join(topic), "/*") if default else ("/" + "/".join(topic),),
            name=f"n{len(projects)}",
            default_version=default,
        )
        mine = {api.base_path} | ({api.context} if default else set())
        if not mine & claimed:
            claimed |= mine
            projects[api.folder] = api
    made = table(*projects.values())
    shuffled = table(*data.draw(st.permutations(list(projects.values()))))
    for path in ("/a", "/a/1", "/a/b", "/a/b/1", "/a/a/a/a", "/1/b/a", "/b/1/1/1/"):
        assert found(made, path) == found(shuffled, path)
    assert [row[:2] for row in made.rows()] == [row[:2] for row in shuffled.rows()]


def one_problem(*projects: ApiProject) -> tuple[RouteTable, Problem]:
    made, problems = compile_table(projects, DEFAULT)
    (problem,) = problems
    return made, problem


def test_a_base_path_claimed_twice() -> None:
    made, problem = one_problem(
        project("/ctx", name="first", topics=("/a",)),
        project("/ctx", name="second", topics=("/a", "/b")),
    )
    assert found(made, "/ctx/1.0.0/a") == "first:1.0.0 /a"
    assert found(made, "/ctx/1.0.0/b") == ""
    assert problem.severity == "error"
    assert problem.file == "second-1.0.0"
    assert "first:1.0.0" in problem.what
    assert "/ctx/1.0.0 on localhost" in problem.what
    assert problem.hint


def test_two_default_versions() -> None:
    made, problem = one_problem(
        project("/a", "1", default_version=True),
        project("/a", "2", default_version=True),
    )
    assert problem.file == "a-2"
    assert "a:1" in problem.what
    assert found(made, "/a/x") == "a:1 /*"
    assert found(made, "/a/2/x") == "a:2 /*", "its own path is served nevertheless"


def test_what_loses_its_own_base_path_gets_no_other() -> None:
    made, problem = one_problem(
        project("/a", "1", name="first"),
        project("/a", "1", name="second", default_version=True),
    )
    assert "/a/1 on localhost" in problem.what
    assert found(made, "/a/x") == ""


def test_a_conflict_on_one_host_of_two() -> None:
    made, problem = one_problem(
        deployed(("Default", "h1"), name="first"),
        deployed(("Default", "h1"), ("Default", "h2"), name="second"),
    )
    assert "on h1" in problem.what
    assert found(made, "/ctx/1.0.0", "h1") == "first:1.0.0 /*"
    assert found(made, "/ctx/1.0.0", "h2") == "second:1.0.0 /*"


def test_a_default_version_whose_version_is_nothing_is_no_conflict_with_itself() -> None:
    assert found(table(project("/a", "", default_version=True)), "/a/x")


def test_paths_of_any_length() -> None:
    made = table(*(project(f"/a{i}", "1") for i in range(50)))
    path = "/a7/1" + "/x" * 4000
    assert found(made, path) == "a7:1 /*"
    assert found(made, "/" * 8000) == ""


# --- digest, reuse, live --------------------------------------------------------------------


def test_equal_input_gives_an_equal_digest() -> None:
    assert table(project(), project("/b")).digest == table(project(), project("/b")).digest
    assert EMPTY.digest == compile_table((), ())[0].digest


def test_every_difference_shows_in_the_digest() -> None:
    digests = [
        made.digest
        for made in (
            table(),
            table(project()),
            table(project(), strict_vhosts=True),
            table(project(), environments=(*DEFAULT, US)),
            table(project(topics=("/a",))),
            table(project(topics=(Topic("/*", secured=False),))),
            table(project(topics=(Topic("/*", scopes=()),))),
            table(project(topics=(Topic("/*", UriMapping("/a")),))),
            table(project(topics=(Topic("/*", UriMapping("/a", ())),))),
            table(project(tier="Gold")),
            table(project(default_version=True)),
            table(project(), project("/b")),
            table(project("/b")),
        )
    ]
    assert len(set(digests)) == len(digests)


def test_unchanged_projects_keep_their_routes() -> None:
    old = table(project("/same"), project("/changed"))
    new = table(project("/same"), project("/changed", topics=("/x",)), previous=old)
    routes = [{route.api.name: route for _, _, route in made.rows()} for made in (old, new)]
    assert routes[0]["same"] is routes[1]["same"]
    assert routes[0]["changed"] is not routes[1]["changed"]


def test_a_table_does_not_keep_the_one_before_it_alive() -> None:
    old = table(project())
    watcher = weakref.ref(old)
    new = table(project(), previous=old)
    del old
    gc.collect()
    assert watcher() is None
    assert found(new, "/ctx/1.0.0")


def test_the_empty_table() -> None:
    assert found(EMPTY, "/") == ""
    assert list(EMPTY.rows()) == []


async def test_swap_wakes_who_waits(nursery: trio.Nursery) -> None:
    live = Live(EMPTY)
    seen: list[int] = []

    async def waits() -> None:
        await live.wait_changed()
        seen.append(live.generation)

    for _ in range(3):
        nursery.start_soon(waits)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == []
    new = table(project())
    live.swap(new)
    assert live.table is new
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [1, 1, 1]


async def test_wait_changed_means_the_next_swap(autojump_clock: trio.testing.MockClock) -> None:
    live = Live(EMPTY)
    live.swap(EMPTY)
    with trio.move_on_after(1) as scope:
        await live.wait_changed()
    assert scope.cancelled_caught
    assert live.generation == 1


async def test_a_swap_while_the_one_before_is_still_being_looked_at(
    nursery: trio.Nursery,
) -> None:
    """Two swaps in a row: a waiting task wakes once and finds the latest table."""
    live = Live(EMPTY)
    seen: list[RouteTable] = []

    async def waits() -> None:
        await live.wait_changed()
        seen.append(live.table)

    nursery.start_soon(waits)
    await trio.testing.wait_all_tasks_blocked()
    latest = table(project())
    live.swap(table(project("/b")))
    live.swap(latest)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [latest]


def test_a_route_outlives_its_table() -> None:
    live = Live(table(project()))
    match = live.table.match("localhost", "/ctx/1.0.0/x")
    live.swap(EMPTY)
    assert match is not None
    assert match.route.backend_target(match, BACKEND, "") == "/v2"


def test_one_api_in_two_projects_is_served_once_per_host() -> None:
    first = project("/a", folder="first")
    made, problem = one_problem(first, project("/b", name="a", folder="second"))
    assert (problem.file, problem.severity) == ("second", "error")
    assert "a:1.0.0 (first)" in problem.what
    assert found(made, "/b/1.0.0/x") == ""


def test_one_name_and_version_under_two_ids() -> None:
    made, problem = one_problem(
        project("/a", folder="first"), project("/b", name="a", folder="second", id="other")
    )
    assert problem.file == "second"
    assert "as first, which is served" in problem.what
    assert found(made, "/b/1.0.0/x") == ""
    other = project("/b", name="a", folder="second", id="other", organization="elsewhere")
    assert found(table(project("/a", folder="first"), other), "/b/1.0.0/x") == "a:1.0.0 /*"


def test_one_api_on_two_hosts_is_no_conflict() -> None:
    """Reference test D11: the same name, version and context, distinguished by the host."""
    here = project("/a", folder="here")
    there = project("/a", folder="there", deployments=(Deployment("Default", "us.wso2.com"),))
    made = table(here, there)
    match = made.match("us.wso2.com", "/a/1.0.0/x")
    assert match is not None
    assert match.route.api.folder == "there"
    match = made.match("localhost", "/a/1.0.0/x")
    assert match is not None
    assert match.route.api.folder == "here"
