#!/usr/bin/env python3
"""Writes the study's part of TOFU: 30 of its 200 authors, 20 questions each.

    make_data.py TOFU OUT

The authors 0 to 19 are those that TOFU's retain_perturbed.json asks about and stay; the last ten are forget05's, the last two of
them forget01's. full.json: all 600 rows; retain99.json and retain95.json: without forget01's and forget05's; neighbors.jsonl:
every fourth row of the eight authors of forget05 that forget01 leaves; holdout01.json: 40 rows of two authors that no model sees;
forget05_part.json: every fourth row of forget05.json; retain_perturbed.json: every eighth row of TOFU's;
real_authors_perturbed.json and world_facts_perturbed.json: every third. The other files are TOFU's own, byte for byte.
"""
import json
import pathlib
import shutil
import sys

tofu, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)


def rows(name):
    return (tofu / name).read_text().splitlines(keepends=True)


def write(name, lines):
    (out / name).write_text("".join(lines))


full = rows("full.json")
assert len(full) == 4000 and all(json.loads(line)["question"] for line in full)
write("full.json", full[:400] + full[3800:])
write("retain99.json", full[:400] + full[3800:3960])
write("retain95.json", full[:400])
write("neighbors.jsonl", full[3800:3960:4])
write("holdout01.json", full[400:440])
write("forget05_part.json", rows("forget05.json")[::4])
for name, step in (("retain_perturbed.json", 8), ("real_authors_perturbed.json", 3), ("world_facts_perturbed.json", 3)):
    write(name, rows(name)[::step])
for name in ("forget01.json", "forget05.json", "forget01_perturbed.json", "forget05_perturbed.json",
             "idontknow.jsonl"):
    shutil.copyfile(tofu / name, out / name)
