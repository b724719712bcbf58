"""One measurement of PyTorch: whole FLAT steps of one way, printed as a line of JSON. compare.py runs it.

    python benches/pytorch/steps.py --model DIR --way packed --pairs 32 --samples 10

--model is a folder with weights, or with a config.json alone: random weights then, made on the device. The way is one of models.py's, with suffixes: +compile (torch.compile), +liger
(Liger-Kernel's norms, rope and SwiGLU). A step is zero_grad, forward, loss, backward, clipping and AdamW over batches that
already lie on the device: of ours packing is part of the step, of theirs it is not. --check prints the loss alone.
"""
import argparse
import json
import os
import statistics
import sys
import time

import torch

import models


def available(way, device):
    """None, or why this machine cannot run the way."""
    for suffix in way.split("+")[1:]:
        if suffix == "compile" and not hasattr(torch, "compile"):
            return "torch %s has no torch.compile" % torch.__version__
        if suffix == "liger":
            try:
                import liger_kernel.transformers  # noqa: F401
            except ImportError as error:
                return str(error)
            if device != "cuda":
                return "Liger-Kernel needs a GPU"
    return None


def prepared(folder, way, workload, dtype, device):
    has_weights = any(name.endswith((".safetensors", ".bin")) for name in os.listdir(folder))
    model = (models.load_model if has_weights else models.make_model)(folder, dtype, device)
    if workload == "lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")).base_model.model
    if "+liger" in way:
        from liger_kernel.transformers import monkey_patch
        monkey_patch._apply_liger_kernel_to_instance(model=model)
    if "+compile" in way:
        # the body only: the head's rows differ from batch to batch, and base_model must stay reachable
        model.base_model.forward = torch.compile(model.base_model.forward)
    return model


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--way", default="packed")
    parser.add_argument("--workload", default="tofu")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--micro_batch", type=int, default=0, help="pairs of a forward; 0: all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="bfloat16 on a GPU, float32 on a CPU unless given")
    parser.add_argument("--row_length", type=int, default=0, help="tokens of a packed row; 0: 1024 on a GPU, 128 on a CPU, "
                        "where attention computes what the mask hides")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    reason = available(args.way, args.device)
    if reason:
        print(json.dumps({"way": args.way, "unavailable": reason}))
        return
    dtype = getattr(torch, args.dtype or ("bfloat16" if args.device == "cuda" else "float32"))
    model = prepared(args.model, args.way, args.workload, dtype, args.device)
    pairs = models.make_pairs(args.pairs, model.config.vocab_size, args.workload)
    row_length = args.row_length or (1024 if args.device == "cuda" else 128)
    size = args.micro_batch or args.pairs
    batches = [models.make_batch(args.way.split("+")[0], pairs[i:i + size], args.device, dtype, row_length)
               for i in range(0, len(pairs), size)]
    with torch.no_grad() if args.check else torch.enable_grad():
        loss = sum(float(batch.loss(model).detach()) / len(batches) for batch in batches)
    result = {"way": args.way, "loss": loss, "tokens": sum(batch.tokens for batch in batches), "torch": torch.__version__}
    if not args.check:
        optimizer, seconds = models.make_optimizer(model), []
        for i in range(args.samples + 2):  # two steps of warm-up
            synchronize(args.device)
            start = time.perf_counter()
            models.train_step(model, optimizer, batches)
            synchronize(args.device)
            seconds.append(time.perf_counter() - start)
        result.update(seconds=seconds[2:], median=statistics.median(seconds[2:]))
        result["tokens_per_second"] = result["tokens"] / result["median"]
        if args.device == "cuda":
            result["peak_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
