"""Errors that programs and people can read: details in a status, a text in the caller's language.

python -m production.lessons.rich_errors
"""

import argparse
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.code_pb2 import INVALID_ARGUMENT
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, LocalizedMessage
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import (
    GreeterServicer,
    GreeterStub,
    add_GreeterServicer_to_server,
)

TEXTS = {"en": "Please tell us your name.", "zh": "请告诉我们您的名字。"}


class Greeter(GreeterServicer):
    """Refuses to greet nobody."""

    def SayHello(self, request: HelloRequest, context: grpc.ServicerContext) -> HelloReply:
        if not request.name:
            language = str(dict(context.invocation_metadata()).get("accept-language", "en"))[:2]
            context.abort_with_status(rpc_status.to_status(nameless(language)))
        if request.name == "everybody":  # Details ride in metadata, which has a limit.
            context.abort_with_status(rpc_status.to_status(nameless("en", mistakes=1_000)))
        return HelloReply(message=f"Hello, {request.name}!")


def nameless(language: str, mistakes: int = 1) -> Status:
    """What is wrong: for programs by field and reason, for people in their language."""
    request = BadRequest()
    for _ in range(mistakes):
        request.field_violations.add(field="name", description="must not be empty")
    status = Status(code=INVALID_ARGUMENT, message="name must not be empty")
    for detail in (
        request,
        ErrorInfo(reason="NAME_EMPTY", domain="greeter.example.com"),
        LocalizedMessage(locale=language, message=TEXTS.get(language, TEXTS["en"])),
    ):
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def explain(error: grpc.Call) -> str:
    """What an error says to a program and to a person."""
    status = rpc_status.from_call(error)
    if status is None:
        return "without details"
    info, text = ErrorInfo(), LocalizedMessage()
    for detail in status.details:  # Those that a client does not know, it leaves alone.
        detail.Unpack(info) or detail.Unpack(text)
    return f"{info.reason} | {text.message}"


def show(address: str) -> None:
    """Asks for greetings that are refused, and prints how."""
    with grpc.insecure_channel(address) as channel:
        stub = GreeterStub(channel)
        for name, language in (("", "en-GB"), ("", "zh-CN"), ("", "fr"), ("everybody", "en")):
            try:
                stub.SayHello(
                    HelloRequest(name=name), metadata=(("accept-language", language),), timeout=10
                )
            except grpc.RpcError as error:
                assert isinstance(error, grpc.Call)  # noqa: S101 - the error is its call, too.
                print(f"{language:6}{error.code().name}: {error.details()} | {explain(error)}")


def main() -> None:
    argparse.ArgumentParser(description="Show errors with details.").parse_args()
    server = grpc.server(ThreadPoolExecutor(1))
    add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    show(f"127.0.0.1:{port}")
    server.stop(None).wait()


if __name__ == "__main__":
    main()
