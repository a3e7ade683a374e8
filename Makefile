# Two commands: `make serve` and `make test`; both set everything up first.
VENV := .venv
BIN := $(VENV)/bin
# The first Python 3.12 reachable as python3.12, python3, or through pyenv or uv (both read .python-version).
PYTHON ?= $(shell for p in python3.12 python3 "$$(pyenv prefix 2>/dev/null)/bin/python" "$$(uv python find 3.12 2>/dev/null)"; do \
	[ -n "$$p" ] && "$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null && echo "$$p" && break; done)

CLIENTS := tests/serving/frontends/oip/clients tests/serving/frontends/http/clients
NODE := tests/serving/frontends/http/clients/node

.PHONY: clients more-clients serve test lint format setup lock lock-clients protos oracle clean

serve: setup
	$(BIN)/python -m muxjax.serve $(CONFIG)

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "muxjax needs Python 3.12: install it (pyenv install 3.12, or uv python install 3.12) and try again" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON) (once; about a minute)"
	@"$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Exact versions and hashes, without download addresses (needs uv).
lock:
	echo 'jax==0.11.2' | uv pip compile pyproject.toml --extra test --constraint - \
		--generate-hashes --no-emit-index-url --no-header --python-version 3.12 --output-file requirements.lock

# Through the package's path, so that the generated files import each other from muxjax.serving. The Open Inference
# Protocol's get a descriptor pool of their own: see serving/frontends/oip/handlers.py.
protos: setup
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. \
		muxjax/serving/frontends/grpc/*.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --grpc_python_out=. \
		muxjax/serving/frontends/grpc/inference.proto muxjax/serving/frontends/grpc/admin.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. \
		muxjax/serving/frontends/oip/open_inference.proto
	sed 's/_descriptor_pool[.]Default()/_descriptor_pool.DescriptorPool()/' \
		serving/frontends/oip/open_inference_pb2.py > serving/frontends/oip/open_inference_pb2.private
	mv serving/frontends/oip/open_inference_pb2.private serving/frontends/oip/open_inference_pb2.py

# Other people's clients, for tests; apart from muxjax, and from each other.
clients: $(patsubst %,.venv-clients/%/.installed,triton perf-analyzer inference-perf node)

# Two more load generators, of a gigabyte each.
more-clients: $(patsubst %,.venv-clients/%/.installed,aiperf genai-perf)

vpath %.txt $(CLIENTS)
.venv-clients/%/.installed: %.txt
	@"$(PYTHON)" -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

.venv-clients/node/.installed: $(NODE)/package.json $(NODE)/package-lock.json
	@mkdir -p $(@D)
	@cp $^ $(@D)
	@cd $(@D) && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts
	@touch $@

lock-clients:
	for file in $(foreach folder,$(CLIENTS),$(wildcard $(folder)/*.in)); do uv pip compile --quiet $$file --generate-hashes \
		--no-emit-index-url --no-header --python-version 3.12 --output-file $${file%.in}.txt; done
	cd $(NODE) && npm install --package-lock-only --loglevel=error

# PyTorch, transformers and llama.cpp, apart from muxjax: what tests/oracle/ and muxjax.bench compare with.
oracle:
	python3.11 -m venv .venv-oracle
	.venv-oracle/bin/python -m pip install --quiet --disable-pip-version-check \
		torch==2.13.0 transformers==5.23.0 llama-cpp-python==0.3.36 gguf==0.19.0

clean:
	rm -rf $(VENV) build *.egg-info
