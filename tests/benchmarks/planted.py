"""Serves contacts with a planted fault: python -m tests.benchmarks.planted FAULT."""

import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks.loads.grpc_load import CONTACT
from production.v1.contacts_pb2 import Contact
from production.v1.contacts_pb2_grpc import (
    ContactServiceServicer,
    add_ContactServiceServicer_to_server,
)

FAULT = sys.argv[1]


class Planted(ContactServiceServicer):
    def GetContact(self, request, context):  # noqa: ARG002
        if FAULT == "slow":
            ends = time.thread_time() + 0.005
            while time.thread_time() < ends:
                pass
        if FAULT == "failing":
            context.abort(grpc.StatusCode.INTERNAL, "planted")
        return Contact(name="contacts/somebody-else" if FAULT == "wrong" else CONTACT)


if FAULT == "unable":
    sys.exit("error: planted")
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
server = grpc.server(ThreadPoolExecutor(4))
add_ContactServiceServicer_to_server(Planted(), server)
print(f"listening on 127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
server.start()
stop.wait()
server.stop(None).wait()
sys.exit(3 if FAULT == "ends badly" else 0)
