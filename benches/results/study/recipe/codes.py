#!/usr/bin/env python3
"""codes.py - how much of a change is still there in 4 bits: of all weights of the projections, the share whose NF4 code (blocks of 64)
is another after unlearning, and the root mean square of the change.

Usage: codes.py TUNED UNLEARNED (folders with one model.safetensors in F32 or BF16). Needs numpy. Prints JSON; mean_inner_step is 0.09
absmax, about what levels near zero are apart.
"""
import json
import struct
import sys

import numpy as np

LEVELS = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
                   -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
                   0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], "f4")
BOUNDS = (LEVELS[1:] + LEVELS[:-1]) / 2


class Model:
    def __init__(self, folder):
        self.file = open(folder + "/model.safetensors", "rb")
        length = struct.unpack("<Q", self.file.read(8))[0]
        self.header = json.loads(self.file.read(length))
        self.base = 8 + length

    def projections(self):
        return [name for name in self.header if name.endswith("_proj.weight")]

    def read(self, name):
        tensor = self.header[name]
        begin, end = tensor["data_offsets"]
        self.file.seek(self.base + begin)
        data = self.file.read(end - begin)
        if tensor["dtype"] == "F32":
            return np.frombuffer(data, "<f4")
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def codes(values):
    blocks = values.reshape(-1, 64)
    largest = np.abs(blocks).max(1, keepdims=True)
    return np.searchsorted(BOUNDS, (blocks / largest).ravel()), largest


def main():
    tuned, unlearned = Model(sys.argv[1]), Model(sys.argv[2])
    changed = total = 0
    squares = steps = 0.0
    for name in tuned.projections():
        before, after = tuned.read(name), unlearned.read(name)
        old, largest = codes(before)
        new, _ = codes(after)
        changed += int((old != new).sum())
        total += old.size
        squares += float(((after - before).astype("f8") ** 2).sum())
        steps += float(0.09 * 64 * largest.astype("f8").sum())
    print(json.dumps({"weights": total, "codes_changed": changed / total, "rms_change": (squares / total) ** 0.5,
                      "mean_inner_step": steps / total}))


if __name__ == "__main__":
    main()
