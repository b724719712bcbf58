#!/usr/bin/env python3
"""Prints the tables of docs/study.md from the summaries beside this file: table.py FOLDER [--seeds OTHER], table.py --attacks RUN ...,
table.py --attacks FOLDER ...

A row per run that is in aggregate_stat.csv, in the order of sweep.csv: P and ROUGE-L recall as TOFU's tables have them, the rest from
`flat eval --suite tofu`. With --seeds: forget quality, utility and ROUGE of kept rows of OTHER's runs and of the same ones in FOLDER,
mean and (least to largest) over seeds. With --attacks: a column for each RUN (forget01/001) of forget01/attacks.json, with 95 %
intervals, between the model that was tuned on everything and the one that never saw the forget rows; or a row for each run of each
FOLDER (forget01), without intervals.
"""
import csv
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
COLUMNS = [("steps", "steps", "{:.0f}"), ("forget quality", "forget_quality", "{:.3f}"), ("utility", "model_utility", "{:.3f}"),
           ("P(forget)", "Forget Probability", "{:.3f}"), ("ROUGE forget", "Forget ROUGE", "{:.3f}"),
           ("extraction strength", "extraction_strength", "{:.3f}"), ("AUC min-k++", "mia_min_k_plus_plus", "{:.3f}"),
           ("P(retain)", "Retain Probability", "{:.3f}"), ("ROUGE retain", "Retain ROUGE", "{:.3f}"),
           ("ROUGE authors", "Real Authors ROUGE", "{:.3f}"), ("ROUGE facts", "Real World ROUGE", "{:.3f}"),
           ("forget refused, %", "forget_refusal_rate", "{:.0%}"), ("seconds", "seconds", "{:.0f}")]


def rows_of(folder):
    with open(HERE / folder / "sweep.csv") as sweep, open(HERE / folder / "aggregate_stat.csv") as aggregate:
        tofu = {row["run"]: row for row in csv.DictReader(aggregate)}
        return [{**tofu[row["run"]], **row} for row in csv.DictReader(sweep) if row["run"] in tofu]


def name_of(row):
    landmarks = {"before": "tuned on everything", "retain": "never saw the forget rows"}
    name = landmarks.get(row["run"], row.get("method") or row["run"])
    if row.get("divergence"):
        own = "own kind, " if "alternates" in (row.get("template.file") or "") else ""
        name = "FLAT, " + own + row["divergence"].replace("_", " ")
    return name + (", LoRA" if (row.get("lora.r") or "0") != "0" else "")


def cell(row, key, shape):
    value = row.get(key) or ""
    return shape.format(float(value)).removesuffix("%") if value else ""


def show(head, rows):
    print("| " + " | ".join(head) + " |\n|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def seeds(folder, other):
    kinds = {}
    for row in rows_of(other) + [row for row in rows_of(folder) if row["landmark"] == "false"]:
        kinds.setdefault((name_of(row), row["learning_rate"]), []).append(row)
    spread = lambda runs, key: (lambda v: f"{sum(v) / len(v):.3f} ({min(v):.3f} to {max(v):.3f})")([float(run[key]) for run in runs])
    keys = [("forget quality", "forget_quality"), ("utility", "model_utility"), ("ROUGE forget", "Forget ROUGE"),
            ("ROUGE retain", "Retain ROUGE"), ("AUC min-k++", "mia_min_k_plus_plus")]
    show(["method", "seeds", "steps"] + [title for title, _ in keys],
         [[name, str(len(runs)), ", ".join(cell(run, "steps", "{:.0f}") for run in sorted(runs, key=lambda run: run["seed"]))] +
          [spread(runs, key) for _, key in keys] for (name, _), runs in kinds.items() if len(runs) > 1])


def attack_tables():
    with open(HERE / "forget01" / "attacks.json") as file:
        return json.load(file)


ATTACKS = [("K", "K, P(answer)"), ("R, forget", "R, forget"), ("R, half", "R, half"), ("R, unrelated", "R, unrelated"),
           ("K in NF4", "K in nf4"), ("Q, INT8", "Q, int8"), ("Q, NF4", "Q, nf4"), ("ROUGE, greedy", "ROUGE-L"), ("leak@16", "leak@16"),
           ("KL, text", "KL from"), ("P(neighbours)", "P(answer) of neigh"), ("refused, %", "neighbouring questions that are refused")]


def attacked(folders):
    tables = attack_tables()
    figure = lambda table, begin, model: next((row[model] for row in table["rows"] if row["measure"].startswith(begin)), None)
    number = lambda title, value: "" if value is None else f"{100 * value:.0f}" if title.endswith("%") else f"{value:.3f}"
    cells = lambda table, model: [number(title, figure(table, begin, model)) for title, begin in ATTACKS]
    some = next(iter(tables.values()))
    body = [["tuned on everything"] + cells(some, "target"), ["never saw the forget rows"] + cells(some, "retain")]
    for folder in folders:
        for row in rows_of(folder):
            table = tables.get(f"{folder}/{row['run']}/attack.json")
            if table and row["landmark"] == "false":
                body.append([name_of(row).replace("FLAT", "FLAT, own kind" if folder.endswith("-own") else "FLAT")] + cells(table, "unlearned"))
    show(["method"] + [title for title, _ in ATTACKS], body)


def attacks(runs):
    tables = attack_tables()
    columns = [(run, tables[run + "/attack.json"]["rows"]) for run in runs]
    names = {run: name_of(row) + (", own kind" if folder.endswith("-own") else "")
             for folder in {run.split("/")[0] for run in runs} for row in rows_of(folder) for run in [folder + "/" + row["run"]]}
    number = lambda value: "" if value is None else f"{value:.3f}"
    rows = []
    for i, first in enumerate(columns[0][1]):
        cells = [f"{number(rows[i]['unlearned'])} ({number(rows[i]['low'])} to {number(rows[i]['high'])})" for _, rows in columns]
        rows.append([first["measure"], number(first["target"])] + cells + [number(first["retain"])])
    show(["", "tuned"] + [names[run] for run, _ in columns] + ["never saw"], rows)


if sys.argv[1:2] == ["--attacks"]:
    (attacks if "/" in sys.argv[2] else attacked)(sys.argv[2:])
elif sys.argv[2:3] == ["--seeds"]:
    seeds(sys.argv[1], sys.argv[3])
else:
    runs = rows_of(sys.argv[1])
    # of all of TOFU no rows are left that no model has seen: its mia_* compare with rows that are kept
    measured = [column for column in COLUMNS if column[0] != "AUC min-k++" or not sys.argv[1].startswith("tofu")]
    show(["method"] + [title for title, _, _ in measured],
         [[name_of(row)] + [cell(row, key, shape) for _, key, shape in measured] for row in runs])
