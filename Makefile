# A machine needs python3 (3.11 or later, with venv), git and make. Everything else is locked in
# locks/ and installed into .venv, once: a copy of the lock inside .venv says what is installed.

PYTHON ?= python3
BIN := .venv/bin
UV = .venv/bin/uv
INSTALL = $(UV) pip install --no-deps --compile-bytecode --python
# For environments whose programs import a small part of what is installed: to compile all takes a minute.
# What they do import is compiled when it is first imported.
INSTALL_ONLY = $(UV) pip install --no-deps --python
SELF = --offline --no-build-isolation -e .
# tests/support/sharing.py says how they share the tests; ARGS=-n0 runs all in one process.
# One worker more than cores, because many tests wait for a server, a browser or another process.
WORKERS = -n $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))') --dist loadfile
COMPILE = $(UV) pip compile --universal --generate-hashes --no-header --python-version 3.11 $(if $(UPGRADE),--upgrade)

export DVC_NO_ANALYTICS := 1
export UV_PYTHON_DOWNLOADS := never
# Another activated environment must not receive our packages.
# Without compiled modules, which some images switch off, each command compiles the package anew.
unexport VIRTUAL_ENV PYTHONDONTWRITEBYTECODE UV_PYTHON UV_SYSTEM_PYTHON UV_PROJECT_ENVIRONMENT CONDA_PREFIX PYTHONHOME

# Set in the project of the workbench itself; a repository that `workbench new` laid has its own tests only.
PROJECT := $(wildcard tests/unit/test_house.py)

.DEFAULT_GOAL := help
.PHONY: help repro test soak check lab gateway serve bench bench-peers weaviate interop js js-folder phoenix presidio airflow lock clean env env-test python

help: ## show this list
	@sed -n $(if $(PROJECT),,-e '/^ifdef PROJECT/,/^endif/d') -e 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

repro: env ## install what is missing, run the pipeline, print the verdict; LIVE=1 asks all again, ASK=0 nothing, MEMORY=weaviate searches a server
	@PATH="$(CURDIR)/$(BIN):$$PATH" workbench repro $(if $(filter-out 0,$(LIVE)),--live) $(if $(ASK),--ask $(ASK)) $(if $(MEMORY),--memory $(MEMORY))

# The environments of other libraries are installed beside the checks: one waits for the network, one computes.
# The checks have run the house rules, which take ten seconds.
test: env-test ## every check and every test, at sample size; ARGS="..." goes to pytest
	@$(MAKE) --no-print-directory -j4 $(if $(PROJECT),interop phoenix presidio airflow $(if $(shell command -v npm),js)) check COLLECT=1
	@$(BIN)/python -m pytest $(WORKERS) $(or $(ARGS),$(if $(PROJECT),--deselect=tests/unit/test_house.py))

# Before every test, one process rewrites the assertions of all files while mypy runs, not each worker.
check: env-test ## declarative files and notebooks; in the project: style, types, floors, house rules
ifdef PROJECT
	@$(BIN)/mypy & types=$$!; { \
		$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports \
		&& $(BIN)/python -m workbench.notebooks.stored notebooks pipelines && $(BIN)/python docs/map.py \
		&& $(BIN)/python -m pytest -q --no-header --durations=0 tests/unit/test_house.py \
		$(if $(COLLECT),&& { $(BIN)/python -m pytest -q --collect-only >/dev/null || true; }); }; \
		code=$$?; wait $$types && exit $$code
else
	@PATH="$(CURDIR)/$(BIN):$$PATH" workbench check && $(BIN)/python -m workbench.notebooks.stored notebooks pipelines
endif

lab: env ## open JupyterLab on the start page of this repository
	@root=; if test "$$(id -u)" = 0; then \
		echo "== JupyterLab runs as root: --allow-root is passed"; root=--allow-root; fi; \
		JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter" exec $(BIN)/workbench gateway exec -- $(BIN)/jupyter lab $$root \
		--ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/START.md $(ARGS)

gateway: env ## serve models and memories as an OpenAI-compatible API; ARGS="--address HOST:PORT"
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec workbench gateway $(ARGS)

serve: env ## run the jobs in production on their schedules; ARGS="--once", or a rehearsal (docs/operations.md)
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec workbench jobs serve $(ARGS)

weaviate: env ## start a Weaviate server on this machine, built once with Go; STOP=1 stops it
	@$(BIN)/python -m workbench.cli.weaviate $(if $(filter-out 0,$(STOP)),stop,start)

lock: env ## resolve the locks again after a change in pyproject.toml; UPGRADE=1 takes newer versions
	@version=$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' locks/bootstrap.lock); \
		echo "$(if $(UPGRADE),uv,$$version)" | $(COMPILE) --no-annotate -q -o locks/bootstrap.lock -
	@$(COMPILE) -q -o locks/workbench.lock pyproject.toml
	@$(COMPILE) -q --extra test -c locks/workbench.lock -o locks/test.lock pyproject.toml
	@$(if $(PROJECT),$(COMPILE) -q --extra interop -c locks/workbench.lock -o locks/interop.lock pyproject.toml)
	@$(if $(PROJECT),$(COMPILE) -q --extra interop-older -o locks/interop-older.lock pyproject.toml)
	@$(if $(PROJECT),$(COMPILE) -q --group phoenix -o locks/phoenix.lock)
	@$(if $(PROJECT),$(COMPILE) -q --group peers -o locks/peers.lock)
	@$(if $(PROJECT),$(COMPILE) -q --group inspect -o locks/peers-inspect.lock)
	@$(if $(PROJECT),$(COMPILE) -q --group presidio -o locks/presidio.lock)
	@$(if $(PROJECT),echo "apache-airflow>=3" | $(COMPILE) -q -o locks/airflow.lock -)
	@git --no-pager diff --stat -- locks

clean: ## remove the environments and caches; keeps .workbench/, which holds state
	rm -rf .venv .venv-interop .venv-interop-older .venv-phoenix .venv-presidio .venv-airflow .venv-peers .venv-peers-inspect
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the project of the workbench itself -----------------------------------------------------------

ifdef PROJECT
JS := tests/support/javascript
# Checkouts share what is kept there: each version of a lock has its own. CI names a place that it keeps.
KEPT := $(or $(WORKBENCH_KEPT),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/workbench)
JS_FOLDER = $(KEPT)/javascript-$(shell git hash-object $(JS)/package-lock.json | cut -c 1-12)

soak: env-test interop js phoenix presidio airflow ## every test at full size, for hours: all kill points, attempts, examples and histories
	@WORKBENCH_SOAK=1 $(BIN)/python -m pytest $(WORKERS) -o timeout=3600 $(ARGS)

bench: env-test ## measure the ratios of docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: env-test ## install the peers from their locks (a minute), and measure the boundary against them
	@$(foreach name,peers peers-inspect,cmp -s locks/$(name).lock .venv-$(name)/installed.lock || { \
		echo "== .venv-$(name): installing locks/$(name).lock"; \
		$(BIN)/python -m venv --clear --without-pip .venv-$(name) \
		&& $(INSTALL_ONLY) .venv-$(name)/bin/python --require-hashes -r locks/$(name).lock \
		&& cp locks/$(name).lock .venv-$(name)/installed.lock; } &&) true
	@$(BIN)/python -m benchmarks boundary $(ARGS)


# $(call linked,NAME,SIZE): .venv-NAME is a link to the environment of its lock for this interpreter. To compile
# what Phoenix or LiteLLM imports takes twice as long as to import it: that too is done once for all checkouts.
# Of two that install at once, the last one is linked from then on, and both work.
define linked
made=$(KEPT)/$(1)-$$({ $(BIN)/python -c 'import sys; print(sys._base_executable, sys.version)'; cat locks/$(1).lock; } \
		| git hash-object --stdin | cut -c 1-12); \
	{ test -f "$$made/installed.lock" && test -x "$$made/bin/python"; } || { \
		echo "== $$made: installing locks/$(1).lock ($(2))"; \
		new=$$made.$$$$ && $(BIN)/python -m venv --clear --without-pip "$$new" \
		&& $(INSTALL_ONLY) "$$new/bin/python" --require-hashes -r locks/$(1).lock \
		&& cp locks/$(1).lock "$$new/installed.lock" && ln -sfn "$$new" "$$made"; } \
	&& { test -L .venv-$(1) || rm -rf .venv-$(1); } && ln -sfn "$$made" .venv-$(1)
endef

interop: env ## install .venv-interop and .venv-interop-older: the libraries that must accept our clients
	@$(call linked,interop,half a minute)
	@$(call linked,interop-older,half a minute)

js: ## install the JavaScript client that the tests ask the gateway with, outside of the checkout
	@test -f $(JS_FOLDER)/installed.lock || { \
		command -v npm >/dev/null || { echo "make: npm is not installed; it comes with Node.js" \
		"(on Debian and Ubuntu: apt-get install nodejs npm)" >&2; exit 2; }; \
		echo "== $(JS_FOLDER): installing $(JS)/package-lock.json" \
		&& made=$(JS_FOLDER).$$$$ && mkdir -p "$$made" && cp $(JS)/package.json $(JS)/package-lock.json "$$made" \
		&& npm ci --prefix "$$made" --ignore-scripts --no-audit --no-fund --no-update-notifier --silent \
		&& mv "$$made/package-lock.json" "$$made/installed.lock" \
		&& rm -rf $(JS_FOLDER) && mv "$$made" $(JS_FOLDER); }

js-folder:
	@echo $(JS_FOLDER)

phoenix: env ## install .venv-phoenix: the Phoenix that the tests export spans to
	@$(call linked,phoenix,half a minute and 830 MB)

presidio: env ## install .venv-presidio: the Presidio that the detectors are measured against
	@$(call linked,presidio,half a minute and 260 MB)

airflow: env ## install .venv-airflow: the Airflow that reads the exported DAGs
	@$(call linked,airflow,200 MB)
endif

# -- the environment -----------------------------------------------------------------------------

env:
	@{ test -x $(BIN)/python && cmp -s locks/workbench.lock .venv/installed.lock; } \
		|| $(MAKE) --no-print-directory .venv
	@cmp -s workbench/repository/dvc.sh $(BIN)/dvc || install -m 755 workbench/repository/dvc.sh $(BIN)/dvc

env-test: env
	@cmp -s locks/test.lock .venv/installed-test.lock || { \
		echo "== .venv: adding locks/test.lock"; \
		$(INSTALL) $(BIN)/python --require-hashes -r locks/test.lock \
		&& cp locks/test.lock .venv/installed-test.lock; }

.PHONY: .venv
.venv: python
	@test ! -L .venv || { echo "make: .venv is a link; run make where it points to" >&2; exit 2; }
	@echo "== .venv: installing locks/workbench.lock (once; about a minute)"
	@base=$$($(PYTHON) -c 'import sys; print(sys._base_executable)') && "$$base" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/bootstrap.lock
	@$(INSTALL) $(BIN)/python --require-hashes -r locks/workbench.lock
	@$(INSTALL) $(BIN)/python $(SELF)
	@cp locks/workbench.lock .venv/installed.lock

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "make: Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) has no venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
