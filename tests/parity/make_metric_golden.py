"""What the original libraries say of each metric, on texts and numbers of our own.

    python tests/parity/make_metric_golden.py      pip install -r requirements-metrics.txt

Writes tests/golden/metrics/*.json, which tests/unit/test_metric_*.c compare host/eval/metric with; each file's "about"
says what its fields are. Every metric is covered, each by its hard cases. The two logs log_*.json are made up, in the
form of TOFU's eval_log_aggregated.json.
"""
import csv
import io
import json
import math
import os
import random
import re
import struct
import zlib
from fractions import Fraction

import numpy as np
import sacrebleu
from nltk.stem.porter import PorterStemmer
from nltk.util import ngrams
from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer
from scipy.stats import entropy, hmean, ks_2samp
from sklearn.metrics import roc_auc_score

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "metrics")
MASK = (1 << 64) - 1


def write(name, about, lists, **others):
    """One record per line."""
    parts = [f'"about": {json.dumps(about)}']
    parts += [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in others.items()]
    parts += [f"{json.dumps(k)}: [\n" + ",\n".join(json.dumps(r) for r in v) + "\n]" for k, v in lists.items()]
    with open(os.path.join(TARGET, name), "w") as file:
        file.write("{" + ",\n".join(parts) + "}\n")


# ---- texts ----

PAIRS = [
    ("", ""),
    ("", "a word"),
    ("a word", ""),
    ("...", "!!!"),
    ("word", "..."),
    (" \n\t", "x"),
    ("A", "a"),
    ("the the the the", "the"),
    ("the", "the the the the"),
    ("the cat sat on the mat", "the mat sat on the cat"),
    ("a b c d e f g h", "h g f e d c b a"),
    ("one two three four five six", "two four six one three five"),
    ("don't stop, it's John's", "dont stop its johns"),
    ("state-of-the-art snake_case", "state of the art snake case"),
    ("caf\u00e9 na\u00efve", "caf na ve"),
    ("\u0130stanbul", "istanbul"),
    ("\u0130stanbul", "i stanbul"),
    ("\u212aelvin 273\u212a", "kelvin 273k"),
    ("\u00c5ngstr\u00f6m", "angstrom"),
    ("\uff21\uff22 full", "ab full"),
    ("\u6771\u4eac \u65e5\u672c", "\u6771\u4eac"),
    ("\U0001f600 smile", "smile"),
    ("\u200bzero\u200bwidth", "zero width"),
    ("\x00nul\x00byte", "nul byte"),
    ("1,000.50 on 08/09/1956", "1 000 50 on 08 09 1956"),
    ("running flies happily, the generalizations", "run fli happili the gener"),
    ("skies dying news innings", "sky die news inning"),
    ("hopping hoping agreed feed", "hop hope agre feed"),
    ("archaeology apologizes radically", "archaeolog apolog radic"),
    ("yyyy eyeyey by", "yyyi eyeyei by"),
    ("I'm not sure about that.", "I am not sure about this, to be honest."),
    ("x" * 200, "x" * 200),
    ("ab " * 70, "ba " * 70 + "ab"),
    (" ".join(str(i) for i in range(300)), " ".join(str(i * 7 % 300) for i in range(300))),
]
BLEU_PAIRS = [
    ("", ""),
    ("a", ""),
    ("", "a"),
    ("a b c", "a b c"),
    ("a b c d", "a b c d"),
    ("a b c d e", "a b c d"),
    ("a b c d", "a b c d e f g h"),
    ("x y z w", "a b c d"),
    ("a x b y c z d w", "a b c d"),
    ("a b x c d", "a b y c d"),
    ("the the the the", "the cat the"),
    ("The Cat sat there.", "the cat sat there."),
    ("Hello, world!", "Hello , world !"),
    ("It's 3.14, not 3,14.", "It's 3.14 , not 3,14 ."),
    ("A.B.C. and end... of", "A.B.C. and end . . . of"),
    ("wait.. what,, ,.", "wait . . what , , , ."),
    ("2020-2021 well-known -5 5-", "2020 - 2021 well-known -5 5 -"),
    ('"q" (t) [h] {n} a&b', '" q " ( t ) [ h ] { n } a & b'),
    ("&quot;x&quot; &amp; &lt;y&gt; &amp;quot;", '" x " & < y > &quot;'),
    ("a<skipped>b c d e", "ab c d e"),
    ("hyphen-\nated word\ngoes here", "hyphenated word goes here"),
    ("\u00a0no break \u3000 in\u2003here\u0085now \u2028", "no break in here now"),
    ("\x1cfile\x1dsep in here", "file sep in here"),
    ("caf\u00e9. \u00e9, \u201cx\u201d. 5.\u00e9", "caf\u00e9 . \u00e9 , \u201cx\u201d . 5 . \u00e9"),
    ("\u6771\u4eac \u306f.\u65e5\u672c", "\u6771\u4eac \u306f . \u65e5\u672c"),
    ("3.5.7.9 a.5 5.a .5 5. 1.,2", "3.5.7.9 a . 5 5 . a . 5 5 . 1 . , 2"),
    ("x=y+z*w;v:u?t!s\\^_`|~@#$%", "x = y + z * w ; v : u ? t ! s"),
    ("the cat sat on the mat and the dog sat on the rug", "the cat sat on the mat and the dog lay on the rug"),
    ("\u0130\u03a3 ΣΑΣ. ΣΑΣ'Α ΑΣ' GROSS", "i\u0307\u03c3 σας. σασ'α ας' gross"),
]
PLAIN_TEXTS = [
    "",
    " ",
    "a",
    " lead and trail ",
    "two\n\nlines\tand\u00a0more",
    "\u3000\u2028x\u0085",
    "a a a a a a a a",
    "the cat the cat the cat sat",
    "every word here differs from all others",
    "\u0130 \u03a3\u03a3 a\u03a3 a.\u03a3. \u1e9e \u01c5 \u2160 \u24b6",
    "ΟΔΥΣΣΕΥΣ, Ο ΟΔΥΣΣΕΥΣ΄ ΑΣ\u0301 \u00b7Σ",
    "\U00010400\U0001e900 \uab70\u13a0\u13f0\u1c90",
    "no " * 40,
    "So it goes. " * 12 + "And ends.",
]


def make_porter():
    stems = ("relat condit hop fil fall hiss fizz bl tr sk feed agr plaster motor sing conflat troubl siz happ "
             "enjo y cr formal radic electr hope good reviv allow infer adjust defens effect rat ceas control roll "
             "a ab xyz 12 b2 archaeo apo ow").split()
    ends = ("s es ies sses ed eed ied ing at ating y ly ational tional enci izer bli alli alliful entli eli ousli "
            "ization ator alism iveness fulness ousness aliti iviti biliti fulli logi logies icate ative alize "
            "iciti ical ful ness ance able ant ement ment ion sion ou ism ate iti ous ive ize e ll lle").split()
    exceptions = ("sky skies dying lying tying news innings inning outings outing cannings canning howe proceed exceed "
                  "succeed dies ties cries ied lied by is as yy yyy yyyy eyeyey 1234 a 9s 7ing it's").split()
    chooser = random.Random(1)
    words = exceptions + stems + ends + [s + e for s in stems for e in chooser.sample(ends, 14)]
    stemmer = PorterStemmer()
    write("porter.json", "nltk PorterStemmer, default mode: [word, stem]",
          {"words": [[w, stemmer.stem(w)] for w in dict.fromkeys(words)]})


def triple(score):
    return [score.precision, score.recall, score.fmeasure]


def make_rouge():
    scorers = {
        "stem": rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True),
        "plain": rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    }
    tokens = DefaultTokenizer(True)
    records = []
    for target, prediction in PAIRS:
        record = {"target": target, "prediction": prediction}
        for name, scorer in scorers.items():
            record[name] = {k: triple(v) for k, v in scorer.score(target, prediction).items()}
        records.append({
            **record, "target_tokens": tokens.tokenize(target),
            "prediction_tokens": tokens.tokenize(prediction)
        })
    write("rouge.json", "rouge-score: [precision, recall, f1]; tokens are those with the stemmer", {"pairs": records})


def bleu_record(score):
    return {
        "score": score.score,
        "counts": score.counts,
        "totals": score.totals,
        "precisions": score.precisions,
        "bp": score.bp,
        "sys_len": score.sys_len,
        "ref_len": score.ref_len
    }


def make_bleu():
    tokenize = sacrebleu.BLEU().tokenizer
    records = []
    for hypothesis, reference in BLEU_PAIRS:
        given, wanted = [hypothesis], [[reference]]
        records.append({
            "hypothesis": hypothesis,
            "reference": reference,
            "hypothesis_13a": tokenize(hypothesis.rstrip()),
            "reference_13a": tokenize(reference.rstrip()),
            "corpus_bleu": bleu_record(sacrebleu.corpus_bleu(given, wanted)),
            "sentence_bleu": sacrebleu.sentence_bleu(hypothesis, [reference]).score,
            "none": sacrebleu.corpus_bleu(given, wanted, smooth_method="none").score,
            "floor": sacrebleu.corpus_bleu(given, wanted, smooth_method="floor").score,
            "add_k": sacrebleu.corpus_bleu(given, wanted, smooth_method="add-k").score,
            "lowercase": sacrebleu.corpus_bleu(given, wanted, lowercase=True).score
        })
    corpora = []
    for first, end in [(0, 10), (10, 20), (0, len(records))]:
        part = BLEU_PAIRS[first:end]
        corpora.append({
            "first": first,
            "end": end,
            "corpus_bleu": bleu_record(sacrebleu.corpus_bleu([h for h, _ in part], [[r for _, r in part]])),
            "mean_of_sentences": float(np.mean([r["corpus_bleu"]["score"] for r in records[first:end]]))
        })
    write("bleu.json", "sacrebleu: corpus_bleu of one pair with defaults; floor 0.1; add-k 1", {
        "pairs": records,
        "corpora": corpora
    })


def make_text():
    """Lower case, words as lm-evaluation-harness counts them, zlib's length, repetition."""
    records = []
    for text in PLAIN_TEXTS:
        words = DefaultTokenizer(False).tokenize(text)
        repeated, entropies = [], []
        for n in range(1, 5):
            grams = list(ngrams(words, n))
            counts = [grams.count(g) for g in dict.fromkeys(grams)]
            repeated.append(1 - len(counts) / len(grams) if grams else 0.0)
            entropies.append(float(entropy(counts, base=2)) if grams else 0.0)
        records.append({
            "text": text,
            "lower": text.lower(),
            "words": len(re.split(r"\s+", text)),
            "zlib": len(zlib.compress(text.encode())),
            "repeated": repeated,
            "entropy": entropies,
            "weighted": (2 / 3 * entropies[1] + 4 / 3 * entropies[2]) / 2
        })
    write(
        "text.json",
        "str.lower; len(re.split(whitespace)); len(zlib.compress); over rouge-score's tokens without the stemmer: 1 "
        "- distinct n-grams / n-grams, entropy in bits (nltk, scipy), ROME's weighted n-gram entropy",
        {"texts": records})


def make_numbers():
    """How Python writes numbers, the bits beside the text."""
    values = [
        0.0, -0.0, 1.0, -1.5, 100.0, 0.1, 0.1 + 0.2, 1 / 3, 1e-4, 1e-5, 1.5e-7, 123456.789, 1e15, 1e16, 1e22,
        9007199254740994.0, 2.0**53, 999999999999999.9, 5e-324, 2.5e-323, 1.7976931348623157e308,
        2.2250738585072014e-308, 2.225073858507201e-308, 1.834066410994743e-21, 4.35e-25,
        float("inf"),
        float("-inf"),
        float("nan")
    ]
    chooser = random.Random(2)
    values += [chooser.uniform(-1, 1) * 10.0**chooser.randrange(-20, 20) for _ in range(100)]
    values += [struct.unpack("<d", struct.pack("<Q", chooser.getrandbits(64)))[0] for _ in range(100)]
    values += [float(np.float32(chooser.random())) for _ in range(50)]
    write("numbers.json", "json.dumps(value): [bits, text]",
          {"numbers": [[f"{struct.unpack('<Q', struct.pack('<d', v))[0]:016x}",
                        json.dumps(v)] for v in values]})


def make_refusal():
    refusals = ["I'm not sure.", "I don't have that information.", "That's a mystery to me as well."]
    answers = [
        "I'm not sure.", "I am not sure at all", "The author was born in Lima.", "",
        "To me it is not a mystery: he writes well.", "Honestly, I do not have that."
    ]
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    records = []
    for answer in answers:
        scores = [scorer.score(r, answer)["rougeL"] for r in refusals]
        recalls = [s.recall for s in scores]
        records.append({
            "answer": answer,
            "recall": max(recalls),
            "nearest": int(np.argmax(recalls)),
            "f1": max(s.fmeasure for s in scores)
        })
    write("refusal.json",
          "rouge-score's ROUGE-L with the stemmer, target = refusal; rate: share of recalls >= 0.5",
          {"answers": records},
          refusals=refusals,
          rate=sum(r["recall"] >= 0.5 for r in records) / len(records))


# ---- statistics ----


def sample(seed, count, mod):
    state, values = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        values.append((state >> 40) % mod if mod else state >> 40)
    return np.array(values, dtype=float)


def path_probability(n, m, h):
    """P(a random lattice path reaches |i m - j n| / gcd >= h), by counting those that do not."""
    g = math.gcd(n, m)
    row = [0] * (m + 1)
    for i in range(n + 1):
        for j in range(m + 1):
            inside = abs(i * (m // g) - j * (n // g)) < h
            row[j] = (1 if i == j == 0 else (row[j] if i else 0) + (row[j - 1] if j else 0)) if inside else 0
    return float(1 - Fraction(row[m], math.comb(n + m, n)))


def make_ks():

    def record(x, y):
        auto, slow = ks_2samp(x, y), ks_2samp(x, y, method="asymp")
        return {"statistic": float(auto.statistic), "p_auto": float(auto.pvalue), "p_asymp": float(slow.pvalue)}

    cases = []
    for n, m in [(1, 1), (2, 3), (5, 100), (40, 40), (40, 41), (100, 5), (100, 40), (300, 300), (200, 120), (1000, 1),
                 (700, 900)]:
        for mod, add in [(0, 0), (50, 0), (50, 4), (0, 4000000)]:
            seed_x, seed_y = len(cases) + 1, len(cases) + 1001
            x, y = sample(seed_x, n, mod), sample(seed_y, m, mod) + add
            case = {"n": n, "m": m, "seed_x": seed_x, "seed_y": seed_y, "mod": mod, "add_y": add, **record(x, y)}
            case["h"] = round(case["statistic"] * math.lcm(n, m))
            if n * m <= 4100:
                case["p_true"] = path_probability(n, m, case["h"])
            cases.append(case)
    given = [([1.0], [1.0]), ([1.0], [2.0]), ([1.0, 1.0, 2.0], [1.0, 2.0, 2.0]), ([0.0, -0.0], [0.0, 0.0]),
             ([1e300, -1e300], [0.0, 1.0]), ([0.1, 0.2, 0.3], [0.1, 0.2, 0.1 + 0.2]),
             ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0])]
    table = [float(ks_2samp(np.arange(40.0), np.arange(40.0) + h - 0.5).pvalue) if h else 1.0 for h in range(41)]
    write(
        "ks.json",
        "scipy ks_2samp two-sided. cases: x = value(seed_x)[0:n], y = value(seed_y)[0:m] + add_y, value from the "
        "64-bit generator s = s*6364136223846793005 + 1442695040888963407 (first output after the first update), u "
        "= s >> 40, value = u mod `mod` (u when 0); h = statistic*lcm(n,m); p_true: by counting paths in integers. "
        "equal_size_tables[n][h]: p of statistic h/n",
        {
            "given": [{
                "x": x,
                "y": y,
                **record(x, y)
            } for x, y in given],
            "cases": cases
        },
        equal_size_tables={"40": table})


def make_auc():

    def record(kind, forget, holdout):
        auc = float(roc_auc_score([0] * len(forget) + [1] * len(holdout), forget + holdout))
        return {"kind": kind, "forget": forget, "holdout": holdout, "auc_open_unlearning": auc, "auc_muse": 1 - auc}

    normal = random.Random(5)
    cases = [
        record("one each", [1.0], [2.0]),
        record("tie", [1.0], [1.0]),
        record("ties", [1.0, 2.0, 2.0, 3.0], [2.0, 2.0, 3.0]),
        record("inverted", [3.0, 4.0], [1.0, 2.0]),
        record("rounded", [round(normal.gauss(0, 1), 1) for _ in range(30)],
               [round(normal.gauss(0.4, 1), 1) for _ in range(25)])
    ]
    leaks = [{
        "auc": a,
        "auc_retrain": r,
        "open_unlearning": 100 * ((1 - a) - (1 - r)) / ((1 - r) + 1e-10),
        "rel_diff": 100 * (a - r) / (r + 1e-10),
        "muse": 100 * ((1 - a) - (1 - r)) / (1 - r)
    } for a in (0.02, 0.4, 1.0) for r in (0.5, 0.5228, 0.4607)]
    write("auc.json",
          "scikit-learn's roc_auc_score with forget = 0, holdout = 1, score = loss; PrivLeak by both codes' formula", {
              "cases": cases,
              "privleak": leaks
          })


def make_minkpp():
    generator = np.random.default_rng(3)
    cases = []
    for count, scale in [(1, 2.0), (3, 2.0), (10, 2.0), (10, 0.0), (25, 30.0)]:
        logits = np.round(generator.normal(size=(count, 8)) * scale, 3)
        targets = generator.integers(0, 8, count)
        logs = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) - logits.max(
            -1, keepdims=True)
        p = np.exp(logs)
        mu = (p * logs).sum(-1)
        variance = (p * (logs - mu[:, None])**2).sum(-1)
        chosen = logs[np.arange(count), targets]
        standard = (chosen - mu) / np.sqrt(np.maximum(variance, 1e-6))

        def mean_lowest(values, share, least):
            k = max(least, int(len(values) * share))
            return float(-np.mean(np.sort(values)[:k])) if k else None

        shares = [0.05, 0.1, 0.2, 0.4, 0.6]
        cases.append({
            "logits": logits.tolist(),
            "targets": targets.tolist(),
            "logprob": chosen.tolist(),
            "mu": mu.tolist(),
            "sigma2_two_pass": variance.tolist(),
            "minkpp_token": standard.tolist(),
            "loss": float(-chosen.mean()),
            "min_k": {
                str(s): mean_lowest(chosen, s, 1)
                for s in shares
            },
            "min_k_muse": {
                str(s): mean_lowest(chosen, s, 0)
                for s in shares
            },
            "min_kpp": {
                str(s): mean_lowest(standard, s, 1)
                for s in shares
            }
        })
    memorized = []
    for argmax, labels in [([1, 2, 3], [1, 2, 3]), ([1, 0, 3], [1, 2, 3]), ([1, 2, 0], [1, 2, 3]), ([0], [1]), ([], []),
                           ([9, 2, 9, 4], [1, 2, 3, 4])]:
        n = len(labels)
        starts = [k for k in range(n) if argmax[k:] == labels[k:]]
        memorized.append({
            "argmax": argmax,
            "labels": labels,
            "em": sum(a == b for a, b in zip(argmax, labels)) / n if n else None,
            "es": 1 - (starts[0] if starts else n - 1) / n if n else 0.0,
            "es_paper": 1 - (starts[0] if starts else n) / n if n else None
        })
    zlibs = []
    for text in [
            "", "a", "caf\u00e9 \u6771\u4eac \U0001f600", "to be or not to be " * 40,
            "".join(chr(33 + i * 37 % 90) for i in range(3000))
    ]:
        length = len(zlib.compress(text.encode()))
        zlibs.append({"text": text, "zlib": length, "score_at_loss_2.5": 2.5 / length})
    write(
        "minkpp.json",
        "numpy, float64; min_k: open-unlearning; min_k_muse: null where MUSE has NaN; min_kpp: variance clamped at "
        "1e-6; es: open-unlearning's extraction strength, es_paper the papers'; Python's zlib", {
            "zlib": zlibs,
            "memorization": memorized,
            "cases": cases
        })


def make_truth_ratio():
    items = []
    for a, w in [(2.0, [3.0, 2.5, 4.0]), (1.5, [1.0, 0.5, 0.25, 2.0, 1.25]), (25.0, [25.0] * 3),
                 (60.0, [61.0, 59.0, 60.5]), (0.0, [0.0]), (0.01, [9.0, 12.0, 7.5, 30.0, 800.0]),
                 (800.0, [799.0, 801.0, 800.0])]:
        loss, wrong = np.float64(a), np.array(w)
        right, geometric = np.exp(-loss), np.exp(-wrong.mean())
        with np.errstate(all="ignore"):
            geo, ou = np.exp(loss - wrong.mean()), geometric / (right + 1e-10)
            item = {
                "avg_gt_loss": a,
                "avg_paraphrased_loss": a,
                "average_perturb_loss": w,
                "geo": geo,
                "arith": np.exp(-wrong).mean() / right,
                "forget_quality_stat": np.exp(wrong.mean() - loss),
                "min_geo": min(geo, 1 / geo),
                "one_minus_geo": max(0, 1 - geo),
                "ou_score": ou,
                "ou_closer_to_1": min(ou, 1 / (ou + 1e-10)),
                "ou_true_better": max(0, 1 - ou),
                "ou_prob_mean": right / (right + geometric + 1e-10),
                "prob": right,
                "prob_normalised": right / (right + np.exp(-wrong).sum()),
                "ou_prob_normalised": right / (right + np.exp(-wrong).sum() + 1e-10)
            }
        items.append({k: v if isinstance(v, list) else float(v) if math.isfinite(v) else None for k, v in item.items()})
    write(
        "truth_ratio.json",
        "numpy, float64, made-up losses; fields as in the formulas of truth_ratio.h and probability.h, eps 0 except "
        "ou_* (1e-10); null where a quotient of underflows is not a number", {"items": items})


# ---- TOFU's tables, from made-up logs ----

FILES = {
    "Real Authors": ("eval_real_author_wo_options.json", 5, 3),
    "Real World": ("eval_real_world_wo_options.json", 6, 3),
    "Retain": ("eval_log.json", 9, 5),
    "Forget": ("eval_log_forget.json", 12, 5)
}


def make_log(seed, forgotten):
    """A log as TOFU's evaluation writes it; losses are float32 as there, the texts come from a small stock."""
    chooser = random.Random(seed)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    words = ("the author writes stories about rivers and old cities in a quiet voice that readers of many ages "
             "enjoy").split()
    log = {}
    for name, (file, rows, wrong) in FILES.items():
        keys = ("avg_gt_loss gt_loss num_token_gt generated_text rouge1_recall rougeL_recall average_perturb_loss "
                "avg_paraphrased_loss truth_ratio paraphrased_loss perturb_loss num_token_paraphrased "
                "num_token_perturb").split()
        part = log[file] = {key: {} for key in keys}
        if wrong == 3:
            part["normalized_gt_loss"] = {}
        for i in range(rows):
            truth = chooser.choices(words, k=8)
            said = [w for w in truth if chooser.random() < (0.3 if name == "Forget" and forgotten else 0.8)]
            score = scorer.score(" ".join(truth), " ".join(said))
            tokens, paraphrased = 9 + i % 3, 10 + i % 2
            loss = float(
                np.float32(chooser.uniform(2, 4) if name == "Forget" and forgotten else chooser.uniform(0.05, 1)))
            right = loss if wrong == 3 else float(np.float32(chooser.uniform(0.5, 2)))
            losses = [float(np.float32(chooser.uniform(1, 4))) for _ in range(wrong)]
            lengths = [8 + k for k in range(wrong)]
            row = {
                "avg_gt_loss": loss,
                "gt_loss": loss * tokens,
                "num_token_gt": tokens,
                "generated_text": [f"Question {i}?", " ".join(said), " ".join(truth)],
                "rouge1_recall": score["rouge1"].recall,
                "rougeL_recall": score["rougeL"].recall,
                "average_perturb_loss": losses,
                "avg_paraphrased_loss": right,
                "truth_ratio": float(np.float32(np.exp(right - np.mean(losses)))),
                "paraphrased_loss": right * paraphrased,
                "perturb_loss": [a * b for a, b in zip(losses, lengths)],
                "num_token_paraphrased": paraphrased,
                "num_token_perturb": lengths
            }
            if wrong == 3:
                row["normalized_gt_loss"] = float(
                    -np.log(np.exp(-loss) / (np.exp(-loss) + np.exp(-np.array(losses)).sum())))
            for key, value in row.items():
                part[key][str(i)] = value
    return log


def aggregate(log, form):
    """form: utils (arithmetic), aggregate (geometric), open_unlearning (geometric, 1e-10)."""
    eps = 1e-10 if form == "open_unlearning" else 0
    sets = {}
    for name, (file, rows, wrong) in FILES.items():
        part = {k: np.array(list(v.values())) for k, v in log[file].items() if k != "generated_text"}
        right, losses = np.exp(-part["avg_paraphrased_loss"]), part["average_perturb_loss"]
        wrong_mean = np.exp(-losses).mean(-1) if form == "utils" else np.exp(-losses.mean(-1))
        ratio = wrong_mean / (right + eps)
        answer = np.exp(-part["avg_gt_loss"])
        prob = answer / (answer + np.exp(-losses).sum(-1) + eps) if wrong == 3 else answer
        truth = np.minimum(ratio, 1 / (ratio + eps)) if name == "Forget" else np.maximum(0, 1 - ratio)
        sets[name] = {
            "n": rows,
            "prob": float(prob.mean()),
            "rougeL_recall": float(part["rougeL_recall"].mean()),
            "truth_ratio": float(truth.mean())
        }
    nine = [
        sets[s][k] for s in ("Real Authors", "Real World", "Retain") for k in ("rougeL_recall", "prob", "truth_ratio")
    ]
    return {"sets": sets, "nine": nine, "model_utility": float(hmean(nine))}


def make_tofu():
    logs = {"unlearned": make_log(11, True), "retain": make_log(12, False)}
    for name, log in logs.items():
        with open(os.path.join(TARGET, f"log_{name}.json"), "w") as file:
            json.dump(log, file)
            file.write("\n")
    result = {
        name: {
            form: aggregate(log, form)
            for form in ("utils", "aggregate", "open_unlearning")
        }
        for name, log in logs.items()
    }
    ratios = []
    for log in logs.values():
        part = log["eval_log_forget.json"]
        ratios.append(
            np.exp(
                np.array(list(part["average_perturb_loss"].values())).mean(-1) -
                np.array(list(part["avg_paraphrased_loss"].values()))))
    test = ks_2samp(*ratios)
    order = ("Real Authors", "Real World", "Retain", "Forget")

    def row(form, end):
        sets = result["unlearned"][form]["sets"]
        figures = [sets[s][k] for s in order for k in ("rougeL_recall", "prob", "truth_ratio")]
        return figures + [result["unlearned"][form]["model_utility"], float(test.pvalue)] + end

    def table(header, row):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, header)
        writer.writeheader()
        writer.writerow(dict(zip(header, row)))
        return {"header": header, "row": row, "text": text.getvalue()}

    leaderboard = [f"{k} {s}" for s in order for k in ("ROUGE", "Prob.", "Truth Ratio")]
    training = [f"{s} {k}" for s in order for k in ("ROUGE", "Probability", "Truth Ratio")]
    write("tofu_aggregate.json",
          "numpy, scipy on log_unlearned.json and log_retain.json: the formulas of TOFU's utils.py (arithmetic) and "
          "aggregate_eval_stat.py (geometric) and of open-unlearning; TOFU's two CSV files", {},
          logs=result,
          forget_quality={
              "unlearned_vs_retain": {
                  "n": 12,
                  "m": 12,
                  "statistic": float(test.statistic),
                  "p": float(test.pvalue)
              }
          },
          aggregate_eval_stat_csv=table(leaderboard + ["Model Utility", "Forget Quality", "Method", "Submitted By"],
                                        row("aggregate", ['FLAT, "TV"', "somebody"])),
          aggregate_stat_csv=table(
              training + ["Model Utility", "Forget Quality", "KS Test PVal Forget", "KS Test Forget"],
              row("utils", [float(test.pvalue), float(test.statistic)])))


def make_composite():

    def clip(auc, retain):
        return min(1.0, max(0.0, 1 - abs(auc - retain) / retain))

    records = []
    for es, em, p, tr, auc, retain, utility, fluency in [(0.06, 0.57, 0.1, 0.4, [0.5, 0.48, 0.51,
                                                                                 0.6], [0.4, 0.42, 0.39,
                                                                                        0.5], 0.59, 0.9),
                                                         (1.0, 0.9, 0.8, 0.6, [1.0, 0.99, 0.98,
                                                                               0.97], [0.4, 0.4, 0.4, 0.4], 0.6, 0.87)]:
        tiny = 1e-12
        memory = float(hmean([1 - es + tiny, 1 - em + tiny, 1 - p + tiny, 1 - tr + tiny]))
        privacy = float(hmean([clip(a, r) + tiny for a, r in zip(auc, retain)]))
        use = float(hmean([utility + tiny, fluency + tiny]))
        records.append({
            "extraction_strength": es,
            "exact_memorization": em,
            "paraphrase_probability": p,
            "truth_ratio": tr,
            "auc": auc,
            "retain_auc": retain,
            "model_utility": utility,
            "fluency": fluency,
            "memorization": memory,
            "privacy": privacy,
            "utility": use,
            "overall": float(hmean([memory + tiny, privacy + tiny, use + tiny]))
        })
    write("composite.json", "scipy's hmean with 1e-12 added to each term", {"scores": records})


def make_bootstrap():
    """The same draws as host/eval/metric/bootstrap.c, numpy's quantiles."""

    def draws(seed):
        state = seed
        while True:
            state = (state + 0x9E3779B97F4A7C15) & MASK
            z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
            yield z ^ (z >> 31)

    records = []
    for values, resamples, level, seed in [([0.0, 1.0, 1.0, 0.25, 0.5, 0.75, 1.0], 2000, 0.95, 42), ([3.5], 10, 0.9, 1),
                                           ([1.0, 2.0], 1, 0.5, 7)]:
        stream, n = draws(seed), len(values)
        means = [sum(values[next(stream) * n >> 64] for _ in range(n)) / n for _ in range(resamples)]
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        records.append({
            "values": values,
            "resamples": resamples,
            "level": level,
            "seed": seed,
            "low": float(low),
            "high": float(high)
        })
    write("bootstrap.json", "splitmix64 draws, numpy.quantile", {"intervals": records})


if __name__ == "__main__":
    os.makedirs(TARGET, exist_ok=True)
    for make in (make_porter, make_rouge, make_bleu, make_numbers, make_text, make_refusal, make_ks, make_auc,
                 make_minkpp, make_truth_ratio, make_tofu, make_composite, make_bootstrap):
        make()
