"""Ours against PyTorch, step by step and alternately, into one JSON.

    python benches/pytorch/compare.py --model smollm2-135m --json out.json

--model is a name of benches/models (random weights, made once by transformers and read by both) or a folder with weights.
First the losses of both sides are compared on the same pairs: nothing is timed unless they agree. Then, `rounds` times,
ours and every way of theirs run one after the other, each in a process of its own, so that a machine that slows down slows
all of them. Written down: every round's median, versions, device, clocks and power while it ran, load of the machine.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WAYS = {"cpu": "authors,padded,packed,shared", "cuda": "authors,padded,packed,packed+compile,packed+liger,shared,shared+compile"}
TOLERANCE = {"cpu": 1e-4, "cuda": 3e-2}  # of the two mean probabilities that the loss is made of: float32, bfloat16


def run(command, limit):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit, cwd=ROOT)
    if done.returncode:
        raise RuntimeError("%s: exit code %d: %s" % (" ".join(command), done.returncode, done.stderr.strip()[-400:]))
    return done.stdout


class GpuWatch:
    """Medians of clock, power and temperature while a block runs; nothing without nvidia-smi."""
    FIELDS = ("clocks.sm", "power.draw", "temperature.gpu")

    def __enter__(self):
        self.rows, self.over = [], threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        command = ["nvidia-smi", "--query-gpu=" + ",".join(self.FIELDS), "--format=csv,noheader,nounits"]
        while not self.over.wait(0.5):
            try:
                line = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.splitlines()[0]
                self.rows.append([float(value) for value in line.split(",")])
            except (OSError, IndexError, ValueError, subprocess.TimeoutExpired):
                return

    def __exit__(self, *unused):
        self.over.set()
        self.thread.join()

    def medians(self):
        return {name: statistics.median(column) for name, column in zip(self.FIELDS, zip(*self.rows))}


def model_folder(args):
    """Weights in the type that both sides compute in, made once."""
    if os.path.isdir(args.model):
        return args.model
    folder = os.path.join(args.scratch, "%s-%s" % (args.model, args.dtype))
    if not os.path.exists(os.path.join(folder, "config.json")):
        import torch
        import models
        model = models.make_model(os.path.join(ROOT, "benches", "models", args.model), getattr(torch, args.dtype), "cpu")
        model.save_pretrained(folder + ".part", safe_serialization=True)
        os.rename(folder + ".part", folder)
    return folder


def measure_ours(args, folder, samples, variant="shared"):
    if args.workload in ("full", "lora"):  # rows that share nothing
        variant = "answers"
    with tempfile.TemporaryDirectory() as temporary:
        out = os.path.join(temporary, "out.json")
        run([args.flat, "bench", "step", "--model", folder, "--device", args.device, "--pairs", str(args.pairs), "--filter",
             "%s/%d/%s" % (args.workload, args.pairs, variant), "--samples", str(samples), "--threads", str(args.threads),
             "--json", out], args.limit)
        with open(out) as file:
            result = json.load(file)
    case, = result["cases"]
    return dict(case, context=result["context"])


def measure_theirs(args, folder, way, samples, *more):
    return json.loads(run([sys.executable, os.path.join(HERE, "steps.py"), "--model", folder, "--way", way, "--workload",
                           args.workload, "--pairs", str(args.pairs), "--device", args.device, "--dtype", args.dtype,
                           "--samples", str(samples), "--threads", str(args.threads), *more], args.limit).splitlines()[-1])


def check_losses(args, folder, ways):
    """{way: loss}; ways that cannot run here are dropped from the list, with the reason."""
    ours = measure_ours(args, folder, 1)
    size = ours["prob_template"] + ours["prob_forget"]
    losses, dropped = {"flat": ours["loss"]}, {}
    args.tokens = ours["rows"]  # that the model is fed, without padding
    for way in list(ways):
        try:
            theirs = measure_theirs(args, folder, way, 1, "--check")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            theirs = {"unavailable": str(error)[-300:]}
        if "unavailable" in theirs:
            dropped[way] = theirs["unavailable"]
            ways.remove(way)
            continue
        losses[way] = theirs["loss"]
        if not abs(theirs["loss"] - ours["loss"]) <= TOLERANCE[args.device] * size:
            raise SystemExit("%s: the loss is %.9g and ours %.9g: not the same computation, nothing was timed"
                             % (way, theirs["loss"], ours["loss"]))
    return losses, dropped


def context(args):
    import torch
    import transformers
    out = {"date": datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ"), "command": " ".join(sys.argv),
           "flat": run([args.flat, "--version"], 60).strip(), "torch": torch.__version__,
           "transformers": transformers.__version__, "python": sys.version.split()[0], "threads": torch.get_num_threads(),
           "load_before": os.getloadavg()[0], "machine": torch.cuda.get_device_name() if args.device == "cuda" else None}
    if args.device == "cuda":
        out["driver"] = run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], 60).strip()
        out["cuda"] = torch.version.cuda
    return out


def write(args, result, rounds, gpu):
    """After every round: a run that is cut short leaves those before."""
    result["steps"] = [{"way": way, "seconds": {"median": statistics.median(seconds), "rounds": seconds}, "gpu": gpu[way],
                        "pairs_per_second": args.pairs / statistics.median(seconds),
                        "tokens_per_second": result["tokens"] / statistics.median(seconds),
                        "ratio_to_flat": statistics.median(seconds) / statistics.median(rounds["flat"])}
                       for way, seconds in rounds.items()]
    with open(args.json + ".part", "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    os.rename(args.json + ".part", args.json)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--workload", default="tofu", choices=("tofu", "chunk", "full", "lora"))
    parser.add_argument("--pairs", type=int, default=0, help="0: as flat bench step, 32 of tofu on a GPU and 4 on a CPU")
    parser.add_argument("--device", default=None)
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--ways", default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5, help="steps of a round")
    parser.add_argument("--threads", type=int, default=0, help="of both sides; 0: all of ours, and what torch chooses")
    parser.add_argument("--limit", type=float, default=1200, help="seconds that one run may take")
    parser.add_argument("--flat", default=os.path.join(ROOT, "build", "flat"))
    parser.add_argument("--scratch", default=os.path.join(ROOT, "build", "pytorch"))
    parser.add_argument("--json", required=True)
    args = parser.parse_args()
    import torch
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    args.dtype = args.dtype or ("bfloat16" if args.device == "cuda" else "float32")
    args.pairs = args.pairs or {"tofu": (32, 4), "chunk": (4, 1), "full": (8, 1), "lora": (4, 1)}[args.workload][args.device != "cuda"]
    ways = (args.ways or WAYS[args.device]).split(",")
    os.makedirs(args.scratch, exist_ok=True)
    folder = model_folder(args)
    result = {"context": context(args), "model": os.path.basename(args.model.rstrip("/")), "workload": args.workload,
              "pairs": args.pairs, "device": args.device, "dtype": args.dtype}
    result["losses"], result["unavailable"] = check_losses(args, folder, ways)
    result["tokens"] = args.tokens
    graph = args.device == "cuda" and args.workload == "tofu"
    rounds = {way: [] for way in ["flat"] + (["flat+graph"] if graph else []) + ways}
    gpu = {way: [] for way in rounds}
    for number in range(args.rounds):
        for way in rounds:
            with GpuWatch() as watch:
                if way.startswith("flat"):
                    ours = measure_ours(args, folder, args.samples, "graph" if way == "flat+graph" else "shared")
                    result["losses"].setdefault(way, ours["loss"])
                    rounds[way].append(ours["seconds"]["median"])
                else:
                    rounds[way].append(measure_theirs(args, folder, way, args.samples)["median"])
            gpu[way].append(watch.medians())
            print("round %d  %-16s %9.1f ms" % (number + 1, way, 1e3 * rounds[way][-1]), file=sys.stderr)
        result["context"].update(ours=ours["context"], load_after=os.getloadavg()[0])
        write(args, result, rounds, gpu)
    for step in result["steps"]:
        print("%-16s %9.1f ms  %8.2f pairs/s  %6.2f of flat's time" % (
            step["way"], 1e3 * step["seconds"]["median"], step["pairs_per_second"], step["ratio_to_flat"]))
    for way, reason in result["unavailable"].items():
        print("%-16s not run: %s" % (way, reason))


if __name__ == "__main__":
    main()
