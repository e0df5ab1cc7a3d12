#!/usr/bin/env bash
# Installs the peers that `shootout --peers DIR` and `netbench --peers DIR` time. usage: benches/peers/setup.sh DIR [PART...]
# Parts: onednn onednn-debian python rust torch; all of them if none is named. About 10 GB and 15 minutes, most of
# both for torch. A part that is there already is brought up to date. Needs python3 with venv, g++, cargo, and for
# onednn-debian apt-get.
set -euo pipefail
(( $# >= 1 )) || { sed -n 2p "$0" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
parts=("${@:2}")
(( ${#parts[@]} )) || parts=(onednn onednn-debian python rust torch)

venv() {
    [[ -x $dir/venv/bin/pip ]] || python3 -m venv "$dir/venv"
}

# The older kind of path is the one that is searched for the libraries of libraries, too.
compile_onednn() { # PREFIX PROGRAM
    g++ -O2 -std=c++17 -fopenmp -I"$1/include" "$here/onednn.cpp" -L"$1/lib" -ldnnl \
        -Wl,--disable-new-dtags,-rpath,"$1/lib" -o "$dir/$2"
}

# oneDNN 3.2 on GNU OpenMP: the newest build in the Python registry that needs no runtime of its own.
onednn() {
    venv
    local prefix=$dir/onednn unpacked
    if [[ ! -e $prefix/lib/libdnnl.so.3 ]]; then
        unpacked=$(mktemp -d)
        "$dir/venv/bin/pip" download -q --no-deps -d "$unpacked" onednn-cpu-gomp==2023.2.0 onednn-devel-cpu-gomp==2023.2.0
        for wheel in "$unpacked"/*.whl; do python3 -m zipfile -e "$wheel" "$unpacked/tree"; done
        mkdir -p "$prefix"
        cp -r "$unpacked"/tree/*.data/data/* "$prefix/"
        rm -rf "$unpacked"
        # A wheel holds no symbolic links.
        ln -sf libdnnl.so.3.2 "$prefix/lib/libdnnl.so.3"
        ln -sf libdnnl.so.3 "$prefix/lib/libdnnl.so"
    fi
    compile_onednn "$prefix" onednn-worker
}

# Debian's oneDNN 2.6, which still has Winograd for x86. It is linked with OpenCL, which it is never asked for.
onednn-debian() {
    local prefix=$dir/onednn-debian packages libs
    if [[ ! -e $prefix/lib/libdnnl.so ]]; then
        packages=$(mktemp -d)
        (
            cd "$packages"
            apt-get -q -o APT::Sandbox::User=root download libdnnl2 libdnnl-dev ocl-icd-libopencl1
            for package in *.deb; do dpkg -x "$package" tree; done
        )
        libs=$(dirname "$(find "$packages/tree" -name libdnnl.so)")
        mkdir -p "$prefix/lib"
        cp -r "$packages/tree/usr/include" "$prefix/"
        cp -a "$libs"/lib{dnnl,OpenCL}.so* "$prefix/lib/"
        rm -rf "$packages"
    fi
    compile_onednn "$prefix" onednn-debian-worker
}

python() {
    venv
    "$dir/venv/bin/pip" install -q -r "$here/requirements.txt"
    "$dir/venv/bin/pip" install -q --no-deps -r "$here/requirements-plain.txt"
    python_workers
}

python_workers() {
    cp "$here/worker.py" "$here/onnx_in_torch.py" "$dir/"
}

# The wheel for Linux cannot be imported without the CUDA libraries that it depends on, GPU or not.
torch() {
    venv
    "$dir/venv/bin/pip" install -q torch==2.15.0 "$(grep ^numpy== "$here/requirements.txt")"
    python_workers
}

rust() {
    RUSTFLAGS="-C target-cpu=native" cargo build --release --locked --manifest-path "$here/rust/Cargo.toml" \
        --target-dir "$dir/rust-target"
    cp "$dir/rust-target/release/peers" "$dir/rust-worker"
}

for part in "${parts[@]}"; do
    echo "== $part"
    start=$SECONDS
    "$part"
    echo "== $part: $((SECONDS - start)) s"
done
