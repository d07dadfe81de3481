"""Recordings of every kind, errors against a textbook count, and recognisers from scratch on words that are tones."""

import ast
import csv
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from conftest import answer_without_numbers, run_programs
from regard.cli import app
from regard.errors import ConfigError, DataError
from regard.finetuning import conduct
from regard.finetuning.check import check, prepare
from regard.finetuning.configure import load_config
from regard.finetuning.export import export
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import Run, evaluate
from regard.finetuning.runs.stream import predict_file
from regard.finetuning.tasks.speech import recognizers, recordings, transcripts
from regard.finetuning.tasks.speech import speech_recognition as task
from regard.finetuning.training import interrupts, watcher
from regard.looking.sounds import open_sound, read_sound, resample

SCRATCH = {"layers": 1, "width": 32, "heads": 2}
TONES = {"low": 300, "mid": 900, "high": 2700}


def write_sound(path, values, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.asarray(values) * 32767).astype("<i2").tobytes())
    return path


def tone(word, number, rate=8000):
    rng = np.random.default_rng(number)
    moments = np.arange(int(rate * rng.uniform(0.3, 0.8))) / rate
    return 0.4 * np.sin(2 * np.pi * TONES[word] * moments) + rng.normal(size=len(moments)) * 0.01


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Folders `train` and `test` of recordings of 8 kHz, each beside its word."""
    folder = tmp_path_factory.mktemp("spoken")
    for part, count in {"train": 60, "test": 15}.items():
        (folder / part).mkdir()
        for number in range(count):
            word = list(TONES)[number % 3]
            write_sound(folder / part / f"{number:02}.wav", tone(word, number + 1000 * (part == "test")))
            (folder / part / f"{number:02}.txt").write_text(f"{word.capitalize()}!\n")
    return folder


def make_values(spoken, output, model="whisper", **train):
    return {
        "task": "speech-recognition",
        "model": model,
        "data": {"train": str(spoken / "train"), "test": str(spoken / "test"), "validation": 0.15},
        "output": str(output),
        "train": {
            "max_steps": 80, "batch_size": 10, "learning_rate": 1e-2, "evaluate_every": 40, "precision": "float32",
        } | train,
        "options": {"from_scratch": SCRATCH, "window": 1},
        "report": {"attention": 1, "mistakes": 4},
    }  # fmt: skip


@pytest.fixture
def values(spoken, tmp_path):
    return make_values(spoken, tmp_path / "run")


@pytest.fixture(scope="module")
def finished(spoken, tmp_path_factory):
    return conduct.finetune(make_values(spoken, tmp_path_factory.mktemp("runs") / "run"), quiet=True)


def refusal(function, *args, error=ConfigError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def test_a_run_from_scratch_learns(finished):
    metrics = finished.metrics
    assert metrics["rows"] == 15
    assert metrics["word_error_rate"] < 0.3 < metrics["baselines"]["commonest words"]["word_error_rate"] - 0.3
    assert set(metrics["intervals_95"]) == {"word_error_rate", "character_error_rate"}
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert "Whisper&#39;s basic normaliser" in page or "Whisper's basic normaliser" in page
    assert "What was said and heard" in page
    assert "When each word was heard" in page


def test_predicting_looking_and_evaluating(finished, spoken, tmp_path):
    sound = spoken / "test" / "01.wav"
    [found] = Run.load(finished.path).predict(str(sound))
    told = CliRunner().invoke(app, ["predict", str(finished.path), str(sound)])
    assert told.stdout == f"{found['text']}\n"
    scores = evaluate(finished, spoken / "test")
    assert scores["word_error_rate"].value == pytest.approx(finished.metrics["word_error_rate"], abs=1e-6)
    assert not scores["word_error_rate"].higher_is_better
    told = CliRunner().invoke(app, ["look", str(finished.path), str(sound)], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert "from (s)" in told.stdout
    written = predict_file(finished, spoken / "test", tmp_path / "heard.csv")
    with written.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["audio"] for row in rows] == [f"{number:02}.wav" for number in range(15)]
    assert rows[1]["predicted_text"] == found["text"]
    assert rows[1]["text"] == "Mid!"


@pytest.mark.slow
def test_the_programs_in_the_card_answer_as_the_run(finished, spoken, tmp_path):
    said = spoken / "test" / "01.wav"
    (tmp_path / "sound.wav").write_bytes(said.read_bytes())
    [expected] = finished.predict(str(said))
    plain, ours = run_programs(finished, tmp_path)
    assert plain.strip() == expected["text"]
    assert ast.literal_eval(ours)[0]["text"] == expected["text"]


@pytest.mark.slow
def test_going_on_ends_in_the_same_weights(finished, values, monkeypatch):
    original = watcher.Watcher.on_step_end

    def interrupting(watcher, args, state, control, **events):
        watcher.interrupted = watcher.interrupted or state.global_step == 53
        return original(watcher, args, state, control, **events)

    monkeypatch.setattr(watcher.Watcher, "on_step_end", interrupting)
    with pytest.raises(interrupts.Interrupted):
        conduct.finetune(values, quiet=True)
    monkeypatch.undo()
    resumed = conduct.finetune(values, resume=True, quiet=True)
    for one, other in zip(resumed.model.parameters(), finished.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["ctc", "lora"])
def test_spelling_and_few_parameters(kind, finished, spoken, tmp_path):
    """CTC from scratch, and an adapter on a Whisper that was fine-tuned before."""
    values = make_values(spoken, tmp_path / "run", "wav2vec2", max_steps=4, evaluate_every=2)
    if kind == "lora":
        values |= {"model": str(finished.path / "model"), "adapter": {"kind": "lora"}, "options": {}}
    run = conduct.finetune(values, quiet=True)
    assert (run.path / "adapter").is_dir() == (kind == "lora")
    if kind == "ctc":
        assert run.state["spec"]["characters"] == sorted(set("lowmidhigh"))
        assert run.model.config.vocab_size == len(run.processor.tokenizer) == 3 + len(set("lowmidhigh"))
    else:
        before = run.metrics["baselines"]["before fine-tuning"]["word_error_rate"]
        assert before == pytest.approx(finished.metrics["word_error_rate"], abs=1e-6)
    assert all(isinstance(answer["text"], str) for answer in run.predict([str(spoken / "test" / "00.wav")]))


def textbook_errors(one, other):
    """Edit distance by its recurrence (Wagner and Fischer 1974)."""
    table = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(other) + 1)}
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            table[i, j] = min(
                table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (one[i - 1] != other[j - 1])
            )
    return table[len(one), len(other)]


def test_it_is_exported_as_transformers_loads_it(finished, tmp_path):
    """What its decoder makes of what was written so far is compared, too."""
    done = export(finished, tmp_path / "out")
    assert done.difference == 0
    assert done.inputs == 6
    assert done.lengths == []


def test_error_rates_are_those_of_the_textbook():
    rng = np.random.default_rng(1)
    said = [" ".join(rng.choice(["press", "one", "two", "now"], rng.integers(1, 8))) for _ in range(60)]
    heard = [" ".join(word for word in text.split() if rng.random() < 0.8) + " please" for text in said]
    heard[0] = ""
    scores = transcripts.error_rates(said, heard, "none")
    pairs = list(zip(said, heard, strict=True))
    words = sum(textbook_errors(a.split(), b.split()) for a, b in pairs) / sum(len(a.split()) for a in said)
    signs = sum(textbook_errors(a, b.strip()) for a, b in pairs) / sum(map(len, said))
    assert scores["word_error_rate"].value == pytest.approx(words)
    assert scores["character_error_rate"].value == pytest.approx(signs)
    low, high = scores["word_error_rate"].interval
    assert low < words < high


def test_recordings_in_which_nothing_is_said_are_counted_apart():
    """Nothing that is compared, too: what stands in brackets is left out by the normaliser."""
    said, heard = ["one two", "", "[noise]", "three"], ["one", "thank you", "you", "three"]
    scores = transcripts.error_rates(said, heard, "basic")
    spoken = transcripts.error_rates([said[0], said[3]], [heard[0], heard[3]], "basic")
    assert spoken.keys() == {"word_error_rate", "character_error_rate"}
    assert {name: scores[name].value for name in spoken} == {name: each.value for name, each in spoken.items()}
    assert scores["word_error_rate"].value == pytest.approx(1 / 3)
    assert scores["false_words_in_silence"].value == pytest.approx(3 / 2)
    alone = transcripts.error_rates([""], ["a b c"], "none")
    assert {name: each.value for name, each in alone.items()} == {"false_words_in_silence": 3.0}


def test_sounds_beyond_full_scale_are_told_and_read_as_they_are(tmp_path):
    from scipy.io import wavfile

    files, tone = [str(tmp_path / f"{n}.wav") for n in range(3)], np.sin(np.arange(1600) / 9).astype(np.float32)
    for file, height in zip(files, (0.5, 1.0, 1.7), strict=True):
        wavfile.write(file, 16_000, tone * np.float32(height))
    found = recordings.sound_findings("train", recordings.look_into("train", files), 16_000)
    assert [each.message for each in found if each.level == "warning"] == [
        "train: 1 recordings have values beyond 1, up to 1.7 (first in row 3); they are read as they are: other "
        "programs clip them"
    ]
    np.testing.assert_array_equal(read_sound(files[2], 16_000), tone * np.float32(1.7))


def test_normalisers():
    said, heard = ["Press one, please. It's Waldo's."], ["press 1 please its waldo's"]
    errors = {kind: transcripts.count_errors(said, heard, kind, "en")[0, 0] for kind in ("none", "basic", "english")}
    assert errors["none"] > errors["basic"] > errors["english"]


def test_long_recordings_are_cut_where_they_are_quiet():
    rng = np.random.default_rng(2)
    sound = rng.normal(size=50_000)
    sound[10_800:15_800] *= 0.01
    parts = recordings.pieces(sound, 16_000)
    assert all(len(part) <= 16_000 for part in parts)
    assert 13_000 < len(parts[0]) < 14_000
    np.testing.assert_array_equal(np.concatenate(parts), sound)
    assert len(recordings.pieces(sound[:16_000], 16_000)) == 1


def test_a_look_tells_what_it_does_not_hear(finished, tmp_path):
    for seconds, told in ((1, ""), (3.25, "the last 2.2 seconds of the sound are beyond what the model hears at once")):
        sound = np.resize(tone("low", 1), int(8000 * seconds))
        looked = CliRunner().invoke(app, ["look", str(finished.path), str(write_sound(tmp_path / "s.wav", sound))])
        assert looked.exit_code == 0, looked.output
        assert looked.stderr.startswith(f"regard: {told}" if told else "")
        assert bool(looked.stderr) == bool(told)


def test_a_shorter_window_reads_as_the_beginning_of_the_longer_one(finished):
    from transformers import WhisperForConditionalGeneration

    spec = finished.spec.model_copy(update={"window": 2})
    long = recognizers._new_model(spec, None)
    weights = long.model.encoder.embed_positions.weight.clone()
    recognizers._shorten(long, 1)
    torch.testing.assert_close(long.model.encoder.embed_positions.weight, weights[:50])
    assert long.model.encoder(torch.zeros(1, 80, 100)).last_hidden_state.shape == (1, 50, 32)
    again = WhisperForConditionalGeneration.from_pretrained(finished.path / "model")  # as anybody loads it
    assert again.config.max_source_positions == 50
    assert again.generation_config.no_timestamps_token_id == 258


def test_findings(values, spoken, tmp_path):
    rows = [(str(spoken / "train" / f"{number:02}.wav"), "low") for number in range(12)]
    rows.append((str(write_sound(tmp_path / "silent.wav", np.zeros(4000))), "high"))
    rows.append((str(write_sound(tmp_path / "long.wav", tone("mid", 3, 48_000), 16_000)), "mid"))
    values["model"], values["data"]["train"] = "wav2vec2", str(tmp_path / "train.csv")
    values["data"]["validation"] = str(tmp_path / "other.jsonl")
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["audio", "text"], *rows])
    (tmp_path / "other.jsonl").write_text(f'{{"audio": "{rows[0][0]}", "text": "Größe"}}\n')
    told = {finding.message: finding.level for finding in check(values).findings}
    messages = "\n".join(told)
    assert "train: resampled to the 16,000 Hz that the model reads: 13 of 8,000 Hz; above half their own" in messages
    assert "train: 1 recordings are silent (first in row 13); nobody can hear their words: drop the rows" in told
    assert "train: the model reads 1 seconds; 1 of 14 are longer" in messages
    assert "validation: the tokenizer lacks 4 characters of the transcripts: " in messages
    assert "validation: 1 recordings are in train too" in messages
    assert len(prepare(load_config(values)).encoded["train"].rows) == 13
    values["data"]["too_long"] = "refuse"
    assert refusal(check, values, error=DataError).startswith(
        "train: need recordings of at most 1 seconds; got 1 of 14"
    )


def test_a_folder_of_recordings_names_the_words_that_it_cannot_read(tmp_path):
    write_sound(tmp_path / "a.wav", tone("low", 1))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbflow\n")
    (tmp_path / "._a.wav").write_bytes(b"of another system")
    assert list(recordings.in_folder(tmp_path)) == [{"audio": "a.wav", "text": "low"}]
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    told = refusal(lambda: list(recordings.in_folder(tmp_path)), error=DataError)
    assert told.startswith(f"{tmp_path}/a.txt: need text in UTF-8; got byte 0xe9 at line 1, byte 4 of it;")


def test_recordings_that_cannot_be_used(values, tmp_path):
    table = tmp_path / "one.jsonl"
    values["data"] = {"train": str(table), "validation": str(table)}

    def told(audio, text):
        table.write_text(f'{{"audio": "{audio}", "text": "{text}"}}\n')
        return refusal(check, values, error=DataError)

    good = write_sound(tmp_path / "good.wav", tone("low", 1))
    assert told("nowhere.wav", "low") == (
        f"{table}: need the file of a recording in each row; got no file '{tmp_path / 'nowhere.wav'}' in row 1; "
        "correct it or drop the row."
    )
    assert told(good, " ") == f"{table}: need words in each row; got none in row 1; fill it in or drop the row."
    assert told(good, "...") == f"{table}: need words in each row; got '...' in row 1; fill it in or drop the row."
    empty = write_sound(tmp_path / "empty.wav", [])
    assert told(empty, "low") == (
        f"train, row 1: {empty}: need a sound; got a file with none in it; record it again or drop it."
    )
    (tmp_path / "broken.wav").write_bytes(good.read_bytes()[:20])
    assert "broken.wav: need a sound; got a file that does not decode (" in told("broken.wav", "low")
    (tmp_path / "song.mp3").write_bytes(b"")
    assert told("song.mp3", "low").endswith(
        "song.mp3: need a sound as a .wav file; got .mp3; convert it, say with ffmpeg."
    )
    values["data"]["train"] = str(tmp_path / "nothing")
    (tmp_path / "nothing").mkdir()
    assert refusal(check, values, error=DataError) == (
        f"{tmp_path / 'nothing'}: need a folder with recordings (.wav), each beside a .txt file of the same name with "
        "its words; got none; name another, or a table."
    )


def test_models_that_cannot_be_used(values, finished, tiny):
    assert refusal(check, values | {"model": "bert"}) == (
        "model: need one of wav2vec2, whisper with options.from_scratch; got 'bert'; name a family, or leave out "
        "options.from_scratch."
    )
    assert refusal(check, values | {"options": {"from_scratch": SCRATCH | {"heads": 5}}}) == (
        "options.from_scratch: need width to be a multiple of heads; got 32 and 5; change one."
    )
    assert refusal(check, values | {"model": str(tiny), "options": {}}) == (
        "model: need one that recognises speech, such as openai/whisper-tiny, usefulsensors/moonshine-tiny or "
        "facebook/wav2vec2-base; got one of type 'bert'; name another."
    )
    assert refusal(check, values | {"model": str(finished.path / "model"), "options": {"window": 2}}) == (
        "options.window: need at most 1 seconds, which this model reads; got 2; lower it or leave it out."
    )
    assert refusal(recognizers._speak, finished.processor.tokenizer, None) == (
        "options.language: need the language of the recordings for a model of many, such as de; got none; set it."
    )


def test_an_encoder_learns_to_spell(values, tmp_path):
    """wav2vec2 without a head or a tokenizer gets both, with the characters of the training rows."""
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    spec = task.Known(kind="ctc", characters=["a"], from_scratch=SCRATCH, window=None, language=None)
    Wav2Vec2Model(recognizers._new_model(spec, None).config).save_pretrained(tmp_path / "encoder")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "encoder")
    values |= {"model": str(tmp_path / "encoder"), "options": {}}
    prepared = prepare(load_config(values))
    model, fresh = task.load_model(values["model"], prepared.check.spec)
    assert fresh == ["lm_head.bias", "lm_head.weight"]
    assert model.config.vocab_size == len(prepared.processor.tokenizer) == 11
    batch = task.collator(prepared.processor)([prepared.encoded["train"].rows[n] for n in (0, 1)])
    assert prepared.processor.batch_decode(batch["labels"][:, :3]) in (["low", "mid"], ["low", "hig"], ["mid", "hig"])
    assert torch.isfinite(model(**batch).loss)
    assert recognizers.spelled(prepared.processor.tokenizer, "LOW!") == "low"


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_what_is_spelled_does_not_depend_on_what_is_beside_it(norm):
    """Neither on the frames of the padding nor, with group normalisation over time, on the padding itself."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    torch.manual_seed(0)
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    processor = recognizers._spelling_processor(extractor, ["good film", "a dull plot"])
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    convolutions = {"conv_dim": (32,) * 3, "conv_stride": (5, 4, 4), "conv_kernel": (10, 8, 4)}
    places = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    config = Wav2Vec2Config(
        vocab_size=len(processor.tokenizer), feat_extract_norm=norm, do_stable_layer_norm=norm == "layer",
        pad_token_id=0, **sizes, **convolutions, **places,
    )  # fmt: skip
    model, rng = Wav2Vec2ForCTC(config).eval(), np.random.default_rng(0)
    sounds = [rng.normal(size=size).astype("float32") for size in (2000, 6000, 3500, 2000)]
    alone = [recognizers.transcribe(model, processor, [sound])[0] for sound in sounds]
    assert len(set(alone)) == 4
    assert recognizers.transcribe(model, processor, sounds) == alone
    assert recognizers.transcribe(model, processor, sounds[::-1]) == alone[::-1]


def test_moonshine_reads_and_writes(spoken):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        MoonshineConfig,
        MoonshineForConditionalGeneration,
        PreTrainedTokenizerFast,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Processor,
    )

    names = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    plain = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer)
    sizes = {"encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64}
    heads = {f"{side}_num_attention_heads": 2 for side in ("encoder", "decoder")}
    model = MoonshineForConditionalGeneration(MoonshineConfig(vocab_size=len(names), **sizes, **heads))
    assert recognizers.encode_texts(processor, ["mid"])[0][::4] == [1, 2]
    rows = [{"input_values": str(spoken / "test" / "01.wav"), "labels": [1, 5, 6, 2]}]
    batch = task.collator(processor)(rows)
    assert batch["decoder_input_ids"].tolist() == [[1, 5, 6]]
    assert batch["labels"].tolist() == [[5, 6, 2]]
    assert torch.isfinite(model(**batch).loss)
    [answer] = task.respond(model, processor, [str(spoken / "test" / "01.wav")], Display(quiet=True))
    assert isinstance(answer["text"], str)


def test_sounds_are_read_at_any_rate(tmp_path):
    moments = np.arange(8000) / 8000
    path = write_sound(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * moments))
    sound, rate = open_sound(path)
    assert (len(sound), rate) == (8000, 8000)
    again = read_sound(path, 16_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(again - expected)[400:-400].max() < 2e-3


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_a_sound_does_not_fade_at_its_ends(rate):
    """Cut out of a longer one, it begins and ends anywhere in a wave."""
    loud = resample(np.full(rate // 10, 0.5, np.float32), rate, 16_000)
    np.testing.assert_allclose(loud, 0.5, atol=1e-3)
    for phase in (0.5, 1.5, 2.5):
        wave = [0.5 * np.sin(phase + 2 * np.pi * 440 * np.arange(each // 10) / each) for each in (rate, 16_000)]
        wrong = np.abs(resample(wave[0].astype(np.float32), rate, 16_000) - wave[1])
        assert wrong[:40].mean() < 2e-3
        assert wrong[-40:].mean() < 5e-3


def test_no_answer_of_no_number(values):
    assert "got NaN or infinity for 3 of 3 (number 1, 2, 3); nothing was answered" in answer_without_numbers(values)


def values_of(said, heard, language=None, kind="basic"):
    return {name: score.value for name, score in transcripts.error_rates(said, heard, kind, language).items()}


def test_chinese_is_measured_by_its_characters_alone():
    """Of fourteen characters one is another, one is missing and one too many; signs and spaces do not count."""
    said, heard = ["今天天气很好。", "我用 Python"], ["今天 天汽很好", "我 们用 Pyton"]
    assert values_of(said, heard) == {"character_error_rate": pytest.approx(3 / 14)}
    table = transcripts.samples(["a", "b"], said, [{"text": text} for text in heard], "basic", 5)
    assert table.columns[-1] == "character errors"
    assert [row[-1] for row in table.rows] == ["2", "1"]
    [_, note] = transcripts.notes("basic", "zh")
    assert note == (
        "No spaces part the words of Chinese (zh): errors are counted in characters, spaces left out, and there is no "
        "word error rate."
    )


def test_vowels_that_are_marks_are_heard():
    """Thai and Hindi write vowels as marks, which stay; a vocalised Arabic word stays one word."""
    assert values_of(["ที่นี่"], ["ทานา"])["character_error_rate"] > 0.5
    assert values_of(["ที่นี่"], ["ที่นี่"]) == {"character_error_rate": 0}
    assert values_of(["कि वह"], ["के वह"]) == {"word_error_rate": 0.5, "character_error_rate": 0.2}
    assert values_of(["كَتَبَ الوَلَد"], ["كَتَبَ البنت"])["word_error_rate"] == 0.5


def test_what_comes_first_by_language():
    assert list(values_of(["오늘 날씨가 좋다"], ["오늘 날씨 좋다"])) == ["character_error_rate", "word_error_rate"]
    assert list(values_of(["сегодня тепло"], ["сегодня темно"])) == ["word_error_rate", "character_error_rate"]
    assert list(values_of(["猫", ""], ["猫", "好的"])) == ["character_error_rate", "false_characters_in_silence"]
    assert values_of(["猫", ""], ["猫", "好的"])["false_characters_in_silence"] == 2
    assert transcripts.language_of("chinese", ["the words"]) == "zh"
    assert transcripts.language_of("german", ["die Wörter"]) == "und-Latn"
    told = transcripts.told("train", "zh", ["猫"]).message
    assert told == (
        "train: the words are in Chinese (zh), as options.language says; measured is the character error rate alone, "
        "for no spaces part its words"
    )


def test_what_stands_in_brackets_of_full_width_is_left_out_too():
    assert values_of(["你好（笑）吗"], ["你好吗"]) == {"character_error_rate": 0}


def test_characters_to_spell_with_keep_their_marks():
    assert recognizers.characters(["ที่ Ok!"]) == sorted("ท\u0e35\u0e48ok")


def test_vowels_that_a_tokenizer_lacks_stay():
    """They are learned as unknown, and told; signs that nobody hears are left out."""
    known = SimpleNamespace(get_vocab=lambda: {"ท": 0, "น": 1})
    assert recognizers.spelled(known, "ที่นี่!") == "ที่นี่"
