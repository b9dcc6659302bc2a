"""A client library for ParcelService, and its command line.

    async with ParcelsClient("localhost:50051", credentials) as client:
        parcel = await client.get("parcels/abcd-1")

Run it against a server in another terminal:

    python -m production.starter.parcels_server --plaintext
    python -m production.starter.parcels_client --plaintext list
"""

import argparse
import asyncio
import atexit
import sys
import uuid
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

import grpc

from production.calling import addresses, tracing
from production.calling.calls import CallOptions, Calls
from production.calling.channel_credentials import TokenFile, call_credentials, channel_credentials
from production.calling.errors import CallError
from production.calling.signing import load_plugin
from production.starter.v1.parcels_pb2 import (
    CreateParcelRequest,
    DeleteParcelRequest,
    GetParcelRequest,
    ListParcelsRequest,
    Parcel,
    UpdateParcelRequest,
    WatchParcelsRequest,
    WatchParcelsResponse,
)
from production.starter.v1.parcels_pb2_grpc import ParcelServiceStub

if TYPE_CHECKING:  # The stub has one class at run time, two for the type checker.
    from production.starter.v1.parcels_pb2_grpc import ParcelServiceAsyncStub

SERVICE = "production.starter.v1.ParcelService"
SIGNATURE = "x-parcels-signature"
"""The metadata of a call's signature, the same as in access.py, which clients do not import."""
FIELDS = [field.name for field in Parcel.DESCRIPTOR.fields]


class ParcelsError(CallError):
    """A call to ParcelService failed."""


class ClosedError(ParcelsError):
    """The client is closed, or was closed during the call."""


class ParcelsClient:
    """One channel to the service, for a whole program; use it in one event loop.

    Every method takes `CallOptions` by keyword: timeout, metadata and credentials. It raises
    ParcelsError if its call fails, and ClosedError, a subclass, if the client is closed.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None,
        call_credentials: grpc.CallCredentials | None = None,
    ) -> None:
        """address is HOST:PORT, or any gRPC target.

        Without credentials nothing is encrypted; use that with a server on this machine only.
        call_credentials identify us in each call that is not given others.
        """
        self._calls = Calls(
            SERVICE, ParcelsError, ClosedError, address, credentials, call_credentials
        )
        self._stub: ParcelServiceAsyncStub = ParcelServiceStub(self._calls.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._calls.close()

    async def create(
        self, parcel: Parcel, parcel_id: str = "", **options: Unpack[CallOptions]
    ) -> Parcel:
        """Adds a parcel; without a parcel_id the server makes one."""
        request = CreateParcelRequest(parcel=parcel, parcel_id=parcel_id, request_id=_request_id())
        return await self._calls.ask(self._stub.CreateParcel, request, options)

    async def get(self, name: str, **options: Unpack[CallOptions]) -> Parcel:
        """Returns the parcel of a name."""
        return await self._calls.ask(self._stub.GetParcel, GetParcelRequest(name=name), options)

    async def list(
        self, page_size: int = 0, **options: Unpack[CallOptions]
    ) -> AsyncGenerator[Parcel, None]:
        """Yields all parcels, fetched page by page; a timeout is for all pages together."""
        request = ListParcelsRequest(page_size=page_size)
        async for page in self._calls.pages(self._stub.ListParcels, request, options):
            for parcel in page.parcels:
                yield parcel

    async def update(
        self, parcel: Parcel, paths: Iterable[str] = FIELDS, **options: Unpack[CallOptions]
    ) -> Parcel:
        """Changes the fields that paths name, if the parcel still has its etag."""
        request = UpdateParcelRequest(parcel=parcel, request_id=_request_id())
        request.update_mask.paths.extend(paths)
        return await self._calls.ask(self._stub.UpdateParcel, request, options)

    async def delete(self, name: str, etag: str = "", **options: Unpack[CallOptions]) -> None:
        """Removes a parcel; with an etag, only if it still has it."""
        request = DeleteParcelRequest(name=name, etag=etag, request_id=_request_id())
        await self._calls.ask(self._stub.DeleteParcel, request, options)

    def watch(
        self, position: str = "", **options: Unpack[CallOptions]
    ) -> AsyncGenerator[WatchParcelsResponse, None]:
        """Yields changes after a position as they happen; see `Calls.watch` for when it resumes."""
        request = WatchParcelsRequest(position=position)
        return self._calls.watch(self._stub.WatchParcels, request, options)


def _request_id() -> str:
    return str(uuid.uuid4())


async def run(args: argparse.Namespace) -> None:
    """Runs the chosen command."""
    plugins: list[grpc.AuthMetadataPlugin] = []
    if args.token_file:
        plugins.append(TokenFile(args.token_file))
    if args.api_key:
        plugins.append(load_plugin(args.api_key, SIGNATURE))
    channel = None if args.plaintext else channel_credentials(args.ca, args.certificate, args.key)
    async with ParcelsClient(args.address, channel, call_credentials(*plugins)) as client:
        match args.command:
            case "create":
                parcel = Parcel(display_name=args.display_name, description=args.description)
                print((await client.create(parcel, args.parcel_id)).name)
            case "get":
                print(str(await client.get(args.name)).rstrip())
            case "list":
                async for parcel in client.list():
                    print(f"{parcel.name}  {parcel.display_name}")
            case "update":
                parcel = await client.get(args.name)
                parcel.display_name = args.display_name
                print((await client.update(parcel, ["display_name"])).name)
            case "delete":
                await client.delete(args.name)
            case "watch":
                async for change in client.watch(args.position):
                    kind = kind_name(change.kind)
                    print(f"{change.position}  {kind}  {change.parcel.name}", flush=True)


def kind_name(kind: WatchParcelsResponse.Kind.ValueType) -> str:
    """Returns the name of a kind of change, or the number of one that a newer server has added."""
    kinds = WatchParcelsResponse.Kind
    return kinds.Name(kind).removeprefix("KIND_").lower() if kind in kinds.values() else str(kind)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m production.starter.parcels_client", description="Work with ParcelService."
    )
    parser.add_argument(
        "--address",
        type=addresses.target,
        default="localhost:50051",
        help="HOST:PORT (default: %(default)s)",
    )
    parser.add_argument("--plaintext", action="store_true", help="no TLS: a server on this machine")
    parser.add_argument(
        "--ca", type=Path, default="build/certs/ca.pem", help="who signs the server's certificate"
    )
    parser.add_argument("--certificate", type=Path, help="client certificate")
    parser.add_argument("--key", type=Path, help="private key of the certificate")
    parser.add_argument("--token-file", type=Path, help="file of a bearer token")
    parser.add_argument("--api-key", type=Path, help="file of a key that signs each call")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    command = commands.add_parser("create", help="add a parcel")
    command.add_argument("--display-name", required=True)
    command.add_argument("--description", default="")
    command.add_argument("--parcel-id", default="", help="by default the server makes one")
    commands.add_parser("list", help="print all parcels")
    for name, what in (("get", "print"), ("update", "rename"), ("delete", "remove")):
        command = commands.add_parser(name, help=f"{what} a parcel")
        command.add_argument("name", help="parcels/PARCEL_ID")
        if name == "update":
            command.add_argument("--display-name", required=True)
    command = commands.add_parser("watch", help="print changes as they happen")
    command.add_argument("--position", default="", help="resume after this position")
    args = parser.parse_args()
    if args.plaintext and (args.certificate or args.token_file or args.api_key):
        parser.error("--plaintext: credentials are not sent unencrypted")
    if bool(args.certificate) != bool(args.key):
        parser.error("--certificate and --key go together")
    return args


def main() -> None:
    args = parse_arguments()
    try:
        atexit.register(tracing.set_up("parcels-client"))
        asyncio.run(run(args))
    except ParcelsError as error:
        for field, description in error.violations:
            print(f"{field}: {description}", file=sys.stderr)
        sys.exit(f"error: {error.code.name}: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
