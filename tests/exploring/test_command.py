"""`regard explore`, with small models of random weights: what it reads, what it serves and writes, what it refuses."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

import regard
from regard.cli import app
from regard.commands.explore import _title
from regard.exploring import explore, offline, sources
from regard.exploring.atlas import Atlas, Name
from regard.looking.transformers.long_texts import read_whole

WORDS = ["[PAD]", "[UNK]", "one", "two", "three", "four", "five", ".", "</script>"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
TEXT = "one two three. four five one. two </script> three."


def tokenizer(known=WORDS):
    kind = models.WordPiece if any(word.startswith("##") for word in known) else models.WordLevel
    words = Tokenizer(kind({word: number for number, word in enumerate(known)}, unk_token="[UNK]"))
    stops = pre_tokenizers.Split(".", "isolated")
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), stops])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=64
    )


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("decoder"), 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("other"), 1)


def saved(folder, seed, known=WORDS):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        **SMALL, num_key_value_heads=2, vocab_size=len(known), max_position_embeddings=64, pad_token_id=0,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():
        parameter.data *= 3
    model.save_pretrained(folder)
    tokenizer(known).save_pretrained(folder)
    return folder


def invoke(*arguments):
    return CliRunner().invoke(app, ["explore", *map(str, arguments)], env={"COLUMNS": "200"})


def packed(path):
    found = re.search(r'<script type="application/json" id="packed">(.*?)</script>', path.read_text(encoding="utf-8"))
    return json.loads(found[1])


def weights_in(packed, head):
    there = packed["heads"][head]
    return np.frombuffer(base64.b64decode(there["mean"]), "<f2").reshape(there["shape"]).astype(float)


def eager(folder, ids):
    model = transformers.LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return torch.stack(model(torch.tensor([ids]), output_attentions=True).attentions)[:, 0].detach().numpy()


def test_a_page_without_a_server_has_the_weights_of_eager_attention(decoder, tmp_path):
    result = invoke(decoder, TEXT, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    found = packed(tmp_path / "page.html")
    labels = found["facts"]["views"][0]["axes"][0]["labels"]
    assert labels == ["one", "two", "three", ".", "four", "five", "one", ".", "two", "</script>", "three", "."]
    bands = found["facts"]["views"][0]["axes"][0]["bands"]
    assert [part[1:] for part in bands["sentences"]] == [[0, 4], [4, 8], [8, 12]]
    wanted = eager(decoder, tokenizer()(TEXT)["input_ids"])
    for layer in range(2):
        for head in range(4):
            found_here = weights_in(found, f"0.{layer}.{head}")
            np.testing.assert_allclose(np.nan_to_num(found_here), wanted[layer, head], atol=6e-4)
            assert (np.isnan(found_here) == ~np.tri(12, dtype=bool)).all()


def test_a_page_without_a_server_runs_its_own_script_alone(decoder, tmp_path):
    invoke(decoder, TEXT, "-o", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>", text) == [
        '<script type="application/json" id="packed">', "<script>", '<script type="module">'
    ]  # fmt: skip
    assert text.count("</script>") == 3
    assert not re.search(r'(src|href)="(?!data:|\$)', text.split("<body>")[1].split("<script>")[0])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src" not in policy
    assert not re.search(r"^(import|export) ", offline.joined(), re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", offline.joined(), re.MULTILINE)
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_a_file_is_read_and_two_models_are_laid_side_by_side(decoder, other, tmp_path):
    file = tmp_path / "page.txt"
    file.write_text(TEXT, encoding="utf-8")
    result = invoke(decoder, file, "--against", other, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    found = packed(tmp_path / "page.html")
    assert [view["title"] for view in found["facts"]["views"]] == [decoder.name, other.name]
    wanted = eager(other, tokenizer()(TEXT)["input_ids"])
    np.testing.assert_allclose(np.nan_to_num(weights_in(found, "1.1.3")), wanted[1, 3], atol=6e-4)


def test_it_says_what_it_reads_where_that_takes_long(decoder, tmp_path):
    def told(*more):
        return invoke(decoder, *more, "-o", tmp_path / "page.html").stderr

    assert told("one " * 1001, "--window", 64) == "reading 1,001 tokens\n"
    assert told("one " * 1000, "--window", 64) == ""


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("package:some_package/model", "some_package/model"),
        ("package:some_package/tiny", "tiny"),
        ("runs/reviews/checkpoint-500", "reviews/checkpoint-500"),
        ("runs/reviews/", "reviews"),
        ("somebody/small-model", "small-model"),
    ],
)
def test_a_model_is_called_by_what_tells_it_from_others(name, title):
    assert _title(name) == title


def test_what_a_decoder_writes_is_on_the_map(decoder, tmp_path):
    result = invoke(decoder, "one two three", "--generate", 5, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    found = packed(tmp_path / "page.html")
    bands = found["facts"]["views"][0]["axes"][0]["bands"]
    assert bands["read and written"] == [["read", 0, 3], ["written", 3, 8]]
    model = transformers.LlamaForCausalLM.from_pretrained(decoder)
    ids = model.generate(torch.tensor([[2, 3, 4]]), max_new_tokens=5, do_sample=False)[0].tolist()
    np.testing.assert_allclose(np.nan_to_num(weights_in(found, "0.0.1")), eager(decoder, ids)[0, 1], atol=6e-4)


def test_a_page_of_words(tmp_path):
    saved(tmp_path / "bert", 3, ["[PAD]", "[UNK]", "play", "##ing", "##s", "a"])
    result = invoke(tmp_path / "bert", "playing a plays", "--words", "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    found = packed(tmp_path / "page.html")
    assert found["facts"]["views"][0]["axes"][0]["labels"] == ["playing", "a", "plays"]
    dense = eager(tmp_path / "bert", [2, 3, 5, 2, 4])[1, 3]
    wanted = np.stack([dense[:2].mean(0), dense[2], dense[3:].mean(0)])
    wanted = np.stack([wanted[:, :2].sum(1), wanted[:, 2], wanted[:, 3:].sum(1)], 1)
    np.testing.assert_allclose(np.nan_to_num(weights_in(found, "0.1.3")), wanted, atol=6e-4)


def test_a_window_reads_a_long_text_in_pieces(decoder):
    model, words = transformers.LlamaForCausalLM.from_pretrained(decoder), tokenizer()
    text = " ".join(np.random.default_rng(0).choice(WORDS[2:7], 100))
    view = sources.of_text(model, words, text, "", window=40)
    assert view.axes[0].bands["pieces"] == [("0", 0, 40), ("1", 40, 80), ("2", 80, 100)]
    ids, found = words(text)["input_ids"], Atlas([view]).tile(Name.read("0.1.2"), "mean", (0, 0), (0, 0))
    wanted = np.zeros((100, 100))
    for start, stop in ((0, 40), (40, 80), (80, 100)):
        wanted[start:stop, start:stop] = eager(decoder, ids[start:stop])[1, 2]
    np.testing.assert_allclose(np.nan_to_num(found), wanted, atol=1e-5)
    assert np.isnan(found[45, 39]) and not np.isnan(found[45, 40])  # noqa: PT018


def test_the_model_runs_once_and_only_queries_and_keys_are_kept(decoder, monkeypatch):
    model, words = transformers.LlamaForCausalLM.from_pretrained(decoder), tokenizer()
    calls = []
    model.model.register_forward_hook(lambda *_: calls.append(1))
    read = read_whole(model, words, TEXT)
    assert len(calls) == 1
    kept = 2 * (4 + 2) * 12 * 4 * 4  # layers, heads of queries and of keys, tokens, numbers of each, bytes
    assert read.seen.nbytes <= kept + 2 * 4 * 12 * 4


def test_what_a_model_writes_apart_is_a_map_of_its_own(tmp_path):
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=len(WORDS), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, max_length=9,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path / "bart")
    tokenizer().save_pretrained(tmp_path / "bart")
    result = invoke(tmp_path / "bart", TEXT, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    view = packed(tmp_path / "page.html")["facts"]["views"][0]
    reading, writing = view["layers"]
    assert reading["shape"] == [12, 12]
    assert (writing["queries"], writing["keys"]) == (1, 0)
    assert writing["shape"] == [len(view["axes"][1]["labels"]), 12]


def test_a_picture_brings_its_patches(tmp_path):
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, image_size=32, patch_size=8))
    model.save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    result = invoke(tmp_path / "vit", tmp_path / "a.png", "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    view = packed(tmp_path / "page.html")["facts"]["views"][0]
    assert (view["kind"], view["media"]["grid"], view["media"]["prefix"]) == ("image", [4, 4], 1)
    assert view["media"]["picture"].startswith("data:image/png;base64,")
    assert len(view["axes"][0]["labels"]) == 17


def test_it_serves_until_ctrl_c_and_says_where(decoder):
    command = [sys.executable, "-m", "regard.cli", "explore", str(decoder), TEXT, "--no-browser"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        told = process.stdout.readline()
        address = re.fullmatch(r"The page, until Ctrl-C: (http://127\.0\.0\.1:\d+/\S+/)\n", told)[1]
        with urllib.request.urlopen(address + "about", timeout=20) as answer:
            assert len(json.load(answer)["views"][0]["layers"]) == 2
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=5)
        assert (process.returncode, "Traceback" in errors) == (130, False)
    finally:
        process.kill()


REFUSED = [
    ([TEXT, "--window", "100"], "--window: need 2 to 64 tokens, which the model reads at once; got 100."),
    (
        ["one " * 70],
        "need at most 64 tokens, which the model reads at once; got 70; say --window 64 to read it in pieces",
    ),
    ([" "], "got an empty text; write one."),
    (["nowhere.txt"], "need a file to read; got nothing there"),
    ([TEXT, "-o", "page.png"], "page.png: need a file ending in .html; got '.png'; rename it."),
    ([TEXT, "--window", "40", "--generate", "3"], "--generate: need a text that is read at once; got --window"),
    (["{folder}"], "got a folder; name a file."),
    (["{bytes}"], "got byte 0xff at 0; convert it"),
]


@pytest.mark.parametrize(("arguments", "told"), REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(decoder, tmp_path, arguments, told):
    (tmp_path / "some.txt").write_bytes(b"\xff\xfe")
    given = {"folder": tmp_path, "bytes": tmp_path / "some.txt"}
    result = invoke(decoder, *(each.format(**given) if "{" in each else each for each in arguments))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_models_that_read_other_tokens_cannot_be_laid_side_by_side(decoder, tmp_path):
    saved(tmp_path / "third", 2)
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS[::-1])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path / "third")
    result = invoke(decoder, TEXT, "--against", tmp_path / "third", "-o", tmp_path / "page.html")
    assert result.exit_code == 2
    assert "--against: need two models that read the same tokens" in result.stderr


def test_what_a_page_without_a_server_has_no_room_for(tmp_path):
    random = np.random.default_rng(0)
    query = random.normal(size=(1, 1, 2049, 4)).astype(np.float32)
    with pytest.raises(
        regard.errors.TooLargeError, match=r"need at most 2,048 tokens .* got 2,049; leave out --output"
    ):
        offline.render([explore.view_of(regard.attention(query, query, query).weights)])


def test_a_page_is_opened_where_there_is_a_display(monkeypatch):
    opened = []
    monkeypatch.setattr(explore.webbrowser, "open", lambda address: opened.append(address) or True)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    weights = regard.attention(*(np.zeros((1, 3, 2), np.float32),) * 3).weights
    with regard.explore(weights) as page:
        assert opened == [] and "127.0.0.1" in page.address  # noqa: PT018
    with regard.explore(weights, browser=True) as page:
        assert opened == [page.address]


def test_without_its_packages_it_says_what_to_install(monkeypatch, decoder):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "regard.exploring.server", raising=False)
    result = invoke(decoder, TEXT, "--no-browser")
    assert result.exit_code == 2
    assert (
        "need Starlette and uvicorn; got an environment without uvicorn; pip install 'regard[explore]'."
        in result.stderr
    )
