# `make` alone lists the targets. Everything lands in .venv; nothing outside this folder is touched, but by
# install-systemd and remove-systemd.
# Every install obeys constraints.txt: a looser request for torch may pull gigabytes of CUDA.

VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev
COMPARE := $(VENV)/.installed-compare
FUZZ := $(VENV)/.installed-fuzz
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

SECONDS := 60

# Containers: Docker where its engine answers, else Podman. BUILD_FLAGS: more for the engine's `build`.
ENGINE = $(shell docker info >/dev/null 2>&1 && echo docker || echo podman)
COMPOSE = $(if $(filter podman,$(ENGINE)),podman-compose,docker compose) --file deploy/compose.yaml
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE = $(ENGINE) build $(if $(filter podman,$(ENGINE)),--format docker) --file deploy/Dockerfile $(BUILD_FLAGS)
TAGS = --tag farflung-$(1):$(VERSION) --tag farflung-$(1):latest
WATCH = --profile watch

.DEFAULT_GOAL := help
LEARN = learn-tasks learn-pixels learn-studies learn-defaults learn-mujoco learn-atari learn-draws
.PHONY: help setup setup-dev demo test check sim fuzz faults format learn $(LEARN) bench bench-streams bench-far \
	bench-journal bench-scrape bench-fleet reference docs images up down test-deploy install-systemd remove-systemd \
	drill dashboards clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

setup: $(BASE)  ## make .venv and install Farflung in it (PYTHON=... picks the interpreter)

setup-dev: $(DEV)  ## the same, with the tools and simulators that the tests need

demo: $(BASE)  ## train CartPole-v1 with two local actors until it is solved
	$(BIN)/learner run --until-return 475

test: $(DEV)  ## run the tests that take seconds, on up to four cores at once
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

check: $(DEV)  ## lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture

fuzz: $(FUZZ)  ## fuzz every decoder for SECONDS=60 each; what breaks one is kept in tests/fuzz/corpus
	$(BIN)/python -m tests.fuzz $(SECONDS)

drill: $(DEV)  ## provoke every alert in a real Prometheus (Debian: prometheus; a quarter of an hour)
	$(BIN)/python -m tests.deploy.drill

dashboards: $(DEV)  ## draw every panel with Grafana's front end (Debian: prometheus chromium npm prometheus-alertmanager; minutes)
	$(BIN)/python -m tests.deploy.grafana

format: $(DEV)  ## repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sim: $(DEV)  ## play SEEDS bad worlds under virtual time, and CROWDS of a thousand actors (ten minutes)
	$(BIN)/python -m tests.simulation $(or $(SEEDS),1000) --crowds $(or $(CROWDS),4)

# Each begins no run after 50 minutes, says what is left, and goes on where it was when it is asked again. A run takes
# minutes at most, BipedalWalker's half an hour on a slow machine, an Atari game's an hour.
WITHIN = --minutes 50

learn:  ## all of what follows; each goes on where it was when it is asked again
	$(MAKE) --keep-going $(LEARN)

learn-tasks: $(COMPARE)  ## every task on every seed, and tests/bench/LEARNING.md
	$(BIN)/python -m tests.learning tasks $(WITHIN)

learn-pixels: $(COMPARE)  ## Pong: to its target, its speed, over a thin stream
	$(BIN)/python -m tests.learning pong pixels pong_thin $(WITHIN)

learn-studies: $(COMPARE)  ## fifty learning rates, lag, codecs, momentum, thin streams, past the target
	$(BIN)/python -m tests.learning robustness lag codecs momentum thin beyond $(WITHIN)

learn-defaults: $(COMPARE)  ## untuned environments beside Stable-Baselines3, and tests/learning/defaults/DEFAULTS.md
	$(BIN)/python -m tests.learning.defaults $(WITHIN)

learn-mujoco: $(COMPARE)  ## MuJoCo at a million steps by plain defaults, and tests/learning/defaults/MUJOCO.md
	$(BIN)/python -m tests.learning.defaults.mujoco --peer-returns $(WITHIN)

learn-atari: $(COMPARE)  ## five Atari games, an hour each with one setting, and tests/learning/defaults/ATARI.md
	$(BIN)/python -m tests.learning.defaults.atari $(WITHIN)

learn-draws: $(COMPARE)  ## fifty draws of eight settings, and tests/learning/robustness/ROBUSTNESS.md
	$(BIN)/python -m tests.learning.robustness $(WITHIN)

bench-streams: $(COMPARE)  ## measure what each codec costs, and what learning notices of it (a quarter of an hour)
	$(BIN)/python -m tests.bench.streams
	$(BIN)/python -m tests.learning codecs

bench-far: $(DEV)  ## an actor behind 1 Mbit/s and 100 ms each way, in network namespaces (Linux and root; minutes)
	$(BIN)/python -m tests.bench.links.far lunarlander 0

faults: $(DEV)  ## kill, stop, cut off and crowd real daemons, and write tests/faults/RESULTS.md (Linux and root; three hours)
	$(BIN)/python -m tests.faults
	$(BIN)/python -m tests.faults actor_kills --real
	$(BIN)/python -m tests.faults learner_kills --journal
	$(BIN)/python -m tests.faults.hostile

bench-journal: $(DEV)  ## what a journal costs, in turns with runs that keep none (minutes)
	$(BIN)/python -m tests.bench.rates.journal

bench-scrape: $(DEV)  ## what a scrape costs the learner with a thousand actors (seconds)
	$(BIN)/python -m tests.bench.rates.scrape

bench-fleet: $(COMPARE)  ## fleets of 1 to 256 actors in virtual time, and tests/bench/FLEET.md (hours; resumable)
	$(BIN)/python -m tests.bench.fleet.series

reference: $(DEV)  ## write deploy/METRICS.md and deploy/SETTINGS.md from the code
	$(BIN)/python -m tests.reference

docs: $(DEV)  ## build the pages of the Python API into build/api, its links checked (seconds)
	$(BIN)/mkdocs build --strict --quiet --config-file docs/mkdocs.yml

bench: $(COMPARE)  ## measure speed and bytes on this machine, beside single-process loops and Stable-Baselines3 (an hour)
	$(BIN)/python -m tests.bench

images:  ## build the images of the learner and the actor (FARFLUNG_EXTRAS=mujoco: other simulators)
	$(IMAGE) --target learner $(call TAGS,learner) .
	$(IMAGE) --target actor $(call TAGS,actor) --build-arg PIP_EXTRA_INDEX_URL $(if $(FARFLUNG_EXTRAS),--build-arg EXTRAS=$(FARFLUNG_EXTRAS)) .

# The first two by themselves, so that what is wrong with an experiment is said here. Podman restarts no container that
# depends on one that has ended, and after them nothing needs to wait.
up: images  ## train in containers: learner, actors, Prometheus, Grafana (WATCH= goes without the last two)
	$(COMPOSE) run --rm -T keys
	$(COMPOSE) run --rm -T initial
	$(COMPOSE) $(WATCH) up --detach $(if $(filter podman,$(ENGINE)),--no-deps)

down:  ## stop them; the run stays, and `make up` goes on with it
	$(COMPOSE) $(WATCH) down

test-deploy: $(DEV) images  ## the images and deploy/compose.yaml with a real engine, the page in a browser (minutes)
	ENGINE="$(ENGINE)" COMPOSE="$(COMPOSE)" TEST_DEPLOY=1 $(BIN)/python -m pytest -q tests/deploy tests/deploy/engines/containers.py tests/deploy/engines/pods.py

install-systemd:  ## as root: /opt/farflung, its user, keys and units; again to upgrade (deploy/systemd/install.sh says what it reads)
	@CANDIDATES="$(CANDIDATES)" deploy/systemd/install.sh

remove-systemd:  ## as root: drain, end and remove them; run, keys and settings stay (PURGE=1: go too)
	@deploy/systemd/remove.sh

clean:  ## remove .venv, build outputs and caches; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find actor learner protocol tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Versioned names come before python3: the newest Python of a machine is often newer than the newest Box2D wheel.
# A candidate must really start, because a version manager may leave names behind that lead nowhere.
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)

$(VENV)/.made:
	@found=; old=; bare=; \
	for python in $(CANDIDATES); do \
	  "$$python" -c '' 2>/dev/null || continue; \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { old="$$python"; continue; }; \
	  "$$python" -c 'import venv, ensurepip' 2>/dev/null || { bare="$$python"; continue; }; \
	  found="$$python"; break; \
	done; \
	if [ -n "$$found" ]; then \
	  echo "making $(VENV) with $$found ($$("$$found" --version))"; \
	  "$$found" -m venv --clear $(VENV) && touch $@; \
	elif [ -n "$$bare" ]; then \
	  echo "$$bare cannot make virtual environments: its venv module is missing." >&2; \
	  echo "On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; \
	elif [ -n "$$old" ]; then \
	  echo "Farflung needs Python 3.11 or newer; $$old is $$("$$old" --version 2>&1)." >&2; \
	  echo "Install a newer one, or name it: make PYTHON=/path/to/python3 setup" >&2; exit 1; \
	else \
	  echo "No Python found (tried: $(CANDIDATES)). Farflung needs Python 3.11 or newer with its venv module." >&2; \
	  echo "On Debian or Ubuntu: apt install python3-venv. Or name one: make PYTHON=/path/to/python3 setup" >&2; exit 1; \
	fi

$(BASE): $(VENV)/.made pyproject.toml constraints.txt
	@echo "installing Farflung into $(VENV) (the first time this fetches torch: some minutes)"
	$(PIP_INSTALL) --editable .
	@touch $@

$(DEV): $(VENV)/.made pyproject.toml constraints.txt
	@echo "installing Farflung and its development tools into $(VENV) (the first time: some minutes)"
	$(PIP_INSTALL) --editable '.[dev,plots,deploy,docs]'
	@touch $(BASE) $@

$(FUZZ): $(DEV)
	@echo "installing the fuzzer into $(VENV)"
	$(PIP_INSTALL) --editable '.[dev,plots,deploy,docs,fuzz]'
	@touch $@

$(COMPARE): $(DEV)
	@echo "installing what Farflung is compared with into $(VENV)"
	$(PIP_INSTALL) --editable '.[dev,plots,deploy,docs,compare]'
	@touch $@
