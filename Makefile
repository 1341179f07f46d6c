# make demo    installs everything and trains a small CLIP on embedded data
# make test    installs everything and runs the tests
# make test-fast    one test of each file of `make test`, in under 90 seconds: for the working loop
# make test-runs    whole runs: trained, killed and resumed, damaged data, shards of weights, examples
# make test-hosts   runs other people's clients on fastclip, in an environment of their own
# make test-integrations   runs fastclip inside other people's trainers, in the same environment
# make check   lint and format, as CI would see them
# make bench   times the losses on this machine
# make kernels-report   what the compilers made of the GPU kernels, all tests that ask compilers, and the
#             kernels of GPUs, emulated, with gpu-first, gpu-check and verify; needs no GPU
# make docs    builds docs/ as a site into build/site, strictly: a link that leads nowhere is an error
# make gpu-first   on a machine with a GPU: the most telling first, in three minutes that cannot be lost
# make gpu-check   on a machine with a GPU: checks and measures everything, in six minutes
# make gpu-wheels  on a machine with an index: gathers what an offline GPU machine lacks

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
HOSTS ?= .venv-hosts
HOSTS_BIN := $(HOSTS)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

NATIVE := $(shell find csrc -type f) setup.py pyproject.toml constraints.txt

.PHONY: demo test test-fast test-runs test-hosts test-integrations check format bench kernels-report \
	docs gpu-first gpu-check gpu-wheels clean

demo: $(VENV)/.installed
	$(BIN)/fastclip demo

QUICK := not alone and not compilers and not rehearsal
# What trains from the command line to the end, mostly in processes of its own; whole steps over ranks;
# plans, memory, and what an import does, in fresh processes; published architectures, exported programs.
RUNS := tests/train/run tests/train/planning tests/examples tests/demo/test_loss_memory.py \
	tests/commands/test_demo.py tests/distributed/steps tests/compat/test_installation.py \
	tests/benchmarks/test_peak_memory.py tests/benchmarks/test_trainers.py tests/models/test_export.py \
	tests/models/test_inference.py tests/models/test_published_parity.py tests/test_packaging.py
IN_RUNS := $(addsuffix %,$(RUNS))
ALONE = $(shell grep -rl --include='test_*.py' mark.alone tests)

# Passive: on few cores, threads that spin between two products of torch take the time of Triton's
# interpreter, which computes in numpy: in one thread, as a second one only waits for the first.
# Both lines run, whatever the first one finds.
define run_tests
	status=0; \
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "$(QUICK)" \
		-n 2 --dist worksteal $(1) || status=1; \
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -m alone $(2) || status=1; \
	exit $$status
endef

test: $(VENV)/.installed
	$(call run_tests,$(addprefix --ignore=,$(RUNS)),$(filter-out $(IN_RUNS),$(ALONE)))

test-runs: $(VENV)/.installed
	$(call run_tests,$(RUNS),$(filter $(IN_RUNS),$(ALONE)))

test-fast: $(VENV)/.installed
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --fast -n 2 --dist worksteal \
		$(addprefix --ignore=,$(RUNS))

# The tests in tests/hosts, with damaged files for every reader (for a minute at most;
# see tests/hosts/fuzz/harness.py), and the tests of exports, which `make test` skips without onnxruntime.
test-hosts: $(HOSTS)/.installed
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(HOSTS_BIN)/python -m pytest -q -n 2 \
		--dist worksteal --ignore=tests/hosts/integrations tests/hosts \
		$(shell grep -rl --include='test_*.py' onnxruntime tests)

# In one process: each would import all hosts, which takes longer than their tests.
test-integrations: $(HOSTS)/.installed
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(HOSTS_BIN)/python -m pytest -q tests/hosts/integrations

kernels-report: $(VENV)/.installed
	$(BIN)/python -m fastclip.benchmarks.compilers.cuda
	$(BIN)/python -m fastclip.benchmarks.compilers.triton
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "compilers or rehearsal" \
		-n 2 --dist worksteal $(shell grep -rlE --include='test_*.py' 'mark.(compilers|rehearsal)' tests)

docs: $(VENV)/.site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed
	$(BIN)/fastclip bench loss --n 64 256 1024 4096 8192 --output benchmarks/results

check: $(VENV)/.installed
	$(BIN)/pre-commit run --all-files

format: $(VENV)/.installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && \
		$(BIN)/clang-format -i $$(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')

# What the tests compare with. Their dependencies would bring another torch; tests need none of them
# beyond what is installed already (see benchmarks/torchvision.py).
REFERENCES := open_clip_torch==3.3.0 timm==1.0.31 torchvision==0.28.0 pandas webdataset braceexpand \
	nvidia-cutlass==4.2.0.0 clip-benchmark==1.6.2

# torch first: the native module is built against the torch that is installed, without isolation.
$(VENV)/.installed: $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch setuptools wheel ninja numpy
	FASTCLIP_BUILD=auto $(BIN)/pip install --quiet --no-build-isolation --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps $(REFERENCES)
	touch $@

# The extra `docs`; a test compares them.
SITE := 'mkdocs-material>=9.5' 'mkdocstrings[python]>=0.26'

$(VENV)/.site: $(VENV)/.installed
	$(BIN)/pip install --quiet $(SITE)
	touch $@

PURELIB := -c "import sysconfig; print(sysconfig.get_path('purelib'))"

# It sees what .venv has, behind what is installed here: torch is there once.
$(HOSTS)/.installed: requirements-hosts.txt $(VENV)/.installed
	$(BIN)/python -m venv --clear --without-pip $(HOSTS)
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" \
		> "$$($(HOSTS_BIN)/python $(PURELIB))/beside.pth"
	$(BIN)/pip --python $(HOSTS_BIN)/python install --quiet --no-deps \
		--requirement requirements-hosts.txt
	touch $@

# Both need a Python with torch for CUDA and triton, and no network: nothing is installed. Results go
# to the folder GPU_OUTPUT. See benchmarks/gpu/launch.py, which they run.
GPU_PYTHON ?= python3
GPU_OUTPUT ?= build/gpu-results
GPU_OPTIONS ?=

gpu-first gpu-check:
	$(GPU_PYTHON) benchmarks/gpu/launch.py $(@:gpu-%=%) --output $(GPU_OUTPUT) $(GPU_OPTIONS)

# Peers of the loss; open_clip brings CLIP's vocabulary too, and ftfy cleans texts for a run.
GPU_WHEELS := inf-cl memeff siglip-kernel cut-cross-entropy liger-kernel open_clip_torch==3.3.0 \
	ftfy wcwidth

gpu-wheels:
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --dest wheels $(GPU_WHEELS)

clean:
	rm -rf $(VENV) $(HOSTS) build dist wheels *.egg-info fastclip/*.so demo-output
