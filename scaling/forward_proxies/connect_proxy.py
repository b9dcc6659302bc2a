"""A forward proxy, as companies have them: opens tunnels, and prints each request.

Run it:

    python -m scaling.forward_proxies.connect_proxy --port 3128 --login ada:secret

It knows CONNECT, the one method that gRPC uses. Ctrl-C or SIGTERM ends it.
"""

import argparse
import asyncio
import base64
import contextlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from production.calling import addresses

Report = Callable[[str], object]
"""Called with one line about each request."""
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ConnectProxy:
    """Opens tunnels for anybody, or only for clients that send the login, NAME:PASSWORD."""

    def __init__(
        self, report: Report, login: str = "", hosts: Mapping[str, str] | None = None
    ) -> None:
        self._report = report
        self._secret = base64.b64encode(login.encode()).decode()
        self._hosts = hosts or {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = bytearray()
        """The bytes that clients have sent through tunnels."""

    async def start(self, address: str) -> tuple[asyncio.Server, int]:
        """Listens on HOST:PORT (port 0 takes any); returns the server and its port."""
        server = await asyncio.start_server(self._accept, *addresses.parse(address))
        return server, server.sockets[0].getsockname()[1]

    async def stop(self, server: asyncio.Server) -> None:
        """Closes the port and all tunnels."""
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # The connections are closed in the loop's next round.

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), suppress(OSError, EOFError, ValueError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split(maxsplit=2)
            status, there = await self._connect(method, target, head)
            self._report(f"{method} {target}: {status}")
            writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
            await writer.drain()
            if there:
                with contextlib.closing(there[1]):
                    await self._tunnel((reader, writer), there)

    async def _connect(self, method: str, target: str, head: str) -> tuple[str, Stream | None]:
        """Returns the status to answer, and the connection to the target if there is one."""
        if method != "CONNECT":
            return "405 Method Not Allowed", None
        if self._secret and f"\r\nProxy-Authorization: Basic {self._secret}\r\n" not in head:
            return "407 Proxy Authentication Required", None
        if not (address := re.fullmatch(r"([\w.-]+):(\d+)", self._hosts.get(target, target))):
            return "400 Bad Request", None
        try:
            return "200 Connection established", await asyncio.open_connection(*address.groups())
        except OSError:
            return "502 Bad Gateway", None

    async def _tunnel(self, client: Stream, target: Stream) -> None:
        """Passes bytes on until one side ends."""
        ways = [
            asyncio.create_task(self._pass_on(client[0], target[1], self.sent)),
            asyncio.create_task(self._pass_on(target[0], client[1], bytearray())),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, copy: bytearray
    ) -> None:
        while data := await source.read(65_536):
            copy += data
            sink.write(data)
            await sink.drain()


@contextmanager
def running(proxy: ConnectProxy) -> Iterator[int]:
    """Runs a proxy in a thread of its own; gives its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server, port = asyncio.run_coroutine_threadsafe(proxy.start("127.0.0.1:0"), loop).result()
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def serve(port: int, login: str) -> None:
    """Serves until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    # Without a handler, Linux ignores SIGTERM for process 1 of a container.
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    proxy = ConnectProxy(partial(print, flush=True), login)
    server, port = await proxy.start(f"127.0.0.1:{port}")
    print(f"listening on 127.0.0.1:{port}", flush=True)
    try:
        await stop.wait()
    finally:
        await proxy.stop(server)


def main() -> None:
    parser = argparse.ArgumentParser(description="Open tunnels for clients.")
    parser.add_argument("--port", type=addresses.port, default=3128, help="(default: %(default)s)")
    # A real proxy reads it from a file: every user of a machine can see a process's arguments.
    parser.add_argument("--login", default="", help="NAME:PASSWORD (default: no login is needed)")
    args = parser.parse_args()
    try:
        asyncio.run(serve(args.port, args.login))
    except OSError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
