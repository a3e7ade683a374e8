# Two commands: `make serve` and `make test`; both set everything up first.
VENV := .venv
GPU_VENV := .venv-gpu
GPU_WHEELS := .gpu-wheels
GPU_PACKAGES := jaxtyping wadler-lindig rich markdown-it-py mdurl pygments sentencepiece msgspec
BIN := $(VENV)/bin
# The first Python 3.12 reachable as python3.12, python3, or through pyenv or uv (both read .python-version).
PYTHON ?= $(shell for p in python3.12 python3 "$$(pyenv prefix 2>/dev/null)/bin/python" "$$(uv python find 3.12 2>/dev/null)"; do \
	[ -n "$$p" ] && "$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null && echo "$$p" && break; done)

CLIENTS := tests/serving/frontends/oip/clients tests/serving/frontends/http/clients
NODE := tests/serving/frontends/http/clients/node

.PHONY: clients more-clients serve test lint gpu-compile gpu-wheels gpu-bench-kernels gpu-bench format setup lock lock-clients protos oracle clean

serve: setup
	$(BIN)/python -m muxjax.serve $(CONFIG)

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Compiles the kernels and whole steps for NVIDIA GPUs, without one: muxjax/gpu_compile/. ARGS="--help" says more.
gpu-compile: $(GPU_VENV)/.installed
	@$(GPU_VENV)/bin/python -m muxjax.gpu_compile $(ARGS)

# Measures the kernels on an NVIDIA GPU, in under six minutes: muxjax/bench/kernels/. The GPU's machine needs no network: it
# has a Python 3.12 with JAX and CUDA, Flax and, to compare with, PyTorch; the rest is in wheels that `make gpu-wheels` got.
GPU_PYTHON ?= $(shell for p in python3 python3.12 python; do "$$p" -c 'import jax' 2>/dev/null && echo "$$p" && break; done)
gpu-bench-kernels: $(GPU_WHEELS)/unpacked
	@PYTHONPATH=$< $(GPU_PYTHON) -m muxjax.bench.kernels $(ARGS)

# Likewise whole steps and a unit of three LLMs, in under nine minutes: muxjax/bench/gpu/.
gpu-bench: $(GPU_WHEELS)/unpacked
	@PYTHONPATH=$< $(GPU_PYTHON) -m muxjax.bench.gpu $(ARGS)

gpu-wheels: setup
	@rm -rf $(GPU_WHEELS)
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.12 \
		--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --dest $(GPU_WHEELS) \
		$$(for name in $(GPU_PACKAGES); do grep -o "^$$name==[^ ]*" requirements.lock; done)
	@du -sh $(GPU_WHEELS)

$(GPU_WHEELS)/unpacked: $(wildcard $(GPU_WHEELS)/*.whl)
	@[ -n "$^" ] || { echo "no wheels: run 'make gpu-wheels' where there is a network, and bring the folder $(GPU_WHEELS)" >&2; exit 1; }
	@[ -n "$(GPU_PYTHON)" ] || { echo "no Python with JAX: set GPU_PYTHON to one" >&2; exit 1; }
	@$(GPU_PYTHON) -m pip install --quiet --disable-pip-version-check --no-index --no-deps --upgrade --target $@ $^
	@touch $@

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(create)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# CUDA's compiler beside JAX, 1 GB: only what compiles for GPUs is in it, and muxjax itself runs from here.
$(GPU_VENV)/.installed: requirements-gpu.lock
	$(create)
	@touch $@

define create
@[ -n "$(PYTHON)" ] || { echo "muxjax needs Python 3.12: install it (pyenv install 3.12, or uv python install 3.12) and try again" >&2; exit 1; }
@echo "setting up $(@D) with $(PYTHON) (once; about a minute)"
@"$(PYTHON)" -m venv $(@D)
@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
endef

# Exact versions and hashes, without download addresses (needs uv).
JAX := 0.11.2
UV_COMPILE := uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.12
lock:
	echo 'jax==$(JAX)' | $(UV_COMPILE) pyproject.toml --extra test --constraint - --output-file requirements.lock
	printf '%s==$(JAX)\n' jax-cuda13-plugin jax-cuda13-pjrt | $(UV_COMPILE) pyproject.toml --extra gpu-compile \
		--constraint requirements.lock --constraint - --output-file requirements-gpu.lock

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
	for file in $(foreach folder,$(CLIENTS),$(wildcard $(folder)/*.in)); do \
		$(UV_COMPILE) $$file --output-file $${file%.in}.txt; done
	cd $(NODE) && npm install --package-lock-only --loglevel=error

# PyTorch, transformers and llama.cpp, apart from muxjax: what tests/oracle/ and muxjax.bench compare with.
oracle:
	python3.11 -m venv .venv-oracle
	.venv-oracle/bin/python -m pip install --quiet --disable-pip-version-check \
		torch==2.13.0 transformers==5.23.0 llama-cpp-python==0.3.36 gguf==0.19.0

clean:
	rm -rf $(VENV) $(GPU_VENV) build *.egg-info
