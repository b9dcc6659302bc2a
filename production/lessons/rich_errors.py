"""An error for machines and for people: google.rpc.Status, in English and in Chinese.

Run it:

    GRPC_VERBOSITY=NONE python -m production.lessons.rich_errors
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.text_format import MessageToString
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, LocalizedMessage
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from helloworld import greeting, helloworld_pb2_grpc
from helloworld.helloworld_pb2 import HelloReply, HelloRequest

DETAILS = "grpc-status-details-bin"
TEXTS = {
    "en": {"NAME_EMPTY": "Please tell us your name.", "NAME_TOO_LONG": "That name is too long."},
    "zh": {"NAME_EMPTY": "请填写您的姓名。", "NAME_TOO_LONG": "您填写的姓名太长。"},
}


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    """Chapter 2's Greeter, whose errors have details."""

    def SayHello(self, request: HelloRequest, context: grpc.ServicerContext) -> HelloReply:
        try:
            message = greeting.greet(request.name)
        except ValueError as error:
            status = invalid(request.name, str(error), language(context))
            context.abort_with_status(rpc_status.to_status(status))
        return HelloReply(message=message)


def invalid(name: str, why: str, locale: str) -> Status:
    """INVALID_ARGUMENT, for a programmer, a program and a person."""
    reason = "NAME_TOO_LONG" if name.strip() else "NAME_EMPTY"
    status = Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=why)
    for detail in (
        BadRequest(field_violations=[BadRequest.FieldViolation(field="name", description=why)]),
        # Do not copy this: what is quoted can be long.
        ErrorInfo(reason=reason, domain="greeter.example.com", metadata={"name": name}),
        LocalizedMessage(locale=locale, message=TEXTS[locale][reason]),
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def language(context: grpc.ServicerContext) -> str:
    """The first language the caller reads that we write. Production weighs q values, too."""
    accepted = str(dict(context.invocation_metadata()).get("accept-language", ""))
    languages = [tag.strip()[:2].lower() for tag in accepted.split(",")]
    return next((language for language in languages if language in TEXTS), "en")


def show(stub: helloworld_pb2_grpc.GreeterStub, name: str, accepted: str) -> None:
    """Prints the parts of the error that greeting name brings."""
    print(f"accept-language: {accepted}, a name of {len(name)} characters")
    try:
        metadata = (("accept-language", accepted),)
        stub.SayHello(HelloRequest(name=name), timeout=30, metadata=metadata)
    except grpc.RpcError as error:
        call: Any = error  # It is both.
        print(f"  {call.code().name}: {call.details()}")
        print(f"  {DETAILS}: {len(dict(call.trailing_metadata()).get(DETAILS, b''))} bytes")
        status = rpc_status.from_call(call)  # None when there are no details.
        for packed in status.details if status else []:
            for detail in (BadRequest(), ErrorInfo(), LocalizedMessage()):
                if packed.Unpack(detail):
                    text = MessageToString(detail, as_one_line=True, as_utf8=True)
                    print(f"  {type(detail).__name__}: {text}")


def main() -> None:
    argparse.ArgumentParser(description="Show errors with details.").parse_args()
    server = grpc.server(ThreadPoolExecutor(2))
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        show(stub, "", "en")
        show(stub, "", "zh-CN,zh;q=0.9")
        show(stub, "x" * 20_000, "fr")
    server.stop(None).wait()


if __name__ == "__main__":
    main()
