#!/usr/bin/env python3
"""What the ways to keep AdamW's states lose, against AdamW in float64: FLAT on the demo's people, 200 steps, from the same weights and
over the same rows. Needs numpy.

    benches/optimizer_states.py BUILD MODEL OUT [--steps 200] [--emulated 40]

BUILD is a build folder with flat, libflat_cpu.so, libflat_cpu64.so and libflat_emu.so (make flat emu), MODEL the demo's model that
knows (configs/demo/run leaves it in runs/demo/knows). Each variant is `flat unlearn` on an engine: float64 is the CPU engine in
double, float32 the CPU engine, bf16 the CUDA kernels in the emulation (slow: fewer steps). Writes OUT/optimizer_states.json and
OUT/README.md: for every variant the loss of some steps, the largest difference of a step's loss from float64's, and the distance of
the weights from float64's as a part of the way that float64 has come, |w - w64| / |w64 - w0|.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENGINES = {"float64": "libflat_cpu64.so", "float32": "libflat_cpu.so", "bf16": "libflat_emu.so"}
VARIANTS = [("float64", "float32", []), ("float32", "float32", []), ("float32", "bfloat16", []), ("float32", "8bit", []),
            ("bf16", "float32", []), ("bf16", "bfloat16", []), ("bf16", "8bit", [])]


def weights(folder):
    """All tensors of model.safetensors in one array of float64."""
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    parts = []
    for name in sorted(key for key in header if key != "__metadata__"):
        begin, end = header[name]["data_offsets"]
        assert header[name]["dtype"] == "F32", name
        parts.append(numpy.frombuffer(data[8 + size + begin:8 + size + end], numpy.float32))
    return numpy.concatenate(parts).astype(numpy.float64)


def program(build, engine, scratch):
    """A folder in which --device cpu (or cuda) is this engine."""
    folder = scratch / engine
    folder.mkdir()
    shutil.copy(build / "flat", folder / "flat")
    os.symlink((build / ENGINES[engine]).resolve(), folder / ("libflat_cuda.so" if engine == "bf16" else "libflat_cpu.so"))
    return folder / "flat"


def run(flat, model, out, engine, states, extra, steps):
    subprocess.run([flat, "unlearn", "--model_name_or_path", model, "--forget_data", ROOT / "configs/demo/forget.jsonl",
                    "--template.file", ROOT / "configs/demo/templates.txt", "--prompt_template", "qa", "--output_dir", out,
                    "--learning_rate", "3e-5", "--lr_scheduler_type", "constant", "--weight_decay", "0",
                    "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", "--max_steps", str(steps),
                    "--save_dtype", "float32", "--final_eval_rows", "0", "--quiet", "--device",
                    "cuda" if engine == "bf16" else "cpu", "--optimizer_states", states, *extra], check=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line], weights(out)


def table(results, steps):
    shown = [step for step in (1, 10, 20, 40, 100, 200) if step <= steps]
    text = "| engine | moments | | " + " | ".join(f"loss of step {step}" for step in shown)
    text += " | largest difference of a loss | distance of weights |\n|---|---|---|" + "---:|" * (len(shown) + 2) + "\n"
    for result in results:
        losses = [f"{result['losses'][step - 1]:.6f}" for step in shown]
        text += (f"| {result['engine']} | {result['optimizer_states']} | {' '.join(result['options'])} | {' | '.join(losses)} | "
                 f"{result['loss_difference']:.1e} | {result['distance']:.1e} |\n")
    return text


def measure(args, scratch, engines, steps):
    start, results, reference = weights(args.model), [], None
    for number, (engine, states, extra) in enumerate(VARIANTS):
        if engine not in engines:
            continue
        flat = scratch / engine / "flat"
        losses, end = run(flat, args.model, scratch / f"{steps}-{number}", engine, states, extra, steps)
        reference = reference or (losses, end)
        results.append({"engine": engine, "optimizer_states": states, "options": extra, "steps": steps, "losses": losses,
                        "loss_difference": max(abs(a - b) for a, b in zip(losses, reference[0])),
                        "distance": float(numpy.linalg.norm(end - reference[1]) / numpy.linalg.norm(reference[1] - start))})
        print(f"{engine}, {states} {' '.join(extra)}: loss differs by {results[-1]['loss_difference']:.2e}, weights by "
              f"{results[-1]['distance']:.2e} of the way", file=sys.stderr)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("build", "model", "out"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--emulated", type=int, default=40, help="steps of bf16, and of float64 beside it; 0: none")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        for engine in ENGINES:
            if engine != "bf16" or args.emulated:
                program(args.build, engine, scratch)
        long = measure(args, scratch, ("float64", "float32"), args.steps)
        short = measure(args, scratch, ("float64", "bf16"), args.emulated) if args.emulated else []
    (args.out / "optimizer_states.json").write_text(json.dumps({"float": long, "bf16": short}) + "\n")
    text = ("# AdamW's states against float64\n\nMade by `benches/optimizer_states.py`, which says what the columns are.\n\n"
            f"{args.steps} steps of FLAT on the demo's people, 8 pairs each, learning rate 3e-5:\n\n" + table(long, args.steps))
    if short:
        text += (f"\n{args.emulated} steps, the CUDA kernels in the emulation: weights, gradients and activations are bf16, which "
                 "is all of the difference in the second row; masters are float32 in halves.\n\n" + table(short, args.emulated))
    (args.out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
