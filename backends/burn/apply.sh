#!/usr/bin/env bash
# Writes a patched burn-flex to a new folder: `backends/burn/apply.sh FOLDER`. It needs cargo and patch.
set -euo pipefail
version=0.22.1
target=${1:?expected the folder to write}
cd "$(dirname "$0")"
here=$PWD
[[ ! -e $target ]] || { echo "$target exists already"; exit 1; }

# cargo unpacks the published crate into its registry.
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
mkdir "$probe/src"
touch "$probe/src/lib.rs"
cat >"$probe/Cargo.toml" <<TOML
[package]
name = "probe"
version = "0.0.0"
edition = "2024"
[dependencies]
burn-flex = "=$version"
TOML
manifest=$(cargo metadata --quiet --format-version 1 --manifest-path "$probe/Cargo.toml" |
    python3 -c 'import json, sys; print(*(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "burn-flex"))')

cp -r "$(dirname "$manifest")" "$target"
chmod -R u+w "$target"
patch --quiet -p1 -d "$target" <"$here/burn-flex-$version.patch"
cp "$here/convkernels.rs" "$target/src/ops/convkernels.rs"
# Until the library is published, it is the one of this repository.
sed -i "s|^package = \"convkernels\"\$|&\npath = \"$(realpath "$here/../../kernels")\"|" "$target/Cargo.toml"
echo "patched burn-flex $version in $target"
