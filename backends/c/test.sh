#!/usr/bin/env bash
# Tests what `make install` installs: symbols, pkg-config file, examples and C tests, natively, under the sanitizers and
# under valgrind. `backends/c/test.sh` needs gcc, g++, pkg-config, binutils, valgrind and libasan.
set -euo pipefail
cd "$(dirname "$0")"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
prefix=$out/prefix
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib
strict=(-O1 -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
c99=(gcc -std=c99 -D_POSIX_C_SOURCE=200809L "${strict[@]}")
cpp=(g++ -std=c++17 "${strict[@]}")
programs=(examples/{resnet_block,training_step}.c examples/changing_sizes.cpp tests/c/{descriptors,gradients,packed,runs}.c)

fail() {
    echo "FAILED: $*"
    exit 1
}

install_library() {
    make -s install PREFIX="$prefix" CARGOFLAGS=--quiet
    local version
    version=$(pkg-config --modversion convkernels)
    # Before version 1.0, another minor version is incompatible.
    soname=libconvkernels.so.$(sed -E 's/^(0\.[0-9]+|[1-9][0-9]*)\..*/\1/' <<<"$version")
    [[ $(readelf -d "$prefix/lib/libconvkernels.so.$version") == *"SONAME"*"[$soname]"* ]] ||
        fail "the shared library has another SONAME than $soname"
    [[ $(readlink -f "$prefix/lib/$soname") == "$prefix/lib/libconvkernels.so.$version" ]] ||
        fail "no link for the loader"
    echo "installed: $soname"
    # A staged installation must not name the stage.
    make -s install-strip PREFIX=/opt/ck DESTDIR="$out/stage" CARGOFLAGS=--quiet
    ! grep -q "$out" "$out/stage/opt/ck/lib/pkgconfig/convkernels.pc" || fail "the stage is in convkernels.pc"
    make -s uninstall PREFIX=/opt/ck DESTDIR="$out/stage"
    [[ -z $(find "$out/stage" -not -type d) ]] || fail "uninstall leaves files"
}

# The shared library exports the functions of the header and nothing else. The static library has the same.
symbols() {
    grep -oE '\bck_[a-z0-9_]+\(' "$prefix/include/convkernels.h" | tr -d '(' | sort -u >"$out/header"
    nm -D --defined-only "$prefix/lib/libconvkernels.so" | awk '{print $3}' | sort >"$out/shared"
    nm -g --defined-only "$prefix/lib/libconvkernels.a" 2>/dev/null | awk '$3 ~ /^ck_/ {print $3}' | sort -u \
        >"$out/static"
    diff -u "$out/header" "$out/shared" || fail "the shared library exports other symbols than the header has"
    diff -u "$out/header" "$out/static" || fail "the static library has other functions than the header"
    echo "symbols: $(wc -l <"$out/header") functions in the header, the shared and the static library"
}

# The headers alone, as C and as C++, with and without exceptions, and what must not compile.
headers() {
    local flags language
    flags=$(pkg-config --cflags convkernels)
    for standard in c99 c11 c17; do
        echo '#include <convkernels.h>' | gcc -std=$standard "${strict[@]}" $flags -xc -fsyntax-only -
    done
    echo '#include <convkernels.h>' | g++ -std=c++11 "${strict[@]}" $flags -xc++ -fsyntax-only -
    echo '#include <convkernels.hpp>' | g++ -std=c++17 -fno-exceptions "${strict[@]}" $flags -xc++ -fsyntax-only -
    echo '#include <convkernels.hpp>' | g++ -std=c++20 "${strict[@]}" $flags -xc++ -fsyntax-only -
    "${cpp[@]}" $flags -fsyntax-only tests/c/weights.cpp
    for language in c c++; do
        ! echo '#include <convkernels.h>' | gcc -fshort-enums $flags -x$language -fsyntax-only - 2>"$out/short" ||
            fail "short enums compile as $language"
        grep -q ck_enums_have_four_bytes "$out/short" || fail "short enums fail without their reason"
    done
}

# compile SUFFIX FLAG... -- LIBRARY...: every program to $out/NAME.SUFFIX.
compile() {
    local suffix=$1 flags=() source compiler
    shift
    while [[ $1 != -- ]]; do flags+=("$1"); shift; done
    shift
    for source in "${programs[@]}"; do
        compiler=("${c99[@]}")
        [[ $source != *.cpp ]] || compiler=("${cpp[@]}")
        "${compiler[@]}" "${flags[@]}" -Iexamples $(pkg-config --cflags convkernels) "$source" \
            -o "$out/$(basename "${source%.*}").$suffix" "$@" -pthread -lm
    done
}

# run SUFFIX COMMAND...: every program of that suffix. Prints the first and the last line of each.
run() {
    local suffix=$1 source
    shift
    for source in "${programs[@]}"; do
        echo "-- $1 $(basename "${source%.*}").$suffix"
        "$@" "$out/$(basename "${source%.*}").$suffix" >"$out/output" 2>&1 || {
            cat "$out/output"
            fail "$source ($suffix)"
        }
        sed -n '1p;$p' "$out/output" | uniq
    done
}

# The program of the README.
readme() {
    sed -n '/^```c$/,/^```$/p' README.md | sed '/^```/d' >"$out/readme.c"
    grep -q 'int main' "$out/readme.c" || fail "README.md has no program"
    "${c99[@]}" "$out/readme.c" -o "$out/readme" $(pkg-config --cflags --libs convkernels)
    "$out/readme"
}

install_library
symbols
headers
readme

compile shared -- $(pkg-config --libs convkernels)
ldd "$out/resnet_block.shared" | grep -qF "$soname => $prefix/" || fail "not linked with the shared library"
run shared env

system=$(pkg-config --static --libs-only-l convkernels | sed 's/-lconvkernels//')
compile static -- -Wl,-Bstatic $(pkg-config --libs convkernels) -Wl,-Bdynamic $system
! ldd "$out/resnet_block.static" | grep -q convkernels || fail "not linked with the static library"
run static env

compile sanitized -fsanitize=address,undefined -fno-sanitize-recover=all -- $(pkg-config --libs convkernels)
run sanitized env ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1

# valgrind knows no AVX-512 and hides it, so the library runs its AVX2 kernels there. Blocks that are only "possibly
# lost" are not reported: they belong to the global list that crossbeam, below rayon, keeps of its threads.
run shared valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite,indirect \
    --errors-for-leak-kinds=definite,indirect
echo "passed"
