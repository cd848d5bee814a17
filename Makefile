## make demo     restore blurred photographs, train a small VAE; pictures in out/
## make test     run the tests, and say which took longest
## make coverage the same, with the coverage of Python lines, in twice the time
## make lint     ruff, mypy, clang-format
## make fuzz     10,000 random calls of every public function against the formulas in float64
## make soak     kill a training run again and again, fill its disk, take its right to write; a million calls
## make sanitize watch the compiled CPU code by AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
## make bench    time every backend against its contenders
## make measure  measure all that the pages show, into benchmarks/results/$(RESULTS).json, then make figures
## make figures  every figure and table of README and docs/ again, from the committed results
## make gpu      build, check, time, profile and sanitise on a machine with a GPU, without a network; into out/
## make docs     the documentation as pages, build/docs/index.html
## make wheel    build a wheel into dist/ and test it in an environment of its own
## make lock     pin the newest dependencies in requirements.txt
## make clean    remove the environment and everything built
##
## Everything is installed in .venv, on first use.
## PYTHON=python3.12        the Python to make .venv with
## TORCH=torch==2.11.0      what pip installs as torch
## TORCH_INDEX=URL          where from, e.g. https://download.pytorch.org/whl/cpu on Linux without a GPU
## ARGS=...                 further arguments for the command behind demo, test, coverage, fuzz, soak, sanitize, bench, measure, wheel
## RESULTS=cpu-epyc-avx2    the file that measure writes

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
ARGS ?=
RESULTS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --disable-pip-version-check
INSTALL_TORCH := $(PIP_INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
# With torch named again, lest something that needs a torch brings another one.
INSTALL_REST := $(PIP_INSTALL) -q -r requirements.txt '$(TORCH)'
# A torch for GPUs has brought the triton that it needs; on Linux the others take this one, for its interpreter.
INSTALL_TRITON := $(PIP_INSTALL) -q 'triton==3.8.0; platform_system == "Linux"'
# Another torch is another stamp, and so is another place: an environment that was moved or copied runs the old one's code.
DEPS := $(VENV)/.deps-$(shell printf '%s' '$(TORCH) $(TORCH_INDEX) '"$$(pwd -P)" | cksum | cut -d ' ' -f 1)
BUILT := $(VENV)/.built$(BLURFFT_CUDA)
CXX_FILES := $(shell find csrc tests examples -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help demo test coverage lint fuzz soak sanitize bench measure figures gpu docs wheel lock clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

demo: $(BUILT)
	$(BIN)/blurfft demo $(ARGS)
	$(BIN)/blurfft train --steps 100 --width 16 --batch 16 --lr 2e-3 --no-tensorboard --overwrite --out out/train

# As many processes as cores; more than 8 take more memory than they save time.
PYTEST := -m pytest -n auto --maxprocesses=8 --dist worksteal

# Triton's interpreter is for all kernels of a process or for none: they have a process of their own. ARGS is for the
# first.
test: $(BUILT)
	$(BIN)/python $(PYTEST) --durations=30 $(ARGS)
	$(if $(ARGS),,TRITON_INTERPRET=1 $(BIN)/python $(PYTEST) --durations=10 tests/test_backends.py tests/test_triton.py)

# Before Python 3.12 coverage looks at every line of torch that runs.
coverage: $(BUILT)
	$(BIN)/python $(PYTEST) --cov --cov-report=term $(ARGS)

lint: $(DEPS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

# Triton's interpreter takes some hundred times as long.
fuzz: $(BUILT)
	$(BIN)/python tests/fuzz.py $(ARGS)
	$(if $(ARGS),,TRITON_INTERPRET=1 $(BIN)/python tests/fuzz.py --cases 300)

soak: $(BUILT)
	$(BIN)/python tests/soak.py $(ARGS)

sanitize: $(BUILT)
	$(BIN)/python tests/sanitize.py $(ARGS)

bench: $(BUILT)
	$(BIN)/python -m benchmarks run $(ARGS)

# Anew: results of two versions, or of two settings of the machine, do not belong together.
measure: $(BUILT)
	$(if $(RESULTS),,$(error name the file of the results, as in make measure RESULTS=cpu-epyc-avx2))
	$(if $(findstring --resume,$(ARGS)),,rm -f benchmarks/results/$(RESULTS).json)
	$(BIN)/python -m benchmarks run --pages --rounds 9 --out benchmarks/results/$(RESULTS).json $(ARGS)
	$(MAKE) figures

figures: $(BUILT)
	$(BIN)/python docs/figures.py
	$(BIN)/python -m benchmarks plot
	$(BIN)/python -m benchmarks readme

# Not in .venv, for which there is no network: with PYTHON as it is.
gpu:
	PYTHON=$(PYTHON) .ci/gpu

docs: $(DEPS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# The tests run on the installed wheel: in a folder from which this tree cannot be imported.
wheel: $(DEPS)
	rm -rf dist build/lib* build/bdist*
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .
	set -e; outside=$$(mktemp -d); trap 'rm -rf "$$outside"' EXIT; \
	$(BIN)/python -m venv "$$outside/venv"; \
	"$$outside/venv/bin/python" $(INSTALL_TORCH); \
	"$$outside/venv/bin/python" -m pip show -q triton 2> /dev/null || "$$outside/venv/bin/python" $(INSTALL_TRITON); \
	"$$outside/venv/bin/python" $(INSTALL_REST); \
	"$$outside/venv/bin/python" $(PIP_INSTALL) --no-deps dist/*.whl; \
	cp -r tests pyproject.toml "$$outside"; \
	cd "$$outside"; venv/bin/python $(PYTEST) $(ARGS)

lock: $(DEPS)
	$(BIN)/python $(PIP_INSTALL) -q uv
	mkdir -p build; printf '%s\n' torch triton > build/excludes.txt
	UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --universal --python-version 3.10 --upgrade --no-annotate \
	    --extra demo --extra test --extra lint --extra bench --extra docs --extra triton \
	    --excludes build/excludes.txt pyproject.toml requirements.in -o requirements.txt

clean:
	rm -rf $(VENV) build dist out *.egg-info blurfft/_C*.so blurfft/libblurfft.* .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(DEPS): requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("blurfft needs Python 3.10 or newer, this is %s: name one as in make PYTHON=python3.12" % sys.version.split()[0])'
	@test ! -e $(VENV)/.place || grep -qxF "$$(pwd -P)" $(VENV)/.place || rm -rf $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@pwd -P > $(VENV)/.place
	$(BIN)/python $(INSTALL_TORCH)
	$(BIN)/python -m pip show -q triton 2> /dev/null || $(BIN)/python $(INSTALL_TRITON)
	$(BIN)/python $(INSTALL_REST)
	rm -f $(VENV)/.deps-*
	touch $@

# The first command compiles with its progress shown, which pip would hide; the second finds everything up to date.
# Ninja takes no part in make's own jobs (-j).
$(BUILT): $(DEPS) pyproject.toml setup.py $(shell find csrc -type f)
	MAKEFLAGS= $(BIN)/python setup.py build_ext --inplace
	$(BIN)/python $(PIP_INSTALL) -q --no-build-isolation --no-deps -e .
	rm -f $(VENV)/.built*
	touch $@
