# Two commands matter: `make demo` and `make test`. Each sets up what it needs.
# The distribution's Python, when it is new enough and can make environments: it is built with profile-guided
# optimisation, and the request path costs 1.3 to 1.6 times less CPU on it than on an unoptimised build of the same
# version (docs/performance.md), which is what pyenv makes. `make PYTHON=… demo` chooses another.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup demo demo-node-red test test-long check bench lock format clean real-components

$(STAMP): pyproject.toml requirements/dev.lock
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

setup: $(STAMP)  ## the environment alone, with the command .venv/bin/zt-proxy

demo: $(STAMP)  ## sign in, build, deploy, be denied: everything on this machine
	$(BIN)/zt-proxy demo

demo-node-red: $(STAMP) real-components  ## the same in front of a real Node-RED
	$(BIN)/zt-proxy demo --app node-red

real-components: tests/real/node_modules/.installed tests/real/.python/.installed tests/real/.apt-installed
tests/real/node_modules/.installed: tests/real/package.json tests/real/package-lock.json
	cd tests/real && npm ci --no-audit --no-fund --loglevel=error
	touch $@
tests/real/.python/.installed: tests/real/requirements.lock
	$(PYTHON) -m venv --clear tests/real/.python
	tests/real/.python/bin/python -m pip install --quiet --only-binary :all: --require-hashes -r $<
	touch $@
tests/real/.apt-installed: tests/real/install-debian.sh
	sh tests/real/install-debian.sh
	touch $@

test: $(STAMP) real-components  ## all tests, real components included
	$(BIN)/python -m pytest -m "not long" tests

test-long: $(STAMP) real-components  ## the same and the long fuzz runs
	$(BIN)/python -m pytest tests

check: $(STAMP)  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) tests/real/.apt-installed  ## cost against bare nginx; QUICK=1 for a minute's look
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

lock: $(STAMP)  ## renew the locked dependencies
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --extra dev pyproject.toml -o requirements/dev.lock --custom-compile-command "make lock"
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 tests/real/requirements.in -o tests/real/requirements.lock --custom-compile-command "make lock"

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .state tests/real/node_modules tests/real/.python tests/real/.apt-installed
