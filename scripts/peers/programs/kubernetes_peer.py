"""The Python client of Kubernetes: exec and attach over the gateway's TLS port."""

from __future__ import annotations

from common import CA, HTTPS, TOKEN, equal, main
from kubernetes import client
from kubernetes.stream import stream


def talk() -> None:
    settings = client.Configuration(
        host=HTTPS, api_key={"authorization": TOKEN}, api_key_prefix={"authorization": "Bearer"}
    )
    settings.ssl_ca_cert = CA
    api = client.CoreV1Api(client.ApiClient(settings))
    socket = stream(
        api.connect_get_namespaced_pod_exec, "shell", "default", command=["cat", "-u"],
        stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False,
    )  # fmt: skip
    socket.write_stdin("grüße")
    socket.run_forever(timeout=10)
    equal(socket.read_stdout(), "ran cat -u\ngrüße")
    equal(socket.returncode, 0)


main({"exec": talk})
