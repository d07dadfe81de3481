"""Tokenizers without a token for padding, and what else a batch needs, before anything is trained."""

import json

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    WhisperFeatureExtractor,
)

from conftest import sentences, write_csv
from regard.errors import ConfigError
from regard.finetuning.check import check
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks.pictures import shared
from regard.finetuning.tasks.speech import recognizers
from regard.finetuning.tasks.texts import sequences, tokenizing
from regard.finetuning.tasks.texts import text_classification as task

END = "<|endoftext|>"
SIZES = {
    "gpt2": (GPT2Model, GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "llama": (
        LlamaModel,
        LlamaConfig,
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    ),
}


def make_tokenizer(folder, **special):
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(["a good film", "a dull film"] * 9, vocab_size=300, special_tokens=[END])
    pieces.save(str(folder / "t.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "t.json"), **special)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module", params=SIZES)
def decoder(request, tmp_path_factory):
    """A random decoder whose scores are of unit variance, and its tokenizer without padding."""
    kind, described, sizes = SIZES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = make_tokenizer(folder, eos_token=END, bos_token=END, unk_token=END)
    torch.manual_seed(0)
    model = kind(described(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, **sizes))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def classified(decoder, tmp_path):
    rows = [(f"a {'very ' * (n % 5)}{'good' if n % 2 else 'dull'} film {n}", "ny"[n % 2]) for n in range(60)]
    path = write_csv(tmp_path / "t.csv", [*rows, ("", "n"), ("\u00e9", "y")], ("text", "label"))
    return {
        "task": "text-classification",
        "model": str(decoder),
        "data": {"train": str(path), "validation": 0.2, "test": 0.2},
        "output": str(tmp_path / "run"),
        "train": {"max_steps": 3, "batch_size": 8, "precision": "float32", "evaluate_every": 3},
        "report": {"baselines": True, "attention": 0},
        "monitor": {"every": 0},
    }


def alone(folder, texts):
    """Each text's logits without any padding, by transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0] for text in texts]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_end_token_takes_the_place_of_padding(classified, decoder, side):
    (decoder / "tokenizer_config.json").write_text(
        json.dumps({**json.loads((decoder / "tokenizer_config.json").read_text()), "padding_side": side})
    )
    told = "the tokenizer has no padding token; '<|endoftext|>' takes its place, in the saved model too"
    assert [finding.message for finding in check(classified).findings].count(told) == 1
    run = finetune(classified, quiet=True)
    assert json.loads((run.path / "model" / "config.json").read_text())["pad_token_id"] == 0
    assert AutoTokenizer.from_pretrained(run.path / "model").pad_token == END
    texts = ["a good film", "a dull", "a very very very dull film of a very dull kind", "good"]
    right = [[*logits.softmax(-1).tolist()] for logits in alone(run.path / "model", texts)]
    found = [[*answer["probabilities"].values()] for answer in Run.load(run.path).predict(texts)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(right), rtol=1e-4, atol=1e-5)
    assert max(abs(one[0] - two[0]) for one in right for two in right) > 1e-2  # else all would be alike
    assert len(run.respond([""], Display(quiet=True))) == 1


def test_a_tokenizer_without_any_end(decoder, tmp_path):
    make_tokenizer(tmp_path)
    (tmp_path / "config.json").write_bytes((decoder / "config.json").read_bytes())
    with pytest.raises(ConfigError) as caught:
        tokenizing.load_tokenizer(str(tmp_path), None)
    assert str(caught.value) == (
        f"model: need a tokenizer with a padding or an end token; got '{tmp_path}' with neither; name another, or set "
        "pad_token in its tokenizer_config.json."
    )


def test_encoders_keep_their_side_and_their_padding(tiny):
    assert not tokenizing.reads_from_the_left(str(tiny))
    tokenizer = tokenizing.load_tokenizer(str(tiny), None)
    assert tokenizer.pad_token == "[PAD]"
    assert tokenizing.padding_findings("train", tokenizer) == []


def test_more_tokens_than_embeddings(values, tiny, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, "vocab_size": 20}))
    values["model"] = str(folder)
    values["data"]["train"] = str(write_csv(tmp_path / "t.csv", sentences(200, seed=1)))
    with pytest.raises(ConfigError) as caught:
        check(values)
    assert str(caught.value) == (
        f"model: need an embedding for each token; got 20, and token 37 of the tokenizer in '{folder}'; put the "
        "tokenizer there that the model was trained with."
    )


def test_a_decoder_that_does_not_know_how_to_begin(tmp_path, tiny):
    config = load_config({"task": "summarization", "model": str(tmp_path), "data": {"train": "t"}, "output": "o"})
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    BartModel(BartConfig(vocab_size=40, decoder_start_token_id=None, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError) as caught:
        sequences.load_processor(str(tmp_path), config, None, ["text", "summary"])
    assert str(caught.value) == (
        "model: need decoder_start_token_id in config.json, the token that the decoder begins with; got "
        f"'{tmp_path}' without it; add it."
    )
    with pytest.raises(ConfigError) as caught:
        sequences.load_processor(str(tiny), config, None, ["text", "summary"])
    assert "need an encoder with a decoder" in str(caught.value)


def test_pictures_of_another_size_than_the_model_reads(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=32, **sizes)).save_pretrained(tmp_path)
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    shared.require_fit(str(tmp_path), processor)
    with pytest.raises(ConfigError) as caught:
        shared.require_fit(str(tmp_path), ViTImageProcessor(size={"height": 48, "width": 40}))
    assert str(caught.value) == (
        f"model: need an image processor for 32 x 32 pixels, which the model reads; got one in '{tmp_path}' for 40 x "
        "48; correct preprocessor_config.json."
    )


def test_sounds_of_other_bands_than_the_model_reads(tmp_path):
    from types import SimpleNamespace

    from transformers import WhisperConfig

    WhisperConfig(num_mel_bins=128).save_pretrained(tmp_path)
    processor = SimpleNamespace(feature_extractor=WhisperFeatureExtractor(feature_size=80))
    with pytest.raises(ConfigError) as caught:
        recognizers._set_up(processor, str(tmp_path), {"window": None, "language": None})
    assert str(caught.value) == (
        f"model: need a feature extractor of 128 bands, as the model reads; got one of 80 in '{tmp_path}'; correct "
        "preprocessor_config.json."
    )


def test_the_task_knows_its_kind_of_model(decoder):
    assert tokenizing.reads_from_the_left(str(decoder))
    config = load_config({"task": "text-classification", "model": str(decoder), "data": {"train": "t"}, "output": "o"})
    assert task.load_processor(str(decoder), config).padding_side == "right"
