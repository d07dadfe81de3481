"""A speaker from scratch on tones that stand for letters, measures against their formulas, and SpeechT5's traps."""

import csv
import io
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from typer.testing import CliRunner

import regard
from conftest import answer_without_numbers, run_programs
from regard.cli import app
from regard.errors import ConfigError, DataError, UnsupportedError
from regard.finetuning import conduct
from regard.finetuning.check import check, prepare
from regard.finetuning.configure import load_config
from regard.finetuning.export import export
from regard.finetuning.runs.run import Run, evaluate
from regard.finetuning.tasks.speech import measures, speakers, vocoders
from regard.finetuning.tasks.speech import speech_synthesis as task
from regard.finetuning.tasks.speech.synthesizer import SpeechT5ForTextToSpeech, masses
from regard.finetuning.training import interrupts, watcher
from regard.looking.transformers.voices import SeenAttention, speak

REPOSITORY = Path(__file__).parents[2]
SCRATCH = {"layers": 1, "width": 32, "heads": 2, "rate": 8000, "mels": 20, "reduction": 2}
TONES = {"a": 300, "b": 900, "c": 2700}
SPEC = task.Known(
    from_scratch=SCRATCH, guide=10.0, tokens=9, frames_per_token=9.0, vocoder=None, longest=None, recognizer=None,
    normalizer="basic",
)  # fmt: skip


def write_sound(path, values, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.asarray(values) * 32767).astype("<i2").tobytes())
    return path


def said(text, rate=8000):
    """A tenth of a second of a tone for each letter."""
    moments = np.arange(rate // 10) / rate
    return np.concatenate([0.4 * np.sin(2 * np.pi * TONES[sign] * moments) for sign in text])


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Folders `train` and `test` of recordings of 8 kHz, each beside its letters."""
    folder, rng = tmp_path_factory.mktemp("spoken"), np.random.default_rng(0)
    for part, count in {"train": 30, "test": 5}.items():
        (folder / part).mkdir()
        for number in range(count):
            text = "".join(rng.choice(list(TONES), rng.integers(3, 7)))
            write_sound(folder / part / f"{number:02}.wav", said(text))
            (folder / part / f"{number:02}.txt").write_text(f"{text}\n")
    return folder


def make_values(spoken, output, **train):
    return {
        "task": "speech-synthesis",
        "model": "speecht5",
        "data": {"train": str(spoken / "train"), "test": str(spoken / "test"), "validation": 0.2},
        "output": str(output),
        "train": {
            "max_steps": 12, "batch_size": 8, "learning_rate": 3e-3, "evaluate_every": 6, "precision": "float32",
        } | train,
        "options": {"from_scratch": SCRATCH},
        "report": {"attention": 1},
        "monitor": {"every": 6, "rows": 2},
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


def test_a_run_from_end_to_end(finished, spoken, tmp_path, monkeypatch):
    metrics = finished.metrics
    assert set(metrics["intervals_95"]) == {"mel_cepstral_distortion", "diagonality"}
    same, others = (metrics["baselines"][name] for name in (task.SAME_VOICE, task.OTHER_WORDS))
    assert same["mel_cepstral_distortion"] < others["mel_cepstral_distortion"]
    losses = [entry["eval_loss"] for entry in finished.state["history"] if "eval_loss" in entry]
    assert losses[-1] < losses[0]
    assert all(0 < e["eval_diagonality"] < 1 for e in finished.state["history"] if "eval_diagonality" in e)
    assert (finished.path / "attention.json").is_file()
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:audio/wav;base64,UklGR') == 2  # RIFF
    assert "media-src data:" in page
    run = Run.load(finished.path)
    one, other = run.predict(["abc", "cab ba"])
    assert run.predict(["cab ba", "abc"]) == [other, one]
    assert one["sound"].content[:4] == b"RIFF"
    scores = evaluate(run, spoken / "test")
    assert scores["mel_cepstral_distortion"].value == pytest.approx(metrics["mel_cepstral_distortion"], abs=1e-3)
    assert not scores["mel_cepstral_distortion"].higher_is_better
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["predict", str(finished.path), "abc"])
    assert f"{one['seconds']:.2f} s of speech" in told.stdout
    assert (tmp_path / "abc.wav").read_bytes() == one["sound"].content
    (tmp_path / "texts.csv").write_text("text\nabc\n")
    told = CliRunner().invoke(app, ["predict", str(finished.path), "texts.csv", "-o", "made.csv"])
    assert told.exit_code == 0, told.output
    with (tmp_path / "made.csv").open(newline="") as file:
        assert [row["sound"] for row in csv.DictReader(file)] == ["made/000001.wav"]


@pytest.mark.slow
def test_the_program_in_the_card_runs(finished, tmp_path):
    assert run_programs(finished, tmp_path, a_text_of_your_own="lo hi") == [""]
    assert (tmp_path / "made.wav").read_bytes() == finished.predict("lo hi")[0]["sound"].content


def test_looking_along_the_text(finished, tmp_path):
    told = CliRunner().invoke(app, ["look", str(finished.path), "abc", "-o", str(tmp_path / "look.png")])
    assert told.exit_code == 0, told.output
    assert "s of speech" in told.stdout
    assert "0.03 s" in told.stdout  # the second step of two frames of 16 ms
    assert (tmp_path / "look.png").stat().st_size > 5_000


def test_a_saved_voice_is_an_ordinary_checkpoint(finished):
    from transformers import SpeechT5ForTextToSpeech as Ordinary
    from transformers import SpeechT5Processor

    model = Ordinary.from_pretrained(finished.path / "model").eval()
    processor = SpeechT5Processor.from_pretrained(finished.path / "model")
    batch = processor(text="abc", return_tensors="pt")
    one = speak(model, batch["input_ids"], batch["attention_mask"])[0]
    other = speak(finished.model, batch["input_ids"], batch["attention_mask"])[0]
    torch.testing.assert_close(one.spectrogram, other.spectrogram, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.across, other.across, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_going_on_ends_in_the_same_weights(finished, values, monkeypatch):
    original = watcher.Watcher.on_step_end

    def interrupting(watcher, args, state, control, **events):
        watcher.interrupted = watcher.interrupted or state.global_step == 8
        return original(watcher, args, state, control, **events)

    monkeypatch.setattr(watcher.Watcher, "on_step_end", interrupting)
    with pytest.raises(interrupts.Interrupted):
        conduct.finetune(values, quiet=True)
    monkeypatch.undo()
    resumed = conduct.finetune(values, resume=True, quiet=True)
    for one, other in zip(resumed.model.parameters(), finished.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.slow
def test_few_parameters(finished, spoken, tmp_path):
    values = make_values(spoken, tmp_path / "run", max_steps=2, evaluate_every=2)
    values |= {"model": str(finished.path / "model"), "adapter": {"kind": "lora"}, "options": {}}
    run = conduct.finetune(values, quiet=True)
    assert (run.path / "adapter").is_dir()
    assert run.predict("abc")[0]["seconds"] > 0


def make_speaker(**scratch):
    torch.manual_seed(0)
    return speakers.load_model("speecht5", SPEC.model_copy(update={"from_scratch": SCRATCH | scratch}), None)[0].eval()


def make_batch(count=3, tokens=7, frames=13):
    rng = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 9, (count, tokens), generator=rng)
    mask = torch.arange(tokens) < torch.tensor([tokens, tokens - 2, tokens - 3])[:count, None]
    labels = torch.randn(count, frames, SCRATCH["mels"], generator=rng)
    labels[1, frames - 4 :] = -100.0
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


def test_attention_that_is_seen_is_transformers_own():
    """The same outputs and weights as the class it stands for, bias by distance and padding included."""
    from transformers import SpeechT5ForTextToSpeech as Ordinary

    model, batch = make_speaker(), make_batch()
    ordinary = Ordinary(model.config).eval()
    ordinary.load_state_dict(model.state_dict())
    assert not any(isinstance(module, SeenAttention) for module in ordinary.modules())
    before = torch.randn(3, 6, SCRATCH["mels"], generator=torch.Generator().manual_seed(2))
    given = {**batch, "labels": None, "decoder_input_values": before, "speaker_embeddings": torch.zeros(3, 1)}
    found = []
    for each in (ordinary, model):
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(each(**given, output_attentions=True))
    torch.testing.assert_close(found[0].spectrogram, found[1].spectrogram)
    for name in ("cross_attentions", "decoder_attentions", "encoder_attentions"):
        torch.testing.assert_close(getattr(found[0], name), getattr(found[1], name))
    torch.manual_seed(0)
    with torch.no_grad(), regard.watch(model) as seen:
        model(**given)
    torch.testing.assert_close(seen.only("*.encoder_attn")[0].dense(), found[0].cross_attentions[0], atol=1e-5, rtol=0)


def test_what_one_says_does_not_depend_on_the_others():
    """Layers and examples of the attention that transformers' `generate` mixes are put right."""
    model, batch = make_speaker(layers=2), make_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    ids[mask == 0] = model.config.pad_token_id
    for together, n in zip(speak(model, ids, mask), range(3), strict=True):
        length = int(mask[n].sum())
        alone = speak(model, ids[n : n + 1, :length], mask[n : n + 1, :length])[0]
        steps = min(len(alone.spectrogram), len(together.spectrogram)) // 2 - 4  # the postnet sees four frames ahead
        torch.testing.assert_close(together.across[:, :, :steps], alone.across[:, :, :steps], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.across.sum(-1), torch.ones(together.across.shape[:-1]))


def test_the_prenet_keeps_its_dropout():
    """At a rate of 0, transformers' prenet would let no frame through."""
    rates = speakers.load_model("speecht5", SPEC, 0.0)[0].config
    assert rates.speech_decoder_prenet_dropout == 0.5
    assert rates.hidden_dropout == 0.0


def test_a_loss_in_evaluation_is_the_same_each_time():
    model, batch = make_speaker(), make_batch()
    state = torch.get_rng_state()
    assert torch.equal(model(**batch)["loss"], model(**batch)["loss"])
    assert torch.equal(state, torch.get_rng_state())
    model.train()
    assert not torch.equal(model(**batch)["loss"], model(**batch)["loss"])


def heard_while_learning(model, batch, monkeypatch):
    """What the decoder goes on from in each of its passes of a training step, and what it then says."""
    heard, said, decode = [], [], model.speecht5.decoder.forward

    def forward(*args, input_values, **options):
        outputs = decode(*args, input_values=input_values, **options)
        heard.append(input_values)
        said.append(model.speech_decoder_postnet.feat_out(outputs.last_hidden_state).detach())
        return outputs

    monkeypatch.setattr(model.speecht5.decoder, "forward", forward)
    monkeypatch.setattr(model.speecht5.decoder.prenet, "_consistent_dropout", lambda states, rate: states)
    loss = model(**batch)["loss"]
    monkeypatch.undo()
    return heard, said, loss


def test_all_frames_are_its_own_with_scheduled_sampling_of_one(monkeypatch):
    model, batch, mels = make_speaker().train(), make_batch(), SCRATCH["mels"]
    model.config.scheduled_sampling = 1.0
    heard, said, _ = heard_while_learning(model, batch, monkeypatch)
    assert len(heard) == 2
    assert torch.equal(heard[1][:, 0], torch.zeros(3, mels))  # what speech begins with
    frames = said[0].unflatten(-1, (SCRATCH["reduction"], mels))[:, :, -1]
    torch.testing.assert_close(heard[1][:, 1:], frames[:, :-1])
    assert not heard[1].requires_grad


@pytest.mark.parametrize("half", [False, True])
def test_everything_learns_behind_a_first_pass_without_gradients(half):
    """Autocast keeps the weights that it cast in the first pass, which must not be without gradients in the second."""
    model = make_speaker().train()
    model.config.scheduled_sampling = 1.0
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        model(**make_batch())["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_scheduled_sampling_is_a_share_of_the_frames(monkeypatch, share):
    model, batch = make_speaker().train(), make_batch(frames=997)
    model.config.scheduled_sampling = share
    heard, _, _ = heard_while_learning(model, batch, monkeypatch)
    recorded = torch.nn.functional.pad(batch["labels"], (0, 0, 0, 1), value=-100.0)[:, 1::2][:, :-1]
    own = (heard[-1][:, 1:] != recorded.masked_fill(recorded == -100, 0)).any(-1).float().mean()
    assert len(heard) == (2 if share else 1)
    assert own == pytest.approx(share, abs=0.05)


def test_a_model_is_judged_by_recorded_frames_alone(monkeypatch):
    model, batch = make_speaker(), make_batch()
    model.config.scheduled_sampling = 1.0
    heard, _, loss = heard_while_learning(model, batch, monkeypatch)
    assert len(heard) == 1
    model.config.scheduled_sampling = 0.0
    assert torch.equal(loss, heard_while_learning(model, batch, monkeypatch)[2])


def test_masses_are_those_of_the_definition():
    rng = np.random.default_rng(3)
    across = torch.tensor(rng.dirichlet(np.ones(7), (2, 3, 2, 6)), dtype=torch.float32).unbind(0)  # (B, H, T, S)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 3 + [0] * 4])
    steps = torch.tensor([6, 4, 5])
    found = masses(across, mask, steps)
    assert found[:, 0].tolist() == [6, 4, 5]
    for b, (tokens, count) in enumerate([(7, 6), (5, 4), (3, 5)]):
        for layer in range(2):
            for head in range(2):
                wanted = sum(
                    float(across[layer][b, head, t, s])
                    for t in range(count)
                    for s in range(tokens)
                    if abs((t + 0.5) / count - (s + 0.5) / tokens) <= 0.1
                )
                assert float(found[b, 1 + layer * 2 + head]) == pytest.approx(wanted, abs=1e-5)


def test_distortion_is_that_of_the_formula():
    rng = np.random.default_rng(4)
    one = rng.normal(size=(5, 13))
    assert measures.distortion(one, one) == 0
    other = one[0] + np.eye(13)[3] * 0.7
    wanted = 10 / np.log(10) * np.sqrt(2 * 0.7**2)
    assert measures.distortion(one[:1], other[None]) == pytest.approx(wanted)
    stretched = np.repeat(one, 2, axis=0)
    assert measures.distortion(one, stretched) == pytest.approx(0)
    # A tilt of ln|H| by cos(w) of 0.2 to either side is a first coefficient of 0.2.
    sound = said("abc") + rng.normal(size=2400) * 0.01
    extractor = speakers.measuring_extractor(8000)
    found = measures.cepstra(sound, 8000)
    bands = (np.arange(80) + 0.5) * np.pi / 80
    levels = speakers.extract(sound, extractor) * np.log(10)
    basis = np.cos(np.outer(bands, np.arange(80)))
    wanted = np.linalg.lstsq(basis, levels.T, rcond=None)[0].T[:, 1:14]
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    louder = measures.cepstra(sound * 2, 8000)
    np.testing.assert_allclose(louder[2:-2], found[2:-2], atol=0.05)  # loudness is left out


def test_a_tone_survives_its_spectrogram():
    extractor = speakers._extractor(8000, 80, 64)
    sound = said("b" * 6)
    again = vocoders.to_sound(speakers.extract(sound, extractor), extractor, None)
    assert len(again) == len(sound) // extractor.sample_stride * extractor.sample_stride
    spectrum = np.abs(np.fft.rfft(again))
    assert abs(spectrum.argmax() * 8000 / len(again) - 900) < 20
    assert 0.5 < np.std(again) / np.std(sound) < 1.5
    np.testing.assert_array_equal(again, vocoders.to_sound(speakers.extract(sound, extractor), extractor, None))
    silent = vocoders.to_sound(np.full((1, 80), -5.0, np.float32), extractor, None)
    assert silent.tolist() == [0.0]


def test_a_window_is_saved_with_the_model(spoken, values, tmp_path):
    values["options"]["from_scratch"] = {**SCRATCH, "window": 32}
    config = load_config(values)
    made = task.load_processor("speecht5", config, prepare(config).splits["train"])
    made.save_pretrained(tmp_path / "saved")
    task.load_model("speecht5", SPEC)[0].config.save_pretrained(tmp_path / "saved")
    file = str(next((spoken / "train").glob("*.wav")))
    for processor in (made, task.load_processor(str(tmp_path / "saved"), config)):
        extractor = processor.feature_extractor
        assert (extractor.sample_size, extractor.sample_stride) == (256, 128)
        found = speakers.spectrogram(file, extractor)
        assert found.min() == pytest.approx(np.log10(speakers.FLOOR))
        sound = vocoders.to_sound(found, extractor, None)
        assert len(sound) == (len(found) - 1) * 128


def test_a_vocoder_that_was_trained(tmp_path):
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    torch.manual_seed(0)
    described = SpeechT5HifiGanConfig(
        model_in_dim=20, sampling_rate=8000, upsample_initial_channel=8, upsample_rates=[16, 8],
        upsample_kernel_sizes=[16, 8], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
    )  # fmt: skip
    SpeechT5HifiGan(described).save_pretrained(tmp_path / "hifigan")
    extractor = speakers._extractor(8000, 20, 64)
    vocoders.require_fit(str(tmp_path / "hifigan"), extractor)
    assert vocoders.to_sound(np.zeros((10, 20), np.float32), extractor, str(tmp_path / "hifigan")).shape == (1280,)
    told = refusal(vocoders.require_fit, str(tmp_path / "hifigan"), speakers._extractor(16000, 80, 64))
    assert told == (
        "options.vocoder: need a vocoder for 16,000 Hz and 80 mels, as the model has them; got one for 8,000 Hz and "
        "20; name another, or leave it out."
    )
    assert refusal(vocoders.load_vocoder, str(tmp_path)).startswith(
        f"options.vocoder: need a SpeechT5HifiGan as a directory or a name on the hub that can be reached; got "
        f"'{tmp_path}'"
    )


def test_findings(values, spoken, tmp_path):
    rows = [(str(spoken / "train" / f"{number:02}.wav"), "abc") for number in range(12)]
    rows.append((str(write_sound(tmp_path / "silent.wav", np.zeros(4000))), "cba"))
    rows.append((str(write_sound(tmp_path / "long.wav", said("a" * 40, 16_000), 16_000)), "bac"))
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["audio", "text"], *rows])
    (tmp_path / "other.jsonl").write_text(f'{{"audio": "{spoken / "test" / "00.wav"}", "text": "ab d"}}\n')
    values["data"] = {"train": str(tmp_path / "train.csv"), "validation": str(tmp_path / "other.jsonl")}
    values["options"]["longest"] = 2
    told = [finding.message for finding in check(load_config(values)).findings]
    assert "train: resampled to the 8,000 Hz that the model reads: 1 of 16,000 Hz" in told
    assert "train: 1 recordings are silent (first in row 13); nobody can hear their words: drop the rows" in told
    assert (
        "train: recordings of at most 2 seconds are learned; 1 of 14 are longer (the longest has 4.0 s); left out"
        in told
    )
    assert (
        "validation: the tokenizer lacks 1 characters of the texts: 'd' in 1 rows; all of them are read as one that is "
        "unknown: write them otherwise" in told
    )
    values["data"]["too_long"] = "refuse"
    assert refusal(check, load_config(values), error=DataError) == (
        "train: need recordings of at most 2 seconds, and texts that fit the model; got 1 of 14 are longer (the "
        "longest has 4.0 s); cut them between sentences, or raise options.longest."
    )


def test_what_cannot_be_learned_or_said(values, finished, spoken, tmp_path):
    values["options"]["from_scratch"] = {**SCRATCH, "heads": 3}
    assert refusal(prepare, load_config(values)) == (
        "options.from_scratch: need width to be a multiple of heads; got 32 and 3; change one."
    )
    values["options"]["from_scratch"] = {**SCRATCH, "mels": 200, "window": 32}
    assert refusal(prepare, load_config(values)) == (
        "options.from_scratch: need bands that are wider than the frequencies of a window of 32 ms are apart; got 200 "
        "mels, 28 of them empty; ask for fewer, or for a longer window."
    )
    values["options"]["from_scratch"] = {**SCRATCH, "window": 16}
    assert "options.from_scratch.window" in refusal(load_config, values)
    values["options"]["from_scratch"] = SCRATCH
    values["model"] = "vits"
    assert refusal(prepare, load_config(values)) == (
        "model: need speecht5 with options.from_scratch; got 'vits'; name it, or leave out options.from_scratch."
    )
    (tmp_path / "vits").mkdir()
    (tmp_path / "vits" / "config.json").write_text('{"model_type": "vits"}')
    values |= {"model": str(tmp_path / "vits"), "options": {}}
    assert refusal(prepare, load_config(values)) == (
        "model: need a SpeechT5, such as microsoft/speecht5_tts; got one of type 'vits', which transformers has no "
        "loss for; name another."
    )
    assert refusal(finished.predict, ["abc", "..."], error=DataError) == (
        "input 2: need words to say; got '...'; write some."
    )
    table = tmp_path / "pairs.csv"
    table.write_text(f"audio,text\n{spoken / 'test' / '00.wav'},\n")
    assert refusal(evaluate, finished, table, error=DataError) == (
        f"{table}: need words in each row; got none in row 1; fill it in or drop the row."
    )
    table.write_text("audio,text\nnowhere.wav,abc\n")
    assert refusal(evaluate, finished, table, error=DataError) == (
        f"{table}: need the file of a recording in each row; got no file '{tmp_path / 'nowhere.wav'}' in row 1; "
        "correct it or drop the row."
    )


def test_a_recogniser_listens(monkeypatch, spoken):
    """Word errors are those of what is heard in the sounds, and a baseline's too."""
    monkeypatch.setattr(measures, "heard", lambda source, predictions: ["a b", "c"])
    wav = vocoders.as_wav(said("abc"), 8000)
    predictions = [{"sound": task.Made(wav, ".wav")}] * 2
    files = [str(spoken / "test" / f"{n:02}.wav") for n in range(2)]
    spec = SPEC.model_copy(update={"recognizer": "some"})
    scores = measures.measure(files, ["a b", "d"], predictions, spec)
    assert scores["word_error_rate"].value == pytest.approx(1 / 3)
    assert "diagonality" not in scores


def test_sounds_of_all_loudness_are_written():
    from scipy.io import wavfile

    rate, values = wavfile.read(io.BytesIO(vocoders.as_wav(np.array([0.0, 2.0, -1.0]), 8000)))
    assert rate == 8000
    assert values.tolist() == [0, 32767, -16383]
    assert task.tell({"seconds": 1.5, "finished": False}) == (
        "1.50 s of speech, cut off: the model did not stop by itself"
    )
    assert isinstance(make_speaker(), SpeechT5ForTextToSpeech)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="the sounds come from a Debian package")
def test_the_example_runs(tmp_path):
    subprocess.run([sys.executable, "examples/synthesis/get_data.py", tmp_path / "data"], cwd=REPOSITORY, check=True)
    changes = {f"data.{part}": str(tmp_path / "data" / f"{part}.csv") for part in ("train", "validation", "test")}
    config = load_config(REPOSITORY / "examples/synthesis/fast.yaml", {**changes, "output": str(tmp_path / "run")})
    run = conduct.finetune(config, quiet=True)
    assert run.metrics["rows"] == 45
    same, others = (run.metrics["baselines"][name] for name in (task.SAME_VOICE, task.OTHER_WORDS))
    assert same["mel_cepstral_distortion"] < 2 < others["mel_cepstral_distortion"]
    assert run.predict("Thank you.")[0]["seconds"] > 0


def test_what_cannot_be_exported_is_loaded_as_it_is(finished, tmp_path):
    assert refusal(export, finished, tmp_path / "out", error=UnsupportedError) == (
        "export: need a model whose answers are logits or boxes, to compare them; got SpeechT5ForTextToSpeech, which "
        f"speaks; transformers loads {finished.path / 'model'} as it is; use that."
    )
    assert not (tmp_path / "out").exists()
    theirs = transformers.SpeechT5ForTextToSpeech
    _, info = theirs.from_pretrained(finished.path / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_no_answer_of_no_number(values):
    assert "got NaN or infinity for 3 of 3 (number 1, 2, 3); nothing was answered" in answer_without_numbers(values)
