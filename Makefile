# A fresh machine needs python (3.11 or newer), g++, cmake and make; the targets set up the rest.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.inl') CMakeLists.txt
FORMATTED := $(shell find csrc tests/native -name '*.cpp' -o -name '*.h' 2>/dev/null)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1

.PHONY: demo test build lint native-test python-test docs clean

demo: build
	@$(BIN)/plait run smollm2-135m "Write a short poem about the sea." -n 96 --stats

# Side by side, for the Python tests leave one processor idle half of the time.
test: lint
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target native-test python-test

python-test: $(VENV)/.test
	$(BIN)/python -m pytest

build: $(VENV)/.installed

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)

# The C++ tests, under AddressSanitizer and UBSan.
native-test: $(VENV)/.tools
	@cmake -S . -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	  -DPLAIT_NATIVE_TESTS=ON -DPLAIT_SANITIZE=ON -DCMAKE_BUILD_TYPE=Release >/dev/null
	MAKEFLAGS= nice cmake --build build/sanitize  # ninja is no part of make's job server
	ctest --test-dir build/sanitize --output-on-failure

# Pages that are written by a script (a test compares them with their source).
docs: build
	$(BIN)/python scripts/papers.py
	$(BIN)/python scripts/flags.py

clean:
	rm -rf build $(VENV)

# The virtual environment and what builds the native module.
$(VENV)/.tools: scripts/setup
	@PYTHON="$(PYTHON)" scripts/setup $(VENV)
	@$(BIN)/pip install 'scikit-build-core>=0.10' 'nanobind>=2.4' ninja
	@touch $@

# The package itself, editable: only the native module has to be built again when its sources change.
$(VENV)/.installed: $(VENV)/.tools $(NATIVE) pyproject.toml
	@echo "building plait (the first time this takes a minute or two)" >&2
	@$(BIN)/pip install --no-build-isolation --editable .
	@touch $@

# What the tests need besides, by the pins of pyproject.toml.
$(VENV)/.test: $(VENV)/.installed pyproject.toml
	@$(BIN)/python -c "import tomllib; \
	  project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	  print(*project['optional-dependencies']['test'], sep='\n')" >$(VENV)/test-requirements.txt
	@$(BIN)/pip install -r $(VENV)/test-requirements.txt
	@touch $@
