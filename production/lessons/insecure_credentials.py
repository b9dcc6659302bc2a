"""Call credentials on a channel that is not encrypted: what sync and asyncio answer today.

Run it:

    python -m production.lessons.insecure_credentials

Old pages say that gRPC drops the token silently. It did; now both refuse, each in its way.
"""

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

TOKEN = grpc.access_token_call_credentials("secret")
METHOD = "/lesson.v1.Echo/Authorization"


class Echo(grpc.GenericRpcHandler):
    """Answers every call with the authorization it came with."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = dict(context.invocation_metadata())
        return str(metadata.get("authorization", "nothing")).encode()


def start() -> tuple[grpc.Server, int, int]:
    """A server with a port without encryption, and one with local credentials."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
    plain = server.add_insecure_port("127.0.0.1:0")
    local = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    server.start()
    return server, plain, local


def with_sync(channel: grpc.Channel) -> str:
    """What the server has seen, or why the call failed."""
    with channel:
        try:
            call: Any = channel.unary_unary(METHOD)
            seen = call(b"", timeout=10, credentials=TOKEN)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return f"the server saw: {bytes(seen).decode()}"


async def with_asyncio(port: int) -> str:
    """The same, with asyncio."""
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        call: Any = channel.unary_unary(METHOD)
        try:
            seen = await call(b"", timeout=10, credentials=TOKEN)
        except grpc.aio.UsageError as error:
            return f"UsageError: {error}"
        return f"the server saw: {bytes(seen).decode()}"


def main() -> None:
    argparse.ArgumentParser(description="Show a token on an insecure channel.").parse_args()
    server, plain, local = start()
    print("insecure channel, sync:   ", with_sync(grpc.insecure_channel(f"localhost:{plain}")))
    print("insecure channel, asyncio:", asyncio.run(with_asyncio(plain)))
    local_channel = grpc.secure_channel(f"localhost:{local}", grpc.local_channel_credentials())
    print("local credentials, sync:  ", with_sync(local_channel))
    server.stop(None).wait()


if __name__ == "__main__":
    main()
