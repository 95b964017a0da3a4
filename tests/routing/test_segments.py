"""Many topics with parameters inside segments: the right one, at a cost that does not grow."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.topics import naive
from trio_gw.config.api import ApiProject, Cluster, Deployment, Endpoint, Topic
from trio_gw.routing.compiler import compile_table
from trio_gw.routing.segments import FEW, SegmentPatterns, Work, WorkError
from trio_gw.routing.topics import STEPS, TopicMatcher, sort_key

if TYPE_CHECKING:
    from collections.abc import Callable


MANY = 1500

# A family of channels, and a request that fits none of them, by number.
FAMILIES: dict[str, tuple[Callable[[int], str], str]] = {
    "suffix": (lambda k: f"/{{a}}-k{k}", "/x-y"),
    "prefix": (lambda k: f"/k{k}-{{a}}", "/x-y"),
    "letters before": (lambda k: f"/x{k}{{a}}", "/y1"),
    "equal prefixes": (lambda k: f"/room-{{a}}-k{k}", "/room-1-k"),
    "equal suffixes": (lambda k: f"/k{k}-{{a}}-room", "/k-1-room"),
    "equal ends": (lambda k: f"/room-{{a}}-k{k}-{{b}}-end", "/room-1-k-2-end"),
    "inside": (lambda k: f"/{{a}}-k{k}-{{b}}", "/x-k-y"),
    "inside, begun alike": (lambda k: f"/{{a}}-room-{k}-{{b}}", "/x-room-y-z"),
    "inside, twice": (lambda k: f"/{{a}}-k{k}-{{b}}-m{k}-{{c}}", "/x-k1-y-m-z"),
    "behind another": (lambda k: f"/{{a}}-{{b}}-k{k}-{{c}}", "/x-y-k-z"),
    "in the next segment": (lambda k: f"/{{a}}.json/{{b}}-k{k}", "/x.json/y"),
    "before a segment": (lambda k: f"/{{a}}-k{k}/end", "/x-k/end"),
    "wildcards": (lambda k: f"/{{a}}-k{k}/*", "/x-k/end"),
    "literals": (lambda k: f"/k{k}", "/x"),
    "longer and longer": (lambda k: "/" + "a" * (k % 60) + f"{{x}}-{k}", "/aaaa-x"),
}


def channels(family: str, count: int) -> list[str]:
    made = map(FAMILIES[family][0], range(count))
    return sorted(made, key=sort_key)


def steps(matcher: TopicMatcher, path: str) -> int:
    work = Work(STEPS)
    assert matcher.match(path, work) is None
    return STEPS - work.left


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unmatched_path_costs_the_same_among_many(family: str) -> None:
    path = FAMILIES[family][1]
    few = steps(TopicMatcher(channels(family, 100)), path)
    assert steps(TopicMatcher(channels(family, MANY)), path) <= 2 * few + 8


@pytest.mark.parametrize("family", FAMILIES)
def test_each_of_many_is_found(family: str) -> None:
    names = channels(family, MANY)
    matcher = TopicMatcher(names)
    for name in names[::97]:
        path = name.replace("{a}", "1").replace("{b}", "2").replace("{c}", "3").replace("{x}", "4")
        path = path.replace("/*", "/below")
        assert matcher.match(path) == naive(names, path) is not None


@pytest.mark.parametrize("family", ["suffix", "inside", "longer and longer"])
def test_compiling_takes_time_in_proportion(family: str) -> None:
    def cost(count: int) -> float:
        names = channels(family, count)
        began = time.process_time()
        TopicMatcher(names)
        return time.process_time() - began

    cost(100)
    assert min(cost(4 * MANY) for _ in range(3)) < 10 * min(cost(MANY) for _ in range(3))


pieces = st.sampled_from(["a", "b", "ab", "ba", "aab", "abab", "aabab", "-", "a-b-a"])


@given(
    st.sets(st.lists(pieces, min_size=1, max_size=2).map(tuple), min_size=FEW + 1, max_size=40),
    st.sampled_from(["", "a"]),
    st.sampled_from(["", "b"]),
    st.lists(st.text("ab-", min_size=1, max_size=12), min_size=1, max_size=6),
)
@settings(max_examples=examples(1000), deadline=None)
def test_many_inner_literals_agree_with_the_reference(
    inner: set[tuple[str, ...]], first: str, last: str, texts: list[str]
) -> None:
    names = [f"/{first}{{p}}" + "{p}".join(each) + f"{{p}}{last}" for each in inner]
    names.sort(key=sort_key)
    matcher = TopicMatcher(names)
    for text in texts:
        assert matcher.match(f"/{text}") == naive(names, f"/{text}")


def test_all_that_match_are_found() -> None:
    index: SegmentPatterns[int] = SegmentPatterns()
    patterns = [
        ("", "-k", ""),
        ("", "-", "-k", ""),
        ("", "k"),
        ("a", ""),
        ("b", ""),
        ("", "-m", ""),
    ]
    for number, literals in enumerate(patterns):
        assert index.add(literals, lambda number=number: number) == number  # type: ignore[misc]
    found = dict(index.find("a-b-k-k", None, Work(99)))
    assert found == {
        0: ((None, "a-b"), "-k"),
        1: (((None, "a"), "b"), "-k"),
        2: (None, "a-b-k-"),
        3: (None, "-b-k-k"),
    }


# --- too similar patterns are refused -------------------------------------------------------

PAIRS = [
    f"/{{a}}k{first:03}{{b}}k{second:03}{{c}}-"
    for first, second in itertools.product(range(120), range(120))
]


def tree(depth: int) -> list[str]:
    """Name every path of so many segments that are `a` or a parameter each."""
    return [
        "".join("/a" if bit == "1" else "/{x}" for bit in f"{number:0{depth}b}")
        for number in range(1 << depth)
    ]


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (tree(13), "/a" * 13 + "/b"),
        (PAIRS, "/" + "".join(f"k{number:03}x" for number in range(120)) * 2 + "-x/y"),
        (
            [f"/{{a}}k{first}{{b}}k{second}{{c}}/x" for first in range(70) for second in range(70)],
            "/x" + "".join(f"k{number}x" for number in range(70)) * 2 + "/y",
        ),
    ],
)
def test_matching_one_path_is_bounded(names: list[str], path: str) -> None:
    matcher = TopicMatcher(sorted(names, key=sort_key))

    def match() -> None:
        with contextlib.suppress(WorkError):
            assert matcher.match(path) is None

    every = quickest(lambda: sorted(names, key=sort_key))
    assert quickest(match) < every, "less than looking at each of them"


def quickest(work: Callable[[], object]) -> float:
    """Return the processor time of the quickest of three runs, in seconds."""
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def project(topics: list[str], context: str, folder: str, *, default: bool = False) -> ApiProject:
    return ApiProject(
        folder=folder,
        id=folder,
        name=folder.rpartition("/")[2],
        version="1.0.0",
        context=context,
        topics=tuple(map(Topic, topics)),
        production=Cluster((Endpoint("ws", "localhost", 1),)),
        default_version=default,
    )


def test_a_path_that_cannot_be_decided_is_refused_and_the_api_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    alike = project(tree(12), "/t/x", "apis/alike")
    wide = project(["/*"], "/t", "apis/wide", default=True)
    table, problems = compile_table([alike, wide], ())
    assert problems == ()
    for end in ("/b", "/c"):
        assert table.match("localhost", "/t/x/1.0.0" + "/a" * 12 + end) is None
    (record,) = caplog.records
    assert "apis/alike" in record.getMessage()
    assert table.match("localhost", "/t/x/1.0.0" + "/a" * 12) is not None
    assert table.match("localhost", "/t/y") is not None, "others are served"


def test_the_longest_wildcard_host_counts() -> None:
    hosts = ["*.example.com", "*.b.example.com", "*.com"]
    projects = [
        msgspec.structs.replace(
            project(["/x"], f"/c{number}", f"apis/{number}"),
            deployments=(Deployment("Default", host),),
        )
        for number, host in enumerate(hosts)
    ]
    table, _ = compile_table(projects, (), strict_vhosts=True)
    for host, number in [
        ("a.b.example.com", 1),
        ("b.example.com", 0),
        (".b.example.com", 1),
        ("x.com", 2),
        ("com", None),
        ("." * 300, None),
    ]:
        served = [n for n in range(3) if table.match(host, f"/c{n}/1.0.0/x") is not None]
        assert served == ([] if number is None else [number])
