"""Measure compilation and matching of a table of 10,000 topics, for each kind and mixed."""

from __future__ import annotations

import random
import statistics
import time

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
from trio_gw.config.settings import Environment
from trio_gw.routing.compiler import compile_table

TOPICS = 10_000
ROUNDS = 5
BACKEND = Cluster((Endpoint("ws", "backend", 80),))
KINDS = {
    "literal": lambda n: f"/area{n % 100}/topic{n}",
    "parameter": lambda n: f"/area{n % 100}/{{id}}/topic{n}",
    "mixed segment": lambda n: f"/area{n % 100}/item{n}-{{id}}.json",
    "wildcard": lambda n: f"/area{n % 100}/tree{n}/*",
}


def projects(kinds: list[str], apis: int) -> list[ApiProject]:
    """Create `apis` projects with the topics divided among them."""
    share = TOPICS // apis
    made = []
    for api in range(apis):
        numbers = range(api * share, (api + 1) * share)
        topics = tuple(Topic(KINDS[kinds[n % len(kinds)]](n)) for n in numbers)
        made.append(
            ApiProject(f"a{api}", f"{api}", f"A{api}", "1.0.0", f"/a{api}", topics, BACKEND)
        )
    return made


def path_of(project: ApiProject, topic: Topic) -> str:
    """Return a request path that matches this topic."""
    return project.base_path + topic.name.replace("{id}", "x7-y").replace("/*", "/deep/er")


def main() -> None:
    """Print the table."""
    print(f"\n| {TOPICS} topics | compile, ms of processor | match, µs (median) | no match, µs |")
    print("|---|---:|---:|---:|")
    for name, kinds, apis in [
        *((kind, [kind], 1) for kind in KINDS),
        ("all kinds, one API", list(KINDS), 1),
        ("all kinds, 100 APIs", list(KINDS), 100),
    ]:
        made = projects(kinds, apis)
        compiled, matched, missed = [], [], []
        pick = random.Random(1)
        for _ in range(ROUNDS):
            start = time.process_time()
            table, problems = compile_table(made, [Environment()])
            compiled.append(time.process_time() - start)
            assert not problems
            paths = [
                path_of(project, topic)
                for project in pick.choices(made, k=5000)
                for topic in pick.choices(project.topics)
            ]
            for host, samples in (("localhost", paths), ("localhost", [p + "/no" for p in paths])):
                start = time.process_time()
                hits = sum(table.match(host, path) is not None for path in samples)
                spent = (time.process_time() - start) / len(samples)
                (matched if samples is paths else missed).append(spent)
                assert samples is not paths or hits == len(paths)
        cells = (
            statistics.median(compiled) * 1e3,
            statistics.median(matched) * 1e6,
            statistics.median(missed) * 1e6,
        )
        print(f"| {name} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")


main()
