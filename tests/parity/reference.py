"""transformers as an oracle: a Hugging Face folder evaluated in double, for make_model_golden.py and check_output.py.

transformers computes norms, softmax and rotary angles in float32 whatever the model's type. Inside double_arithmetic()
these, too, are double, so that what is left between us and it is our own rounding.
"""
import contextlib
import logging
import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is ever downloaded

import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

transformers_logging.disable_progress_bar()
transformers_logging.disable_default_handler()  # load() listens
logging.getLogger("transformers").addHandler(logging.NullHandler())


class _Complaints(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def double_arithmetic():
    kept = torch.float32, torch.float, torch.Tensor.float, torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept[:3]
        torch.set_default_dtype(kept[3])


def load(folder):
    """(model in double, model in float32 as users get it). Ends the program when transformers has anything to say about
    the folder: a tensor missing, unexpected or of another shape, or a warning."""
    complaints = _Complaints()
    logger = logging.getLogger("transformers")
    logger.addHandler(complaints)
    try:
        plain, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    finally:
        logger.removeHandler(complaints)
    # a buffer of old GPT-2 files, which transformers 5 reports and does without
    info["unexpected_keys"] = {key for key in info["unexpected_keys"] if not key.endswith(".attn.masked_bias")}
    wrong = {key: value for key, value in info.items() if value}
    # said of every Phi-3 with longrope that save_pretrained itself has written: its config.json is kept as it was
    known = ("masked_bias", "Please set the `factor` field of `rope_parameters`")
    lines = [line for line in complaints.lines if not any(text in line for text in known)]
    if wrong or lines:
        raise SystemExit("%s: transformers complains: %s %s" % (folder, wrong or "", " ".join(lines)))
    with double_arithmetic():
        model = type(plain)(plain.config).double().eval()
    model.load_state_dict(plain.state_dict())
    return model, plain.eval()


def load_adapter(base, folder):
    """The same two models with a PEFT folder's adapter, trainable. Ends the program when PEFT warns of anything, or
    does not find a tensor that it expects, or finds one that it does not."""
    models = load(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FutureWarning)  # what the next version will name otherwise
        try:
            adapted = [PeftModel.from_pretrained(model, folder, is_trainable=True).eval() for model in models]
        except UserWarning as complaint:
            raise SystemExit("%s: PEFT complains: %s" % (folder, complaint))
    for model in adapted:
        result = model.load_adapter(folder, "again")
        wrong = [key for key in result.missing_keys if ".again." in key] + result.unexpected_keys
        model.delete_adapter("again")
        if wrong:
            raise SystemExit("%s: PEFT complains: missing or unexpected: %s" % (folder, " ".join(wrong)))
    return adapted[0].double(), adapted[1]


def row_logprobs(model, ids):
    """Log-probabilities of every next token, [len(ids), vocabulary], in the model's type."""
    return torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
