PYTHON ?= python3.11
V := .venv
R := .venv-release

.PHONY: demo test test-all check fuzz soak mutation docs docs-serve clean dist sbom audit

$(V)/.core: pyproject.toml constraints.txt
	test -x $(V)/bin/python || $(PYTHON) -m venv $(V)
	$(V)/bin/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(V)/.dev: $(V)/.core
	$(V)/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

$(V)/.docs: $(V)/.core
	$(V)/bin/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

demo: $(V)/.core  ## install, then explain the bundled picture with the bundled model
	$(V)/bin/gradtoken demo

test: $(V)/.dev  ## install, then run the test suite
	$(V)/bin/python -m pytest -n auto

test-all: $(V)/.dev  ## the same with the slow checks
	$(V)/bin/python -m pytest -n auto -m ''

fuzz: $(V)/.dev  ## damaged inputs of every kind, many of each, and a table of what became of them
	$(V)/bin/python -m pytest -q -m '' tests/fuzz

soak: $(V)/.dev  ## ten thousand explanations in one process: memory, threads, open files
	$(V)/bin/python -m benchmarks.soak

mutation: $(V)/.dev  ## small changes of the core's code, each of which a test should notice; hours
	$(V)/bin/python -m pip install --quiet -c constraints.txt 'cosmic-ray>=8.3'
	$(V)/bin/python scripts/mutation.py $(FILES)

check: $(V)/.dev  ## formatting, lint, types
	$(V)/bin/ruff format --check .
	$(V)/bin/ruff check .
	$(V)/bin/mypy

docs: $(V)/.docs  ## install, then build this documentation as a site: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(V)/bin/python -m mkdocs build --quiet --strict

docs-serve: $(V)/.docs  ## the same on http://127.0.0.1:8000, built again when a page changes
	NO_MKDOCS_2_WARNING=1 $(V)/bin/python -m mkdocs serve

$(R)/.tools:
	test -x $(R)/bin/python || $(PYTHON) -m venv $(R)
	$(R)/bin/python -m pip install --quiet hatchling cyclonedx-bom pip-audit
	touch $@

dist: $(R)/.tools  ## wheel and source archive, the same bytes for the same commit
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(R)/bin/python -m hatchling build -d dist

sbom: $(R)/.tools $(V)/.core  ## what is installed in .venv, as CycloneDX
	mkdir -p dist
	$(R)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o dist/sbom.json $(V)/bin/python

audit: $(R)/.tools $(V)/.core  ## known vulnerabilities of what is installed in .venv; what cannot be looked up fails
	$(V)/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' > $(R)/installed.txt
	$(R)/bin/pip-audit --strict --no-deps --disable-pip -r $(R)/installed.txt

clean:
	rm -rf $(V) $(R) dist site
