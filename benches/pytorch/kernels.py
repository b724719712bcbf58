"""What other programs' kernels take on the cases of `flat bench kernels`, for its --reference.

    flat bench kernels --json ours.json
    python benches/pytorch/kernels.py --cases ours.json --json reference.json
    flat bench kernels --reference reference.json

Peers: torch as it is; torch.compile; and, where they can be imported, Liger-Kernel, flash-attn's cross entropy, QuACK, and
cut-cross-entropy. Each is first compared with torch in float32 or better. The arrays are random and rotate over copies
that together exceed the last cache, as ours do; time is that of CUDA events, or of the clock on a CPU.

--head adds the whole loss head (S3, S4 of the literature): hidden rows to log-probabilities, and to the gradients of hidden
rows and of lm_head for given weights of the rows. These have no case of their own in `flat bench kernels`: ours is the sum of
linear_forward, logprob_forward with gradient, linear_backward_input, row_scale and linear_backward_weight at that shape.
"""
import argparse
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F

COPIES_BYTES = 256 << 20


def optional(name):
    try:
        return __import__(name, fromlist=["_"])
    except Exception:  # a program that fails to import for whatever reason is not there
        return None


def compiled(function):
    return torch.compile(function, dynamic=False)


# ---- other programs: {op: [(name, needs GPU, make(case, dtype, device) -> (arrays(), call(arrays), reference(arrays) or None))]} ----

def randn(shape, dtype, device, scale=1.0):
    return (torch.randn(shape, device=device) * scale).to(dtype)


def logits_arrays(case, dtype, device):
    rows, cols = case["rows"], case["cols"]
    return lambda: [randn((rows, cols), dtype, device, 3), torch.randint(cols, (rows,), device=device)]


def logprob_torch(z, y):
    return torch.log_softmax(z.float(), dim=-1).gather(1, y.unsqueeze(1)).squeeze(1)


def gradient_torch(z, y):
    """p - onehot, in place where torch can."""
    p = torch.softmax(z, dim=-1)
    p[torch.arange(len(y), device=y.device), y] -= 1
    return p


def norm_torch(x, residual, weight):
    h = x + residual
    return h * torch.rsqrt(h.float().pow(2).mean(-1, keepdim=True) + 1e-5).to(h.dtype) * weight, h


def swiglu_torch(x):
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def attention_of(case, dtype, device):
    """The chunk cases only: lone sequences of at most 2,048, causal."""
    heads, dim, rows = case["depth"], case["cols"], min(case["rows"], 2048)
    batch = case["rows"] // rows
    return lambda: [randn((batch, heads, rows, dim), dtype, device) for _ in range(3)]


def references_of(case, dtype, device, may_compile=True):
    """(program, arrays, call, expected) of a case; expected() is what call must give, or expected is None."""
    op, rows, cols, depth = case["op"], case["rows"], case["cols"], case["depth"]
    can_compile = may_compile and hasattr(torch, "compile") and device == "cuda"
    out = []

    def add(name, arrays, call, reference=None, compile_too=False):
        out.append((name, arrays, call, reference))
        if compile_too and can_compile:
            out.append(("torch.compile", arrays, compiled(call), reference))

    if op == "logprob_forward" and "gradient" not in case["shape_of"]:
        arrays = logits_arrays(case, dtype, device)
        add("torch", arrays, logprob_torch, lambda z, y: logprob_torch(z.double(), y), True)
        liger, flash = optional("liger_kernel.transformers.functional"), optional("flash_attn.ops.triton.cross_entropy")
        quack = optional("quack.cross_entropy")
        if device == "cuda" and flash:
            add("flash-attn", arrays, lambda z, y: -flash.cross_entropy_loss(z, y)[0],
                lambda z, y: logprob_torch(z.double(), y))
        if device == "cuda" and liger:
            add("Liger", arrays, lambda z, y: -liger.liger_cross_entropy(z, y, reduction="none"),
                lambda z, y: logprob_torch(z.double(), y))
        if device == "cuda" and quack:
            add("QuACK", arrays, lambda z, y: -quack.cross_entropy(z, y, reduction="none"),
                lambda z, y: logprob_torch(z.double(), y))
    elif op == "logprob_forward":
        add("torch", logits_arrays(case, dtype, device), gradient_torch, lambda z, y: gradient_torch(z.double(), y), True)
    elif op == "linear_forward":
        add("torch", lambda: [randn((rows, cols), dtype, device), randn((depth, cols), dtype, device, 0.02)],
            lambda x, w: F.linear(x, w))
    elif op == "linear_backward_input":
        add("torch", lambda: [randn((rows, depth), dtype, device), randn((depth, cols), dtype, device, 0.02)],
            lambda dy, w: dy @ w)
    elif op == "linear_backward_weight":
        add("torch", lambda: [randn((rows, depth), dtype, device), randn((rows, cols), dtype, device)],
            lambda dy, x: dy.t() @ x)
    elif op == "norm_forward" and case["shape_of"] not in ("phi-1.5", "opt-2.7b"):
        add("torch", lambda: [randn((rows, cols), dtype, device), randn((rows, cols), dtype, device),
                              randn((cols,), dtype, device)], norm_torch, None, True)
    elif op == "activation_forward" and case["shape_of"] not in ("phi-1.5", "opt-2.7b"):
        add("torch", lambda: [randn((rows, 2 * cols), dtype, device)], swiglu_torch, None, True)
    elif op == "row_scale":
        add("torch", lambda: [randn((rows, cols), dtype, device), torch.randn(rows, 1, device=device)],
            lambda x, s: x * s.to(x.dtype), None, True)
    elif op == "attention_forward" and "chunks" in case["shape_of"] and hasattr(F, "scaled_dot_product_attention"):
        add("torch SDPA", attention_of(case, dtype, device),
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    elif op == "embedding_forward":
        add("torch", lambda: [torch.randint(depth, (rows,), device=device), randn((depth, cols), dtype, device, 0.02)],
            lambda ids, table: F.embedding(ids, table))
    elif op == "adamw_step":
        out.append(adamw_reference(case, dtype, device))
    elif op == "adamw_norm":
        add("torch", lambda: [randn((rows,), dtype, device, 1e-2)], lambda g: torch.linalg.vector_norm(g))
    return out


def adamw_reference(case, dtype, device):
    """torch.optim.AdamW, fused where this torch has it, on float32 weights (bfloat16 without a master copy is less work)."""
    parameter = torch.nn.Parameter(randn((case["rows"],), torch.float32, device, 0.02))
    parameter.grad = randn((case["rows"],), torch.float32, device, 1e-2)
    try:
        optimizer = torch.optim.AdamW([parameter], lr=1e-5, fused=True)
        optimizer.step()
        name = "torch fused"
    except (TypeError, RuntimeError, ValueError):
        optimizer = torch.optim.AdamW([parameter], lr=1e-5)
        name = "torch"
    return name, lambda: [torch.zeros(1, device=device)], lambda unused: optimizer.step(), None


# ---- the loss head ----

def head_cases(shapes, dtype, device):
    """(name, program, arrays, call): hidden [rows, d], lm_head [vocab, d], targets, weights of the rows."""
    liger, cce = optional("liger_kernel.transformers.functional"), optional("cut_cross_entropy")

    def arrays(rows, d, vocab):
        return lambda: [randn((rows, d), dtype, device).requires_grad_(), randn((vocab, d), dtype, device, 0.02).requires_grad_(),
                        torch.randint(vocab, (rows,), device=device), torch.randn(rows, device=device)]

    def torch_head(h, w, y, c):
        (logprob_torch(F.linear(h, w), y) * c).sum().backward()

    def torch_logprobs(h, w, y, c):
        with torch.no_grad():
            return logprob_torch(F.linear(h, w), y)

    for rows, d, vocab in shapes:
        shape = "%s/%dx%dx%d" % (str(dtype).split(".")[1], rows, d, vocab)
        yield "head_logprobs/" + shape, "torch", arrays(rows, d, vocab), torch_logprobs
        yield "head_weighted/" + shape, "torch", arrays(rows, d, vocab), torch_head
        if hasattr(torch, "compile") and device == "cuda":
            yield "head_weighted/" + shape, "torch.compile", arrays(rows, d, vocab), compiled(torch_head)
        if device == "cuda" and cce:
            yield ("head_weighted/" + shape, "cut-cross-entropy", arrays(rows, d, vocab),
                   lambda h, w, y, c: (-cce.linear_cross_entropy(h, w, y, reduction="none") * c).sum().backward())
        if device == "cuda" and liger:
            yield ("head_weighted/" + shape, "Liger", arrays(rows, d, vocab),
                   lambda h, w, y, c: (-liger.liger_fused_linear_cross_entropy(h, w, y, reduction="none") * c).sum().backward())


# ---- timing ----

def difference(got, expected):
    got, expected = (v[0] if isinstance(v, tuple) else v for v in (got, expected))
    return float((got.double() - expected.double()).abs().max())


def measure(arrays, call, samples, budget, device):
    """Seconds of a call: p10, median, p90 and the number of samples."""
    first = arrays()
    size = sum(a.numel() * a.element_size() for a in first)
    sets = [first] + [[a.detach().clone().requires_grad_(a.requires_grad) for a in first]
                      for _ in range(max(1, min(255, COPIES_BYTES // max(size, 1))))]

    def once(turn):
        if device != "cuda":
            start = time.perf_counter()
            call(*sets[turn % len(sets)])
            return time.perf_counter() - start
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call(*sets[turn % len(sets)])
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    for turn in range(3):
        once(turn)
    seconds, began = [], time.perf_counter()
    while len(seconds) < samples and not (budget and len(seconds) >= 5 and time.perf_counter() - began > budget):
        seconds.append(once(len(seconds)))
    seconds.sort()
    last = len(seconds) - 1
    return {"seconds": {"median": statistics.median(seconds), "p10": seconds[last // 10], "p90": seconds[last - last // 10]},
            "samples": len(seconds)}


def context_of(args):
    context = {"torch": torch.__version__, "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
               "threads": torch.get_num_threads(), "command": " ".join(sys.argv)}
    for module in ("liger_kernel", "flash_attn", "quack", "cut_cross_entropy", "triton"):
        found = optional(module)
        context[module] = getattr(found, "__version__", "present") if found else None
    return context


def write(path, context, cases):
    """After every case: a run that is cut short leaves what it has measured."""
    with open(path + ".part", "w") as file:
        json.dump({"context": context, "cases": cases}, file, indent=1)
        file.write("\n")
    os.rename(path + ".part", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", required=True, help="what flat bench kernels --json wrote")
    parser.add_argument("--json", required=True)
    parser.add_argument("--filter", default="", help="parts of names, with commas between; all where there are none")
    parser.add_argument("--no_compile", action="store_true", help="without torch.compile, which takes seconds per case")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--time_budget", type=float, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--head", action="store_true")
    args = parser.parse_args()
    with open(args.cases) as file:
        cases = json.load(file)["cases"]
    out, context = [], context_of(args)

    def add(name, program, arrays, call, reference):
        try:
            if reference:
                given = arrays()
                expected = reference(*[a.clone() for a in given])
                off = difference(call(*given), expected)
                if not off <= (0.1 if "bfloat16" in name else 1e-3):
                    raise ValueError("off by %g from torch in double" % off)
                del given, expected
            out.append(dict(measure(arrays, call, args.samples, args.time_budget, args.device), name=name, reference=program))
            print("%-66s %-18s %10.1f us" % (name, program, 1e6 * out[-1]["seconds"]["median"]))
        except Exception as error:  # one program that fails must not lose the others' figures
            print("%-66s %-18s not measured: %s" % (name, program, str(error).splitlines()[:1]), file=sys.stderr)
        if args.device == "cuda":
            torch.cuda.empty_cache()
        write(args.json, context, out)

    for case in cases:
        if any(part in case["name"] for part in args.filter.split(",")):
            for program, arrays, call, reference in references_of(case, getattr(torch, case["dtype"]), args.device, not args.no_compile):
                add(case["name"], program, arrays, call, reference)
    if args.head:
        shapes = [(512, 2048, 128256), (2560, 2048, 51200), (2560, 4096, 32000), (8192, 4096, 128256)]
        dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
        for name, program, arrays, call in head_cases(shapes if args.device == "cuda" else [(256, 576, 49152)], dtype, args.device):
            add(name, program, arrays, call, None)
    write(args.json, context, out)


if __name__ == "__main__":
    main()
