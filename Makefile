# Needs Python 3.11+ and make; everything else is installed into .venv, exactly as constraints.txt pins it.
PYTHON ?= python3
BIN := .venv/bin
FEWSHOT := $(BIN)/fewshot

.PHONY: demo test test-all check format models clean

demo: .venv/ready  ## the whole line in three minutes, without downloading data
	rm -rf demo
	$(FEWSHOT) meta-train --preset glyphs --output demo/init
	$(FEWSHOT) adapt --support examples/drawings --init demo/init --output demo/model
	$(FEWSHOT) export demo/model --output demo/model.onnx
	$(FEWSHOT) predict demo/model.onnx examples/new_drawings/*.png
	@echo
	@echo "Those are drawings the model never saw. Next, your own pictures, a folder for each class:"
	@echo "  $(FEWSHOT) adapt --support ./my_images --output my_model"
	@echo "  $(FEWSHOT) export my_model --output model.onnx"
	@echo "  $(FEWSHOT) predict model.onnx photo.jpg"

test: .venv/ready  ## the default suite, under two minutes
	$(BIN)/python -m pytest -n 2

test-all: .venv/ready  ## with the slow tests
	$(BIN)/python -m pytest -m ""

check: .venv/ready  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

models: .venv/ready  ## the pages in models/, from the initializations' config.json
	$(BIN)/python -m tests.render_models

clean:
	rm -rf .venv demo build dist

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
