"""Programs that draw or collect `outputs.attentions`, given lazy weights: the numbers that they have of eager ones.

BertViz and inseq ask for packages that would replace others: both are installed apart, without what they ask for.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

import regard
import regard.models.transformers  # registers the attention

APART = Path(sys.prefix) / "views"
COMMON = """
import json, re, warnings
warnings.filterwarnings("ignore")
import torch, transformers, regard, regard.models.transformers
from tokenizers import Tokenizer, models, pre_tokenizers

SIZES = dict(vocab_size=42, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=37)

def spread(model):  # scores of unit size
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model.eval()
"""
BERTVIZ = """
from bertviz import head_view, model_view

def numbers(html):
    text = re.search(r"(?:params|PYTHON_PARAMS) = (\\{.*?\\});?\\s", html, re.S)[1]
    return [view["attn"] for view in json.loads(text)["attention"]]

model = spread(transformers.BertModel(transformers.BertConfig(**SIZES)))
ids = torch.tensor([[1, 2, 3, 4, 5]])
tokens = list("abcde")
found = {}
for kind in ("eager", "regard"):
    model.set_attn_implementation(kind)
    with torch.no_grad():
        attentions = model(ids, output_attentions=True).attentions
    found[kind] = [
        numbers(view(attentions, tokens, html_action="return", **options).data)
        for view in (head_view, model_view)
        for options in ({}, {"sentence_b_start": 2}, {"include_layers": [0, 2]})
    ]
    found[kind].append(numbers(model_view(attentions, tokens, include_heads=[1, 3], html_action="return").data))
print(json.dumps(found))
"""
INSEQ = """
import inseq

words = Tokenizer(models.WordLevel({**{f"w{n}": n for n in range(40)}, "<eos>": 40, "<unk>": 41}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
special = dict(eos_token="<eos>", bos_token="<eos>", pad_token="<eos>", unk_token="<unk>")
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)
config = transformers.GPT2Config(
    vocab_size=42, n_embd=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=40, eos_token_id=40
)
model = spread(transformers.GPT2LMHeadModel(config))
model.set_attn_implementation("eager")
wrapped = inseq.load_model(model, "attention", tokenizer=tokenizer)
found = {}
for kind in ("eager", "regard"):
    wrapped.model.set_attn_implementation(kind)
    out = wrapped.attribute("w1 w2 w3", generated_texts="w1 w2 w3 w4 w5", show_progress=False)
    found[kind] = out.sequence_attributions[0].target_attributions.nan_to_num(-1.0).tolist()
print(json.dumps(found))
"""


def same(one, other):
    """Whether two nested lists of numbers are alike."""
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*both) for both in zip(one, other, strict=True))
    return abs(one - other) < 1e-5


@pytest.mark.parametrize("program", [BERTVIZ, INSEQ], ids=["bertviz", "inseq"])
def test_a_program_has_the_numbers_that_eager_attention_gives(program):
    code = f"import sys; sys.path.append({str(APART)!r})\n{COMMON}{program}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert np.asarray(found["eager"][0][0]).std() > 0.05
    assert same(found["eager"], found["regard"])


def test_whisper_generates_with_attentions_and_times():
    """Its generation cuts, concatenates and stacks what it is given, for each token's time."""
    config = WhisperConfig(
        vocab_size=99, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=37, decoder_ffn_dim=37, max_source_positions=30,
        max_target_positions=40, num_mel_bins=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=3, suppress_tokens=None, begin_suppress_tokens=None, median_filter_width=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    model.generation_config.alignment_heads = [[0, 1], [1, 2]]
    model.generation_config.no_timestamps_token_id = 90
    options = {"max_new_tokens": 6, "output_attentions": True, "return_dict_in_generate": True, "do_sample": False}
    sound = torch.randn(2, 8, 60)
    for times in (False, True):
        found = {}
        for kind in ("eager", "regard"):
            model.set_attn_implementation(kind)
            found[kind] = dict(model.generate(sound, return_token_timestamps=times, **options))
        assert found["regard"].keys() == found["eager"].keys()
        assert torch.equal(found["regard"]["sequences"], found["eager"]["sequences"])
        for name in ("decoder_attentions", "cross_attentions"):
            assert_attentions(found["regard"][name], found["eager"][name])
    assert float(found["eager"]["token_timestamps"].max()) > 0
    torch.testing.assert_close(found["regard"]["token_timestamps"], found["eager"]["token_timestamps"])


def assert_attentions(found, expected):
    """Nested tuples of lazy weights against those of tensors."""
    if isinstance(expected, torch.Tensor):
        dense = found.dense() if isinstance(found, regard.AttentionWeights) else found
        return torch.testing.assert_close(dense, expected, rtol=1e-5, atol=1e-6)
    assert len(found) == len(expected) > 0
    for both in zip(found, expected, strict=True):
        assert_attentions(*both)
