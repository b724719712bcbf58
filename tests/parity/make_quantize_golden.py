#!/usr/bin/env python3
"""make_quantize_golden.py - what bitsandbytes makes of three tensors, on the NF4 and INT8 grids and back.

Usage: make_quantize_golden.py OUT.safetensors. Needs torch, safetensors and bitsandbytes (0.50.2 made the committed file).

For each tensor X: X (float32), X_nf4 (blocks of 64, plain absmax), X_int8 (row by row, no outliers). "normal" is like a
trained projection; "tails" has outliers, 101 columns, so that blocks cross rows, and a last block of 58; "odd" has blocks and
rows of zeros, blocks of one value, and values at the bounds between levels.
"""
import sys

import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file

torch.manual_seed(20261129)
normal = torch.randn(96, 64) * 0.02
tails = torch.randn(50, 101) * 0.02 / (torch.rand(50, 101) + 0.01)
odd = torch.randn(40, 128)
odd[3] = 0
odd[4, :64] = 0
odd[5, :64] = 0.25
odd[6, :64] = -0.25
levels = F.get_4bit_type("nf4", device="cpu")
odd[7, :15] = (levels[1:] + levels[:-1]) / 2
odd[7, 15:64] = 0
odd[7, 63] = 1

out = {}
for name, value in (("normal", normal), ("tails", tails), ("odd", odd)):
    code, state = F.quantize_4bit(value, blocksize=64, quant_type="nf4", compress_statistics=False)
    integer, largest, _ = F.int8_vectorwise_quant(value.clone())
    out[name] = value
    out[name + "_nf4"] = F.dequantize_4bit(code, state)
    out[name + "_int8"] = integer.float() * largest[:, None] * 7.874015748698502e-3
save_file({k: v.contiguous() for k, v in out.items()}, sys.argv[1])
