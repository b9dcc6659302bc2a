"""A web application in front of the service, whose requests have a budget of one second each.

Run it:

    SERVICE=localhost:50051 uvicorn production.development.web_application:app --port 8000
"""

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from production.calling.asgi import Budget
from production.contacts_client import ContactsClient, ContactsError
from production.v1.contacts_pb2 import Contact
from protobuf_demo.addressbook_pb2 import Person

STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keeps one client for all requests."""
    async with ContactsClient(os.environ["SERVICE"], None) as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(Budget, seconds=1.0)


@app.get("/contacts/{contact_id}")
async def get(contact_id: str, request: Request) -> dict[str, str]:
    contact = await request.app.state.client.get(f"contacts/{contact_id}")
    return {"name": contact.name, "person": contact.person.name}


@app.post("/contacts/{contact_id}", status_code=201)
async def create(contact_id: str, person: str, request: Request) -> dict[str, str]:
    new = Contact(person=Person(name=person))
    contact = await request.app.state.client.create(new, contact_id)
    return {"name": contact.name, "person": contact.person.name}


@app.exception_handler(ContactsError)
async def failed(_request: Request, error: ContactsError) -> JSONResponse:
    """Passes on what the service has said, and when to try again."""
    wait = {"Retry-After": f"{math.ceil(error.retry_delay)}"} if error.retry_delay else None
    return JSONResponse({"error": str(error)}, STATUSES.get(error.code, 500), wait)
