#!/bin/sh
# Builds the test bench with g++ and runs it: exit 0 if every output equals the reference.
set -eu
cd "$(dirname "$0")"
CXX="${CXX:-g++}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$CXX" -O1 -w @FLAGS@ -DWEIGHTS_DIR='"firmware/weights"' \
    dut_test.cpp firmware/dut.cpp -o "$work/dut_test"
"$work/dut_test"
