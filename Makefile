# Every action a person takes. `make` alone lists them.
# Values given on the command line reach commands through the environment only, as "$$NAME": neither make nor a shell expands them.
PYTHON ?=
TORCH ?= torch==2.13.0
RECIPE ?= sample
STUDY ?= sample
MINUTES ?= 2
RUNNER ?= process
PROFILE ?= gpu
GRAPH ?= training
SCHEDULES ?= infra/schedules.yaml
IMAGE ?= glt:0.1.0
MLFLOW_IMAGE ?= glt-mlflow:0.1.0
WORKERS ?= logical
BIN ?= .venv/bin
VARIABLES := PYTHON TORCH RECIPE STUDY RECORDINGS RUNNER ADD FROM INTO PROFILE GRAPH NODES SCHEDULES DRY IMAGE MLFLOW_IMAGE \
	BASE TORCH_INDEX_URL BUILD_ARGS WORKERS ENGINE BIN TESTS MINUTES SEED GLT_REAL_DATA
$(foreach name,$(VARIABLES),$(eval override $(name) := $$(value $(name)))$(if $(value $(name)),$(eval export $(name))))

RUN = exec "$$BIN/python" -m
PYTEST = $(RUN) pytest
PARALLEL = -n "$$WORKERS" --dist loadfile --no-loadscope-reorder
LOCK = "$$BIN/uv" pip compile --quiet --no-config --python-version 3.11 --python-platform linux --constraint constraints.txt \
	--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
GPU_PACKAGES = pydantic
FIND_ENGINE = ENGINE=$${ENGINE:-$$(command -v podman || command -v docker)}
BUILD = set -f; $(FIND_ENGINE); "$$ENGINE" build --file infra/image/Containerfile \
	--build-arg BASE="$${BASE:-python:3.11-slim}" $$BUILD_ARGS \
	--build-arg GIT_COMMIT="$$(git describe --always --abbrev=40 --exclude='*' --dirty)"

.DEFAULT_GOAL := help
.PHONY: help setup run ui test check-types check-tests coverage fuzz test-stack test-k8s test-containers stack stack-down collect data compile retrain submit schedule image lock bench gpu gpu-files results faults ablate difficulty record clean

help: ## List every target
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: ## Create .venv and install everything, once (PYTHON=python3.12, TORCH= for another build of torch)
	@exec sh infra/local/setup.sh

run: setup ## Run the whole graph here (RECIPE=sample|nw-ucla|sbu, RECORDINGS=path, s3://... or dvc+..., RUNNER=docker: in IMAGE)
# Podman calls `glt` localhost/glt, and Kubeflow's runner asks for an image by the engine's own name.
	@if [ "$$RUNNER" = docker ]; then $(FIND_ENGINE); \
		GLT_IMAGE=$$("$$ENGINE" image inspect --format '{{index .RepoTags 0}}' "$$IMAGE" 2>/dev/null || printf %s "$$IMAGE"); \
		export GLT_IMAGE; fi; \
	$(RUN) pipelines run --recipe="$$RECIPE" --recordings="$$RECORDINGS" --runner="$$RUNNER"

ui: setup ## Open the MLflow UI on the runs made here, http://127.0.0.1:5000 or the next free port
	@$(RUN) glt ui

test: setup ## Check style and types, then run the tests (GLT_REAL_DATA=folder adds those on real recordings)
	@"$$BIN/python" -m ruff check .
	@"$$BIN/python" -m ruff format --check .
	@$(MAKE) --no-print-directory --jobs 2 check-types check-tests

check-types:
	@$(RUN) mypy

check-tests:
	@$(PYTEST) $(PARALLEL)

coverage: setup ## Run the tests and list what of glt no test executes: branch coverage, child processes too
	rm -rf build/coverage && mkdir -p build/coverage
	@$(PYTEST) $(PARALLEL) --cov --cov-report=term

fuzz: setup ## Search for inputs that crash or hang the product, or break another promise (MINUTES=2, SEED= repeats the cases)
	@$(RUN) tests.fuzz --minutes="$$MINUTES" $${SEED:+--seed="$$SEED"}

test-stack: setup ## Run the slower tests: real servers, killed processes
	@$(PYTEST) -m stack

test-k8s: setup ## Render the manifests with kubectl and validate them and the compiled graphs offline, with the rules of tests/infra and tests/cluster
	@$(PYTEST) tests/infra tests/cluster tests/pipelines/test_graph.py

test-containers: setup ## Build the images and run servers and the whole graph in them, with podman or docker (BASE=, BUILD_ARGS=)
	@$(PYTEST) -m containers -rs

stack: setup ## Start MLflow, PostgreSQL and SeaweedFS on this machine as on a cluster, data in runs/stack
	@$(RUN) infra.local.stack up

stack-down: setup ## Stop them; what they stored stays
	@$(RUN) infra.local.stack down

collect: setup ## Take what is new in a landing bucket into data/ (FROM=s3://bucket/prefix, RECIPE=, INTO=dvc+<git>@<branch>)
	@if [ -n "$$INTO" ]; then set -- --into="$$INTO"; else set -- --commit; fi; $(RUN) glt collect "$$@" -- "$$FROM" "$$RECIPE"

data: setup ## Bring data/ to what data.dvc pins, replace it by RECORDINGS=, or put a batch beside it: ADD=
	@if [ -n "$$ADD" ]; then set -- --add -- "$$ADD"; elif [ -n "$$RECORDINGS" ]; then set -- -- "$$RECORDINGS"; fi; \
	$(RUN) glt data "$$@"

compile: setup ## Write the graphs for a cluster to build/ (PROFILE=gpu|gpu-nodes|cpu or of infra/profiles.yaml, IMAGE=)
	@GLT_IMAGE="$$IMAGE" $(RUN) pipelines compile --profile="$$PROFILE"

retrain: setup ## Run the retraining graph here: trains only if the champion has not seen these recordings (RECIPE=, RECORDINGS=)
	@$(RUN) pipelines retrain --recipe="$$RECIPE" --recordings="$$RECORDINGS"

submit: setup ## Start a run on KF_PIPELINES_ENDPOINT (GRAPH=training|retraining|ablation, RECIPE=, STUDY=, RECORDINGS=, PROFILE=, NODES=, IMAGE=)
	@if [ -n "$$NODES" ]; then set -- --nodes="$$NODES"; fi; GLT_IMAGE="$$IMAGE" $(RUN) pipelines submit --graph="$$GRAPH" \
		--recipe="$$RECIPE" --study="$$STUDY" --recordings="$$RECORDINGS" --profile="$$PROFILE" "$$@"

schedule: setup ## Make the server's schedules those of SCHEDULES= (DRY=1 only shows what would change)
	@if [ -n "$$DRY" ]; then set -- --dry-run; fi; GLT_IMAGE="$$IMAGE" $(RUN) pipelines schedule "$$@" -- "$$SCHEDULES"

image: setup ## Build the steps' and the MLflow server's image (IMAGE=, MLFLOW_IMAGE=, BASE=, TORCH=, TORCH_INDEX_URL=, BUILD_ARGS=)
	$(BUILD) --tag "$$MLFLOW_IMAGE" --target mlflow .
	$(BUILD) --tag "$$IMAGE" --build-arg TORCH="$$TORCH" --build-arg TORCH_INDEX_URL="$$TORCH_INDEX_URL" \
		--build-arg GLT_CODE_VERSION="$$( \
		"$$BIN/python" -c 'from glt.lifecycle.code_version import current_code_version; print(current_code_version())')" .

lock: setup ## Write the images' packages with their hashes to infra/image/locks/, by constraints.txt
	printf '%s\n' "$$TORCH" | $(LOCK) --extra pipeline --extra tracking --extra data --excludes infra/image/locks/cuda.txt \
		--no-emit-package torch --output-file infra/image/locks/pipeline.txt pyproject.toml -
	$(LOCK) --output-file infra/image/locks/mlflow.txt infra/image/locks/mlflow.in
	$(LOCK) --output-file infra/image/locks/build.txt infra/image/locks/build.in

bench: setup ## Measure speed and memory against the textbook way, 20 minutes; writes build/bench.json
	@$(RUN) benchmarks.speed

gpu: ## Check and measure on a GPU, 5 minutes; writes results/gpu.json (PYTHON=, with torch; no setup: benchmarks/README.md)
	@if [ -d build/gpu/wheels ]; then "$${PYTHON:-python3}" -m pip install --quiet --no-index --find-links build/gpu/wheels \
		--target build/gpu/packages --upgrade $(GPU_PACKAGES); fi
	@PYTHONPATH=.:build/gpu/packages exec "$${PYTHON:-python3}" -m benchmarks.gpu

gpu-files: setup ## Put into build/gpu/ what `make gpu` needs beside torch: wheels, and the motions of NW-UCLA (RECORDINGS=)
	rm -rf build/gpu && mkdir -p build/gpu
	"$$BIN/python" -m pip download --quiet --dest build/gpu/wheels --python-version 3.12 --only-binary :all: \
		--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --constraint constraints.txt $(GPU_PACKAGES)
	@if [ -n "$$RECORDINGS" ]; then "$$BIN/glt" ingest --page=build/gpu/clips.html -- "$$RECORDINGS" nw-ucla-paper build/gpu/clips \
		&& exec "$$BIN/glt" disentangle build/gpu/clips nw-ucla-paper build/gpu/motions; fi

results: setup ## Measure protocols and ablations on real recordings, run by run, for hours; writes results/ (RECORDINGS=folder)
	@"$$BIN/python" -m experiments.protocols -- "$$RECORDINGS"
	@$(RUN) experiments.ablations -- "$$RECORDINGS"

faults: setup ## Run all tests of faults, the slower ones too, and write docs/faults.md (TESTS= to run only some)
	@set -f; $(RUN) docs.make.faults --run $$TESTS

ablate: setup ## Train the arms of a study here and compare them (STUDY=sample|nw-ucla|sbu, or your own YAML; RECORDINGS=)
	@$(RUN) pipelines ablate --study="$$STUDY" --recordings="$$RECORDINGS"

difficulty: setup ## Measure how hard the sample recordings are, 5 seeds; writes results/sample-difficulty.json
	@$(RUN) experiments.sample_difficulty

record: setup ## Write the scores of the newest run of RECIPE= to results/
	@$(RUN) experiments.record_run "$$RECIPE"

clean: ## Delete build/ and caches; runs/ (models, registry), data/ and .venv stay
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
