# The front door. Every target is one line that calls the command; `make` alone prints this help.
# The first command on a fresh machine creates the environment in .venv (about two minutes).
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BITWRIGHT = $(VENV)/bin/python -m flow
JSON_FLAG = $(if $(JSON),--json)
COMMON = --model="$$MODEL" --target="$$TARGET" --opts="$$OPTS" $(if $(OUT),--out="$$OUT") $(JSON_FLAG)
# A `$` in what the user gives is a character of its own, for make and for the shell.
GIVEN = PLATFORM TRACE MODELS MODEL TARGET OPTS OUT DATA TOOL ARTIFACT INPUT OUTPUT NAME ACCURACY SUITE SYNTH A B RUNS FAIL_IF COUNT SEED SCHEDULER PROCESSES SWEEP FRONT
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)

.DEFAULT_GOAL := help
.PHONY: help setup compile estimate check float-check run schedule report compare list doctor test rtl-test rtl-estimate labels conformance wrong-answers lint bench figures experiment pareto clean

help: ## this help
	@echo 'bitwright: neural networks to edge hardware, proven to be the same network'
	@echo
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | awk '{n = index($$0, "|"); printf "%-14s %s\n", substr($$0, 1, n - 1), substr($$0, n + 1)}'
	@echo
	@echo '  MODEL   a name (make list) or a path to an .onnx file'
	@echo '  OPTS    options of model and target: OPTS="io_type=io_stream weight_bits=3"'
	@echo '  JSON=1  one JSON object as the last line instead of the table'

setup: $(VENV)/.ready ## create the environment (the other commands do it when needed)

$(VENV)/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
	  { echo 'bitwright needs Python 3.11 or 3.12; set PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo 'setting up $(VENV), once; this takes a minute or two' >&2
	@$(PYTHON) -m venv $(VENV) || { echo 'cannot create $(VENV): install python3-venv' >&2; exit 1; }
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check $(PIP_ARGS) \
	  -c requirements.lock 'setuptools<81' wheel >&2
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation \
	  $(PIP_ARGS) -c requirements.lock -e '.[dev]' >&2
	@$(VENV)/bin/python -m flow.report.bundle
	@touch $@

compile: $(VENV)/.ready ## MODEL=… TARGET=… [OPTS="key=value …"] [OUT=folder]: compile and prove
	@$(BITWRIGHT) compile $(COMMON) $(if $(DATA),--data="$$DATA")

estimate: $(VENV)/.ready ## MODEL=… [TARGET=…] [OPTS=…] [SWEEP="…" [FRONT=…]]: what it will cost, before any training
	@$(BITWRIGHT) estimate --model="$$MODEL" --target="$$TARGET" --opts="$$OPTS" \
	  $(if $(SWEEP),--sweep="$$SWEEP") $(if $(FRONT),--front="$$FRONT") $(if $(OUT),--out="$$OUT") $(JSON_FLAG)

check: $(VENV)/.ready ## MODEL=… TARGET=… [DATA=…]: accuracy on simulated hardware, whole test set
	@$(BITWRIGHT) check $(COMMON) $(if $(DATA),--data="$$DATA")

float-check: $(VENV)/.ready ## MODEL=… [TOOL=onnxruntime|qonnx] [DATA=…]: code by code against float32
	@$(BITWRIGHT) float-check --model="$$MODEL" --opts="$$OPTS" --tool="$$TOOL" $(if $(DATA),--data="$$DATA") $(JSON_FLAG)

run: $(VENV)/.ready ## ARTIFACT=… INPUT=x.npy [OUTPUT=y.npy]: run a compiled artifact on an array
	@$(BITWRIGHT) run --artifact="$$ARTIFACT" --input="$$INPUT" $(if $(OUTPUT),--output="$$OUTPUT") $(JSON_FLAG)

schedule: $(VENV)/.ready ## PLATFORM=… TRACE=… MODELS=… [OPTS=…]: what to run where, against the best possible
	@$(BITWRIGHT) schedule --platform="$$PLATFORM" --trace="$$TRACE" --models="$$MODELS" --opts="$$OPTS" \
	  $(if $(OUT),--out="$$OUT") $(JSON_FLAG)

report: $(VENV)/.ready ## index of all runs; ARTIFACT=… one run; SYNTH=folder what vendor tools made
	@$(BITWRIGHT) report $(if $(SYNTH),--synth="$$SYNTH") $(if $(ARTIFACT),--artifact="$$ARTIFACT") $(JSON_FLAG)

compare: $(VENV)/.ready ## A=… B=… [FAIL_IF="lut>+5%"], or RUNS="… …": which is better, and why
	@$(BITWRIGHT) compare $(if $(FAIL_IF),--fail-if="$$FAIL_IF") $(if $(OUT),--out="$$OUT") \
	  $(if $(RUNS),--set="$$RUNS") -- $(if $(A),"$$A") $(if $(B),"$$B")

list: $(VENV)/.ready ## models and targets with their options
	@$(BITWRIGHT) list

doctor: $(VENV)/.ready ## every external program and package: found, version, what it enables
	@$(BITWRIGHT) doctor

test: lint ## lint, types and all tests (under 20 minutes on 2 cores, set-up included)
	@$(VENV)/bin/python -m pytest -q -n 2

rtl-test: $(VENV)/.ready ## Verilog through Yosys, nextpnr and Verilator (minutes at their first start)
	@RTL_TOOLS=1 $(VENV)/bin/python -m pytest -q tests/targets/test_rtl_tools.py

rtl-estimate: $(VENV)/.ready ## what Yosys makes of twelve networks, into the table that estimates stand on
	@$(VENV)/bin/python -W ignore -m tests.bench.rtl_estimate

labels: $(VENV)/.ready ## [COUNT=1650] [SCHEDULER=tcp://…] [PROCESSES=n]: synthesize layers and small networks to fit estimates on
	@$(BITWRIGHT) labels $(if $(COUNT),--count="$$COUNT") $(if $(SEED),--seed="$$SEED") $(if $(OUT),--out="$$OUT") \
	  $(if $(SCHEDULER),--scheduler="$$SCHEDULER") $(if $(PROCESSES),--processes="$$PROCESSES")

conformance: $(VENV)/.ready ## every op by every target through simulated hardware, into reports/baseline
	@$(VENV)/bin/python -m tests.conformance.cases
	@$(VENV)/bin/python -W ignore -m tests.conformance.sweep

wrong-answers: $(VENV)/.ready ## what hls4ml's own ONNX reader makes of the files that others get wrong
	@$(VENV)/bin/python -m tests.network.wrong_answers

lint: $(VENV)/.ready ## ruff and strict mypy
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

bench: $(VENV)/.ready ## [SUITE=analog|estimators|latency|rtl|rtl_networks|schedule|tflite|tool_shift] performance figures against peers in the same run
	@if [ -n "$$SUITE" ]; then exec $(VENV)/bin/python -W ignore -m "tests.bench.$$SUITE"; fi; \
	  $(VENV)/bin/python -W ignore -m tests.bench.interpreter && \
	  $(VENV)/bin/python -m tests.bench.compile_time

figures: $(VENV)/.ready ## [MODEL=…] accuracy of the shipped models, 3 seeds, into reports/baseline
	@$(VENV)/bin/python -m tests.bench.accuracy $${MODEL:+"$$MODEL"}

experiment: $(VENV)/.ready ## NAME=daq_vs_ste: a rule or format over paired seeds, into reports/baseline
	@$(BITWRIGHT) experiment "$$NAME" $(JSON_FLAG)

pareto: $(VENV)/.ready ## MODEL=… [ACCURACY=97]: the cheapest bits, table and plot into reports/baseline
	@$(BITWRIGHT) pareto "$$MODEL" --accuracy="$$ACCURACY" $(JSON_FLAG)

clean: ## remove generated results (not the environment)
	@rm -rf reports/runs
