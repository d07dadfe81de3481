"""A diffusion transformer on digits from end to end, its parts against formulas, and files that are predicted."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import linalg
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from conftest import answer_without_numbers, run_programs
from regard.cli import app
from regard.commands.finetune import what_next
from regard.errors import ConfigError, DataError
from regard.finetuning.check import prepare
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import Run, evaluate, is_pretrained
from regard.finetuning.tasks import Made
from regard.finetuning.tasks.pictures import generated
from regard.finetuning.tasks.pictures import image_generation as task
from regard.finetuning.tasks.pictures.denoiser import Denoiser

REPOSITORY = Path(__file__).parents[2]
SCRATCH = {"layers": 2, "width": 32, "heads": 2, "image": 8, "patch": 2, "channels": 1}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with `train` and `test`, each with a folder for the digits 0 and 1 as grey 8 x 8 PNG files."""
    folder, known = tmp_path_factory.mktemp("digits"), load_digits()
    chosen = [(n, t) for n, t in enumerate(known.target) if t in (0, 1)][:120]
    for place, (number, digit) in enumerate(chosen):
        target = folder / ("test" if place >= 90 else "train") / str(digit)
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray((known.images[number] * 15.9).astype(np.uint8)).save(target / f"{number}.png")
    return folder


def make_values(digits, output):
    return {
        "task": "image-generation",
        "model": "dit",
        "data": {"train": str(digits / "train"), "test": str(digits / "test"), "validation": 0.2},
        "output": str(output),
        "train": {"max_steps": 4, "batch_size": 16, "evaluate_every": 2, "precision": "float32"},
        "options": {"from_scratch": SCRATCH, "steps": 3},
        "monitor": {"every": 2},
        "report": {"attention": 1},
    }


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    return finetune(make_values(digits, tmp_path_factory.mktemp("runs") / "run"), quiet=True)


def refusal(function, *args, error=DataError):
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


@pytest.mark.slow
def test_the_program_in_the_card_runs(finished, tmp_path):
    assert run_programs(finished, tmp_path) == [""]
    made = np.asarray(Image.open(tmp_path / "made.png"), int)
    expected = np.asarray(Image.open(io.BytesIO(finished.predict("0")[0]["picture"].content)), int)
    assert np.abs(made - expected).max() <= 1


def test_a_run_from_end_to_end(finished, digits, tmp_path, monkeypatch):
    metrics = finished.metrics
    assert 0 <= metrics["agreement"] <= 1
    assert set(metrics["intervals_95"]) == {"agreement"}
    real = metrics["baselines"]["pictures of the training data"]
    assert real["agreement"] > 0.9
    assert real["frechet_distance"] < metrics["baselines"]["mean picture of the class"]["frechet_distance"]
    assert not is_pretrained(finished.path)
    run = Run.load(finished.path)
    assert f'regard predict {run.path} "0"\n' in what_next(run)
    told = CliRunner().invoke(app, ["evaluate", str(run.path), str(digits / "test")])  # some measures have no interval
    assert told.exit_code == 0, told.output
    assert "frechet distance" in told.stdout
    one, other = run.predict(["1", "1"])
    assert one["picture"].content != other["picture"].content
    assert run.predict(["1", "1"]) == [one, other]
    assert Image.open(io.BytesIO(one["picture"].content)).size == (8, 8)
    assert evaluate(run, digits / "test")["agreement"].value == pytest.approx(metrics["agreement"], abs=1e-6)
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert "Where the marked patch looks" in page
    assert "not Inception" in page
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["predict", str(finished.path), "1"])
    assert told.stdout == "a picture of 8 x 8 pixels\nWritten: 1.png\n"
    told = CliRunner().invoke(app, ["predict", str(finished.path), "1"])
    assert told.exit_code == 2
    assert "1.png: need a new file to write; got one that exists; name another." in told.output


def test_files_that_are_predicted_lie_beside_their_table(finished, tmp_path):
    with (tmp_path / "asked.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["label", "note"], ["0", "a"], ["1", "b"]])
    target = tmp_path / "made.jsonl"
    told = CliRunner().invoke(app, ["predict", str(finished.path), str(tmp_path / "asked.csv"), "-o", str(target)])
    assert told.exit_code == 0, told.output
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert rows == [
        {"label": "0", "note": "a", "picture": "made/000001.png"},
        {"label": "1", "note": "b", "picture": "made/000002.png"},
    ]
    assert all(Image.open(tmp_path / row["picture"]).size == (8, 8) for row in rows)
    told = CliRunner().invoke(
        app, ["predict", str(finished.path), str(tmp_path / "asked.csv"), "-o", str(tmp_path / "b.csv"), "--draw"]
    )
    assert "predict: need a task with something to draw; got image-generation; leave out --draw." in told.output


def test_looking_at_what_is_made(finished, tmp_path):
    told = CliRunner().invoke(app, ["look", str(finished.path), "1", "-o", str(tmp_path / "look.png")])
    assert told.exit_code == 0, told.output
    assert "row 3, column 2" in told.stdout
    assert (tmp_path / "look.png").is_file()
    told = CliRunner().invoke(app, ["export", str(finished.path), "-o", str(tmp_path / "out")])
    assert told.output.strip() == (
        f"regard: export: need a model of transformers; got a Denoiser, whose parts in {finished.path / 'model'} "
        "diffusers loads as they are; use those."
    )


def test_what_cannot_be_made(finished, digits, tmp_path):
    assert refusal(finished.predict, ["7"]) == ("input 1: need a class, one of '0', '1'; got '7'; name one of them.")
    values = make_values(digits, tmp_path / "run")
    values["options"]["from_scratch"] = {**SCRATCH, "patch": 3}
    assert refusal(lambda: prepare(load_config(values)), error=ConfigError) == (
        "options.from_scratch: need image to be a multiple of patch; got 8 and 3; change one."
    )
    values["adapter"] = {"kind": "lora"}
    assert refusal(lambda: prepare(load_config(values)), error=ConfigError).startswith("adapter")
    del values["adapter"]
    values["options"] = {}
    values["model"] = str(tmp_path)
    assert refusal(lambda: prepare(load_config(values)), error=ConfigError).startswith(
        f"model: need the folder of a DiT pipeline of diffusers or its name on the hub; got '{tmp_path}' ("
    )


def made(guidance=3.0):
    torch.manual_seed(0)
    model = Denoiser.from_scratch(SCRATCH, ["0", "1", "2"], 0.0, guidance=guidance, steps=5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def test_the_loss_is_that_of_the_velocity():
    model = made()
    pixels, labels = torch.rand(5, 3, 8, 8) * 2 - 1, torch.tensor([0, 1, 2, 0, 1])
    seen = {}
    predict = model._predict
    model._predict = lambda noisy, steps, chosen: seen.update(noisy=noisy, steps=steps) or predict(noisy, steps, chosen)
    with torch.no_grad():
        found = model(pixels, labels)
    clean = pixels.double().mean(1, keepdim=True)
    signal = model.scheduler.alphas_cumprod.double().sqrt()[seen["steps"]].view(-1, 1, 1, 1)
    amount = (1 - signal**2).sqrt()
    noise = (seen["noisy"] - signal * clean) / amount.clamp_min(1e-12)
    wanted = ((found["logits"] - (signal * noise - amount * clean)) ** 2).mean()
    assert float(found["loss"]) == pytest.approx(float(wanted), rel=1e-4)
    assert torch.equal(model(pixels, labels)["loss"], found["loss"])


def test_no_guidance_beyond_the_class_is_the_class():
    """With a guidance of one, what no class predicts has no say."""
    model = made(guidance=1.0)
    before = model.generate(torch.tensor([1]), [3])
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "embedding_table"):
                module.embedding_table.weight[3] += 1.0
    torch.testing.assert_close(model.generate(torch.tensor([1]), [3]), before)
    model.guidance = 3.0
    assert not torch.allclose(model.generate(torch.tensor([1]), [3]), before)


def test_a_checkpoint_of_other_classes_keeps_all_but_theirs(tmp_path):
    model = made()
    model.save_pretrained(tmp_path / "model")
    loaded, fresh = Denoiser.from_pretrained(str(tmp_path / "model"), ["0", "1", "2"])
    assert fresh == []
    kept, others = model.state_dict(), loaded.state_dict()
    assert all(torch.equal(kept[name], others[name]) for name in kept)
    loaded, fresh = Denoiser.from_pretrained(str(tmp_path / "model"), ["a", "b"])
    assert fresh
    assert all("embedding_table" in name for name in fresh)
    assert {name for name, tensor in loaded.state_dict().items() if not same(tensor, kept[name])} == set(fresh)


def same(one, other):
    return one.shape == other.shape and torch.equal(one, other)


def test_an_autoencoder_makes_what_the_transformer_works_on(tmp_path):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )
    inner = Denoiser.from_scratch({**SCRATCH, "channels": 4}, ["0"], 0.0)
    model = Denoiser(inner.transformer, inner.scheduler, ["0"], steps=2, autoencoder=autoencoder).eval()
    assert model.encode(torch.rand(2, 3, 16, 16)).shape == (2, 4, 8, 8)
    assert model.generate(torch.tensor([0]), [0]).shape == (1, 3, 16, 16)
    assert not any("encoder" in name for name, _ in model.named_parameters())
    model.save_pretrained(tmp_path / "model")
    loaded, _ = Denoiser.from_pretrained(str(tmp_path / "model"), ["0"], steps=2)
    torch.testing.assert_close(loaded.eval().generate(torch.tensor([0]), [0]), model.generate(torch.tensor([0]), [0]))


def test_distances_agree_with_their_formulas():
    rng = np.random.default_rng(7)
    real, other = rng.normal(size=(83, 5)), rng.normal(size=(71, 5)) * 1.5 + 0.3
    frechet, kernel = generated.distances(real.astype(np.float32), other.astype(np.float32))
    one, two = np.cov(real.T), np.cov(other.T)
    wanted = ((real.mean(0) - other.mean(0)) ** 2).sum() + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert frechet == pytest.approx(wanted, rel=1e-3)
    same_again, near = generated.distances(real.astype(np.float32), real.astype(np.float32))
    assert abs(same_again) < 1e-3 < frechet
    assert near < kernel


def test_the_judge_learns_what_is_real():
    known = load_digits()
    chosen = known.target < 3
    pictures = [Image.fromarray((image * 15.9).astype(np.uint8)).convert("RGB") for image in known.images[chosen]]
    names = [str(name) for name in known.target[chosen]]
    judge = generated.Judge(pictures, names)
    assert judge.accuracy > 0.95
    assert np.mean([a == b for a, b in zip(judge.labels(judge.real), names, strict=True)]) > 0.98
    features = judge.features(judge.real)
    last = judge._model.coefs_[-1], judge._model.intercepts_[-1]
    assert [judge._model.classes_[n] for n in (features @ last[0] + last[1]).argmax(1)] == judge.labels(judge.real)


@pytest.mark.slow
def test_resuming_ends_in_the_same_weights(digits, tmp_path, monkeypatch):
    from regard.finetuning.training import interrupts, watcher

    values = make_values(digits, tmp_path / "one")
    whole = finetune(values, quiet=True)
    values["output"] = str(tmp_path / "two")

    def stop(self, args, state, control, **events):
        control.should_save = control.should_training_stop = True
        self.interrupted = True
        return control

    with monkeypatch.context() as patched:
        patched.setattr(watcher.Watcher, "on_step_end", stop)
        with pytest.raises(interrupts.Interrupted):
            finetune(values, quiet=True)
    resumed = finetune(values, resume=True, quiet=True)
    before, after = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_made_file_is_written_once(tmp_path):
    file = Made(b"content", ".png")
    assert file.save(tmp_path / "folder" / "a.png").read_bytes() == b"content"
    assert refusal(file.save, tmp_path / "folder" / "a.png").endswith("got one that exists; name another.")
    [told] = task.respond(made(), None, ["1"], Display(quiet=True))
    assert task.tell(told) == "a picture of 8 x 8 pixels"


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    subprocess.run([sys.executable, "examples/generation/get_data.py", tmp_path / "digits"], cwd=REPOSITORY, check=True)
    changes = {"data.train": str(tmp_path / "digits/train"), "data.test": str(tmp_path / "digits/test")}
    run = finetune(
        load_config(REPOSITORY / "examples/generation/fast.yaml", {**changes, "output": str(tmp_path / "run")}),
        quiet=True,
    )
    assert run.metrics["rows"] == 360
    assert run.metrics["agreement"] > 0.15  # a tenth by chance


class Knowing(torch.nn.Module):
    """Predicts the velocity exactly, as if every picture of a class were one and the same."""

    def __init__(self, scheduler, pictures):
        super().__init__()
        self.scheduler, self.pictures, self.device = scheduler, pictures, torch.device("cpu")
        self.config = type("Config", (), {"sample_size": 8, "in_channels": 1})

    def forward(self, noisy, timestep, class_labels):
        clean = self.pictures[class_labels]
        kept = self.scheduler.alphas_cumprod[timestep].reshape(-1, 1, 1, 1)
        noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
        return type("Output", (), {"sample": kept.sqrt() * noise - (1 - kept).sqrt() * clean})


@pytest.mark.parametrize("guidance", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("steps", [10, 40])
def test_guidance_leaves_the_noise_alone(guidance, steps):
    """It goes beyond black and white, where pictures are cut off; what it went beyond is not in the noise either."""
    scheduler = Denoiser.from_scratch(SCRATCH, ["0", "1"], 0.0).scheduler
    clean = torch.randint(0, 2, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    model = Denoiser(
        Knowing(scheduler, torch.cat([clean, clean.mean(0, keepdim=True)])), scheduler, ["0", "1"], guidance, steps
    )
    noisy = []
    made = model.generate(torch.tensor([0, 1]), [0, 1], lambda _, seen: noisy.append(seen))
    for step, seen in zip(scheduler.timesteps, noisy, strict=True):
        kept = scheduler.alphas_cumprod[step]
        noise = (seen - kept.sqrt() * clean) / (1 - kept).sqrt()
        torch.testing.assert_close(noise, noisy[0], atol=0.01, rtol=0)
    torch.testing.assert_close(made, (clean / 2 + 0.5).expand(-1, 3, -1, -1), atol=1e-3, rtol=0)


def test_no_answer_of_no_number(digits, tmp_path):
    values = make_values(digits, tmp_path / "run")
    assert "got NaN or infinity for 3 of 3 (number 1, 2, 3); nothing was answered" in answer_without_numbers(values)
