"""From the command to the saved model: wall time of a whole unlearning run, ours and PyTorch's, alternately.

    python benches/pytorch/run_time.py --model smollm2-135m --json out.json
    python benches/pytorch/run_time.py --folder SmolLM2-135M-Instruct --data TOFU/forget10.json --templates TOFU/idontknow.jsonl \
                                       --batch 8 --steps 50 --json out.json

The model has the shape of benches/models/<model> with random weights and the demo's tokenizer, or is a folder's; the data is the
demo's, or a file's. Both programs load it, make `steps` optimizer steps of `batch` pairs, and write a folder that transformers
loads. What is timed is the process: start, imports, loading, training, saving.
"""
import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEMO = os.path.join(ROOT, "configs", "demo")


def make_folder(args):
    folder = os.path.join(args.scratch, "run-%s-%s" % (args.model, args.dtype))
    if not os.path.exists(os.path.join(folder, "tokenizer.json")):
        import torch
        import models
        model = models.make_model(os.path.join(ROOT, "benches", "models", args.model), getattr(torch, args.dtype), "cpu")
        model.save_pretrained(folder, safe_serialization=True)
        for name in ("tokenizer_config.json", "tokenizer.json"):
            shutil.copy(os.path.join(DEMO, "model", name), folder)
    return folder


def timed(command, out, limit):
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit)
    seconds = time.perf_counter() - start
    if done.returncode or not os.path.exists(os.path.join(out, "config.json")):
        raise SystemExit("%s: exit code %d: %s" % (" ".join(command), done.returncode, done.stderr.strip()[-400:]))
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--folder", help="a model with weights and tokenizer, instead of --model")
    parser.add_argument("--data", default=os.path.join(DEMO, "forget.jsonl"))
    parser.add_argument("--templates", default=os.path.join(DEMO, "templates.txt"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=0, help="0: 32 on a GPU, 4 on a CPU")
    parser.add_argument("--ways", default="authors,packed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1200)
    parser.add_argument("--flat", default=os.path.join(ROOT, "build", "flat"))
    parser.add_argument("--scratch", default=os.path.join(ROOT, "build", "pytorch"))
    parser.add_argument("--json", required=True)
    args = parser.parse_args()
    args.dtype = args.dtype or ("bfloat16" if args.device == "cuda" else "float32")
    args.batch = args.batch or (32 if args.device == "cuda" else 4)
    folder, out = args.folder or make_folder(args), os.path.join(args.scratch, "run-out")
    os.makedirs(args.scratch, exist_ok=True)
    forget, templates = args.data, args.templates
    commands = {"flat": [args.flat, "unlearn", "--model_name_or_path", folder, "--forget_data", forget, "--template.file", templates,
                         "--output_dir", out, "--max_steps", str(args.steps), "--per_device_train_batch_size", str(args.batch),
                         "--gradient_accumulation_steps", "1", "--device", args.device, "--quiet"]}
    for way in args.ways.split(","):
        commands[way] = [sys.executable, os.path.join(HERE, "run_pytorch.py"), folder, forget, templates, out, str(args.steps),
                         str(args.batch), way, args.device, args.dtype]
    seconds = {name: [] for name in commands}
    load = os.getloadavg()[0]
    for number in range(args.rounds):
        for name, command in commands.items():
            seconds[name].append(timed(command, out, args.limit))
            print("round %d  %-10s %8.2f s" % (number + 1, name, seconds[name][-1]), file=sys.stderr)
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    shutil.rmtree(out, ignore_errors=True)
    import torch
    result = {"context": {"date": datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ"), "command": " ".join(sys.argv),
                          "flat": subprocess.run([args.flat, "--version"], capture_output=True, text=True).stdout.strip(),
                          "torch": torch.__version__, "load_before": load, "load_after": os.getloadavg()[0]},
              "model": os.path.basename(os.path.normpath(args.folder)) if args.folder else args.model,
              "data": os.path.basename(args.data), "bytes": size, "steps": args.steps, "batch": args.batch, "device": args.device,
              "runs": [{"name": name, "seconds": {"median": statistics.median(each), "rounds": each},
                        "ratio_to_flat": statistics.median(each) / statistics.median(seconds["flat"])}
                       for name, each in seconds.items()]}
    with open(args.json, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    for run in result["runs"]:
        print("%-10s %8.2f s  %6.2f of flat's time" % (run["name"], run["seconds"]["median"], run["ratio_to_flat"]))


if __name__ == "__main__":
    main()
