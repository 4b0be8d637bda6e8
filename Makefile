# Needs Python 3.11+ and make; everything else is installed into .venv, exactly as constraints.txt pins it.
PYTHON ?= python3
BIN := .venv/bin
FEWSHOT := $(BIN)/fewshot

.PHONY: audit demo docs test test-all test-browser test-samples check format models wheels clean

# 4,000 outer steps, because drawings by 60 other hands, three of each thing to learn from, are then recognized in 95 %
# of cases (after 500 steps in 91 %), and drawings of five other things in 97 % (96 %); means of three trainings.
demo: .venv/ready  ## the whole line in three minutes, without downloading data
	rm -rf demo
	$(FEWSHOT) meta-train --preset glyphs --meta-steps 4000 --output demo/init
	$(FEWSHOT) adapt --support examples/drawings --init demo/init --steps 60 --reject-rate 0 --output demo/model
	$(FEWSHOT) export demo/model --output demo/model.onnx
	$(FEWSHOT) predict demo/model.onnx examples/new_drawings/*.png
	@echo
	@echo "Those are drawings the model never saw. Next, your own pictures, a folder for each class:"
	@echo "  $(FEWSHOT) adapt --support ./my_images --output my_model"
	@echo "  $(FEWSHOT) export my_model --output model.onnx"
	@echo "  $(FEWSHOT) predict model.onnx photo.jpg"

test: .venv/ready  ## the default suite, some three minutes of processor time
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10

test-all: .venv/ready zig  ## with the slow tests
	$(BIN)/python -m pytest -m ""

CHROMIUM ?= $(shell command -v chromium)
test-browser: .venv/ready  ## the web pages in headless Chromium; needs what it asks for
	@test -x "$(CHROMIUM)" || { echo "make test-browser needs Chromium: apt-get install chromium, or CHROMIUM=/path" >&2; exit 1; }
	@command -v node >/dev/null || { echo "make test-browser needs Node.js 18 or newer: apt-get install nodejs npm" >&2; exit 1; }
	@test -d tests/browser/node_modules/playwright-core -a -d tests/browser/node_modules/onnxruntime-web -a -d tests/browser/node_modules/axe-core || \
	  { echo "make test-browser needs its npm packages: npm ci --ignore-scripts --prefix tests/browser" >&2; exit 1; }
	CHROMIUM="$(CHROMIUM)" FEWSHOT_PYTHON="$(CURDIR)/$(BIN)/python" node --test tests/browser/

SAMPLES_NEED := cmake g++ pkg-config libvips-dev nlohmann-json3-dev kotlin libandroid-json-org-java nodejs npm
test-samples: .venv/ready  ## a bundle's programs in other languages; needs what it asks for
	@for tool in cmake c++ pkg-config kotlinc java node npm; do command -v $$tool >/dev/null || missing=1; done; \
	test -z "$$missing" -a -f /usr/include/nlohmann/json.hpp -a -f /usr/share/java/json-latest.jar && pkg-config --exists vips-cpp || \
	  { echo "make test-samples needs: apt-get install $(SAMPLES_NEED)" >&2; exit 1; }
	@test -d tests/samples/node_modules/com.github.asus4.onnxruntime || \
	  { echo "make test-samples needs its npm packages: npm ci --ignore-scripts --prefix tests/samples" >&2; exit 1; }
	$(BIN)/python -m pytest -m "" tests/web/test_samples.py

check: .venv/ready  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

models: .venv/ready  ## the pages in models/, from the initializations' config.json
	$(BIN)/python -m tests.render_models

docs: .venv/ready  ## the site, in build/site; first what the tutorial shows is tried
	$(BIN)/python -m pytest -m slow tests/test_site.py
	$(BIN)/python -m tests.render_site build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/zensical build --strict --clean --config-file build/zensical.toml

AUDIT :=
audit: .venv/ready  ## known weaknesses of the pinned packages; needs a network, or AUDIT=--if-reachable
	$(PYTHON) -m venv .venv/audit
	-.venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m tests.audit .venv/audit/bin/pip-audit $(AUDIT)

PLATFORMS := manylinux_2_17_x86_64 manylinux_2_17_aarch64 musllinux_1_2_x86_64 musllinux_1_2_aarch64 \
  macosx_11_0_x86_64 macosx_11_0_arm64 win_amd64
wheels: .venv/ready zig  ## in dist/: the sdist, the pure wheel, and one with compiled code for each platform
	$(BIN)/python -m build --no-isolation
	set -e; for platform in $(PLATFORMS); do FEWSHOT_WHEEL=$$platform $(BIN)/python -m build --no-isolation --wheel; done

.PHONY: zig
zig: .venv/ready  # the compiler of the wheels
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt ziglang

clean:
	rm -rf .venv demo build dist

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
