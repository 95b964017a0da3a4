"""Valid API projects: each field, default, precedence and warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_gw.config import project
from trio_gw.config.api import (
    ApiProject,
    BasicAuth,
    Cluster,
    Deployment,
    Endpoint,
    Topic,
    UriMapping,
)

if TYPE_CHECKING:
    from trio_gw.errors import Problem

API = """\
type: api
version: v4.1.0
data:
  name: Chat
  version: 1.0.0
  context: /chat
  type: WS
  endpointConfig:
    production_endpoints:
      url: wss://backend.example:8443/chat
"""
DEFINITION = "asyncapi: 2.0.0\nchannels: {/room: {publish: {}}}\n"
PRODUCTION = Endpoint("wss", "backend.example", 8443, "/chat")
CHAT = ApiProject(
    folder="apis/Chat",
    id="d2c6c924a956f0ed02ae53429b0bcb6eed48ec1e",
    name="Chat",
    version="1.0.0",
    context="/chat",
    topics=(Topic("/room"),),
    production=Cluster((PRODUCTION,)),
    oauth2=False,
)


def files(api: str = API, definition: str = DEFINITION, **others: str) -> dict[str, bytes]:
    named = {"api.yaml": api, "Definitions/asyncapi.yaml": definition}
    named |= {name.replace("_yaml", ".yaml"): text for name, text in others.items()}
    return {name: text.encode() for name, text in named.items()}


def load(given: dict[str, bytes]) -> tuple[ApiProject, tuple[Problem, ...]]:
    loaded = project.load(given, "apis/Chat")
    assert loaded.project is not None, loaded.problems
    assert not loaded.incomplete
    for problem in loaded.problems:
        assert problem.severity == "warning"
        assert problem.hint
    return loaded.project, loaded.problems


def clean(given: dict[str, bytes]) -> ApiProject:
    found, problems = load(given)
    assert problems == ()
    return found


def with_data(*lines: str) -> str:
    """Put lines into `data:`, replacing those of the same key."""
    keys = {line.split(":")[0] for line in lines}
    kept = [line for line in API.splitlines() if line.strip().split(":")[0] not in keys]
    at = kept.index("data:") + 1
    return "\n".join([*kept[:at], *(f"  {line}" for line in lines), *kept[at:]]) + "\n"


def with_endpoints(text: str) -> str:
    """Replace what stands below `endpointConfig:` (line 8)."""
    return API.partition("    production_endpoints")[0] + text


# --- which files are read --------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "api.yaml",
        "api.yml",
        "api.json",
        "API.YAML",
        "Chat-1.0.0/api.yaml",
        "a/b/c/api.json",
        "Definitions/asyncapi.yaml",
        "Definitions/asyncapi.yml",
        "Chat/Definitions/asyncapi.json",
        "definitions/AsyncAPI.yaml",
        "Definitions/swagger.yaml",
        "Definitions/swagger.json",
        "deployment_environments.yaml",
        "deployment_environments.json",
        "Chat/deployment_environments.yml",
        "Endpoint-certificates/endpoint_certificates.yaml",
        "Chat/Endpoint-certificates/backend.crt",
        "Client-certificates/client_certificates.json",
        "Client-certificates/partner.pem",
    ],
)
def test_wanted(path: str) -> None:
    assert project.wanted(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "api.yaml/",
        "/api.yaml",
        "a//api.yaml",
        "api.yaml.bak",
        "my-api.yaml",
        "api.txt",
        "api_meta.yaml",
        "apiXyaml",
        "README.md",
        "asyncapi.yaml",
        "Other/asyncapi.yaml",
        "Definitions/api.yaml",
        "definitions/api.json",
        "Definitions/more/api.yaml",
        "Definitions/more/asyncapi.yaml",
        "Definitions/schema.graphql",
        "Definitions/swagger",
        "Definitions/swagger.a.b",
        "Policies/p.yaml",
        ".hidden/api.yaml",
        "a/.git/api.yaml",
        ".api.yaml",
        "__MACOSX/._api.yaml",
        "../api.yaml",
        "./api.yaml",
        "Definitions/.asyncapi.yaml",
        "api.yaml\n",
        "Endpoint-certificates/interceptors/a.crt",
        "Endpoint-certificates/notes.txt",
    ],
)
def test_not_wanted(path: str) -> None:
    assert not project.wanted(path)


def test_unwanted_files_have_no_effect() -> None:
    more = {"README.md": b"\xff", ".git/api.yaml": b"]", "Definitions/api.yaml": b"]"}
    assert clean(files() | more) == CHAT


def test_files_are_found_below_a_top_folder() -> None:
    inner = {f"Chat-1.0.0/{name}": data for name, data in files().items()}
    assert clean(inner) == CHAT


def test_the_shallowest_file_wins() -> None:
    deep = {f"old/{name}": b"]" for name in files()}
    assert clean(files() | deep) == CHAT


def test_json_serves_as_well_as_yaml() -> None:
    given = {
        "api.json": b'{"data": {"Name": "Chat", "version": "1.0.0", "context": "/chat",'
        b' "type": "ws", "endpointConfig": {"production_endpoints":'
        b' {"url": "wss://backend.example:8443/chat"}}}}',
        "Definitions/asyncapi.json": b'{"asyncapi": "2.0.0", "channels":'
        b' {"/room": {"publish": {}}}}',
    }
    assert clean(given) == CHAT


def test_json_in_a_file_named_yaml_and_the_reverse() -> None:
    given = {"api.json": API.encode(), "Definitions/asyncapi.yaml": b'{"asyncapi": "2.0.0",'
             b'"channels": {"/room": {"publish": {}}}}'}  # fmt: skip
    assert clean(given) == CHAT


def test_an_asyncapi_definition_named_swagger_is_read_when_it_is_alone() -> None:
    given = files()
    given["Definitions/swagger.yaml"] = given.pop("Definitions/asyncapi.yaml")
    assert clean(given) == CHAT


def test_a_swagger_beside_an_asyncapi_definition_is_ignored() -> None:
    assert clean(files() | {"Definitions/swagger.yaml": b"openapi: 3.0.0\n"}) == CHAT


# --- api.yaml: fields and defaults -----------------------------------------------------------


def test_the_smallest_project() -> None:
    assert clean(files()) == CHAT


def test_the_default_id_is_the_hash_of_name_and_version() -> None:
    assert clean(files()).id == "d2c6c924a956f0ed02ae53429b0bcb6eed48ec1e"
    assert clean(files(with_data("id:"))).id == CHAT.id
    assert clean(files(with_data("id: ''"))).id == CHAT.id
    accented = clean(files(with_data("name: Caf\u00e9", "version: '1'"))).id
    assert accented == "a0dbfcff6ad942878f8039f5b0898a858a7baa36"


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("id: 9bc3dbd7-7635-406e-bfd2-2c71dcb05b98", "id", "9bc3dbd7-7635-406e-bfd2-2c71dcb05b98"),
        ("id: 17", "id", "17"),
        ("name: Caf\u00e9 no 1", "name", "Caf\u00e9 no 1"),
        ("name: 007", "name", "007"),
        ("Name: Other", "name", "Other"),
        ("version: 1.10", "version", "1.10"),
        ("version: 1", "version", "1"),
        ("version: v2", "version", "v2"),
        ("version: 2/x", "version", "2/x"),
        ("context: /t/example.com/chat", "context", "/t/example.com/chat"),
        ("context: /a~b_c.d-e", "context", "/a~b_c.d-e"),
        ("lifeCycleStatus: prototyped", "lifecycle", "PROTOTYPED"),
        ("lifeCycleStatus: Blocked", "lifecycle", "BLOCKED"),
        ("lifecyclestatus: RETIRED", "lifecycle", "RETIRED"),
        ("lifeCycleStatus:", "lifecycle", "PUBLISHED"),
        ("lifeCycleStatus: ''", "lifecycle", "PUBLISHED"),
        ("isDefaultVersion: true", "default_version", True),
        ("isDefaultVersion: false", "default_version", False),
        ("isDefaultVersion:", "default_version", False),
        ("apiThrottlingPolicy: 50KPerMin", "tier", "50KPerMin"),
        ("apiThrottlingPolicy: null", "tier", "Unlimited"),
        ("apiThrottlingPolicy: ''", "tier", "Unlimited"),
        ("authorizationHeader: X-Auth-Token", "authorization_header", "x-auth-token"),
        ("authorizationHeader: Authorization", "authorization_header", "authorization"),
        ("authorizationHeader:", "authorization_header", ""),
        ("organizationId: example.org", "organization", "example.org"),
        ("organizationId: ''", "organization", "carbon.super"),
        ("endpointImplementationType: ENDPOINT", "name", "Chat"),
        ("type: ws", "name", "Chat"),
        ("type: Ws", "name", "Chat"),
        ("operations: 3", "name", "Chat"),
        ("tags: [x // y]", "name", "Chat"),
        ("revisionId: 4", "name", "Chat"),
    ],
)
def test_fields_of_api_yaml(line: str, field: str, value: object) -> None:
    api = with_data(line).replace("  name: Chat\n", "") if line[0] == "N" else with_data(line)
    assert getattr(clean(files(api)), field) == value


def test_base_path_and_title() -> None:
    found = clean(files(with_data("context: /a/1.10", "version: 1.10")))
    assert found.base_path == "/a/1.10/1.10"
    assert found.title == "Chat:1.10"


@pytest.mark.parametrize("context", ["/chat/", "/"])
def test_a_context_with_a_slash_at_its_end_is_warned_about(context: str) -> None:
    found, (problem,) = load(files(with_data(f"context: {context}")))
    assert found.base_path == f"{context}/1.0.0"
    assert (problem.file, problem.line) == ("apis/Chat/api.yaml", 4)
    assert f"`{context}/1.0.0`" in problem.what


# --- endpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("ws://h", Endpoint("ws", "h", 80)),
        ("wss://h", Endpoint("wss", "h", 443)),
        ("http://h/x", Endpoint("ws", "h", 80, "/x")),
        ("https://h/x", Endpoint("wss", "h", 443, "/x")),
        ("WSS://h:443", Endpoint("wss", "h", 443)),
        ("h", Endpoint("ws", "h", 80)),
        ("h:8080/a/b", Endpoint("ws", "h", 8080, "/a/b")),
        ("ws:8080", Endpoint("ws", "ws", 8080)),
        ("'  ws://h/x  '", Endpoint("ws", "h", 80, "/x")),
        ("ws://h/", Endpoint("ws", "h", 80)),
        ("ws://h/x/", Endpoint("ws", "h", 80, "/x/")),
        ("ws://h:", Endpoint("ws", "h", 80)),
        ("ws://h:1", Endpoint("ws", "h", 1)),
        ("ws://h:65535", Endpoint("ws", "h", 65535)),
        ("ws://mock_Backend-1.example.", Endpoint("ws", "mock_Backend-1.example.", 80)),
        ("ws://xn--caf-dma.example", Endpoint("ws", "xn--caf-dma.example", 80)),
        ("ws://127.0.0.1:9/x", Endpoint("ws", "127.0.0.1", 9, "/x")),
        ("ws://[::1]/x", Endpoint("ws", "::1", 80, "/x")),
        ("wss://[2001:db8::1]:8443", Endpoint("wss", "2001:db8::1", 8443)),
        ("ws://h/x?a=1&b=2", Endpoint("ws", "h", 80, "/x", "a=1&b=2")),
        ("ws://h?a=1?b", Endpoint("ws", "h", 80, "", "a=1?b")),
        ("ws://h/x/?", Endpoint("ws", "h", 80, "/x/")),
        ("ws://h/a%20b;c=(d)", Endpoint("ws", "h", 80, "/a%20b;c=(d)")),
        ("ws://h/?a[]=1", Endpoint("ws", "h", 80, "", "a[]=1")),
        ("ws://h/a@b:c", Endpoint("ws", "h", 80, "/a@b:c")),
    ],
)
def test_endpoint_urls(url: str, endpoint: Endpoint) -> None:
    api = with_endpoints(f"    production_endpoints: {{url: {url}}}\n")
    if "[" in url or "{" in url or url.endswith(":"):
        api = with_endpoints(f"    production_endpoints:\n      url: '{url}'\n")
    assert clean(files(api)).production == Cluster((endpoint,))


def test_a_fragment_is_dropped_with_a_warning() -> None:
    found, (problem,) = load(
        files(with_endpoints("    sandbox_endpoints: {url: 'ws://h/x#y?z'}\n"))
    )
    assert found.sandbox == Cluster((Endpoint("ws", "h", 80, "/x"),))
    assert problem.line == 9
    assert "`#`" in problem.what


def test_a_list_of_endpoints_is_one_cluster() -> None:
    found = clean(
        files(
            with_endpoints(
                "    endpoint_type: load_balance\n"
                "    production_endpoints:\n"
                "      - url: ws://a/x\n"
                "        config: {actionDuration: '30000', retryTimeOut: 2}\n"
                "      - {url: 'wss://b:1/y?z=1'}\n"
                "    sandbox_endpoints: [{url: 'ws://c'}]\n"
            )
        )
    )
    assert found.production == Cluster(
        (Endpoint("ws", "a", 80, "/x"), Endpoint("wss", "b", 1, "/y", "z=1")),
        timeout=30.0,
        retries=2,
    )
    assert found.sandbox == Cluster((Endpoint("ws", "c", 80),))


@pytest.mark.parametrize("nothing", ["", "~", "[]", "{}"])
def test_one_side_may_have_no_endpoints(nothing: str) -> None:
    found = clean(
        files(
            with_endpoints(
                f"    production_endpoints: {nothing}\n    sandbox_endpoints: {{url: ws://s}}\n"
            )
        )
    )
    assert found.production is None
    assert found.sandbox == Cluster((Endpoint("ws", "s", 80),))


def test_failovers_and_credentials_belong_to_their_side() -> None:
    found, problems = load(
        files(
            API + "    production_failovers: [{url: 'ws://f'}]\n"
            "    sandbox_failovers:\n      - url: ws://g\n"
            "    endpoint_security:\n"
            "      production: {enabled: true, type: BASIC, username: u, password: p}\n"
            "      sandbox: {enabled: false}\n"
        )
    )
    assert found.production == Cluster(
        (PRODUCTION, Endpoint("ws", "f", 80)), failover=True, basic=BasicAuth("u", "p")
    )
    assert found.sandbox is None
    ((line, what),) = [(problem.line, problem.what) for problem in problems]
    assert line == 13
    assert what == "`sandbox_failovers` without `sandbox_endpoints` is not used"


@pytest.mark.parametrize(
    "text",
    [
        "    production_failovers: []\n    sandbox_failovers:\n",
        "    endpoint_security:\n",
        "    endpoint_security: {production: {enabled: false}, sandbox: }\n",
        "    implementation_status: prototyped\n    config: 3\n    algoCombo: x\n",
    ],
)
def test_what_is_switched_off_is_not_warned_about(text: str) -> None:
    assert clean(files(API + text)) == CHAT


# --- precedence ------------------------------------------------------------------------------


def test_a_server_replaces_the_list_of_its_side_only() -> None:
    found = clean(
        files(
            with_endpoints(
                "    production_endpoints: [{url: 'ws://a'}, {url: 'ws://b'}]\n"
                "    sandbox_endpoints: {url: 'ws://echo.websocket.org:80'}\n"
            ),
            DEFINITION + "servers: {production: {url: 'wss://ws.ifelse.io:443'}}\n",
        )
    )
    assert found.production == Cluster((Endpoint("wss", "ws.ifelse.io", 443),))
    assert found.sandbox == Cluster((Endpoint("ws", "echo.websocket.org", 80),))


def test_a_sandbox_server_leaves_production_alone() -> None:
    found = clean(files(API, DEFINITION + "servers: {sandbox: {url: 'ws://s/x'}}\n"))
    assert found.production == Cluster((PRODUCTION,))
    assert found.sandbox == Cluster((Endpoint("ws", "s", 80, "/x"),))


@pytest.mark.parametrize("config", ["  endpointConfig:\n", "  endpointConfig: {}\n", ""])
def test_a_server_is_enough_without_endpoints_in_api_yaml(config: str) -> None:
    api = API.partition("  endpointConfig")[0] + config
    found = clean(files(api, DEFINITION + "servers: {production: {url: 'ws://p'}}\n"))
    assert found.production == Cluster((Endpoint("ws", "p", 80),))
    assert found.sandbox is None


def test_name_and_version_of_the_definition_do_not_matter() -> None:
    info = "info: {title: Other, version: '9'}\n"
    assert clean(files(API, DEFINITION + info)) == CHAT


def test_topics_come_from_the_definition_only() -> None:
    api = API + "  operations:\n    - {target: /other, verb: PUBLISH, uriMapping: /elsewhere}\n"
    assert clean(files(api)).topics == (Topic("/room"),)


@pytest.mark.parametrize(
    ("operations", "definition", "tier"),
    [
        ("[{target: /room, throttlingPolicy: Gold}]", "{}", "Gold"),
        ("[{Target: room, verb: SUBSCRIBE, ThrottlingPolicy: Gold // ours}]", "{}", "Gold"),
        (
            "[{target: /room, verb: publish, throttlingPolicy: Gold},"
            " {target: /room, verb: SUBSCRIBE, throttlingPolicy: Silver}]",
            "{}",
            "Gold",
        ),
        ("[{target: /room, throttlingPolicy: Gold}]", "{x-throttling-tier: Own}", "Own"),
        ("[{target: /other, throttlingPolicy: Gold}]", "{}", ""),
        ("[{target: /room, throttlingPolicy: }, 3, {target: 4}, [x]]", "{}", ""),
        ("{target: /room, throttlingPolicy: Gold}", "{}", ""),
    ],
)
def test_the_tier_of_an_operation_is_that_of_its_topic(
    operations: str, definition: str, tier: str
) -> None:
    given = DEFINITION.replace("publish: {}", f"publish: {definition}")
    found = clean(files(API + f"  operations: {operations}\n", given))
    assert found.topics == (Topic("/room", tier=tier),)


def test_oauth2_is_carried_over() -> None:
    components = "components: {securitySchemes: {oauth2: {type: oauth2}}}\n"
    assert clean(files(API, DEFINITION + components)).oauth2
    assert not clean(files()).oauth2


# --- deployments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "deployments"),
    [
        (
            "  - displayOnDevportal: true\n"
            "    deploymentEnvironment: Default\n"
            "    deploymentVhost: us.example.com\n"
            "  - deploymentEnvironment: Other\n"
            "  - {DeploymentEnvironment: Third, deploymentVhost: }\n",
            (
                Deployment("Default", "us.example.com"),
                Deployment("Other"),
                Deployment("Third"),
            ),
        ),
        (
            "  - {deploymentEnvironment: A, deploymentVhost: '*.example.com'}\n"
            "  - {deploymentEnvironment: A, deploymentVhost: 'example.*'}\n"
            "  - {deploymentEnvironment: A, deploymentVhost: 10.0.0.1}\n"
            "  - {deploymentEnvironment: A, deploymentVhost: '::1'}\n",
            (
                Deployment("A", "*.example.com"),
                Deployment("A", "example.*"),
                Deployment("A", "10.0.0.1"),
                Deployment("A", "::1"),
            ),
        ),
    ],
)
def test_deployments_as_declared(data: str, deployments: tuple[Deployment, ...]) -> None:
    text = f"type: deployment_environments\nversion: v4.0.0\ndata:\n{data}"
    assert clean(files(deployment_environments_yaml=text)).deployments == deployments


@pytest.mark.parametrize("text", ["type: x\n", "type: x\ndata:\n", "type: x\ndata: []\n"])
def test_no_deployment_means_the_default_and_a_warning(text: str) -> None:
    found, (problem,) = load(files(deployment_environments_yaml=text))
    assert found.deployments == ()
    assert problem.file == "apis/Chat/deployment_environments.yaml"
    assert "`Default`" in problem.what


# --- the shape of the published sample -------------------------------------------------------

SAMPLE_API = """\
type: api
version: v4.1.0
data:
  name: Ticker
  context: /ticker        // where clients find it
  version: 1.0.0          // part of that path
  lifeCycleStatus: PUBLISHED   // served
  isDefaultVersion: true  // so the version may be left out
  type: WS                // a streaming API
  policies:
   - AsyncUnlimited       // plans do nothing here
  apiThrottlingPolicy: 50KPerMin  // the tier of the API
  authorizationHeader: Authorization
  endpointConfig:
    endpoint_type: ws
    sandbox_endpoints:
      url: ws://echo.example:80
    production_endpoints:
      url: ws://echo.example:80/v2    // the backend
  operations:
   -
    target: /prices
    throttlingPolicy: 50KPerMin   // the tier of the topic
"""
SAMPLE_DEFINITION = """\
asyncapi: 2.0.0
servers:
  production:
    url: ws://echo.example:8080
    protocol: ws
channels:
  /prices:
    publish:
      x-uri-mapping: /prices
    subscribe:
      x-uri-mapping: /prices
      x-scopes:
        "0": trader
    x-auth-type: Any
  /history:
    subscribe:
      x-scopes:
        "1": auditor
        "0": trader
components:
  securitySchemes:
    oauth2:
      type: oauth2
"""


def test_a_project_like_the_published_sample_loads_with_warnings() -> None:
    found, problems = load(files(SAMPLE_API, SAMPLE_DEFINITION))
    assert found == ApiProject(
        folder="apis/Chat",
        id="e49e24a6c8a768e234363500632c9a5f64598465",
        name="Ticker",
        version="1.0.0",
        context="/ticker",
        topics=(
            Topic("/prices", UriMapping("/prices"), tier="50KPerMin"),
            Topic("/history", scopes=("trader", "auditor")),
        ),
        production=Cluster((Endpoint("ws", "echo.example", 8080),)),
        sandbox=Cluster((Endpoint("ws", "echo.example", 80),)),
        lifecycle="PUBLISHED",
        default_version=True,
        tier="50KPerMin",
        authorization_header="authorization",
        oauth2=True,
    )
    assert [(problem.file.rpartition("/")[2], problem.line) for problem in problems] == [
        ("asyncapi.yaml", 11),
        ("api.yaml", 5),
        ("api.yaml", 6),
        ("api.yaml", 7),
        ("api.yaml", 8),
        ("api.yaml", 9),
        ("api.yaml", 12),
        ("api.yaml", 19),
    ]
    assert "`publish` speaks" in problems[0].what
    for problem in problems[1:]:
        assert problem.hint == "YAML comments start with `#`"
    assert str(problems[1]).startswith(
        "apis/Chat/api.yaml:5: warning: `context` is followed by `//`"
    )


def test_the_same_project_without_such_comments_is_quiet_about_them() -> None:
    api = "\n".join(line.partition(" //")[0] for line in SAMPLE_API.splitlines())
    found, (problem,) = load(files(api, SAMPLE_DEFINITION))
    assert found == load(files(SAMPLE_API, SAMPLE_DEFINITION))[0]
    assert problem.file.endswith("asyncapi.yaml")
