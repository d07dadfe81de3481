"""`regard explore`, with small models of random weights: what it reads, what it serves and writes, what it refuses."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import wave

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
from regard.finetuning.tasks.speech import recognizers
from regard.looking.sounds import read_sound
from regard.looking.transformers.long_texts import read_whole
from regard.looking.transformers.sounds import listen

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


CHAT = [{"role": "system", "content": "one two"}, {"role": "user", "content": " three. "}]
TEMPLATE = (
    "{% for each in messages %}{{ '[PAD] ' + each['content'].strip() + ' [PAD] ' }}"
    "{% if each.role == 'nobody' %}{{ raise_exception('what role?') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}four{% endif %}"
)


def talker(folder):
    saved(folder, 4)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    words.chat_template = TEMPLATE
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("under", [lambda chat: chat, lambda chat: {"messages": chat, "more": 1}])
def test_the_turns_of_a_conversation_are_bands(tmp_path, under):
    (tmp_path / "chat.json").write_text(json.dumps(under(CHAT)))
    result = invoke(talker(tmp_path / "m"), tmp_path / "chat.json", "--generate", 3, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    [axis] = packed(tmp_path / "page.html")["facts"]["views"][0]["axes"]
    assert axis["labels"][:9] == ["[PAD]", "one", "two", "[PAD]", "[PAD]", "three", ".", "[PAD]", "four"]
    assert axis["bands"]["turns"] == [["system", 1, 3], ["user", 5, 7], ["assistant", 9, 12]]
    assert next(iter(axis["bands"])) == "turns"


def test_a_file_of_json_that_is_no_conversation_is_a_text(decoder, tmp_path):
    for content in ("{one", "[1]", "[]", '[{"role": "x"}]', '{"messages": "one"}'):
        (tmp_path / "a.json").write_text(content)
        result = invoke(decoder, tmp_path / "a.json", "-o", tmp_path / "page.html")
        assert result.exit_code == 0, result.output
        assert "turns" not in packed(tmp_path / "page.html")["facts"]["views"][0]["axes"][0]["bands"]


@pytest.mark.parametrize(
    ("chat", "told"),
    [
        ([{"role": "nobody", "content": "one"}], "got one that it refuses (what role?); correct its roles."),
        ([{"role": "user", "content": ["one"]}], "need texts as 'role' and 'content'; got others in message 0"),
    ],
)
def test_a_conversation_that_cannot_be_read_is_refused(decoder, tmp_path, chat, told):
    (tmp_path / "chat.json").write_text(json.dumps(chat))
    result = invoke(talker(tmp_path / "m"), tmp_path / "chat.json", "-o", tmp_path / "page.html")
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
    result = invoke(decoder, tmp_path / "chat.json", "-o", tmp_path / "page.html")
    assert "need a model with a chat template for a conversation; got one without; give it a text." in result.stderr


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


BY_ARRAYS = {
    "Mistral": {**SMALL, "num_key_value_heads": 2, "sliding_window": 5},
    "ModernBert": {**SMALL, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2, "num_hidden_layers": 4},
    "T5": {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 4},
}


@pytest.mark.parametrize("family", BY_ARRAYS)
def test_pieces_of_models_with_windows_and_biases_are_as_each_piece_is(family):
    torch.manual_seed(0)
    options = {**BY_ARRAYS[family], "vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    kind = "T5EncoderModel" if family == "T5" else f"{family}Model"
    model = getattr(transformers, kind)(getattr(transformers, f"{family}Config")(**options)).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    words = tokenizer()
    text = " ".join(np.random.default_rng(0).choice(WORDS[2:7], 50))
    view = sources.of_text(model, words, text, "", window=20)
    ids, atlas = words(text)["input_ids"], Atlas([view])
    wanted = np.zeros((50, 50))
    model.set_attn_implementation("eager")
    for start, stop in ((0, 20), (20, 40), (40, 50)):
        with torch.no_grad():
            dense = model(torch.tensor([ids[start:stop]]), output_attentions=True).attentions
        wanted[start:stop, start:stop] = dense[1][0, 2].numpy()
    for levels in ((0, 0), (1, 2)):
        found = atlas.tile(Name.read("0.1.2"), "sum", levels, (0, 0))
        rows, keys = (np.arange(0, 50, 1 << level) for level in levels)
        np.testing.assert_allclose(
            np.nan_to_num(found), np.add.reduceat(np.add.reduceat(wanted, rows, 0), keys, 1), atol=5e-5
        )
    part = atlas.head((0, 1, 2)).weights(range(15, 45), range(18, 50), atlas.whole((0, 1, 2))[1].parts)[0]
    np.testing.assert_allclose(part, wanted[15:45, 18:50], atol=5e-5)
    assert np.isnan(atlas.tile(Name.read("0.1.2"), "mean", (0, 0), (0, 0))[25, 15])


def test_the_model_runs_once_and_only_queries_and_keys_are_kept(decoder, monkeypatch):
    model, words = transformers.LlamaForCausalLM.from_pretrained(decoder), tokenizer()
    calls = []
    model.model.register_forward_hook(lambda *_: calls.append(1))
    read = read_whole(model, words, TEXT)
    assert len(calls) == 1
    kept = 2 * (4 + 2) * 12 * 4 * 4  # layers, heads of queries and of keys, tokens, numbers of each, bytes
    assert len(read.seen) == 1
    assert read.seen[0].nbytes <= kept + 2 * 4 * 12 * 4


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


def test_a_detector_brings_its_boxes_and_patches_of_its_own(tmp_path):
    """YOLOS has queries of boxes behind the patches."""
    torch.manual_seed(0)
    config = transformers.YolosConfig(**SMALL, image_size=[32, 40], patch_size=8, num_detection_tokens=3, num_labels=2)
    model = transformers.YolosForObjectDetection(config)
    model.class_labels_classifier.layers[-1].bias.data = torch.tensor([4.0, 0.0, 0.0])
    model.save_pretrained(tmp_path / "yolos")
    transformers.YolosImageProcessorPil(size={"height": 32, "width": 40}).save_pretrained(tmp_path / "yolos")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)).save(tmp_path / "a.png")
    result = invoke(tmp_path / "yolos", tmp_path / "a.png", "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    view = packed(tmp_path / "page.html")["facts"]["views"][0]
    assert (view["media"]["grid"], view["media"]["prefix"]) == ([4, 5], 1)
    assert view["axes"][0]["labels"][view["media"]["prefix"]] == "row 0, column 0"
    assert view["axes"][0]["special"] == [0, 21, 22, 23]
    assert len(view["media"]["boxes"]) == 3
    assert all(len(box) == 6 and 0 <= box[1] <= 1 for box in view["media"]["boxes"])


def test_what_a_recogniser_writes_is_laid_against_the_seconds(tmp_path):
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=261, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, num_mel_bins=80,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50,
        max_target_positions=24, decoder_start_token_id=257, bos_token_id=256, eos_token_id=256, pad_token_id=256,
        begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    model.generation_config.no_timestamps_token_id, model.generation_config.is_multilingual = 258, False
    model.generation_config.suppress_tokens = [256, 257, 258, 259, 260]
    processor = recognizers._new_processor("whisper", 1, [])
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.random.default_rng(0).normal(size=16_000) * 3000).astype("<i2").tobytes())
    view = sources.of_looked(listen(model, processor, str(tmp_path / "a.wav")), "", str(tmp_path / "a.wav"))
    [reading, *writing] = view.layers
    assert (reading.queries, reading.keys) == (0, 0)
    assert [(layer.queries, layer.keys) for layer in writing] == [(1, 0)] * 2
    assert [len(axis.labels) for axis in view.axes] == [50, writing[0].weights.shape[-2]]
    assert view.axes[1].labels[-1] == processor.tokenizer.convert_ids_to_tokens(256)
    assert len(view.media["wave"]) == 50
    model.set_attn_implementation("eager")
    ids = [257, *processor.tokenizer.convert_tokens_to_ids(view.axes[1].labels[:-1])]
    batch = processor.feature_extractor(
        read_sound(str(tmp_path / "a.wav"), 16_000), sampling_rate=16_000, return_tensors="pt"
    )
    with torch.no_grad():
        wanted = model(**batch, decoder_input_ids=torch.tensor([ids]), output_attentions=True).cross_attentions
    for layer, dense in zip(writing, wanted, strict=True):
        np.testing.assert_allclose(layer.weights.dense().numpy(force=True), dense[0].numpy(force=True), atol=1e-5)


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
