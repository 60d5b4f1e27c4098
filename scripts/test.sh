#!/bin/bash
# Runs everything that must hold, phase by phase, and ends in one line `N passed, N failed`.
#
# Own crates are not optimised but checked (debug assertions, overflow); the dependencies are
# those of the shipped build, so nothing of them is compiled again (Cargo.toml).
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_PROFILE_RELEASE_OPT_LEVEL=${CARGO_PROFILE_RELEASE_OPT_LEVEL:-0}
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

passed=0 failed=0 timings=() broken=()
logs=$CARGO_TARGET_DIR/test-logs
mkdir -p "$logs"

# phase NAME COMMAND..: a phase that prints no `test result:` lines counts as one test.
phase() {
    local name=$1 began=$SECONDS log ok bad code
    shift
    log=$logs/${name// /-}.log
    echo "=== $name"
    "$@" </dev/null 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    read -r ok bad < <(awk '/^test result: / { for (i = 1; i < NF; i++) { if ($(i+1) == "passed;") p += $i; if ($(i+1) == "failed;") f += $i } }
                            END { print p + 0, f + 0 }' "$log")
    if [ "$ok" = 0 ] && [ "$bad" = 0 ]; then
        if [ "$code" = 0 ]; then ok=1; else bad=1; fi
    elif [ "$code" != 0 ] && [ "$bad" = 0 ]; then
        bad=1
    fi
    [ "$bad" = 0 ] || broken+=("$name")
    passed=$((passed + ok)) failed=$((failed + bad))
    timings+=("$(printf '%6d s  %-14s %5d passed %4d failed' $((SECONDS - began)) "$name" "$ok" "$bad")")
}

phase format cargo fmt --all --check
phase build cargo build --release --workspace --bins
# Checking needs RocksDB's build script once more; it is given the library that the build has made.
library=$(find "$CARGO_TARGET_DIR/release/build" -path '*librocksdb-sys-*/out/librocksdb.a' -print -quit)
if [ -n "$library" ] && [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
    checked=(env "ROCKSDB_LIB_DIR=$(dirname "$library")" ROCKSDB_STATIC=1)
else
    checked=(env)
fi
phase lints "${checked[@]}" cargo clippy --release --workspace --all-targets -- -D warnings
phase documentation "${checked[@]}" RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --release --workspace --no-deps
phase tests cargo test --release --workspace --no-fail-fast

echo
printf '%s\n' "${timings[@]}"
[ ${#broken[@]} = 0 ] || echo "failed: ${broken[*]} (logs: $logs)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
