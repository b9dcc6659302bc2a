"""A service with scopes and claims of its own, on chapter 4's serving layer."""

from functools import partial

from pydantic_settings import SettingsConfigDict

from production.serving import process, settings
from production.serving.layers.adapter import Interceptor
from production.serving.layers.admission import Admission, Reading, Room
from production.serving.layers.deadline import Deadline
from production.serving.layers.errors import Errors
from production.serving.layers.observe import observe
from production.serving.layers.statuses import invalid
from production.serving.observability import metrics
from production.serving.security.authentication import (
    Authentication,
    bearer,
    everybody,
    nobody,
)
from production.serving.security.authorization import PUBLIC, Access
from production.serving.security.principal import Principal, principal
from production.serving.security.tokens import Verifier
from production.serving.server import Server
from protos.echo.v1 import echo_pb2_grpc
from protos.echo.v1.echo_pb2 import EchoResponse

SERVICE = "protos.echo.v1.EchoService"
ACCESS = Access(
    scopes={f"/{SERVICE}/UnaryEcho": "orders.write", "/grpc.health.v1.Health/Check": PUBLIC},
    roles={},
)
ADMISSION = metrics.admission("orders")


class Settings(settings.Settings):
    model_config = SettingsConfigDict(env_prefix="ORDERS_")
    known_scopes = ACCESS.known_scopes


class OrderError(Exception):
    """An order that cannot be taken."""


class Servicer(echo_pb2_grpc.EchoServiceServicer):
    async def UnaryEcho(self, request, _context):
        if not request.message:
            raise OrderError
        [tenant] = principal.get().claims.get("tenant", ["nobody"])
        return EchoResponse(message=request.message, served_by=f"the shelf of {tenant}")


def status_of(error):
    return invalid([("message", "may not be empty")]) if isinstance(error, OrderError) else None


def schemes(chosen, verifier):
    if chosen.issuers:
        return [bearer(verifier)], nobody
    return [], everybody(Principal("me", ACCESS.known_scopes))


async def start(chosen, shares_port=False):
    deadline = Deadline(ACCESS, (), chosen.default_deadline, chosen.max_deadline)
    interceptor = Interceptor(
        observe,
        Errors("orders.example.com", status_of),
        Authentication(ACCESS, *schemes(chosen, Verifier(chosen.issuers or ()))),
        Admission(ACCESS, {"call": Room(chosen.max_calls)}, ADMISSION),
        deadline,
        reading=Reading(ACCESS),
    )
    server = Server(chosen, [SERVICE], interceptor, deadline, shares_port=shares_port)
    echo_pb2_grpc.add_EchoServiceServicer_to_server(Servicer(), server.grpc)
    return server, await server.start()


if __name__ == "__main__":
    chosen, args = settings.from_command_line(Settings, "orders_server", "Take orders.")
    process.run(partial(start, chosen), chosen, "orders-server", is_worker=args.worker)
