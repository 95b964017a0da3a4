"""Mosquitto's WebSocket listener as the broker, Eclipse Paho as the client."""

from __future__ import annotations

import queue
import tempfile
from pathlib import Path

import paho.mqtt.client as mqtt
from common import (
    BASE,
    CA,
    GATEWAY,
    HEADERS,
    TLS_GATEWAY,
    equal,
    free_port,
    main,
    port_of,
    supervise,
)


def serve() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "mosquitto.conf")
        # Mosquitto 2.0.11 does not start with a WebSocket listener alone; of that it takes an
        # interface, not an address.
        config.write_text(
            f"allow_anonymous true\nlistener {free_port()} 127.0.0.1\n"
            f"listener {port} lo\nprotocol websockets\n"
        )
        supervise(["mosquitto", "-c", config], port)


def talk(version: int, *, tls: bool = False) -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport="websockets", protocol=version)
    client.ws_set_options(path=f"{BASE}/mqtt", headers=HEADERS)
    heard: queue.Queue[object] = queue.Queue()
    client.on_connect = lambda *given: heard.put(given[3].value)
    client.on_subscribe = lambda *given: heard.put("subscribed")
    client.on_message = lambda _, __, message: heard.put((message.topic, message.payload.decode()))
    if tls:
        client.tls_set(ca_certs=CA)
    host = "localhost" if tls else "127.0.0.1"
    client.connect(host, port_of(TLS_GATEWAY if tls else GATEWAY))
    client.loop_start()
    equal(heard.get(timeout=10), 0)
    client.subscribe("rooms/7", qos=2)
    equal(heard.get(timeout=10), "subscribed")
    for text in "grüße", "x" * 100_000:
        client.publish("rooms/7", text, qos=2)
        equal(heard.get(timeout=10), ("rooms/7", text))
    client.disconnect()
    client.loop_stop()


main(
    {
        "serve": serve,
        "v3": lambda: talk(mqtt.MQTTv311),
        "v5": lambda: talk(mqtt.MQTTv5, tls=True),
    }
)
