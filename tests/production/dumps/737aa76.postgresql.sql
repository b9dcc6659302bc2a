-- Written by commit 737aa76.
CREATE TABLE public.changes (
    owner text NOT NULL COLLATE pg_catalog."C",
    "position" bigint NOT NULL,
    change bytea NOT NULL
);
CREATE TABLE public.contacts (
    owner text NOT NULL COLLATE pg_catalog."C",
    contact_id text NOT NULL COLLATE pg_catalog."C",
    name_key text NOT NULL COLLATE pg_catalog."C",
    person bytea NOT NULL,
    revision bigint NOT NULL,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL
);
CREATE TABLE public.nonces (
    key_id text NOT NULL COLLATE pg_catalog."C",
    nonce text NOT NULL COLLATE pg_catalog."C",
    expires bigint NOT NULL
);
CREATE TABLE public.owners (
    owner text NOT NULL COLLATE pg_catalog."C",
    "position" bigint NOT NULL
);
CREATE TABLE public.requests (
    owner text NOT NULL COLLATE pg_catalog."C",
    request_id text NOT NULL COLLATE pg_catalog."C",
    fingerprint bytea NOT NULL,
    response bytea NOT NULL,
    created_us bigint NOT NULL
);
CREATE TABLE public.schema_version (
    version integer NOT NULL
);
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 1, '\x080212760a0e636f6e74616374732f6164612d31124f0a0c416461204c6f76656c61636510011a0f616461406578616d706c652e6f726722070a052b3434203022090a052b34342031100122090a052b3434203210022a0d0880d6dff1edffffffff0110011a0322312222060880a4a7da062a060880a4a7da061a0131');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 2, '\x080312760a0e636f6e74616374732f6164612d31124f0a0c416461204c6f76656c61636510011a0f616461406e65772e6578616d706c6522070a052b3434203022090a052b34342031100122090a052b3434203210022a0d0880d6dff1edffffffff0110011a0322322222060880a4a7da062a060881a4a7da061a0132');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 3, '\x0802122c0a0d636f6e74616374732f676f6e6512060a04476f6e651a0322332222060882a4a7da062a060882a4a7da061a0133');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 4, '\x0804120f0a0d636f6e74616374732f676f6e651a0134');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 5, '\x080212510a2d636f6e74616374732f30303030303030302d303030302d343030302d383030302d303030303030303030303634120b0a09e69e97e5bebde59ba01a0322352222060884a4a7da062a060884a4a7da061a0135');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 6, '\x0802125a0a2d636f6e74616374732f30303030303030302d303030302d343030302d383030302d30303030303030303030363512140a0753747261c39f6510ffffffffffffffffff011a0322362222060884a4a7da062a060884a4a7da061a0136');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 7, '\x0802125d0a2d636f6e74616374732f30303030303030302d303030302d343030302d383030302d30303030303030303030363612170a0a65cc8120616e6420c3a910feffffffffffffffff011a0322372222060884a4a7da062a060884a4a7da061a0137');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 8, '\x0802126a0a2d636f6e74616374732f30303030303030302d303030302d343030302d383030302d30303030303030303030363712240a174f27427269656e3b20227822205c20255f3f3a6e616d6510fdffffffffffffffff011a0322382222060884a4a7da062a060884a4a7da061a0138');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 9, '\x080212580a2d636f6e74616374732f30303030303030302d303030302d343030302d383030302d30303030303030303030363812120a05f48fbfbf2110fcffffffffffffffff011a0322392222060884a4a7da062a060884a4a7da061a0139');
INSERT INTO public.changes (owner, "position", change) VALUES ('spiffe://contacts.example.com/role/operator', 10, '\x080212530a2d636f6e74616374732f30303030303030302d303030302d343030302d383030302d303030303030303030303639120c0a054e6577657232036e65771a042231302222060884a4a7da062a060884a4a7da061a023130');
INSERT INTO public.changes (owner, "position", change) VALUES ('林''s "other"', 1, '\x080212760a0e636f6e74616374732f6164612d31124f0a0c416461204c6f76656c61636510011a0f616461406578616d706c652e6f726722070a052b3434203022090a052b34342031100122090a052b3434203210022a0d0880d6dff1edffffffff0110011a0322312222060885a4a7da062a060885a4a7da061a0131');
INSERT INTO public.contacts (owner, contact_id, name_key, person, revision, created_us, updated_us) VALUES ('spiffe://contacts.example.com/role/operator', 'ada-1', 'ada lovelace', '\x0a0c416461204c6f76656c61636510011a0f616461406e65772e6578616d706c6522070a052b3434203022090a052b34342031100122090a052b3434203210022a0d0880d6dff1edffffffff011001', 2, 1800000000000000, 1800000001000000);
INSERT INTO public.contacts (owner, contact_id, name_key, person, revision, created_us, updated_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-4000-8000-000000000064', '林徽因', '\x0a09e69e97e5bebde59ba0', 5, 1800000004000000, 1800000004000000);
INSERT INTO public.contacts (owner, contact_id, name_key, person, revision, created_us, updated_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-4000-8000-000000000065', 'strasse', '\x0a0753747261c39f6510ffffffffffffffffff01', 6, 1800000004000000, 1800000004000000);
INSERT INTO public.contacts (owner, contact_id, name_key, person, revision, created_us, updated_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-4000-8000-000000000066', 'é and é', '\x0a0a65cc8120616e6420c3a910feffffffffffffffff01', 7, 1800000004000000, 1800000004000000);
INSERT INTO public.contacts (owner, contact_id, name_key, person, revision, created_us, updated_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-4000-8000-000000000067', 'o''brien; "x" \ %_?:name', '\x0a174f27427269656e3b20227822205c20255f3f3a6e616d6510fdffffffffffffffff01', 8, 1800000004000000, 1800000004000000);
INSERT INTO public.contacts (owner, contact_id, name_key, person, revision, created_us, updated_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-4000-8000-000000000068', '􏿿!', '\x0a05f48fbfbf2110fcffffffffffffffff01', 9, 1800000004000000, 1800000004000000);
INSERT INTO public.contacts (owner, contact_id, name_key, person, revision, created_us, updated_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-4000-8000-000000000069', 'newer', '\x0a054e6577657232036e6577', 10, 1800000004000000, 1800000004000000);
INSERT INTO public.contacts (owner, contact_id, name_key, person, revision, created_us, updated_us) VALUES ('林''s "other"', 'ada-1', 'ada lovelace', '\x0a0c416461204c6f76656c61636510011a0f616461406578616d706c652e6f726722070a052b3434203022090a052b34342031100122090a052b3434203210022a0d0880d6dff1edffffffff011001', 1, 1800000005000000, 1800000005000000);
INSERT INTO public.nonces (key_id, nonce, expires) VALUES ('laptop', 'used', 1800000121);
INSERT INTO public.owners (owner, "position") VALUES ('spiffe://contacts.example.com/role/operator', 10);
INSERT INTO public.owners (owner, "position") VALUES ('林''s "other"', 1);
INSERT INTO public.requests (owner, request_id, fingerprint, response, created_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-0000-0000-000000000001', '\xa1dd5d4d9b41b91544f087d4f89816aa1e24d9f8f05d632d8e2bef90bf0f3d97', '\x0a0e636f6e74616374732f6164612d31124f0a0c416461204c6f76656c61636510011a0f616461406578616d706c652e6f726722070a052b3434203022090a052b34342031100122090a052b3434203210022a0d0880d6dff1edffffffff0110011a0322312222060880a4a7da062a060880a4a7da06', 1800000000000000);
INSERT INTO public.requests (owner, request_id, fingerprint, response, created_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-0000-0000-000000000002', '\x308ab116ca402f35209d13f70781157dea01690f9f9f08cbea0f2f6f40b4034e', '\x0a0e636f6e74616374732f6164612d31124f0a0c416461204c6f76656c61636510011a0f616461406e65772e6578616d706c6522070a052b3434203022090a052b34342031100122090a052b3434203210022a0d0880d6dff1edffffffff0110011a0322322222060880a4a7da062a060881a4a7da06', 1800000001000000);
INSERT INTO public.requests (owner, request_id, fingerprint, response, created_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-0000-0000-000000000003', '\x12bd085dbab6d1ed694332df72a849ee9a05ef10bd8a06e0dfa8bf378c592006', '\x', 1800000003000000);
INSERT INTO public.requests (owner, request_id, fingerprint, response, created_us) VALUES ('spiffe://contacts.example.com/role/operator', '00000000-0000-0000-0000-000000000004', '\xa9b563635ccb941a3af12b1931f109665d69ee99cf55220b375c569a5aefd51d', '\x0806', 1800000004000000);
INSERT INTO public.schema_version (version) VALUES (1);
INSERT INTO public.schema_version (version) VALUES (2);
ALTER TABLE ONLY public.changes
    ADD CONSTRAINT changes_pkey PRIMARY KEY (owner, "position");
ALTER TABLE ONLY public.contacts
    ADD CONSTRAINT contacts_pkey PRIMARY KEY (owner, contact_id);
ALTER TABLE ONLY public.nonces
    ADD CONSTRAINT nonces_pkey PRIMARY KEY (key_id, nonce);
ALTER TABLE ONLY public.owners
    ADD CONSTRAINT owners_pkey PRIMARY KEY (owner);
ALTER TABLE ONLY public.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (owner, request_id);
CREATE INDEX contacts_by_name ON public.contacts USING btree (owner, name_key, contact_id);
CREATE INDEX nonces_by_age ON public.nonces USING btree (expires);
CREATE INDEX requests_by_age ON public.requests USING btree (created_us);
