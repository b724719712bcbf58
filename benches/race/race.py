#!/usr/bin/env python3
"""Races flat.c's CPU engine against PyTorch on the same machine, model, data and threads. Builds nothing.

    race.py --model DIR --data TOFU [--python PYTHON ...] [--flat build/flat] [--threads 2] [--rounds 5] [--out FILE]

DIR is SmolLM2-135M as tools/make_smollm2.py writes it (any llama will do), TOFU the folder with forget01.json and
idontknow.jsonl; each PYTHON has torch and transformers and is a competitor of its own. What is raced, in fp32:

    step       one FLAT step (forward, loss, backward, clipping, AdamW) of the first 8 pairs of forget01
               against authors (two forwards padded to 500, all logits; once, where torch has fused attention, without
               which it wants 15 GB) and packed (no padding, masks, answer rows only)
    score      log-probabilities of forget01's answers, against packed and against padded batches of 8
    generate   greedy decoding of one prompt, and of 8 side by side, against transformers' generate

Before a race the results are compared: losses to 1e-4, log-probabilities to 1e-3 of their sum, and texts word for word.
Who differs is named and not timed.
Rounds are interleaved: in each, ours runs once and then every competitor once. A ratio is theirs / ours of one
round; the table shows the median, the 10th and the 90th percentile, on the wall and in the processor time of all
threads, which other work on the machine disturbs less. What is not raced, loading and saving, is left out by sampling
between two steps (step) or by the difference of a long and a short run (score, generate), theirs as well as ours.

OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are unset for everyone: PyTorch may use the best kernels that it finds.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PAIRS = 8
SCORE_REPEAT = 3        # the long scoring run has this many times the rows of the short one
SHORT, LONG = 8, 48     # new tokens of the short and the long generation
SLOW = "authors"        # minutes per step


def environment(threads):
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    return {**env, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


# ---- ours ----

class Flat:
    def __init__(self, binary, model, threads, folder):
        self.binary, self.model, self.threads, self.folder = str(binary), model, threads, folder
        self.environment = environment(threads)

    def run(self, *arguments, watch=None):
        """Standard output, standard error, seconds, CPU seconds. watch(process) is called every few milliseconds."""
        out, err = self.folder / "stdout", self.folder / "stderr"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            process = subprocess.Popen([self.binary, *map(str, arguments), "--threads", str(self.threads), "--device",
                                        "cpu"], stdout=stdout, stderr=stderr, env=self.environment)
            while watch and process.poll() is None:
                watch(process)
                time.sleep(0.002)
            status = process.wait()
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if status:
            sys.exit("flat %s failed:\n%s" % (arguments[0], err.read_text()))
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return out.read_text(), err.read_text(), seconds, cpu

    def train(self, pairs_file, template_file, steps, *more, watch=None):
        return self.run("unlearn", "--model_name_or_path", self.model, "--forget_data", pairs_file, "--template.file",
                        template_file, "--template.choice", "cycle", "--output_dir", self.folder / "out",
                        "--overwrite_output_dir", "--max_steps", steps, "--per_device_train_batch_size", PAIRS,
                        "--gradient_accumulation_steps", 1, *more, watch=watch)

    def metrics(self):
        lines = (self.folder / "out" / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def step(self, pairs_file, template_file):
        """The second of three steps: seconds as the program says, CPU seconds as its clock stood at both ends."""
        metrics, stamps = self.folder / "out" / "metrics.jsonl", []
        metrics.unlink(missing_ok=True)

        def watch(process):
            lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            while len(stamps) < lines:
                stamps.append(time.clock_gettime((~process.pid << 3) | 2))  # Linux: the CPU clock of a process
        self.train(pairs_file, template_file, 3, watch=watch)
        first, second = self.metrics()[:2]
        return {"seconds": second["seconds"], "cpu_seconds": stamps[1] - stamps[0], "loss": first["loss"],
                "tokens": first["tokens"], "answer_tokens": first["answer_tokens"]}

    def score(self, data):
        out, _, seconds, cpu = self.run("score", "--model", self.model, "--data", data)
        return {"seconds": seconds, "cpu_seconds": cpu,
                "logprob_sum": [json.loads(line)["logprob_sum"] for line in out.splitlines()]}

    def generate(self, data, tokens):
        out, _, seconds, cpu = self.run("generate", "--model", self.model, "--data", data, "--max_new_tokens", tokens)
        return {"seconds": seconds, "cpu_seconds": cpu, "text": [json.loads(line)["text"] for line in out.splitlines()]}

    def profile(self, pairs_file, template_file):
        """--profile's table: ops with their share, and the limits it measures."""
        _, err, _, _ = self.train(pairs_file, template_file, 3, "--profile")
        rows = re.findall(r"^(\w+) +(\d+) +([\d.]+) +([\d.]+)% +([\d.]+) +[\d.]+% +([\d.]+)", err, re.M)
        limits = re.search(r"^limits: .*$", err, re.M)
        return {"device": re.search(r"^cpu: (.*)$", err, re.M).group(1), "limits": limits.group(0) if limits else "",
                "operators": [{"op": op, "calls": int(calls), "ms": float(ms), "share": float(share) / 100,
                               "gb_per_s": float(gb), "gflop_per_s": float(gf)}
                              for op, calls, ms, share, gb, gf in rows]}


# ---- theirs ----

class Peer:
    def __init__(self, python, model, threads):
        self.process = subprocess.Popen([python, str(HERE / "worker.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment(threads))
        self.about = self.ask(do="open", model=model, threads=threads)
        self.name = "torch " + self.about["torch"]

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the PyTorch side ended; its message is above")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- figures ----

def percentile(values, q):
    values = sorted(values)
    at = q * (len(values) - 1)
    low = int(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def summary(values):
    return {"p10": percentile(values, 0.1), "median": percentile(values, 0.5), "p90": percentile(values, 0.9)}


def difference(long, short):
    return {key: long[key] - short[key] for key in ("seconds", "cpu_seconds")}


def race(title, rounds, ours, theirs, note):
    """ours() and each of theirs {name: call} give seconds and CPU seconds. The slow one runs in the first round."""
    runs = {"flat": [], **{name: [] for name in theirs}}
    ours()  # files into the page cache
    for name, call in theirs.items():  # and whatever a first time needs
        if not name.endswith(SLOW):
            call()
    for i in range(rounds):
        runs["flat"].append(ours())
        for name, call in theirs.items():
            if i == 0 or not name.endswith(SLOW):
                runs[name].append(call())
    result = {"note": note, "rounds": rounds, "load": os.getloadavg()[0], "runs": {}, "ratios": {}}
    for name, values in runs.items():
        result["runs"][name] = {key: [v[key] for v in values] for key in ("seconds", "cpu_seconds")}
        if name != "flat":
            result["ratios"][name] = {key: summary([v[key] / f[key] for v, f in zip(values, runs["flat"])])
                                      for key in ("seconds", "cpu_seconds")}
    print("%s: %s; flat %.3f s, %.3f CPU s" % (title, note, percentile(result["runs"]["flat"]["seconds"], 0.5),
                                               percentile(result["runs"]["flat"]["cpu_seconds"], 0.5)))
    for name, ratio in result["ratios"].items():
        print("  %-28s wall %5.2f [%5.2f %5.2f]   cpu %5.2f [%5.2f %5.2f]" % (
            name, *(ratio[key][q] for key in ("seconds", "cpu_seconds") for q in ("median", "p10", "p90"))))
    sys.stdout.flush()
    return result


def agree(differences, what, got, expected, tolerance):
    """Whether results are the same; the largest relative difference is kept. What differs is not timed."""
    worst = max(abs(g - e) / abs(e) for g, e in zip(got, expected, strict=True))
    differences[what] = worst
    if not worst <= tolerance:
        print("%s: ours and theirs differ by %g, more than %g; not timed" % (what, worst, tolerance))
    return worst <= tolerance


# ---- the races ----

def race_step(flat, peers, rows, templates, folder, rounds, skip_authors):
    pairs_file, template_file = folder / "pairs.jsonl", folder / "templates.txt"
    pairs_file.write_text("".join(json.dumps(row) + "\n" for row in rows[:PAIRS]))
    template_file.write_text("".join(template + "\n" for template in templates[:PAIRS]))
    texts = [["Question: %s\nAnswer:" % row["question"], " " + template, " " + row["answer"]]
             for row, template in zip(rows, templates[:PAIRS])]
    one = flat.step(pairs_file, template_file)
    note = "%d pairs, %d rows fed, %d answer tokens" % (PAIRS, one["tokens"], one["answer_tokens"])
    theirs, differences = {}, {}
    for peer in peers:
        pairs = peer.ask(do="encode", texts=texts)["ids"]
        for way in ("packed", SLOW):
            if way == SLOW and (skip_authors or peer.about["attention"] == "eager"):
                continue  # its score matrices of 500 x 500 take some 15 GB
            name = "%s, %s" % (peer.name, way)
            loss = peer.ask(do="loss", way=way, pairs=pairs)["loss"]
            if agree(differences, name, [one["loss"]], [loss], 1e-4):
                theirs[name] = lambda peer=peer, way=way, pairs=pairs: peer.ask(do="step", way=way, pairs=pairs)
    result = race("step", rounds, lambda: flat.step(pairs_file, template_file), theirs, note)
    result["loss"], result["differences"] = one["loss"], differences
    result["profile"] = {"flat": flat.profile(pairs_file, template_file),
                         **{peer.name: peer.ask(do="profile", way="packed", pairs=pairs) for peer in peers}}
    for peer in peers:
        peer.ask(do="reload")
    return result


def race_score(flat, peers, rows, folder, rounds):
    texts = [["Question: %s\nAnswer:" % row["question"], " " + row["answer"]] for row in rows]
    files = []
    for repeat in (1, SCORE_REPEAT):
        files.append(folder / ("score%d.jsonl" % repeat))
        files[-1].write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in texts) * repeat)
    theirs, differences, expected = {}, {}, flat.score(files[0])["logprob_sum"]
    for peer in peers:
        pairs = peer.ask(do="encode", texts=texts)["ids"]
        for way in ("packed", "padded"):
            name = "%s, %s" % (peer.name, way)
            if not agree(differences, name, peer.ask(do="score", way=way, pairs=pairs)["logprob_sum"], expected, 1e-3):
                continue
            theirs[name] = lambda peer=peer, way=way, pairs=pairs: difference(
                peer.ask(do="score", way=way, pairs=pairs * SCORE_REPEAT), peer.ask(do="score", way=way, pairs=pairs))
    note = "%d answers in batches of 8" % (len(rows) * (SCORE_REPEAT - 1))
    result = race("score", rounds, lambda: difference(flat.score(files[1]), flat.score(files[0])), theirs, note)
    result["differences"] = differences
    return result


def race_generate(flat, peers, rows, folder, rounds, count):
    # beginnings that SmolLM2 goes on with for more than LONG tokens
    texts = ["The story of my life. " + " ".join(row["answer"].split()[:6]) for row in rows[:count]]
    data = folder / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    ours, theirs = flat.generate(data, LONG)["text"], {}
    for peer in peers:
        prompts = [ids[0] for ids in peer.ask(do="encode", texts=[[text] for text in texts])["ids"]]
        new = peer.ask(do="generate", prompts=prompts, tokens=LONG)["ids"]
        decoded = peer.ask(do="decode", ids=new)["texts"]
        if any(len(ids) < LONG for ids in new) or decoded != ours:
            print("generate: the texts of ours and %s differ; not timed:\n%s\n%s" % (peer.name, ours, decoded))
            continue
        theirs[peer.name + ", generate"] = lambda peer=peer, prompts=prompts: difference(
            peer.ask(do="generate", prompts=prompts, tokens=LONG),
            peer.ask(do="generate", prompts=prompts, tokens=SHORT))
    note = "%d tokens of %d prompt%s, same texts" % (LONG - SHORT, count, "s side by side" if count > 1 else "")
    return race("generate", rounds, lambda: difference(flat.generate(data, LONG), flat.generate(data, SHORT)), theirs,
                note)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--python", action="append")
    parser.add_argument("--flat", default=HERE.parents[1] / "build" / "flat")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="step,score,generate", help="races, with commas")
    parser.add_argument("--skip_authors", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    rows = [json.loads(line) for line in (options.data / "forget01.json").read_text().splitlines()]
    templates = (options.data / "idontknow.jsonl").read_text().splitlines()
    result = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
              "command": " ".join(sys.argv), "threads": options.threads, "cpu": platform.processor() or cpu_name(),
              "cores": os.cpu_count(), "load_at_start": os.getloadavg(), "races": {}}
    with tempfile.TemporaryDirectory(prefix="flat_race_") as name:
        folder = pathlib.Path(name)
        flat = Flat(options.flat, options.model, options.threads, folder)
        result["flat"] = subprocess.run([flat.binary, "--version"], capture_output=True, text=True).stdout.strip()
        peers = [Peer(python, options.model, options.threads) for python in options.python or [sys.executable]]
        result["peers"] = [peer.about for peer in peers]
        races = {"step": lambda: race_step(flat, peers, rows, templates, folder, options.rounds, options.skip_authors),
                 "score": lambda: race_score(flat, peers, rows, folder, options.rounds),
                 "generate": lambda: {str(count): race_generate(flat, peers, rows, folder, options.rounds, count)
                                      for count in (1, 8)}}
        for only in options.only.split(","):
            result["races"][only] = races[only]()
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(result, indent=1) + "\n")
        for peer in peers:
            peer.close()


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
