"""A server on a Unix socket: who may call, what a second server on the same address does.

Run it:

    python -m production.lessons.unix_socket
"""

import argparse
import os
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

LOCAL = grpc.LocalConnectionType.UDS
TOKEN = grpc.composite_channel_credentials(
    grpc.local_channel_credentials(LOCAL), grpc.access_token_call_credentials("secret")
)
NEW = [("grpc.use_local_subchannel_pool", 1)]
"""A new connection, not one that an earlier channel has left."""
ROW = "{:20}{:23}{:17}{:13}{}"


class Who(grpc.GenericRpcHandler):
    """Tells its name, where the call comes from, and its token."""

    def __init__(self, name: str) -> None:
        self._name = name

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        token = str(dict(context.invocation_metadata()).get("authorization"))
        return "|".join((self._name, context.peer(), token)).encode()


def start(address: str, name: str) -> tuple[grpc.Server, int]:
    """Starts a server; returns it and its port. Raises RuntimeError when it cannot listen."""
    options = [("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(1), [Who(name)], options=options)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def ask(channel: grpc.Channel) -> list[str]:
    """Who answers, where it sees the call come from, and with which token."""
    with channel:
        method: Any = channel.unary_unary("/lesson.v1.Who/Ask")
        try:
            return bytes(method(b"", timeout=30)).decode().split("|")
        except grpc.RpcError as error:
            return [error.code().name]


def compare(title: str, address: str) -> None:
    """Starts two servers on one address, ends the second, and prints who answers."""
    one, port = start(address, "one")
    address = address.replace(":0", f":{port}")
    row = [ask(grpc.insecure_channel(address, NEW))[1]]
    try:
        two, _ = start(address, "two")
    except RuntimeError:
        row += "is refused", ask(grpc.insecure_channel(address, NEW))[0]
    else:
        row += "starts", ask(grpc.insecure_channel(address, NEW))[0]
        two.stop(None).wait()
    print(ROW.format(title, *row, ask(grpc.insecure_channel(address, NEW))[0]))
    one.stop(None).wait()


def send_token(path: Path) -> None:
    """Calls with a token, on a socket that only this user may open."""
    server = grpc.server(ThreadPoolExecutor(1), [Who("one")])
    before = os.umask(0o177)  # The socket is made with it; chmod afterwards would leave a gap.
    server.add_secure_port(f"unix:{path}", grpc.local_server_credentials(LOCAL))
    os.umask(before)
    server.start()
    print("mode of the socket:", stat.filemode(path.stat().st_mode))
    print("the server sees the token:", ask(grpc.secure_channel(f"unix:{path}", TOKEN, NEW))[2])
    server.stop(None).wait()
    print("the socket after stop:", "there" if path.exists() else "gone")


def main() -> None:
    argparse.ArgumentParser(description="Show servers on Unix sockets.").parse_args()
    print(ROW.format("address", "peer()", "a second server", "who answers", "once it has stopped"))
    with tempfile.TemporaryDirectory() as folder:
        for title, address in (
            ("127.0.0.1:PORT", "127.0.0.1:0"),
            ("unix:PATH", f"unix:{folder}/echo"),
            ("unix-abstract:NAME", f"unix-abstract:lesson-{os.getpid()}"),
        ):
            compare(title, address)
        send_token(Path(folder) / "echo")


if __name__ == "__main__":
    main()
