# Everything a fresh machine needs is set up by the targets themselves: python3.11, g++, cmake and pip suffice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.h') CMakeLists.txt pyproject.toml

.PHONY: demo test build lint native-test clean

demo: build
	@$(BIN)/plait run smollm2-135m "Write a short poem about the sea." -n 96 --stats

test: build $(VENV)/.test
	$(MAKE) lint
	$(MAKE) native-test
	$(BIN)/python -m pytest

build: $(VENV)/.installed

$(VENV)/.tools:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet 'scikit-build-core>=0.10' 'nanobind>=2.4' ninja
	@touch $@

$(VENV)/.installed: $(VENV)/.tools $(SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.installed pyproject.toml
	$(BIN)/pip install --quiet --no-build-isolation --editable '.[test]'
	@touch $@

lint: $(VENV)/.test
	$(BIN)/ruff check src tests scripts benchmarks
	$(BIN)/ruff format --check src tests scripts benchmarks
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(shell find csrc tests -name '*.cpp' -o -name '*.h')

# The C++ tests under AddressSanitizer and UBSan.
native-test: $(VENV)/.tools
	cmake -S . -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	  -DPLAIT_NATIVE_TESTS=ON -DPLAIT_SANITIZE=ON -DCMAKE_BUILD_TYPE=Release >/dev/null
	cmake --build build/sanitize
	ctest --test-dir build/sanitize --output-on-failure

clean:
	rm -rf build $(VENV)
