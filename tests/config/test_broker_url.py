"""URLs of message brokers (spec: control-plane §1, §6, §13, §14)."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_gw.config.broker_url import (
    BrokerEndpoint,
    parse_broker_url,
    parse_broker_urls,
)

PASSWORD = "correct-horse"


def parsed(url: str) -> BrokerEndpoint:
    (endpoint,) = parse_broker_url(url)
    return endpoint


def test_the_adapter_form_of_the_reference_system() -> None:
    endpoint = parsed("amqp://admin:secret@apim:5673/carbon?retries='12'&connectdelay='30'")
    assert endpoint == BrokerEndpoint(
        "apim", 5673, False, "carbon", "admin", "secret", retries=12, delay=30.0
    )
    assert endpoint.label == "amqp://apim:5673"


@pytest.mark.parametrize("path", ["", "/", "?retries='1'", "/?retries=1", "/%2F", "/%2f?retries=1"])
def test_the_virtual_host_is_a_slash_when_the_url_has_none(path: str) -> None:
    assert parsed(f"amqp://admin:admin@apim:5672{path}").vhost == "/"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://apim", ("apim", 5672, False)),
        ("amqps://apim", ("apim", 5671, True)),
        ("AMQPS://apim:7/x", ("apim", 7, True)),
        ("amqp://[::1]/x", ("::1", 5672, False)),
        ("amqp://[::1]:7/x", ("::1", 7, False)),
        ("amqp://u:p@10.0.0.7:7/x", ("10.0.0.7", 7, False)),
    ],
)
def test_host_port_and_tls(url: str, address: tuple[str, int, bool]) -> None:
    endpoint = parsed(url)
    assert (endpoint.host, endpoint.port, endpoint.tls) == address


def test_an_ipv6_address_has_brackets_in_the_label() -> None:
    assert parsed("amqps://[::1]:7").label == "amqps://[::1]:7"


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", (5, 10.0)),
        ("?retries='0'&connectdelay='0'", (5, 10.0)),
        ("?retries=''&connectdelay=", (5, 10.0)),
        ("?retries='120'&connectdelay='1'", (120, 1.0)),
        ("?retries=120&connectdelay=1", (120, 1.0)),
        ('?retries="3"&connectdelay="0.25"', (3, 0.25)),
        ("?connectdelay='4'%26retries='3'", (3, 4.0)),
        ("?connectdelay='4'&amp;retries='3'", (3, 4.0)),
        ("?heartbeat=5&unknown&retries=3", (3, 10.0)),
    ],
)
def test_the_numbers_may_have_quotes(query: str, numbers: tuple[int, float]) -> None:
    endpoint = parsed(f"amqp://admin:admin@apim{query}")
    assert (endpoint.retries, endpoint.delay) == numbers


def test_user_and_password_are_percent_decoded() -> None:
    endpoint = parsed("amqp://admin%40carbon.super:p%40ss%2Fw%3Ford%25@apim/a%2Fb")
    assert (endpoint.user, endpoint.password) == ("admin@carbon.super", "p@ss/w?ord%")
    assert endpoint.vhost == "a/b"


def test_a_tenant_in_the_user_needs_no_encoding() -> None:
    endpoint = parsed("amqp://admin@carbon.super:admin@apim:5672")
    assert (endpoint.user, endpoint.password) == ("admin@carbon.super", "admin")


def test_the_jms_form_names_its_brokers_in_order() -> None:
    assert parse_broker_url(
        "amqp://admin:secret@carbon/tenant?brokerlist='tcp://one:5672;ssl://two:8672'"
    ) == (
        BrokerEndpoint("one", 5672, False, "tenant", "admin", "secret"),
        BrokerEndpoint("two", 8672, True, "tenant", "admin", "secret"),
    )


def test_the_jms_form_with_options_of_the_list_and_of_each_broker() -> None:
    one, two = parse_broker_url(
        "amqp://admin:admin@clientid/carbon?failover='roundrobin'%26cyclecount='2'"
        "%26brokerlist='tcp://10.0.0.1:5672?retries='5'%26connectdelay='50';"
        "tcp://10.0.0.2:5672?retries='7'%26connectdelay='1500''&sync_publish='all'"
    )
    assert (one.host, one.retries, one.delay) == ("10.0.0.1", 5, 0.05)
    assert (two.host, two.retries, two.delay) == ("10.0.0.2", 7, 1.5)


@pytest.mark.parametrize(
    "options", ["brokerlist=tcp://one:1", "brokerlist='tcp://one:1'&failover='singlebroker'"]
)
def test_the_jms_form_without_quotes_and_with_options_after_it(options: str) -> None:
    assert parsed(f"amqp://a:b@c/d?{options}").label == "amqp://one:1"


@pytest.mark.parametrize("broker", ["ssl://one", "tcp://one?ssl='true'", "amqps://one"])
def test_a_broker_of_the_jms_form_may_want_tls(broker: str) -> None:
    assert parsed(f"amqp://a:b@c/d?brokerlist='{broker}'").label == "amqps://one:5671"


def test_tls_of_the_url_holds_for_all_brokers_of_its_list() -> None:
    assert parsed("amqps://a:b@c/d?brokerlist='tcp://one'").label == "amqps://one:5671"


def test_several_urls_are_one_list_of_brokers() -> None:
    urls = ("amqp://one", "amqp://a:b@c/d?brokerlist='tcp://two;tcp://three'")
    assert [endpoint.host for endpoint in parse_broker_urls(urls)] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "does not start with amqp://"),
        ("http://admin:correct-horse@apim", "does not start with amqp://"),
        ("Endpoint=sb://x/;SharedAccessKey=correct-horse", "does not start with amqp://"),
        ("amqp://admin:correct-horse@", "host is missing"),
        ("amqp://admin:correct-horse@:5672", "host is missing"),
        ("amqp://admin:correct-horse@apim:0", "port is not"),
        ("amqp://admin:correct-horse@apim:port", "port is not"),
        ("amqp://admin:correct-horse@apim:99999", "port is not"),
        ("amqp://admin:correct-horse@a b", "space"),
        ("amqp://admin:correct-horse\n@apim", "control character"),
        ("amqp://admin:1/correct-horse@apim", "%2F"),
        ("amqp://admin:1?correct-horse@apim", "%3F"),
        ("amqp://admin:1#correct-horse@apim", "%23"),
        ("amqp://admin:correct-horse%FF@apim", "not UTF-8"),
        ("amqp://admin:correct-horse@apim?retries=many", "`retries`"),
        ("amqp://admin:correct-horse@apim?retries=-1", "`retries`"),
        ("amqp://admin:correct-horse@apim?connectdelay='1e9'", "`connectdelay`"),
        ("amqp://admin:correct-horse@apim?connectdelay='99999'", "`connectdelay`"),
        ("amqp://admin:correct-horse@c/d?brokerlist=''", "`brokerlist`"),
        ("amqp://admin:correct-horse@c/d?brokerlist='" + "tcp://x;" * 65 + "'", "`brokerlist`"),
        ("amqp://admin:correct-horse@c/d?brokerlist='vm://:1'", "tcp://"),
        ("amqp://admin:correct-horse@c/d?brokerlist='tcp://:1'", "host is missing"),
        ("amqp://admin:correct-horse@apim/" + "v" * 256, "127 octets"),
        ("amqp://" + "x" * 9000, "longer than"),
    ],
)
def test_what_is_wrong_is_in_the_error_and_the_password_is_not(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        parse_broker_url(url)
    assert PASSWORD not in str(caught.value)


def test_the_repr_hides_the_password() -> None:
    endpoint = parsed(f"amqp://admin:{PASSWORD}@apim")
    assert PASSWORD not in f"{endpoint!r} {endpoint} {endpoint.label} {endpoint.__rich_repr__()}"


texts = st.text(st.characters(codec="utf-8"), max_size=30)


@given(texts, texts, texts.filter(bool), st.integers(1, 65535), st.booleans(), st.booleans())
def test_every_encoded_login_comes_back(
    user: str, password: str, vhost: str, port: int, tls: bool, jms: bool
) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    scheme, path = "amqps" if tls else "amqp", quote(vhost, safe="")
    rest = f"c/{path}?brokerlist='tcp://apim:{port}'" if jms else f"apim:{port}/{path}?retries='5'"
    endpoint = parsed(f"{scheme}://{login}@{rest}")
    assert endpoint == BrokerEndpoint("apim", port, tls, vhost, user, password)


@given(st.text(max_size=60))
@example("?brokerlist='tcp://[::1'")
def test_any_text_is_parsed_or_refused_without_the_password(rest: str) -> None:
    with contextlib.suppress(ValueError):
        for endpoint in parse_broker_url(f"amqp://admin:{PASSWORD}{rest}"):
            assert endpoint.host
            assert 0 < endpoint.port < 65536
            assert endpoint.retries > 0
            assert endpoint.delay > 0
            assert PASSWORD not in f"{endpoint!r} {endpoint.label}"


@given(st.text(max_size=60))
def test_no_error_contains_the_password(rest: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_broker_url(f"amqp://admin:{PASSWORD}{rest}@")
    assert PASSWORD not in str(caught.value)
