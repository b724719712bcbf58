#!/usr/bin/env python3
"""Measures what a step of every method takes beside FLAT's, and what memory, against what `flat plan` says.

    methods.py --model DIR --data TOFU [--flat build/flat] [--threads 1] [--steps 2] [--out FILE]

DIR is SmolLM2-135M as tools/make_smollm2.py writes it (any model will do), TOFU the folder with forget01.json, retain99.json and
idontknow.jsonl. Every case is a run of `flat unlearn` with 4 rows per step, the same rows in the same order: forget rows with
templates, retain rows or other answers as the method wants them. The first step is not counted. Time is the processor time of all
threads from the end of the first step to the end of the last, by step, which other work on the machine disturbs less than
the clock; the plan's counterpart are the flops of the matrix products and of attention in the same steps' share of an epoch.
Memory is the process's largest resident set up to the last step; a run ends there, so that saving is not in it. The plan's
figure is device memory alone, without program, tokenizer, data and the scratch of the matrix products.
"""
import argparse
import datetime
import glob
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

RETAIN, TEMPLATES = "retain99.json", "idontknow.jsonl"
CASES = [("flat", [TEMPLATES]), ("grad_ascent", []), ("grad_diff", [RETAIN]), ("grad_diff --retain_loss kl", [RETAIN]),
         ("kl_min", [RETAIN]), ("kl_min --kl_positions real", [RETAIN]), ("kl_min --lora.r 8", [RETAIN]),
         ("preference", [TEMPLATES, RETAIN]), ("mismatch", [RETAIN]), ("llmu", [RETAIN]), ("dpo", [TEMPLATES, RETAIN]),
         ("altpo", [RETAIN]), ("npo", [RETAIN]), ("npo --retain_loss kl", [RETAIN]), ("simnpo", [RETAIN]), ("wga", [RETAIN]),
         ("satimp", [RETAIN]), ("ceu", []), ("undial", []), ("undial --lora.r 8", []), ("rmu", [RETAIN]), ("pdu", [RETAIN])]
BATCH = 4


def arguments(case, files, args, forget):
    out = ["--method", *case.split(), "--model", args.model, "--forget_data", forget, "--question_key", "question", "--answer_key",
           "answer", "--per_device_train_batch_size", str(BATCH), "--gradient_accumulation_steps", "1",
           "--max_steps", str(args.steps + 1), "--device", "cpu", "--threads", str(args.threads)]
    for name, option in ((TEMPLATES, "--template.file"), (RETAIN, "--retain_data")):
        if name in files:
            out += [option, os.path.join(args.data, name)]
    return out


def plan(case, files, args, forget):
    text = subprocess.run([args.flat, "plan", *arguments(case, files, args, forget)], check=True, capture_output=True, text=True).stdout
    part = lambda pattern: float(re.search(pattern, text, re.M).group(1))
    reference = re.search(r"^reference +([\d.]+) MiB", text, re.M)
    return {"mib": part(r"^total +([\d.]+)"), "flops": part(r"^work +([\d.e+]+)"),
            "reference_mib": float(reference.group(1)) if reference else 0}


def processor_seconds(pid):
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid):
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1)) / 1024


def steps_logged(folder):
    lines = []
    for path in glob.glob(os.path.join(folder, "**", ".*", "metrics.jsonl"), recursive=True) + \
            glob.glob(os.path.join(folder, "**", "metrics.jsonl"), recursive=True):
        with open(path) as file:
            lines = [json.loads(line) for line in file.read().splitlines() if line.endswith("}")]
    return [line for line in lines if "tokens_per_second" in line]


def measure(case, files, args, forget, folder):
    """Processor seconds per step after the first, the peak, and the rows of these steps."""
    out = os.path.join(folder, "out")
    command = [args.flat, "unlearn", *arguments(case, files, args, forget), "--output_dir", out, "--reference_cache", "none",
               "--final_eval_rows", "0", "--quiet"]
    with open(os.path.join(folder, "stderr"), "w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env={**os.environ, "GOMP_SPINCOUNT": "0"})
        first = None
        while process.poll() is None:
            steps, used, peak = steps_logged(folder), processor_seconds(process.pid), peak_mib(process.pid)
            if steps and first is None:
                first = used
            if len(steps) > args.steps:
                break
            time.sleep(0.02)
        else:
            said.seek(0)
            sys.exit("%s ended early: %s" % (case, said.read()))
        process.kill()
        process.wait()
    shutil.rmtree(out, ignore_errors=True)
    return {"seconds": (used - first) / args.steps, "mib": peak, "tokens": sum(s["tokens"] for s in steps[1:]) / args.steps,
            "answer_tokens": sum(s["answer_tokens"] for s in steps[1:]) / args.steps}


def forget_file(args, folder):
    """Forget rows with the answer of the next one as an alternate, for altpo."""
    with open(os.path.join(args.data, "forget01.json")) as file:
        rows = [json.loads(line) for line in file if line.strip()]
    path = os.path.join(folder, "forget.jsonl")
    with open(path, "w") as file:
        for row, other in zip(rows, rows[1:] + rows[:1]):
            file.write(json.dumps({**row, "alternate": other["answer"]}) + "\n")
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--flat", default="build/flat")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--cases", help="regular expression: these alone")
    parser.add_argument("--out", default="benches/results/epyc-2-cores/methods.json")
    args = parser.parse_args()
    version = subprocess.run([args.flat, "--version"], capture_output=True, text=True).stdout.strip()
    known = subprocess.run([args.flat, "unlearn", "--help"], capture_output=True, text=True).stdout
    cases = {}
    if os.path.exists(args.out) and args.cases:
        with open(args.out) as file:
            cases = json.load(file)["cases"]
    with tempfile.TemporaryDirectory(prefix="flat-methods-") as folder:
        forget = forget_file(args, folder)
        for case, files in CASES:
            if not re.search(r"\b%s\b" % case.split()[0], known) or (args.cases and not re.search(args.cases, case)):
                continue
            cases[case] = {"planned": plan(case, files, args, forget), "measured": measure(case, files, args, forget, folder),
                           "version": version}
            print("%-28s %s" % (case, cases[case]), flush=True)
            context = {"date": datetime.date.today().isoformat(), "machine": platform.processor() or platform.machine(),
                       "threads": args.threads, "steps": args.steps, "batch": BATCH, "load": os.getloadavg()[0]}
            with open(args.out, "w") as file:
                json.dump({"context": context, "cases": cases}, file, indent=1)
                file.write("\n")


if __name__ == "__main__":
    main()
