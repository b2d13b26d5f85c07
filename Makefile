PYTHON ?= python3.11
V := .venv

.PHONY: demo test test-all check clean

$(V)/.core: pyproject.toml constraints.txt
	test -x $(V)/bin/python || $(PYTHON) -m venv $(V)
	$(V)/bin/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(V)/.dev: $(V)/.core
	$(V)/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(V)/.core  ## install, then explain the bundled picture with the bundled model
	$(V)/bin/gradtoken demo

test: $(V)/.dev  ## install, then run the test suite
	$(V)/bin/python -m pytest -n auto

test-all: $(V)/.dev  ## the same with the slow checks
	$(V)/bin/python -m pytest -n auto -m ''

check: $(V)/.dev  ## formatting, lint, types
	$(V)/bin/ruff format --check .
	$(V)/bin/ruff check .
	$(V)/bin/mypy

clean:
	rm -rf $(V)
