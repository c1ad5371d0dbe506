# One environment, .venv, for everything. Needs Python 3.11 or later, make and pip; the rest is installed here.
#
#   make demo             the tour in JupyterLab          make demo DEMO=headless   the same, executed without a browser
#   make test             check, then every test          make check                formatting, lint, types, import rules
#   make quick            the tests of what changed, at most four minutes of them
#   make notebooks        every notebook, in both number formats, with and without the engine extras, all in one workspace
#   make screenshots      every panel at three widths, light and dark, in build/screenshots
#   make bench            the benchmarks                  make format               let ruff rewrite what it can
#   make crash            the crash tests at full count (an hour; make test runs a small count)
#   make soak             a million requests at an endpoint that is switched twenty times
#   make setup            only the environment            make clean / distclean    what make made / and .venv
#
# PYTHON=/path/to/python chooses the interpreter, PYTEST_ARGS="-k registry -x" goes to pytest.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.stamp-setup
# Without a terminal nobody waits for a browser to open.
DEMO    ?= $(shell test -t 0 && echo lab || echo headless)
DEMO_OUT := build/demo
# All that the three notebooks need, so that they run without a network.
SAMPLES := minilm reviews lite0 digits basemap smollm2

# Commands that the environment installs find each other, also from a notebook's `!` lines and a terminal in JupyterLab.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup browser demo demo-lab demo-headless test quick notebooks screenshots check crash soak bench bench-engine bench-quality bench-registry bench-serving format clean distclean

help:
	@sed -n '/^# One environment/,/^$$/s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------------------------------------------------------------
# set-up: again only when pyproject.toml changed

setup: $(STAMP)

# An environment whose interpreter has gone is made again, and filled again.
$(shell [ -x $(BIN)/python ] || rm -f $(STAMP))

$(BIN)/python:
	@set -eu; \
	found=; \
	for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "No Python 3.11 or later was found (looked for: $(PYTHON) python3 python3.13 python3.12 python3.11 python)." >&2; \
	    echo "Next: install one, or name it: make $(or $(firstword $(MAKECMDGOALS)),setup) PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	echo "$(VENV): from $$("$$found" -c 'import sys; print(sys.executable, "%d.%d.%d" % sys.version_info[:3])')"; \
	if ! "$$found" -m venv --clear $(VENV); then \
	    package="python3-venv"; \
	    if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then \
	        echo "This Python has no ensurepip; installing $$package."; \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package; \
	        "$$found" -m venv --clear $(VENV); \
	    else \
	        rm -rf $(VENV); \
	        echo "This Python cannot make a virtual environment: it comes without ensurepip." >&2; \
	        echo "Next: sudo apt-get install $$package   (or your system's package of that kind), then make again" >&2; \
	        exit 1; \
	    fi; \
	fi

# uv takes half a minute where pip takes several; where uv cannot (no wheel for the platform, an index it does not read) pip does it.
$(STAMP): pyproject.toml | $(BIN)/python
	@set -eu; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade uv || echo "uv could not be installed; pip goes on alone."; \
	$(BIN)/python -m uv pip install --compile-bytecode --python $(BIN)/python -e '.[dev,lab]' || { \
	    echo "uv did not manage; trying pip."; \
	    $(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,lab]'; \
	}; \
	touch $@

# The browser tests drive a real JupyterLab. CHROMIUM=/path/to/chrome names one that is not on the PATH.
browser:
	@set -eu; \
	if [ -n "$${CHROMIUM:-}" ] && [ -x "$$CHROMIUM" ]; then exit 0; fi; \
	for name in chromium chromium-browser google-chrome; do \
	    if command -v $$name >/dev/null 2>&1; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "Installing chromium and fonts for the browser tests."; \
	    apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; \
	else \
	    echo "The browser tests need Chromium, and none is on the PATH." >&2; \
	    echo "Next: sudo apt-get install chromium fonts-dejavu-core   (macOS: brew install --cask chromium), or" >&2; \
	    echo "      make test CHROMIUM=/path/to/chrome, or without them: make check && $(BIN)/python -m pytest -m 'not browser'" >&2; \
	    exit 1; \
	fi

# ---------------------------------------------------------------------------------------------------------------------
# demo

demo: demo-$(DEMO)

demo-lab: $(STAMP)
	@set -eu; \
	for sample in $(SAMPLES); do $(BIN)/python -m sft_magics fetch $$sample; done; \
	root=; if [ "$$(id -u)" -eq 0 ]; then root=--allow-root; fi; \
	exec $(BIN)/python -m jupyterlab --ip=127.0.0.1 $$root notebooks/00_tour.ipynb

demo-headless: export SFT_HOME = $(CURDIR)/$(DEMO_OUT)/workspace
demo-headless: $(STAMP)
	@set -eu; \
	rm -rf $(DEMO_OUT); mkdir -p $(DEMO_OUT); \
	for sample in $(SAMPLES); do $(BIN)/python -m sft_magics fetch $$sample; done; \
	$(BIN)/python -m nbconvert --to notebook --execute \
	    --ExecutePreprocessor.kernel_name=python3 --ExecutePreprocessor.timeout=1800 \
	    --output-dir $(DEMO_OUT) --output 00_tour.ipynb notebooks/00_tour.ipynb; \
	$(BIN)/python -m nbconvert --to html --output-dir $(DEMO_OUT) --output 00_tour.html $(DEMO_OUT)/00_tour.ipynb; \
	echo; \
	echo "The tour, executed:  $(DEMO_OUT)/00_tour.ipynb"; \
	echo "The same as a page:  $(DEMO_OUT)/00_tour.html"; \
	echo "Its workspace:       $(DEMO_OUT)/workspace"

# ---------------------------------------------------------------------------------------------------------------------
# test, check, bench

# Most tests wait for processes, so two run at once; those that measure, or need all cores, follow alone.
test: check browser
	@set -u; result=5; \
	for part in "--together -n 2 --dist loadfile" "--alone"; do \
	    status=0; $(BIN)/python -m pytest $$part $(PYTEST_ARGS) || status=$$?; \
	    if [ $$result -eq 5 ] || [ $$status -ne 5 -a $$status -ne 0 ]; then result=$$status; fi; \
	done; \
	exit $$result

quick: $(STAMP)
	@$(BIN)/python -m tests.quick $(PYTEST_ARGS)

# About two hours on two cores. NOTEBOOKS="00_tour --beside 2" runs the tour twice at the same time instead.
notebooks: $(STAMP)
	@$(BIN)/python -m tests.journeys.notebooks $(or $(NOTEBOOKS),--precision fp32 bf16 --engines auto torch)

screenshots: $(STAMP) browser
	@$(BIN)/python -m tests.browser.gallery

check: $(STAMP)
	@set -eu; \
	echo "ruff format"; $(BIN)/ruff format --check .; \
	echo "ruff check"; $(BIN)/ruff check .; \
	echo "mypy --strict"; $(BIN)/python -m mypy --strict sft_magics; \
	echo "lint-imports"; $(BIN)/lint-imports

crash: $(STAMP)
	@SFT_CRASH=full $(BIN)/python -m pytest tests/crash --timeout 7200 $(PYTEST_ARGS)

soak: $(STAMP)
	@SFT_SOAK=full $(BIN)/python -m pytest tests/serving/test_under_load.py tests/serving/test_hosts.py --timeout 7200 $(PYTEST_ARGS)

bench: $(STAMP)
	@$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

# Other trainers live in an environment of their own, with this package beside them: their pins must not change ours.
bench-engine: $(STAMP)
	@set -eu; \
	if ! build/peers/bin/python -c 'import fastai, trl, sft_magics' 2>/dev/null; then \
	    $(BIN)/python -m venv --clear build/peers; \
	    $(BIN)/python -m uv pip install --quiet --compile-bytecode --python build/peers/bin/python -e . accelerate fastai trl; \
	fi; \
	build/peers/bin/python -m tests.benchmarks engine --seeds 3 --threads 1 $(BENCH_ARGS); \
	build/peers/bin/python -m tests.benchmarks tasks

# CPU-seconds to the quality of a peer, and the length of a run that nobody names; both take an hour or more.
bench-quality: $(STAMP)
	@set -eu; \
	$(BIN)/python -m tests.benchmarks quality $(BENCH_ARGS); \
	$(BIN)/python -m tests.benchmarks epochs

# Other servers beside our endpoints.
bench-serving: $(STAMP)
	@set -eu; \
	if ! build/serving/bin/python -c 'import litserve, fastapi, mlflow, sft_magics' 2>/dev/null; then \
	    $(BIN)/python -m venv --clear build/serving; \
	    $(BIN)/python -m uv pip install --quiet --compile-bytecode --python build/serving/bin/python -e '.[onnx,openvino]' litserve fastapi mlflow; \
	fi; \
	build/serving/bin/python -m tests.benchmarks serving $(BENCH_ARGS)

# The peer has an environment of its own: its pins must not change ours.
bench-registry: $(STAMP)
	@set -eu; \
	if ! build/mlflow/bin/python -c 'import mlflow' 2>/dev/null; then \
	    $(BIN)/python -m venv --clear build/mlflow; \
	    $(BIN)/python -m uv pip install --quiet --compile-bytecode --python build/mlflow/bin/python mlflow; \
	fi; \
	$(BIN)/python -m tests.benchmarks registry --peer $(CURDIR)/build/mlflow/bin/python $(BENCH_ARGS); \
	$(BIN)/python -m tests.benchmarks artifacts

format: $(STAMP)
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find sft_magics tests notebooks -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV)
