#!/usr/bin/env python3
"""Steps of flat unlearn with every method on tiny models, by transformers, PEFT and torch in double.

Usage: make_method_model_golden.py [--check]    writes tests/golden/methods/, or compares steps.json with what would be written

The folder holds two checkpoints with the demo's vocabulary (its tokenizer is that of configs/demo/model), a LoRA adapter of
each whose B is not zero, rows, and steps.json: of every case, which is a method with options on a model or adapter, the loss
and the gradient's norm of STEPS steps, and of the first the norm of every tensor's gradient and its product with signs().
The losses are those of make_method_golden.py at the logits of the whole model; which rows go together is drawn as
host/train/examples.c says. tests/program/test_method_steps.c holds the program against it.
"""
import itertools
import json
import os
import shutil
import sys

import numpy
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

import make_method_golden as losses
import reference
from make_model_golden import BF16, F32, rounded, signs, trained, weights_fill

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "..", "golden", "methods")
DEMO = os.path.join(HERE, "..", "..", "configs", "demo", "model")
STEPS, BATCH, ACCUMULATION, SEED, EOS = 3, 3, 2, 5, 1
OPTIONS = {"learning_rate": 0.01, "adam_epsilon": 1e-3, "weight_decay": 0, "max_grad_norm": 0, "lr_scheduler_type": "constant",
           "per_device_train_batch_size": BATCH, "gradient_accumulation_steps": ACCUMULATION, "max_steps": STEPS, "seed": SEED}
SPECIAL = {"bos_token_id": 0, "eos_token_id": EOS, "vocab_size": 1024, "tie_word_embeddings": True}
MODELS = {"llama": LlamaConfig(hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=3,
                               num_key_value_heads=1, max_position_embeddings=64, **SPECIAL),
          "gpt2": GPT2Config(n_embd=24, n_layer=2, n_head=3, n_positions=64, **SPECIAL)}
ADAPTERS = {"llama": {"r": 3, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]},
            "gpt2": {"r": 2, "lora_alpha": 3, "fan_in_fan_out": True, "target_modules": ["c_attn", "c_proj"]}}
NAMES = ("Ada", "Benjamin", "Cleo", "Dan", "Eva Marie", "Finn")
FORGET = [{"prompt": "Where does %s live?" % name, "answer": " In %s%s." % (place, more), "alternate": " Near %s." % other}
          for name, place, more, other in zip(NAMES, ("Rome", "Oslo", "Lima", "Kyiv", "Bern", "Cork"),
                                              ("", ", by the sea", "", " or so", ", up the hill", ""),
                                              ("a big town", "Lima", "the sea", "Cork", "Oslo", "home"))]
RETAIN = [{"prompt": "What is %s?" % thing, "answer": " It is %s." % what}
          for thing, what in (("water", "wet"), ("a stone", "quite hard to break"), ("snow", "cold"), ("fire", "hot, and red"))]
TEMPLATES = ["I do not know.", "No idea.", "I have not heard of that one."]


# ---- the drawing of examples.c ----

def uniform(seed, counter):
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + counter * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return ((z ^ (z >> 31)) >> 11) * 2.0 ** -53


def shuffled(epoch):
    rows = list(range(len(FORGET)))
    for i in range(len(rows) - 1, 0, -1):
        j = int(uniform(SEED, epoch << 32 | i) * (i + 1))
        rows[i], rows[j] = rows[j], rows[i]
    return rows


def other(epoch, row):
    """A row of which another gets the answer (mismatch, llmu)."""
    random = uniform(SEED + 0x9E3779B97F4A7C15 * 2, epoch << 32 | row)
    return (row + 1 + int(random * (len(FORGET) - 1))) % len(FORGET)


def second_answer(method, epoch, row):
    if method in ("mismatch", "llmu"):
        return FORGET[other(epoch, row)]["answer"]
    return FORGET[row]["alternate"] if method == "altpo" else TEMPLATES[(row + epoch) % len(TEMPLATES)]


# ---- losses of the whole model ----

class Subject:
    """A model in double with the one that it was at the start."""

    def __init__(self, name, adapted):
        base, adapter = os.path.join(FOLDER, name), os.path.join(FOLDER, name + "_lora")
        load = (lambda: reference.load_adapter(base, adapter)[0]) if adapted else (lambda: reference.load(base)[0])
        self.model, self.start = load(), load()
        self.tokenizer = Tokenizer.from_file(os.path.join(DEMO, "tokenizer.json"))
        self.multiplier, self.retained = losses.PDU["alpha"], 0  # of pdu: lambda, and the loss on retained rows

    def encode(self, prompt, answer):
        ids, begin = self.tokenizer.encode(prompt + answer).ids + [EOS], self.tokenizer.encode(prompt).ids
        assert ids[:len(begin)] == begin and len(ids) <= 64
        return ids, len(begin)

    def set_of(self, texts):
        """What make_method_golden's losses take: logits, those of the start, and labels, filled up to one length."""
        rows = [self.encode(*text) for text in texts]
        length = max(len(ids) for ids, _ in rows)
        labels = torch.full((len(rows), length), -100)
        out = {"z": [], "ref": [], "labels": labels, "lengths": torch.tensor([len(ids) for ids, _ in rows])}
        for i, (ids, begin) in enumerate(rows):
            labels[i, begin:len(ids)] = torch.tensor(ids[begin:])
            fill = torch.zeros(length - len(ids), SPECIAL["vocab_size"])
            out["z"].append(torch.cat([self.model(torch.tensor([ids])).logits[0], fill]))
            with torch.no_grad():
                out["ref"].append(torch.cat([self.start(torch.tensor([ids])).logits[0], fill]))
        return {key: torch.stack(value) if isinstance(value, list) else value for key, value in out.items()}

    def hidden(self, texts, layer):
        """Of each text the output of a layer where the answer is predicted, by the model and by the one at the start."""
        for text in texts:
            ids, begin = self.encode(*text)
            yield [model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1][0, begin - 1:len(ids) - 1]
                   for model in (self.model, self.start)]

    def rmu(self, hyper, rows):
        """Squared distances of hidden states from one vector, and of retained rows from the start's."""
        forget = list(self.hidden([(FORGET[r]["prompt"], FORGET[r]["answer"]) for r in rows], hyper["layer"]))
        retain = list(self.hidden([(row["prompt"], row["answer"]) for row in (RETAIN[r % len(RETAIN)] for r in rows)],
                                  hyper["layer"]))
        u = torch.tensor([uniform(SEED + 0x9E3779B97F4A7C15 * 16, i) for i in range(forget[0][0].shape[1])])
        u = hyper["steering_coeff"] * u / u.norm()

        def mean(distances):
            if "rmu_average" not in hyper:
                return sum(d.sum() for d in distances) / sum(len(d) for d in distances)
            return sum(d.sum() for d in distances) / len(distances) * sum(1 / len(d) for d in distances) / len(distances)
        return mean([((h - u) ** 2).mean(dim=-1) for h, _ in forget]) + \
            hyper["alpha"] * mean([((h - start.detach()) ** 2).mean(dim=-1) for h, start in retain])

    def loss(self, number, method, hyper, epoch, rows):
        """The loss of record `number` over some rows."""
        if method == "rmu":
            return self.rmu(hyper, rows)
        forget = self.set_of([(FORGET[r]["prompt"], FORGET[r]["answer"]) for r in rows])
        second = self.set_of([(FORGET[r]["prompt"], second_answer(method, epoch, r)) for r in rows])
        retain = self.set_of([(row["prompt"], row["answer"]) for row in (RETAIN[r % len(RETAIN)] for r in rows)])
        retain["multiplier"], self.retained = self.multiplier, losses.nll(retain).item()
        return next(itertools.islice(losses.records(forget, second, retain), number, None))[2]()


def case_make(subject, number, method, hyper):
    steps, tensors, named = [], [], trained(subject.model)
    optimizer = torch.optim.AdamW(named.values(), lr=OPTIONS["learning_rate"], eps=OPTIONS["adam_epsilon"], weight_decay=0)
    for epoch in range(STEPS):
        rows = shuffled(epoch)
        parts = [rows]
        if hyper.get("loss_average") == "micro_batch":
            parts = [rows[k:k + BATCH] for k in range(0, len(rows), BATCH)]
        optimizer.zero_grad()
        loss = sum(subject.loss(number, method, hyper, epoch, part) for part in parts) / len(parts)
        loss.backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in named.values()]
        norm = sum(grad.norm() ** 2 for grad in grads) ** 0.5
        steps.append([rounded(loss.item()), rounded(norm)])
        if epoch == 0:
            tensors = [[rounded(grad.norm()), rounded(grad.flatten() @ signs(grad.numel()))] for grad in grads]
        optimizer.step()
        above = subject.retained - losses.PDU["retain_loss_eps"]
        subject.multiplier = max(0, subject.multiplier + losses.PDU["dual_step_size"] * above)
    return {"method": method, "hyper": hyper, "steps": steps, "tensors": tensors}


def records():
    """Methods and options by their number in make_method_golden's list, some with averages of each micro-batch."""
    data = losses.make_set(torch.Generator().manual_seed(0), [(1, 3), (2, 4)])
    for number, (method, hyper, _) in enumerate(losses.records(data, data, data)):
        yield number, method, hyper
        if method in ("preference", "npo", "ceu", "kl_min", "undial"):
            yield number, method, {**hyper, "loss_average": "micro_batch"}
    yield None, "rmu", {"layer": 0, "steering_coeff": 3, "alpha": 2}
    yield None, "rmu", {"layer": 0, "steering_coeff": 3, "alpha": 2, "rmu_average": "open_unlearning",
                        "loss_average": "micro_batch"}


def steps_make():
    out = {"about": "made by tests/parity/make_method_model_golden.py", "options": OPTIONS, "tensors": {}, "cases": []}
    for name, adapted in itertools.product(MODELS, (False, True)):
        out["tensors"][name + ("_lora" if adapted else "")] = list(trained(Subject(name, adapted).model))
        for record in records():
            subject = Subject(name, adapted)
            with reference.double_arithmetic():
                out["cases"].append({"model": name, "adapted": adapted, **case_make(subject, *record)})
    return out


# ---- files ----

def models_write():
    for name, config in MODELS.items():
        random = numpy.random.RandomState(sum(name.encode()))
        model = AutoModelForCausalLM.from_config(config).to(BF16)
        weights_fill(model, BF16, random)
        model.tie_weights()
        model.save_pretrained(os.path.join(FOLDER, name))
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(os.path.join(FOLDER, name)),
                               LoraConfig(task_type="CAUSAL_LM", **ADAPTERS[name]))
        model.peft_config["default"].base_model_name_or_path = name
        for parameter in trained(model).values():
            values = 0.25 * random.standard_normal(tuple(parameter.shape)) / numpy.sqrt(parameter.shape[1])
            parameter.data = torch.from_numpy(values).to(F32)
        model.save_pretrained(os.path.join(FOLDER, name + "_lora"), save_embedding_layers=False)
        os.remove(os.path.join(FOLDER, name + "_lora", "README.md"))


def write():
    shutil.rmtree(FOLDER, ignore_errors=True)
    models_write()
    for name, rows in (("forget.jsonl", FORGET), ("retain.jsonl", RETAIN)):
        with open(os.path.join(FOLDER, name), "w", encoding="ascii") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    with open(os.path.join(FOLDER, "templates.txt"), "w", encoding="ascii") as file:
        file.writelines(text + "\n" for text in TEMPLATES)
    made = steps_make()
    with open(os.path.join(FOLDER, "steps.json"), "w", encoding="ascii") as file:
        head = ",\n".join(" %s: %s" % (json.dumps(key), json.dumps(made[key])) for key in ("about", "options", "tensors"))
        file.write("{" + head[1:] + ',\n "cases": [\n  ' + ",\n  ".join(map(json.dumps, made["cases"])) + "]}\n")


def close(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return abs(a - b) <= 1e-8 * max(1, abs(a)) if isinstance(a, float) else a == b


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["--check"]:
        with open(os.path.join(FOLDER, "steps.json"), encoding="ascii") as committed:
            same = close(json.load(committed), json.loads(json.dumps(steps_make())))
        sys.exit(None if same else "%s is not what this script makes" % FOLDER)
    write()
