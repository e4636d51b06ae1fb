# The two commands: `make demo` (the whole line on SPC/E water) and `make test`. Both do all the set-up.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: demo test lint setup clean
demo: setup
	.venv/bin/python examples/water.py --directory demo

test:
	scripts/setup.sh --test
	$(MAKE) lint
	.venv/bin/python -m pytest -q --durations=15

lint:
	.venv/bin/ruff check python tests examples benchmarks
	.venv/bin/ruff format --check python tests examples benchmarks
	.venv/bin/mypy
	.venv/bin/clang-format --dry-run --Werror $$(find cpp cuda tests -name '*.h' -o -name '*.cpp')

setup:
	scripts/setup.sh

clean:
	rm -rf build demo dist
