# make demo    installs everything and trains a small CLIP on embedded data
# make test    installs everything and runs the tests
# make check   lint and format, as CI would see them
# make bench   times the losses on this machine

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

NATIVE := $(shell find csrc -type f) setup.py pyproject.toml constraints.txt

.PHONY: demo test check format bench clean

demo: $(VENV)/.installed
	$(BIN)/fastclip demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -q

bench: $(VENV)/.installed
	$(BIN)/fastclip bench loss --n 64 256 1024 4096 8192 --output benchmarks/results

check: $(VENV)/.installed
	$(BIN)/pre-commit run --all-files

format: $(VENV)/.installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && \
		$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp')

# torch first: the native module is built against the torch that is installed, without isolation.
$(VENV)/.installed: $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch setuptools wheel ninja numpy
	FASTCLIP_BUILD=auto $(BIN)/pip install --quiet --no-build-isolation --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps open_clip_torch==3.3.0
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info fastclip/*.so demo-output
