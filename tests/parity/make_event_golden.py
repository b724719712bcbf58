#!/usr/bin/env python3
"""Writes tests/golden/events.tfevents with the record writer and the messages of the tensorboard package.

    pip install tensorboard && python3 tests/parity/make_event_golden.py
    python3 tests/parity/make_event_golden.py RUN_DIR   # reads a run's event file back and compares it with metrics.jsonl

tests/program/test_event_file.c makes the same records and expects the same bytes.
"""
import json
import math
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "events.tfevents"
EVENTS = [
    (1e9 + 0.25, 0, [("train/loss", 0.0), ("eval/kept_prob_mean", 1.0)]),
    (1e9 + 0.5, 1, [("train/loss", -0.1), ("train/learning_rate", 1e-30), ("train/gr\u00f6\u00dfe", 3.4028234e38)]),
    (1e9 + 1.75, 300, [("train/" + "x" * 200, math.pi)]),
    (1e9 + 2, 2**40, [("train/loss", float("inf"))]),
]


def write():
    with GOLDEN.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(event_pb2.Event(wall_time=1e9, file_version="brain.Event:2").SerializeToString())
        for time, step, scalars in EVENTS:
            event = event_pb2.Event(wall_time=time, step=step)
            for tag, value in scalars:
                event.summary.value.add(tag=tag, simple_value=value)
            writer.write(event.SerializeToString())
        writer.flush()


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def compare(run):
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0})
    accumulator.Reload()
    got = {(tag, event.step): event.value for tag in accumulator.Tags()["scalars"] for event in accumulator.Scalars(tag)}
    wanted = {}
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "stop_reason" in row:
            continue
        for key, value in row.items():
            if "eval" in row and key in ("prob_mean", "loss"):
                wanted[f"eval/{row['eval']}_{key}", row["step"]] = single(value)
            elif "eval" not in row and key not in ("step", "time") and isinstance(value, (int, float)) and not isinstance(value, bool):
                wanted[f"train/{key}", row["step"]] = single(value)
    assert got == wanted, set(got.items()) ^ set(wanted.items())
    print(f"{run}: {len(got)} scalars of {len(accumulator.Tags()['scalars'])} tags, as in metrics.jsonl")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for name in sys.argv[1:]:
            compare(pathlib.Path(name))
    else:
        write()
