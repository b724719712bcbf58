#!/usr/bin/env python3
"""Makes tests/golden/adamw_8bit.json with bitsandbytes (pip install bitsandbytes; made with 0.50.2): the levels of its dynamic
maps, and weights and moments after some steps of its 8-bit AdamW on the CPU, from inputs that a formula gives.

    tests/parity/make_adamw_8bit_golden.py [--check]

For float32 its CPU code looks codes up in a table that misses the nearest level for a few percent of numbers; other types take
its exact way, which is what its CUDA kernels do, and so does this script.
"""
import json
import math
import pathlib
import sys

import bitsandbytes.backends.cpu.ops as cpu
import bitsandbytes.functional as functional
import torch

OUT = pathlib.Path(__file__).parent.parent / "golden" / "adamw_8bit.json"
COUNT, STEPS = 600, 8
BETA1, BETA2, EPS, RATE, DECAY = 0.9, 0.999, 1e-8, 0.01, 0.1


def weight(i):
    return math.cos(0.7 * i)


def gradient(i, step):
    """Magnitudes over two and a half decades, which float32 squares without loss."""
    return math.sin(1.37 * i + 2.1 * step) * 10 ** (-2.5 * (i * 7 % 11) / 10)


def rounded(values, digits=9):
    return [float(f"{value:.{digits}g}") for value in values]


def quantize_exactly(values, code, absmax_out, out, blocksize):
    codes, absmax = torch.ops.bitsandbytes.quantize_blockwise(values.double(), code, blocksize)
    out.copy_(codes)
    absmax_out.copy_(absmax)


def steps():
    cpu._quant_blockwise_fp32_direct = quantize_exactly
    blocks = (COUNT + 255) // 256
    signed, unsigned = functional.create_dynamic_map(True), functional.create_dynamic_map(False)
    w = torch.tensor([weight(i) for i in range(COUNT)], dtype=torch.float32)
    m = torch.full((COUNT,), 127, dtype=torch.uint8)
    v = torch.zeros(COUNT, dtype=torch.uint8)
    m_scale, v_scale = torch.zeros(blocks), torch.zeros(blocks)
    for step in range(1, STEPS + 1):
        g = torch.tensor([gradient(i, step) for i in range(COUNT)], dtype=torch.float32)
        torch.ops.bitsandbytes.optimizer_update_8bit_blockwise(
            "adam", g, w, m, v, BETA1, BETA2, 0.0, 0.0, EPS, step, RATE, signed, unsigned, m_scale, v_scale, DECAY, 1.0)
    return {"weights": rounded(w.tolist()), "m": m.tolist(), "v": v.tolist(), "m_scale": rounded(m_scale.tolist()),
            "v_scale": rounded(v_scale.tolist())}


def main():
    made = {"count": COUNT, "steps": STEPS, "with_sign": rounded(functional.create_dynamic_map(True).tolist()),
            "without_sign": rounded(functional.create_dynamic_map(False).tolist()), **steps()}
    text = json.dumps(made, separators=(",", ":")) + "\n"
    if "--check" in sys.argv:
        sys.exit(0 if OUT.read_text() == text else f"{OUT} is not what bitsandbytes computes here")
    OUT.write_text(text)


if __name__ == "__main__":
    main()
