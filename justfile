# What a contributor does. `just` lists it.

_default:
    @just --list --unsorted

# The unit tests of one package (format, files, onnx, eval), in seconds
unit package:
    cargo test --package lcepatch-{{package}} --lib

# All tests, or those whose names contain a word
test word="":
    cargo test {{ if word == "" { "" } else { "--test main " + word } }}

# What CI says about form: format, lints, documentation
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --no-default-features --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items

# Write help texts and sessions anew after a change that is meant, and show the difference
golden:
    TRYCMD=overwrite cargo test --test main sessions
    git diff tests/golden

# Build the Python module, and run its tests that need numpy alone
python:
    python3 -m venv target/python
    target/python/bin/pip install -q -r python/tests/requirements.txt
    VIRTUAL_ENV=target/python target/python/bin/maturin develop -q
    target/python/bin/python -m pytest -q
    target/python/bin/mypy

# Feed a parser with mutated files (`cargo fuzz list` names them)
fuzz target seconds="60":
    python3 fuzz/seeds.py fuzz/corpus
    cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}} -rss_limit_mb=1024 -timeout=120

# Everything that must hold for a commit
ci:
    .ci/run
