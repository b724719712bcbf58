"""benches/results/README.md and its charts, from the committed JSON files: make report (report.py FLAT, the program, which
draws the charts).

A folder of benches/results is a machine; its files are what the benchmarks wrote:
    kernels.json (flat bench kernels), reference.json (pytorch/kernels.py), step*.json (flat bench step), compare*.json
    (pytorch/compare.py), run_time*.json (pytorch/run_time.py), io*.json (flat bench io), methods.json (methods/methods.py)
predicted/step.json is flat bench step --predict, predicted/ops.json flat bench step on the emulation with EMU_RUN=0 (the ops of a
whole step of a large model with the bytes and flops of their contracts; nothing is computed), predicted/bytes.txt the lines that the
kernels' tests print about the bytes they moved in the emulation, predicted/counts.txt those of test_counts,
predicted/counts_before.txt those at an earlier commit. Nothing here measures anything: the same files give the same page.
"""
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results")
MODEL_ORDER = ("stories-15m", "smollm2-135m", "llama-3.2-1b", "phi-1.5", "qwen2-1.5b", "opt-2.7b", "llama-2-7b")
VARIANT_TEXT = {"padded": "padded to 500, logits everywhere", "packed": "packed, logits everywhere",
             "answers": "packed, logits of answers only", "shared": "and one copy of each prompt",
             "graph": "and launched as one graph"}
WAY_TEXT = {"flat": "flat.c", "flat+graph": "flat.c, one graph per step", "authors": "PyTorch, as the authors: padded to 500", "padded": "PyTorch, padded to the longest",
            "packed": "PyTorch, packed, answer-only head", "shared": "PyTorch, packed with shared prompts"}

RACE_TEXT = {("step", ""): "FLAT step of 8 pairs", ("score", ""): "scoring 80 answers", ("generate", "1"): "greedy text of 1 prompt",
             ("generate", "8"): "greedy text of 8 prompts"}


def load(path):
    with open(path) as file:
        return json.load(file)


# ---- charts ----

def bar(label, value, other=False, low=0.0, high=0.0):
    """other: what ours are compared with; a whisker from low to high."""
    return {"label": label, "value": value, "other": other, "low": low, "high": high}


def bar_chart(path, title, subtitle, bars, unit, digits=2, mark=0, mark_label=""):
    """Drawn by `flat plot`, which says what the keys mean (host/cli/plot/plot.h)."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"title": title, "subtitle": subtitle, "unit": unit, "digits": digits, "mark": mark,
                   "mark_label": mark_label, "bars": bars}, file)
        file.flush()
        subprocess.run([sys.argv[1], "plot", file.name, "-o", path], check=True, stdout=subprocess.DEVNULL)


def machine(context):
    """Of what `flat bench` writes."""
    return "%s, %s" % (context["processor"], context["device"]) if context.get("processor") else context["device"]


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


# ---- tables ----

def table(head, rows, right_from=1):
    lines = ["| " + " | ".join(head) + " |",
             "|" + "|".join("---:" if i >= right_from else "---" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def origin(context, command):
    load_text = ", load %s" % context["load"] if context.get("load") else ""
    return "`%s`, %s, commit %s%s\n" % (command, context["date"][:10], context["commit"], load_text)


def spread(values, form):
    return "%s (%s to %s)" % tuple(form % v for v in (statistics.median(values), min(values), max(values)))


def kernels_part(folder, page):
    path = os.path.join(folder, "kernels.json")
    if not os.path.exists(path):
        return
    data = load(path)
    reference, context = {}, data["context"]
    if os.path.exists(os.path.join(folder, "reference.json")):
        reference_file = load(os.path.join(folder, "reference.json"))
        for case in reference_file["cases"]:
            best = reference.get(case["name"])
            if not best or case["seconds"]["median"] < best:
                reference[case["name"]] = case["seconds"]["median"]
    limits, rows, bars, ops = context["limits"], [], [], []
    for case in data["cases"]:
        if (case["op"], case["dtype"]) not in ops:
            ops.append((case["op"], case["dtype"]))
    for op, dtype in ops:
        cases = [c for c in data["cases"] if (c["op"], c["dtype"]) == (op, dtype) and not c["wrong"]]
        ratios = [reference[c["name"]] / c["seconds"]["median"] for c in cases if c["name"] in reference]
        share = [100 * c["of_limit"] for c in cases]
        rows.append((op, dtype, len(cases), spread(share, "%.0f"), "%.2f" % max(c["error_of_allowed"] for c in cases),
                     spread(ratios, "%.2f") if ratios else ""))
        bars.append(bar(op + ("" if dtype == "float32" and len({d for _, d in ops}) == 1 else ", " + dtype),
                     statistics.median(share)))
    page.append("### Kernels\n\n" + origin(context, "flat bench kernels --time_budget %g" % context["time_budget"]))
    page.append("Limits in the same process: copy %.1f, scale %.1f, read %.1f GB/s; matrix products %s GFLOP/s. " % (
        1e-9 * limits["copy_bytes_per_second"], 1e-9 * limits["scale_bytes_per_second"], 1e-9 * limits["read_bytes_per_second"],
        ", ".join("%.1f in %s" % (1e-9 * v, k.split("_")[1]) for k, v in limits.items() if k.startswith("product"))) +
        "Shares are least time by these limits over the measured median, over all shapes of an op: median (least to most). "
        "Errors are the worst of all checks, as a share of what the op's contract allows. Above 100 %, a case ran in a quieter moment "
        "than the limits, or from the cache." + (" The reference is the fastest of %s; above 1, it takes longer than ours." % (
            "torch %s and what else was there" % reference_file["context"]["torch"]) if reference else "") + "\n")
    page.append(table(("op", "type", "cases", "% of the limit", "error / allowed", "reference's time / ours"), rows, 2))
    bar_chart(os.path.join(folder, "kernels.svg"), "Kernels: share of the device's limit", "median over shapes \u00b7 %s \u00b7 %s" % (machine(context), context["date"][:10]), bars,
              "% of the copy, read or matrix-product rate measured in the same process", 0, 100, "100 %: the limit")
    page.append("![share of the limit](%s/kernels.svg)\n" % os.path.basename(folder))


def steps_part(folder, page):
    for path in sorted(glob.glob(os.path.join(folder, "step*.json"))):
        data = load(path)
        for model in MODEL_ORDER:
            cases = [c for c in data["cases"] if c["model"] == model]
            if not cases:
                continue
            page.append("### Steps of %s\n\n" % model + origin(data["context"], "flat bench step --filter " + model))
            page.append(table(("workload", "variant", "rows", "target rows", "ms", "p10", "p90", "samples", "pairs/s", "TFLOP/s", "MB planned",
                               "MB used", "largest ops"), [
                (c["workload"], c["variant"], c["rows"], c["target_rows"], *("%.0f" % (1e3 * c["seconds"][k]) for k in
                                                                      ("median", "p10", "p90")), c["samples"],
                 "%.2f" % c["pairs_per_second"], "%.3f" % (1e-12 * c["flops"] / c["seconds"]["median"]),
                 "%.0f" % (1e-6 * c["planned_bytes"]), "%.0f" % (1e-6 * c["measured_bytes"]) if c["measured_bytes"] else "",
                 ", ".join("%s %.0f %%" % (op, 100 * share) for op, share in
                           sorted(c["ops_share"].items(), key=lambda item: -item[1])[:3]))
                for c in cases], 2))
            ablation = [c for c in cases if c["workload"] == "tofu"]
            if len(ablation) > 1:
                name = "ablation-%s.svg" % model
                bar_chart(os.path.join(folder, name), "What each idea brings: %s" % model,
                          "steps of %d pairs of TOFU \u00b7 %s \u00b7 %s" % (ablation[0]["pairs"], machine(data["context"]),
                                                                   data["context"]["date"][:10]),
                          [bar(VARIANT_TEXT[c["variant"]], c["pairs_per_second"], c["variant"] not in ("shared", "graph"))
                           for c in ablation], "pairs per second")
                page.append("![ablation](%s/%s)\n" % (os.path.basename(folder), name))


def compare_part(folder, page):
    for path in sorted(glob.glob(os.path.join(folder, "compare*.json"))):
        data = load(path)
        context = data["context"]
        page.append("### %s against PyTorch\n\n" % data["model"] + origin(context["ours"], "benches/pytorch/compare.py --model %s"
                                                                       % data["model"]))
        page.append("Whole steps of %d pairs (%s), %s, the same weights, pairs and loss; torch %s (threads of its own: %s), transformers %s, "
                    "load %.0f to %.0f. Medians of the rounds' medians, alternately.\n" % (
                        data["pairs"], data["workload"], data["dtype"], context["torch"], context["threads"],
                        context["transformers"], context["load_before"], context["load_after"]))
        steps = data["steps"]
        page.append(table(("", "ms", "rounds, ms", "pairs/s", "time / flat.c's", "loss"), [
            (WAY_TEXT.get(s["way"], "PyTorch, " + s["way"]), "%.0f" % (1e3 * s["seconds"]["median"]),
             ", ".join("%.0f" % (1e3 * v) for v in s["seconds"]["rounds"]), "%.2f" % s["pairs_per_second"],
             "%.2f" % s["ratio_to_flat"], "%.6g" % data["losses"][s["way"]]) for s in steps]))
        for way, reason in data["unavailable"].items():
            page.append("Not run: %s (%s).\n" % (way, reason))
        name = "compare-%s.svg" % data["model"]
        bar_chart(os.path.join(folder, name), "Against PyTorch: %s" % data["model"],
                  "one FLAT step of %d pairs, %s \u00b7 %s \u00b7 %s" % (data["pairs"], data["dtype"], machine(context["ours"]),
                                                                context["date"][:10]),
                  [bar(WAY_TEXT.get(s["way"], "PyTorch, " + s["way"]), s["pairs_per_second"], not s["way"].startswith("flat"))
                   for s in steps], "pairs per second; more is better")
        page.append("![against PyTorch](%s/%s)\n" % (os.path.basename(folder), name))


def race_part(folder, page):
    rows, chart, seen, last = [], [], set(), None
    for path in sorted(glob.glob(os.path.join(folder, "race-*.json"))):
        last = data = load(path)
        for name, race in data["races"].items():
            for count, one in race.items() if "ratios" not in race else [("", race)]:
                for peer, ratio in one["ratios"].items():
                    if (name, count, peer) in seen:  # the first file's, which has the most rounds
                        continue
                    seen.add((name, count, peer))
                    rows.append(("%s: %s" % (name, one["note"]), peer, str(one["rounds"]),
                                 "%.1f (%.1f to %.1f)" % tuple(ratio["seconds"][k] for k in ("median", "p10", "p90")),
                                 "%.1f (%.1f to %.1f)" % tuple(ratio["cpu_seconds"][k] for k in ("median", "p10", "p90"))))
                    if "padded" not in peer and "authors" not in peer:
                        seconds = ratio["seconds"]
                        chart.append(bar("%s, PyTorch %s" % (RACE_TEXT.get((name, count), name), peer.split(",")[0].split("+")[0].split()[-1]),
                                         seconds["median"], low=seconds["p10"], high=seconds["p90"]))
    if not rows:
        return
    page.append("### The CPU race on a real model\n\n`benches/race/race.py` (what is compared, and how, is in benches/race), %s, %s, "
                "%d threads, load at the start %.1f\n" % (last["date"][:10], last["flat"], last["threads"], last["load_at_start"][0]))
    page.append("PyTorch's time as a multiple of flat.c's in the same round: median (p10 to p90) of the rounds; the "
                "authors' way ran in the first one only.\n")
    page.append(table(("race", "PyTorch", "rounds", "wall", "processor time"), rows, 2))
    bar_chart(os.path.join(folder, "race.svg"), "PyTorch's time divided by flat.c's", "SmolLM2-135M, float32 \u00b7 %s, %d threads "
              "\u00b7 %s" % (last["cpu"], last["threads"], last["date"][:10]), chart,
              "times as long as flat.c, the same work and results", 1, 1, "1: a tie")
    page.append("![race](%s/race.svg)\n" % os.path.basename(folder))


def methods_part(folder, page):
    path = os.path.join(folder, "methods.json")
    if not os.path.exists(path):
        return
    data, rows = load(path), []
    flat = data["cases"]["flat"]
    for name, case in data["cases"].items():
        planned, measured = case["planned"], case["measured"]
        rows.append((name, "%.0f" % measured["tokens"], "%.0f" % measured["answer_tokens"], "%.2f" % measured["seconds"],
                     "%.2f" % (measured["seconds"] / flat["measured"]["seconds"]),
                     "%.2f" % (planned["flops"] / flat["planned"]["flops"]), "%.0f" % measured["mib"],
                     "%.0f" % planned["mib"], "%+.1f %%" % (100 * (planned["mib"] / measured["mib"] - 1))))
    context, versions = data["context"], {}
    for name, case in data["cases"].items():
        versions.setdefault(case["version"], []).append(name)
    usual = max(versions, key=lambda version: len(versions[version]))
    text = ", ".join([usual] + [" and ".join(names) + " " + version for version, names in versions.items() if version != usual])
    page.append("### Methods beside FLAT\n\n`benches/methods/methods.py` (how, is in its head), SmolLM2-135M on TOFU forget01, float32, %d rows per "
                "step, %s, %d thread, load %.0f; %s\n" % (context["batch"], context["date"], context["threads"], context["load"], text))
    page.append("Flops are the plan's of the matrix products and of attention, means over the epoch; processor time has the optimizer and all "
                "else besides. The plan's memory is the device's, the peak the whole process's.\n")
    page.append(table(("method", "tokens", "answer tokens", "processor s per step", "of FLAT's", "by plan's flops", "peak, MiB",
                       "plan, MiB", "plan off by"), rows))


def runs_part(folder, page):
    for path in sorted(glob.glob(os.path.join(folder, "run_time*.json"))):
        data = load(path)
        page.append("### From the command to the saved model: %s\n\n`benches/pytorch/run_time.py`, %s, %d steps, %s, %s, load "
                    "%.0f to %.0f\n" % (data["model"], data.get("data", "the demo's data"), data["steps"], data["context"]["date"][:10],
                                        data["context"]["flat"], data["context"]["load_before"], data["context"]["load_after"]))
        page.append("Start, load (%.0f MB), %d steps of %d pairs, save; torch %s.\n" % (1e-6 * data["bytes"], data["steps"],
                                                                                      data["batch"], data["context"]["torch"]))
        page.append(table(("", "seconds", "rounds", "time / flat.c's"), [
            (WAY_TEXT.get(r["name"], "PyTorch, " + r["name"]), "%.2f" % r["seconds"]["median"],
             ", ".join("%.2f" % v for v in r["seconds"]["rounds"]), "%.2f" % r["ratio_to_flat"]) for r in data["runs"]]))
    for path in sorted(glob.glob(os.path.join(folder, "io*.json"))):
        data = load(path)
        seconds = {c["name"]: c["seconds"]["median"] for c in data["cases"]}
        plain = {"load, cold": "read, cold", "load, warm": "read, warm", "save": "write and fsync"}
        page.append("### Loading and saving\n\n" + origin(data["context"], "flat bench io --model " + os.path.basename(data["model"])))
        page.append("%.0f MB; a load against a plain read of the files, a save against a plain write and fsync.\n" % (1e-6 * data["bytes"]))
        page.append(table(("", "seconds", "GB/s", "% of plain"), [
            (name, "%.3f" % value, "%.2f" % (1e-9 * data["bytes"] / value),
             "%.0f" % (100 * seconds[plain[name]] / value) if name in plain else "") for name, value in seconds.items()]))


# ---- what was not measured ----

# What an H200 is taken to do, with sources in docs/gpu.md: bytes per second of a copy, and shares of that; products at the rows of
# TOFU's 32 pairs and at 3,840; milliseconds of attention beyond its bytes and between two steps; what picked products may bring.
H200 = {"copy": 4.3e12, "elementwise": 0.78, "optimizer": 0.90}
H200_MODEL = {"llama-2-7b": {"products": (0.632e15, 0.648e15), "attention": 3.0, "gap": 1.5, "picks": (5, 12), "target": (215, 298)},
              "llama-3.2-1b": {"products": (0.573e15, 0.602e15), "attention": 0.9, "gap": 1.2, "picks": (1.5, 3), "target": (41, 55)}}
MORE_ROWS = 3840


def step_parts(case, rows):
    """Milliseconds by part of a step with so many rows instead of the case's: products and elementwise ops grow with them."""
    rates, grown = H200_MODEL[case["model"]], rows / case["rows"]
    flops = sum(op["flops"] for name, op in case["ops"].items() if name.startswith("linear"))
    bytes_of = lambda chosen: sum(op["bytes"] for name, op in case["ops"].items() if chosen(name))
    return [("products, %.1f TFLOP" % (1e-12 * flops * grown), 1e3 * flops * grown / rates["products"][rows != case["rows"]]),
            ("elementwise ops and attention, %.1f GB" % (1e-9 * grown * bytes_of(lambda n: not n.startswith(("linear", "adamw")))),
             1e3 * grown * bytes_of(lambda n: not n.startswith(("linear", "adamw"))) / (H200["copy"] * H200["elementwise"])),
            ("attention beyond its bytes", rates["attention"]),
            ("AdamW, %.1f GB" % (1e-9 * bytes_of(lambda n: n == "adamw_step")),
             1e3 * bytes_of(lambda n: n == "adamw_step") / (H200["copy"] * H200["optimizer"])),
            ("norm of the gradients", 1e3 * bytes_of(lambda n: n == "adamw_norm") / (H200["copy"] * H200["optimizer"])),
            ("launches, and the gap between steps", rates["gap"])]


def parts_part(page):
    path = os.path.join(RESULTS, "predicted", "ops.json")
    if not os.path.exists(path):
        return
    data = load(path)
    page.append("### The parts of a step\n\nBytes and flops are those of the ops of one whole step, counted as the program queues them; "
                "rates are assumptions (docs/gpu.md). **No time here was measured.**\n")
    page.append("`EMU_RUN=0 flat bench step` beside the emulated engine, %s, commit %s\n" % (data["context"]["date"][:10], data["context"]["commit"]))
    cases = sorted(data["cases"], key=lambda c: -MODEL_ORDER.index(c["model"]))
    columns = [(case, rows, step_parts(case, rows)) for case in cases for rows in (case["rows"], MORE_ROWS)]
    body = [[re.sub(", [0-9.]+ .*", "", columns[0][2][i][0])] + ["%.1f" % c[2][i][1] for c in columns] for i in range(len(columns[0][2]))]
    sums = [sum(ms for _, ms in c[2]) for c in columns]
    body.append(["**sum**"] + ["**%.0f**" % s for s in sums])
    body.append(["with what picked products may bring"] + ["%.0f to %.0f" % tuple(s - gain for gain in reversed(H200_MODEL[c[0]["model"]]["picks"]))
                                                           for c, s in zip(columns, sums)])
    body.append(["target"] + ["%d" % H200_MODEL[c[0]["model"]]["target"][c[1] == MORE_ROWS] for c in columns])
    page.append(table(["ms on an H200"] + ["%s, %d rows" % (c[0]["model"], c[1]) for c in columns], body, 1))


def counts_read(path):
    """The first line, and what is asked for in each case: launches, fills and copies, each per layer and beside; graphs, waits,
    allocations; bytes as the first three."""
    lines, cases = open(path).read().splitlines(), {}
    for line in lines:
        found = re.match(r"(.*): launches (\S+) per layer and (\S+), fills (\S+) and (\S+), copies (\S+) and (\S+), graphs (\S+), "
                         r"waits (\S+), allocations (\S+), bytes (\S+) per layer and (\S+)", line)
        if found:
            cases[found[1]] = [float(found[i]) for i in range(2, 13)]
    return lines[0].lstrip("# "), cases


def by_layers(per_layer, beside):
    """So many per layer of L, and so many besides."""
    terms = ["L" if per_layer == 1 else "{:,.0f} L".format(per_layer)] if per_layer else []
    return " + ".join(terms + (["{:,.0f}".format(beside)] if beside or not terms else []))


def counts_part(page):
    path, path_before = (os.path.join(RESULTS, "predicted", name) for name in ("counts.txt", "counts_before.txt"))
    if not os.path.exists(path) or not os.path.exists(path_before):
        return
    origin_now, now = counts_read(path)
    origin_before, before = counts_read(path_before)
    rows = []
    for name, case in now.items():
        for label, c in ((name, case), ("at " + origin_before.split(",")[0], before.get(name))):
            if c:
                rows.append([label, *(by_layers(c[i], c[i + 1]) for i in (0, 2, 4)), *("%g" % v for v in c[6:9]), by_layers(c[9], c[10])])
    page.append("### What is asked of the device\n\nCounted by the emulation per optimizer step and per decoded token, for L layers (tests/unit/test_counts.c, "
                "which holds all but the bytes to these bounds). Below a case the same model, rows and calls at an earlier commit, where that has "
                "it: no chunks of the head, no 8-bit moments and no graphs of decoding. The bytes are those that kernels, products and "
                "fills move for that small model.\n\n* %s\n* %s, after `git apply` of predicted/counts_before.patch to that commit, which "
                "counts what its emulation did not\n" % (origin_now, origin_before.replace(", with the counters and the test of counts_before.patch", "")))
    page.append(table(("", "launches", "fills", "copies", "graphs", "waits", "allocations", "bytes"), rows, 1))


def predicted_part(page):
    path = os.path.join(RESULTS, "predicted", "step.json")
    if os.path.exists(path):
        data = load(path)
        page.append("## GPU: not measured\n\nNo GPU has run this code yet. What follows is arithmetic: memory by the plan, flops by the "
                    "formula of `flat bench step`, time by the rates that `flat plan` assumes of an H200. **None of it was measured.**\n")
        page.append(origin(data["context"], "flat bench step --predict"))
        cases = sorted(data["cases"], key=lambda c: (MODEL_ORDER.index(c["model"]), c["workload"] != "tofu"))
        page.append(table(("model", "workload", "pairs", "variant", "rows", "TFLOP per step", "GB planned", "ms, predicted", "pairs/s, predicted"), [
            (c["model"], c["workload"], c["pairs"], c["variant"], c["rows"], "%.2f" % (1e-12 * c["flops"]),
             "%.1f" % (1e-9 * c["planned_bytes"]), "%.1f" % (1e3 * c["predicted_seconds"]),
             "%.0f" % (c["pairs"] / c["predicted_seconds"])) for c in cases if c["variant"] in ("padded", "shared")], 4))
    parts_part(page)
    counts_part(page)
    path = os.path.join(RESULTS, "predicted", "bytes.txt")
    if os.path.exists(path):
        lines, groups = open(path).read().splitlines(), {}
        for line in lines:
            found = re.match(r"emu-(\S+) (.*): (\d+) bytes in (\d+) launches, the contract says (\d+) \(([+-][\d.]+) %\)", line)
            if found:
                groups.setdefault((found[2], found[1]), []).append((int(found[3]), int(found[5]), float(found[6])))
        rows = [(op, kind, len(cases), "{:,}".format(max(cases)[0]), "{:,}".format(max(cases)[1]),
                 "%+.1f to %+.1f" % (min(c[2] for c in cases), max(c[2] for c in cases)))
                for (op, kind), cases in groups.items()]
        page.append("### Bytes that the CUDA kernels move\n\nCounted by the emulation that runs the `.cu` files on a CPU, on small "
                    "shapes, against the ops' contracts. Bytes, not time. %s.\n" % lines[0].lstrip("# "))
        page.append(table(("op", "type", "shapes", "counted, largest", "by the contract", "off by, %"), rows, 2))


def main():
    page = ["# Measurements\n\nMade by `make report` from the JSON files beside it; `benches/report.py` says which command writes "
            "which. Every table names its machine, date, commit and command. Figures of different machines are not to be compared.\n"]
    for folder in sorted(glob.glob(os.path.join(RESULTS, "*", ""))):
        folder = folder.rstrip("/")
        if os.path.basename(folder) in ("predicted", "study", "optimizer_states", "memory"):
            continue
        contexts = [load(path).get("context", {}) for path in sorted(glob.glob(os.path.join(folder, "*.json")))]
        device = next((c["device"] for c in contexts if c.get("processor")), os.path.basename(folder))
        processor = next((c["processor"] for c in contexts if c.get("processor")), "")
        page.append("## %s\n\n%s%s. " % (os.path.basename(folder), device, " on " + processor if processor else ""))
        note = os.path.join(folder, "note.txt")
        if os.path.exists(note):
            page[-1] += open(note).read().strip()
        page[-1] += "\n"
        for part in (race_part, compare_part, steps_part, methods_part, kernels_part, runs_part):
            part(folder, page)
    predicted_part(page)
    write(os.path.join(RESULTS, "README.md"), "\n".join(page))


if __name__ == "__main__":
    main()
