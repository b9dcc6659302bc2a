// Uses the types that openapi-typescript has generated into contacts.ts, with
// openapi-fetch. Run it, with the gateway's URL in GATEWAY and a bearer token in
// TOKEN: node client.js
import createClient from "openapi-fetch";
import { randomUUID } from "node:crypto";
import type { components, paths } from "./contacts.js";

type Line<Name extends keyof components["schemas"]> = components["schemas"][Name];

// Yields each line of a stream as soon as it is there. At its end it cancels the call.
async function* lines<Name extends keyof components["schemas"]>(
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<Line<Name>> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of stream) {
    text += decoder.decode(bytes, { stream: true });
    const ended = text.split("\n");
    text = ended.pop() ?? "";
    for (const line of ended) yield JSON.parse(line);
  }
}

const client = createClient<paths>({
  baseUrl: process.env.GATEWAY,
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
});
const contacts = "/v1/contacts";
const one = "/v1/contacts/{contact}";

// The request id makes it safe to try again.
const created = await client.POST(contacts, {
  params: { query: { requestId: randomUUID() } },
  body: { person: { name: "Ada" } },
});
console.log("created", created.data?.person?.name);
const path = { contact: created.data!.name!.replace("contacts/", "") };

const read = await client.GET(one, { params: { path } });
console.log("read", read.data?.person?.name);

// A change is made only if nobody else has made one since.
const header = { "If-Match": read.data?.etag };
const changed = await client.PATCH(one, {
  params: { path, header },
  body: { person: { email: "ada@example.com" } },
});
console.log("updated", changed.data?.person?.name, changed.data?.person?.email);
const stale = await client.PATCH(one, {
  params: { path, header },
  body: { person: { email: "other@example.com" } },
});
console.log("refused", stale.error?.status, stale.error?.reason);

const imported = await client.POST("/v1/contacts:import", {
  body: { people: [{ name: "Grace" }], finish: true },
});
console.log("imported", imported.data?.contactCount);

const page = await client.GET(contacts, { params: { query: { pageSize: 10 } } });
console.log("listed", ...(page.data?.contacts ?? []).map((each) => each.person?.name));

const names: (string | undefined)[] = [];
const exported = await client.GET("/v1/contacts:export", { parseAs: "stream" });
for await (const line of lines<"ExportContactsLine">(exported.data!))
  for (const each of line.result?.contacts ?? []) names.push(each.person?.name);
console.log("exported", ...names.sort());

const watch = await client.GET("/v1/contacts:watch", { parseAs: "stream" });
let deleted = false;
for await (const line of lines<"WatchContactsLine">(watch.data!)) {
  console.log("watch", line.result?.kind);
  if (deleted) break;
  await client.DELETE(one, { params: { path } });
  deleted = true;
}

const gone = await client.GET(one, { params: { path } });
console.log("error", gone.error?.status, gone.error?.code);

const invalid = await client.POST(contacts, { body: { person: { name: " " } } });
console.log("error", invalid.error?.status, ...(invalid.error?.violations ?? []).map((each) => each.field));
