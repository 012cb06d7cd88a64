# Everything that can be done here needs Python 3.10 to 3.13 with pip, and what `apt` offers; nothing else.
# The environment is made once for each state of the locks. Kept between clones, in SOURCE_TIMESCALEDB_CACHE
# (~/.cache/source-timescaledb): the wheels and the servers.

# What a module was compiled to is kept, whatever the environment says: some hundred processes would compile it again.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check try lint format docs bench oracle soak fuzz day acceptance image pyairbyte servers lock clean

help: ## What can be made
	@sed -n 's/^\([a-z]*\):.*## /\1 \t/p' $(MAKEFILE_LIST)

$(READY): requirements.lock requirements-build.lock pyproject.toml
	@.ci/venv
	@touch $@

demo: $(READY) ## A server, a year of flights, a sync killed half way and resumed (KEEP=1: the server stays until Ctrl-C)
	@$(BIN)/python -m demo $(if $(KEEP),--keep)

test: $(READY) servers lint ## Lint, then all tests against real servers
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup --no-loadscope-reorder

check: $(READY) lint ## Lint, types and the tests that need no server: before each commit
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup unit_tests

try: $(READY) ## All tests, or those MARKED so, on one server (SERVER=name, as `python -m testkit list` has it)
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup --no-loadscope-reorder --server $(SERVER) $(if $(MARKED),-m $(MARKED))

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY) ## Let ruff mend and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY) ## Write anew what the pages in docs/ take from the code: types, settings, sentences, versions
	$(BIN)/python -m pages

bench: $(READY) ## Measure against COPY, pg_recvlogical and the peers
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.start_up

oracle: $(READY) ## Random writers against syncs that are cut and killed: all must be equal (SEEDS=200, PROGRAMME=rows)
	$(BIN)/python -m oracle --kills $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PROGRAMME),--programme $(PROGRAMME))

fuzz: $(READY) ## Ten million messages, valid and damaged, for the decoder of the replication protocol (INPUTS=10000000)
	$(BIN)/python -m fuzz $(if $(INPUTS),--inputs $(INPUTS))

soak: $(READY) ## A thousand seeds whose network, sessions and servers are hit all the while: all must recover (SEEDS=1000)
	$(BIN)/python -m oracle.soak --keep --jobs $(or $(JOBS),4) $(if $(SEEDS),--seeds $(SEEDS))

day: $(READY) ## A day of compression, refresh and retention in ten minutes, followed (needs a Community edition server)
	$(BIN)/python -m oracle.day

acceptance: $(READY) servers ## `airbyte-cdk connector test` against a server
	$(BIN)/python -m integration_tests.acceptance

image: $(READY) servers ## Build the image with Docker or Podman, then run the README's lines in it
	@.ci/image
	$(BIN)/python -m pytest -m image

pyairbyte: $(READY) servers ## PyAirbyte into an environment of its own (780 MB), then the tests with it
	@.ci/pyairbyte
	$(BIN)/python -m pytest -m pyairbyte

servers: $(READY) ## Prepare the test servers, so that the rest works offline
	@$(BIN)/python -m testkit prepare

LOCK := uv pip compile --quiet --universal --generate-hashes --python-version 3.10 \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

lock: ## Renew the locks after a change in pyproject.toml (needs uv; UPGRADE=1 takes newer versions too)
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra dev --extra metrics pyproject.toml -o requirements.lock
	$(LOCK) --constraints requirements.lock --extra metrics pyproject.toml -o requirements-runtime.lock
	printf 'poetry-core>=2.0\nsetuptools\n' | $(LOCK) --constraints requirements.lock - -o requirements-build.lock

clean: ## Remove what was made here; the cache stays
	rm -rf $(VENV) demo-output oracle-output fuzz-output build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .tmp
