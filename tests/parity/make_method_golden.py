#!/usr/bin/env python3
"""Losses and gradients at the logits of the methods, by torch's autograd in double on random logits.

Usage: make_method_golden.py [--check]    writes tests/golden/methods.json, or compares it with what would be written

Logits z[B][T][V] of the model and of the reference (`ref`) for three sets of sequences; labels at their own index, -100
where there is no target: target labels[t] is read at position t - 1. Every record has the method's options under the names
that flat has for them, the loss, and dL/dz of each set that it depends on. The formulas are those of the papers and
programs that the methods' files name, written here without regard to how flat computes them.
"""
import json
import os
import sys

import torch
import torch.nn.functional as F

B, T, V = 2, 6, 9
PDU = {"gamma": 0.5, "alpha": 2, "retain_loss_eps": 0.25, "dual_step_size": 0.75, "dual_warmup_epochs": 0}
PATH = os.path.join(os.path.dirname(__file__), "..", "golden", "methods.json")


def make_set(generator, spans):
    labels = torch.full((B, T), -100)
    for row, (begin, end) in enumerate(spans):
        labels[row, begin:end] = torch.randint(0, V, (end - begin,), generator=generator)
    z = 2 * torch.randn(B, T, V, generator=generator, dtype=torch.double)
    ref = z + 0.5 * torch.randn(B, T, V, generator=generator, dtype=torch.double)
    return {"z": z, "ref": ref, "labels": labels}


def logprobs(z, labels):
    """log p of every target, 0 elsewhere, and where there are targets: [B][T - 1]."""
    mask = labels[:, 1:] >= 0
    lp = F.log_softmax(z[:, :-1], dim=-1).gather(2, labels[:, 1:].clamp(min=0).unsqueeze(2)).squeeze(2)
    return lp * mask, mask


def sums(data, key="z"):
    return logprobs(data[key], data["labels"])[0].sum(dim=1)


def nll(*sets):
    parts = [logprobs(s["z"], s["labels"]) for s in sets]
    return -sum(lp.sum() for lp, _ in parts) / sum(mask.sum() for _, mask in parts)


def npo(f, beta):
    return -(2 / beta) * F.logsigmoid(-beta * (sums(f) - sums(f, "ref"))).mean()


def simnpo(f, beta, delta):
    n = logprobs(f["z"], f["labels"])[1].sum(dim=1)
    return -(2 / beta) * F.logsigmoid(beta * (-sums(f) / n - delta)).mean()


def dpo(f, e, beta):
    u = (sums(e) - sums(e, "ref")) - (sums(f) - sums(f, "ref"))
    return -(2 / beta) * F.logsigmoid(beta * u).mean()


def weighted(f, weight):
    lp, mask = logprobs(f["z"], f["labels"])
    p = lp.exp().detach()
    return (weight(p) * lp * mask).sum() / mask.sum()


def ceu(f, skip):
    """Cross-entropy against the softmax of the logits with the target's at -infinity, which counts as a constant."""
    z, labels = f["z"][:, :-1], f["labels"][:, 1:].clone()
    for row in labels:
        targets = (row >= 0).nonzero().flatten()
        row[targets[:skip]] = -100
    mask = labels >= 0
    without = z.detach().clone()
    without.scatter_(2, labels.clamp(min=0).unsqueeze(2), float("-inf"))
    target = without.softmax(dim=-1)
    loss = -(target * z.log_softmax(dim=-1)).sum(dim=-1)
    return (loss * mask).sum() / mask.sum()


def real(data, left_out):
    """Positions of the sequences, but for so many of the last: [B][T - left_out]. Without "lengths" nothing is padding."""
    length = data.get("lengths", torch.full(data["labels"].shape[:1], data["labels"].shape[1]))
    return torch.arange(data["labels"].shape[1] - left_out) < length.unsqueeze(1) - left_out


def divergence(data, positions, padded=None):
    """KL from the reference to the model: mean over the answer's positions, all of them, or their sum by padded lengths."""
    t, lp = data["ref"].log_softmax(dim=-1), data["z"].log_softmax(dim=-1)
    kl = (t.exp() * (t - lp)).sum(dim=-1)
    if positions == "answer":
        mask = logprobs(data["z"], data["labels"])[1]
        return (kl[:, :-1] * mask).sum() / mask.sum()
    mask = real(data, 0)
    return (kl * mask).sum() / (len(kl) * padded if positions == "tofu" else mask.sum())


def undial(f, beta, positions):
    """Cross-entropy to the reference's softmax with beta off the target."""
    z, ref, labels = f["z"][:, :-1], f["ref"][:, :-1].clone(), f["labels"][:, 1:]
    mask = labels >= 0
    column = labels.clone()
    if positions == "open_unlearning" and z.shape[2] >= 100:  # the label -100 as an index
        column[~mask] = z.shape[2] - 100
    off = torch.zeros_like(ref)
    off.scatter_(2, column.clamp(min=0).unsqueeze(2), beta)
    target = (ref - off * (column >= 0).unsqueeze(2)).softmax(dim=-1)
    loss = -(target * z.log_softmax(dim=-1)).sum(dim=-1)
    mask = mask if positions == "answer" else real(f, 1)
    return (loss * mask).sum() / mask.sum()


def margin(f):
    """Squared distance of the largest logit from their mean: mean over the positions that predict the answer."""
    z = f["z"][:, :-1]
    mask = f["labels"][:, 1:] >= 0
    return (((z.max(dim=-1).values - z.mean(dim=-1)) ** 2) * mask).sum() / mask.sum()


def records(f, e, r):
    yield "grad_ascent", {}, lambda: -nll(f)
    yield "grad_diff", {"gamma": 0.7, "alpha": 1.5}, lambda: -0.7 * nll(f) + 1.5 * nll(r)
    yield "grad_diff", {"retain_loss": "none"}, lambda: -nll(f)
    yield "preference", {}, lambda: nll(e, r)
    yield "mismatch", {}, lambda: nll(e, r)
    yield "npo", {"retain_loss": "none", "beta": 0.1}, lambda: npo(f, 0.1)
    yield "npo", {"beta": 0.5, "alpha": 2}, lambda: npo(f, 0.5) + 2 * nll(r)
    yield "simnpo", {"delta": 0.5}, lambda: 0.125 * simnpo(f, 4.5, 0.5) + nll(r)
    yield "dpo", {"retain_loss": "none"}, lambda: dpo(f, e, 0.1)
    yield "dpo", {"beta": 0.4, "gamma": 0.5}, lambda: 0.5 * dpo(f, e, 0.4) + nll(r)
    yield "altpo", {}, lambda: dpo(f, e, 0.1) + nll(r)
    yield "wga", {}, lambda: weighted(f, lambda p: p) + nll(r)
    yield "wga", {"retain_loss": "none", "beta": 2.5}, lambda: weighted(f, lambda p: p ** 2.5)
    yield "satimp", {}, lambda: weighted(f, lambda p: p ** 5 * (1 - p)) + 0.1 * nll(r)
    yield "satimp", {"retain_loss": "none", "beta1": 0.5, "beta2": 2}, lambda: weighted(f, lambda p: p ** 0.5 * (1 - p) ** 2)
    yield "ceu", {}, lambda: ceu(f, 1)
    yield "ceu", {"ignore_first_n_answer_tokens": 0}, lambda: ceu(f, 0)
    yield "kl_min", {}, lambda: -nll(f) + divergence(r, "answer")
    yield "kl_min", {"kl_positions": "real", "alpha": 3}, lambda: -nll(f) + 3 * divergence(r, "real")
    yield "kl_min", {"kl_positions": "tofu", "kl_padded_length": 40, "gamma": 0.1}, \
        lambda: -0.1 * nll(f) + divergence(r, "tofu", 40)
    yield "llmu", {}, lambda: -0.5 * nll(f) + nll(e) + divergence(r, "answer")
    yield "grad_diff", {"retain_loss": "kl"}, lambda: -nll(f) + divergence(r, "answer")
    yield "npo", {"retain_loss": "kl", "alpha": 2}, lambda: npo(f, 0.1) + 2 * divergence(r, "answer")
    yield "dpo", {"retain_loss": "kl"}, lambda: dpo(f, e, 0.1) + divergence(r, "answer")
    yield "undial", {}, lambda: undial(f, 10, "answer")
    yield "undial", {"beta": 2, "undial_positions": "open_unlearning"}, lambda: undial(f, 2, "open_unlearning")
    yield "undial", {"retain_loss": "kl", "gamma": 0.5}, lambda: 0.5 * undial(f, 10, "answer") + divergence(r, "answer")
    yield "undial", {"retain_loss": "nll"}, lambda: undial(f, 10, "answer") + nll(r)
    yield "pdu", PDU, lambda: 0.5 * margin(f) + r.get("multiplier", PDU["alpha"]) * (nll(r) - PDU["retain_loss_eps"])


def make():
    generator = torch.Generator().manual_seed(20)
    sets = {"forget": make_set(generator, [(2, 6), (3, 5)]), "template": make_set(generator, [(1, 3), (3, 6)]),
            "retain": make_set(generator, [(2, 5), (1, 4)])}
    out = {"about": "made by tests/parity/make_method_golden.py", "shape": [B, T, V]}
    for name, data in sets.items():
        out[name] = {key: value.tolist() for key, value in data.items()}
        data["z"].requires_grad_(True)
    out["methods"] = []
    for method, hyper, loss_of in records(*sets.values()):
        for data in sets.values():
            data["z"].grad = None
        loss = loss_of()
        loss.backward()
        out["methods"].append({"method": method, "hyper": hyper, "loss": loss.item(),
                               "grad": {name: data["z"].grad.tolist() for name, data in sets.items()
                                        if data["z"].grad is not None}})
    return out


def close(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return abs(a - b) <= 1e-12 if isinstance(a, float) else a == b


if __name__ == "__main__":
    made = json.loads(json.dumps(make()))
    if sys.argv[1:] == ["--check"]:
        sys.exit(None if close(made, json.load(open(PATH))) else f"{PATH} is not what this script makes")
    with open(PATH, "w") as file:
        lists = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in made.items() if key != "methods")
        methods = ",\n".join("  " + json.dumps(record) for record in made["methods"])
        file.write("{" + lists[1:] + ',\n "methods": [\n' + methods + "]}\n")
