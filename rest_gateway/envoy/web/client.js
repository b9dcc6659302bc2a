// Calls ContactService through Envoy as a page would: by gRPC-Web with grpc-web and
// with connect-web, and by Connect. Run it, with Envoy's URL in ENVOY and a bearer
// token in TOKEN: node client.js
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { GrpcWebClientBase, MethodDescriptor, MethodType, StatusCode } from "grpc-web";
import XMLHttpRequest from "xhr2";
import * as contacts from "./gen/production/v1/contacts_pb.js";

const baseUrl = process.env.ENVOY;
const headers = { authorization: `Bearer ${process.env.TOKEN}` };

async function connect(name, transport) {
  const client = createClient(contacts.ContactService, transport);
  const created = await client.createContact({ contact: { person: { name: "Ada" } } }, { headers });
  console.log(name, "created", created.person.name);
  const watch = new AbortController();
  for await (const { kind } of client.watchContacts({}, { headers, signal: watch.signal })) {
    console.log(name, "watch", contacts.WatchContactsResponse_Kind[kind]);
    if (kind === contacts.WatchContactsResponse_Kind.DELETED) break;
    await client.deleteContact({ name: created.name }, { headers });
  }
  watch.abort();
  try {
    await client.getContact({ name: created.name }, { headers });
  } catch (error) {
    console.log(name, "error", Code[ConnectError.from(error).code]);
  }
}

await connect("gRPC-Web, connect-web:", createGrpcWebTransport({ baseUrl }));
// Connect's JSON would need a service that understands JSON.
await connect("Connect:", createConnectTransport({ baseUrl, useBinaryFormat: true }));

// The library of the gRPC project, which needs what only browsers have.
globalThis.XMLHttpRequest = XMLHttpRequest;
const path = "/production.v1.ContactService/ListContacts";
const method = new MethodDescriptor(
  path,
  MethodType.UNARY,
  Object,
  Object,
  (request) => toBinary(contacts.ListContactsRequestSchema, request),
  (bytes) => fromBinary(contacts.ListContactsResponseSchema, bytes),
);
const client = new GrpcWebClientBase({ format: "binary" });
const list = (metadata) =>
  client.unaryCall(baseUrl + path, create(contacts.ListContactsRequestSchema), metadata, method);
const page = await list(headers);
console.log("gRPC-Web, grpc-web: listed", page.contacts.length);
await list({}).catch(({ code }) =>
  console.log("gRPC-Web, grpc-web: error", code === StatusCode.UNAUTHENTICATED ? "Unauthenticated" : code),
);
