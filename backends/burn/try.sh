#!/usr/bin/env bash
# Trains on handwritten digits with burn-flex as it is published, and with the patch: `backends/burn/try.sh [EPOCHS]`.
# It needs cargo, python3 and patch, and writes to `backends/target/burn`.
set -euo pipefail
cd "$(dirname "$0")"
work=$(realpath ..)/target/burn
patched=$work/burn-flex
rm -rf "$patched"
mkdir -p "$work"
./apply.sh "$patched"
build() {
    cargo build -q --release --manifest-path digits/Cargo.toml --target-dir "$work/build" "${@:2}"
    cp "$work/build/release/digits" "$work/$1"
}
# One after the other in one folder: only what depends on burn-flex is compiled twice.
build plain
build patched --config "patch.crates-io.burn-flex.path='$patched'"
# One thread: the features of burn that the example takes leave out burn-flex's threads.
for kind in plain patched; do
    echo "-- $kind"
    RAYON_NUM_THREADS=1 "$work/$kind" "${1:-5}"
done
