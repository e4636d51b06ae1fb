# The commands: `make demo` (the whole line on SPC/E water), `make test`, and `make test-all`, which runs the examples,
# builds the wheel, simulates for longer and imports models of other packages besides. All do the set-up.
export OMP_WAIT_POLICY = PASSIVE
WORKERS ?= 2
# A thread for each worker. Kernels that PoCL has compiled once are kept; it compiles them four times as fast as they are
# written, and optimises them for `make test-all`.
test test-all: export OMP_NUM_THREADS = 1
test test-all: export OPENMM_CPU_THREADS = 1
test test-all: export POCL_CACHE_DIR = $(CURDIR)/build/pocl-cache
test: export POCL_EXTRA_BUILD_FLAGS = -cl-opt-disable
PYTEST = .venv/bin/python -m pytest -q --durations=15 --numprocesses $(WORKERS) --dist loadfile

.PHONY: demo test test-all lint setup clean
demo: setup
	.venv/bin/python examples/water.py --directory demo

test:
	scripts/setup.sh --test
	$(MAKE) lint
	$(PYTEST) -m "not slow"

test-all:
	scripts/setup.sh --test
	scripts/setup_external.sh
	$(MAKE) lint
	$(PYTEST)

lint:
	.venv/bin/ruff check python tests examples benchmarks scripts
	.venv/bin/ruff format --check python tests examples benchmarks scripts
	.venv/bin/mypy
	.venv/bin/clang-format --dry-run --Werror $$(find cpp cuda tests -name '*.h' -o -name '*.cpp')

setup:
	scripts/setup.sh

clean:
	rm -rf build demo dist
