#!/usr/bin/env python3
"""What the ways to keep AdamW's states lose, and adapters on a base in NF4, against training in float64: FLAT on the demo's people, 200
steps, from the same weights and over the same rows. Needs numpy.

    benches/optimizer_states.py BUILD MODEL OUT [--steps 200] [--emulated 40]

BUILD is a build folder with flat, libflat_cpu.so, libflat_cpu64.so and libflat_emu.so (make flat emu), MODEL the demo's model that
knows (configs/demo/run leaves it in runs/demo/knows). Each variant is `flat unlearn` on an engine: float64 is the CPU engine in
double, float32 the CPU engine, bf16 the CUDA kernels in the emulation (slow: fewer steps). Writes OUT/optimizer_states.json and
OUT/README.md: for every variant the loss of some steps, the largest difference of a step's loss from float64's, and the distance of
the weights from float64's as a part of the way that float64 has come, |w - w64| / |w64 - w0|.

Adapters (--lora.r 8) are trained on the base as it is read, on a base rounded to NF4 beforehand, here and not by the program, and with
--load_in_4bit, which must give the last one's losses and adapters bit for bit. What they change is scale B A of all modules, d; its
distance is |d - d64| / |d64|. d64 is of float64 on the same base, which leaves what arithmetic does, and of float64 on the base as it was
read, which is what rounding the base does as well.
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
AS_READ, ROUNDED, IN_4_BITS = "as read", "rounded to NF4", "`--load_in_4bit`"
ADAPTERS = [("float64", AS_READ), ("float64", ROUNDED), ("float32", AS_READ), ("float32", ROUNDED), ("float32", IN_4_BITS),
            ("bf16", AS_READ), ("bf16", ROUNDED), ("bf16", IN_4_BITS)]
NF4_BOUND = numpy.array([
    -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984, -0.13791173323988914,
    -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668, 0.2920137718319893, 0.3893125355243683,
    0.5016634166240692, 0.6427869200706482, 0.8614784181118011], numpy.float32)
NF4_LEAST = numpy.finfo(numpy.float32).tiny  # a block of zeros stays one
NF4_LEVEL = numpy.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
    0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0], numpy.float32)


def tensors(path):
    """Views of a safetensors file's tensors by name, of bytes that they may change; and these bytes."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    header, views = json.loads(data[8:8 + size]), {}
    for name in sorted(key for key in header if key != "__metadata__"):
        begin, end = header[name]["data_offsets"]
        assert header[name]["dtype"] == "F32", name
        views[name] = numpy.frombuffer(memoryview(data)[8 + size + begin:8 + size + end], numpy.float32).reshape(header[name]["shape"])
    return views, data


def weights(folder):
    """All tensors of model.safetensors in one array of float64."""
    return numpy.concatenate([view.ravel() for view in tensors(folder / "model.safetensors")[0].values()]).astype(numpy.float64)


def adapters_change(folder):
    """scale B A of all modules in one array of float64."""
    config = json.loads((folder / "adapter_config.json").read_text())
    views, parts = tensors(folder / "adapter_model.safetensors")[0], []
    for name in sorted(key for key in views if "lora_A" in key):
        a, b = (views[key].astype(numpy.float64) for key in (name, name.replace("lora_A", "lora_B")))
        parts.append((config["lora_alpha"] / config["r"] * b @ a).ravel())
    return numpy.concatenate(parts)


def adapters_bytes(folder):
    return {name: view.tobytes() for name, view in tensors(folder / "adapter_model.safetensors")[0].items()}


def nf4_base(model, folder):
    """A copy of a model whose projections are rounded to NF4: blocks of 64 by their largest magnitude."""
    shutil.copytree(model, folder)
    views, data = tensors(folder / "model.safetensors")
    for name, view in views.items():
        if name.endswith("_proj.weight"):
            block = view.reshape(-1, 64)
            largest = numpy.abs(block).max(axis=1, keepdims=True)
            block[:] = NF4_LEVEL[numpy.searchsorted(NF4_BOUND, block * (numpy.float32(1) / numpy.maximum(largest, NF4_LEAST)))] * largest
    (folder / "model.safetensors").write_bytes(data)
    return folder


def program(build, engine, scratch):
    """A folder in which --device cpu (or cuda) is this engine."""
    folder = scratch / engine
    folder.mkdir()
    shutil.copy(build / "flat", folder / "flat")
    os.symlink((build / ENGINES[engine]).resolve(), folder / ("libflat_cuda.so" if engine == "bf16" else "libflat_cpu.so"))
    return folder / "flat"


def commit(build):
    said = subprocess.run([build / "flat", "--version"], check=True, capture_output=True, text=True).stdout  # flat 0.1.0 (515fe4d)
    return said[said.index("(") + 1:said.index(")")]


def run(flat, model, out, engine, extra, steps, rate="3e-5"):
    """Losses of all steps."""
    subprocess.run([flat, "unlearn", "--model_name_or_path", model, "--forget_data", ROOT / "configs/demo/forget.jsonl",
                    "--template.file", ROOT / "configs/demo/templates.txt", "--prompt_template", "qa", "--output_dir", out,
                    "--learning_rate", rate, "--lr_scheduler_type", "constant", "--weight_decay", "0",
                    "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", "--max_steps", str(steps),
                    "--final_eval_rows", "0", "--quiet", "--device", "cuda" if engine == "bf16" else "cpu",
                    "--matmul_picks", "off", *extra], check=True)  # what is fastest depends on the machine, and sums on what is fastest
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def steps_shown(steps):
    return [step for step in (1, 10, 20, 40, 100, 200) if step <= steps]


def table(results, steps):
    shown = steps_shown(steps)
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
        out = scratch / f"{steps}-{number}"
        losses = run(flat, args.model, out, engine, ["--save_dtype", "float32", "--optimizer_states", states, *extra], steps)
        end = weights(out)
        reference = reference or (losses, end)
        results.append({"engine": engine, "optimizer_states": states, "options": extra, "steps": steps, "losses": losses,
                        "loss_difference": max(abs(a - b) for a, b in zip(losses, reference[0])),
                        "distance": float(numpy.linalg.norm(end - reference[1]) / numpy.linalg.norm(reference[1] - start))})
        print(f"{engine}, {states} {' '.join(extra)}: loss differs by {results[-1]['loss_difference']:.2e}, weights by "
              f"{results[-1]['distance']:.2e} of the way", file=sys.stderr)
    return results


def adapters_difference(run, reference):
    """Of two runs, each its losses, its change and its adapters' bytes."""
    return {"loss_difference": max(abs(a - b) for a, b in zip(run[0], reference[0])),
            "distance": float(numpy.linalg.norm(run[1] - reference[1]) / numpy.linalg.norm(reference[1]))}


def adapters_measure(args, scratch, engines, steps):
    runs, results = {}, []
    for engine, base in ADAPTERS:
        if engine not in engines:
            continue
        out = scratch / f"adapters-{steps}-{len(results)}"
        losses = run(scratch / engine / "flat", scratch / "rounded" if base == ROUNDED else args.model, out, engine,
                     ["--lora.r", "8", "--lora.output", "adapter"] + ["--load_in_4bit"] * (base == IN_4_BITS), steps, "3e-4")
        runs[engine, base] = this = losses, adapters_change(out), adapters_bytes(out)
        if base == IN_4_BITS and (losses != runs[engine, ROUNDED][0] or this[2] != runs[engine, ROUNDED][2]):
            sys.exit(f"{engine}: --load_in_4bit does not give the bits of a base rounded beforehand")
        results.append({"engine": engine, "base": base, "steps": steps, "losses": losses,
                        "same_base": adapters_difference(this, runs["float64", AS_READ if base == AS_READ else ROUNDED]),
                        "as_read": adapters_difference(this, runs["float64", AS_READ])})
        print(f"adapters in {engine}, base {base}: {results[-1]['same_base']}; from the base as read {results[-1]['as_read']}", file=sys.stderr)
    return results


def adapters_table(results, steps):
    text = "| engine | base | " + " | ".join(f"loss of step {step}" for step in steps_shown(steps))
    text += (" | float64, same base: difference of a loss | distance of the change | float64, base as read: difference of a loss | "
             "distance of the change |\n|---|---|" + "---:|" * (len(steps_shown(steps)) + 4) + "\n")
    for result in results:
        losses = [f"{result['losses'][step - 1]:.6f}" for step in steps_shown(steps)]
        differences = [f"{result[which][key]:.1e}" for which in ("same_base", "as_read") for key in ("loss_difference", "distance")]
        text += f"| {result['engine']} | {result['base']} | {' | '.join(losses + differences)} |\n"
    return text


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
        nf4_base(args.model, scratch / "rounded")
        adapters = adapters_measure(args, scratch, ("float64", "float32"), args.steps)
        short_adapters = adapters_measure(args, scratch, ("float64", "bf16"), args.emulated) if args.emulated else []
    (args.out / "optimizer_states.json").write_text(json.dumps({"float": long, "bf16": short, "adapters_float": adapters,
                                                                "adapters_bf16": short_adapters}) + "\n")
    text = ("# AdamW's states against float64\n\nMade by `benches/optimizer_states.py BUILD MODEL OUT "
            f"--steps {args.steps} --emulated {args.emulated}` of commit {commit(args.build)}; the script says what the columns are.\n\n"
            f"{args.steps} steps of FLAT on the demo's people, 8 pairs each, learning rate 3e-5:\n\n" + table(long, args.steps))
    if short:
        text += (f"\n{args.emulated} steps, the CUDA kernels in the emulation: weights, gradients and activations are bf16, which "
                 "is all of the difference in the second row; masters are float32 in halves.\n\n" + table(short, args.emulated))
    text += ("\n# Adapters on a base in NF4 against float64\n\n"
             f"{args.steps} steps of the same with `--lora.r 8`, learning rate 3e-4. `--load_in_4bit` has given the losses and adapters of "
             "the base that was rounded beforehand, bit for bit, or this page would not be there.\n\n" + adapters_table(adapters, args.steps))
    if short_adapters:
        text += f"\n{args.emulated} steps, the CUDA kernels in the emulation:\n\n" + adapters_table(short_adapters, args.emulated)
    (args.out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
