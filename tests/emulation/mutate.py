#!/usr/bin/env python3
"""mutate.py - removes the barriers, fences and waits of a .cu file, one at a time, and checks that a check of the emulation sees each.

    tests/emulation/mutate.py tests/emulation/demo.cu
    tests/emulation/mutate.py --header kernels/engine/tile.cuh tests/emulation/demo.cu
    tests/emulation/mutate.py --test 'FLAT_EMU={output} build/tests/test_norm' kernels/norm.cu

Each mutant is built by `make emu-mutant` and the test is run on it: with the checker first, then with the plain
build under each seed. A removal that no check sees means that the test does not reach that line, or that the line is
not needed: either way the exit status is 1. With --header the mutants are of that header, as the .cu files include it.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

SITES = re.compile(r"__syncthreads\(\);|__syncwarp\([^;]*\);|__threadfence\(\);|"
                   r"async_copy_wait<[^>;]*>\(\);|async_copy_commit\(\);")
COMMENTS = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def sites(text):
    """(start, end, line) of everything that orders something, outside comments."""
    hidden = [match.span() for match in COMMENTS.finditer(text)]
    for match in SITES.finditer(text):
        if not any(start <= match.start() < end for start, end in hidden):
            yield match.start(), match.end(), text.count("\n", 0, match.start()) + 1


def build(options, flavour, original, mutant, output):
    command = ["make", "--no-print-directory", "-f", options.makefile, "emu-mutant", "FLAVOUR=" + flavour,
               "ORIGINAL=" + original, "MUTANT=" + mutant, "OUTPUT=" + output]
    if options.build:
        command.append("EMU_BUILD=" + options.build)
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit("mutate.py: the mutant does not build:\n" + result.stdout)


def run(options, output, seed):
    """None when the test passes, else what was seen."""
    environment = dict(os.environ, EMU_SEED=str(seed), EMU_WATCHDOG="20")
    try:
        result = subprocess.run(options.test.format(output=output), shell=True, env=environment,
                                timeout=options.timeout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, errors="replace")
    except subprocess.TimeoutExpired:
        return "time limit"
    if result.returncode == 0:
        return None
    reports = [line for line in result.stdout.splitlines() if line.startswith("emulation:")]
    return reports[0][11:110] if reports else "wrong result (status %d)" % result.returncode


def seen_by(options, original, mutant, scratch):
    """The first check that sees the mutant, or None."""
    for flavour in options.flavours.split(","):
        output = os.path.join(scratch, "mutant-" + flavour)
        build(options, flavour, original, mutant, output)
        for seed in [0] if flavour == "check" else range(options.seeds):
            report = run(options, output, seed)
            if report:
                return "%s, seed %d: %s" % (flavour, seed, report)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help=".cu files")
    parser.add_argument("--header", help="mutate this header instead of the files themselves")
    parser.add_argument("--test", default="{output} demo", help="command; {output} is the mutant")
    parser.add_argument("--flavours", default="check,plain")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--timeout", type=int, default=300, help="seconds for one run of the test")
    parser.add_argument("--makefile", default="Makefile")
    parser.add_argument("--build", help="EMU_BUILD of the makefile")
    options = parser.parse_args()
    missed = total = 0
    with tempfile.TemporaryDirectory() as scratch:
        for original in options.files:
            mutated = options.header or original
            with open(mutated) as file:
                text = file.read()
            mutant = os.path.join(scratch, os.path.basename(original))
            shutil.copy(original, mutant)
            report = seen_by(options, original, mutant, scratch)
            if report:
                sys.exit("mutate.py: %s fails before any mutation: %s" % (original, report))
            for start, end, line in sites(text):
                with open(os.path.join(scratch, os.path.basename(mutated)), "w") as file:
                    file.write(text[:start] + "(void)0;" + text[end:])
                report = seen_by(options, original, mutant, scratch)
                total += 1
                missed += report is None
                print("%s:%d %s: %s" % (mutated, line, text[start:end], report or "NOT SEEN"), flush=True)
            if options.header:
                os.remove(os.path.join(scratch, os.path.basename(mutated)))
    print("%d removals, %d not seen" % (total, missed))
    return 1 if missed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
