"""Shows what a proxy can read: everything without TLS; with TLS, the host and the port.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.forward_proxies.tls_tunnel
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from production.development.certificates import SERVER, Authority
from production.development.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub, add_EchoServiceServicer_to_server
from scaling.forward_proxies.cases import only
from scaling.forward_proxies.connect_proxy import ConnectProxy, running

MESSAGE = "the price is 42"


class Observation(NamedTuple):
    """A proxy's requests, the first bytes of its tunnel, and whether it could read our message."""

    requests: list[str]
    beginning: bytes
    can_read: bool


def look(*, tls: bool) -> Observation:
    """Makes a call through a proxy that reads the bytes in its tunnel."""
    authority = Authority.make("an authority")
    certificate, key = authority.issue(SERVER)
    requests: list[str] = []
    proxy = ConnectProxy(requests.append)
    with ExitStack() as stack:
        server = grpc.server(ThreadPoolExecutor(2))
        add_EchoServiceServicer_to_server(EchoServicer("echo", lambda _: None), server)
        if tls:
            credentials = grpc.ssl_server_credentials([(key, certificate)])
            port = server.add_secure_port("127.0.0.1:0", credentials)
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        stack.callback(lambda: server.stop(None).wait())
        stack.enter_context(
            only({"grpc_proxy": f"http://127.0.0.1:{stack.enter_context(running(proxy))}"})
        )
        target = f"localhost:{port}"
        trusted = authority.certificate.public_bytes(Encoding.PEM)
        channel = stack.enter_context(
            grpc.secure_channel(target, grpc.ssl_channel_credentials(trusted))
            if tls
            else grpc.insecure_channel(target)
        )
        EchoServiceStub(channel).UnaryEcho(EchoRequest(message=MESSAGE), timeout=30)
        # The proxy reads what it passes on before the server does.
        return Observation(requests, bytes(proxy.sent[:3]), MESSAGE.encode() in proxy.sent)


def main() -> None:
    argparse.ArgumentParser(description="Show what a proxy can read.").parse_args()
    for title, tls in (("without TLS", False), ("with TLS", True)):
        seen = look(tls=tls)
        print(f"{title:12}{', '.join(seen.requests)}")
        print(f"{'':12}the tunnel begins with {seen.beginning!r}")
        print(f"{'':12}our message can be read: {'yes' if seen.can_read else 'no'}")


if __name__ == "__main__":
    main()
