"""A prediction does not depend on its neighbours: alone, in a batch and in another order it is the same."""

import numpy as np
import pytest
import torch
from PIL import Image

from regard.finetuning.progress import Display
from regard.finetuning.tasks.pictures import image_generation, object_detection
from regard.finetuning.tasks.pictures.denoiser import Denoiser
from regard.finetuning.tasks.speech import recognizers, speakers
from regard.looking.transformers.voices import speak

VOICE = speakers.Known(
    from_scratch={"layers": 1, "width": 32, "heads": 2, "rate": 8000, "mels": 20, "reduction": 2},
    guide=10.0, tokens=9, frames_per_token=9.0, vocoder=None, longest=None, recognizer=None, normalizer="basic",
)  # fmt: skip


def spread(model):
    """Weights with which scores are of unit variance: at their initial size all weights are alike and hide faults."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def test_a_made_picture_is_that_of_its_class_and_of_how_many_came_before():
    sizes = {"layers": 2, "width": 32, "heads": 2, "image": 8, "patch": 2, "channels": 1}
    model = spread(Denoiser.from_scratch(sizes, ["0", "1", "2"], 0.0, guidance=3.0, steps=3))

    def pictures(*names):
        return [each["picture"].content for each in image_generation.respond(model, None, names, Display(quiet=True))]

    alone = {name: pictures(name)[0] for name in "012"}
    assert len(set(alone.values())) == 3
    assert pictures("0", "1", "2") == [alone[name] for name in "012"]
    assert pictures("2", "1", "0") == [alone[name] for name in "210"]
    twice = pictures("1", "1")
    assert twice[0] == alone["1"] != twice[1]


def test_a_text_that_is_said_ends_where_it_would_by_itself():
    torch.manual_seed(0)
    model = speakers.load_model("speecht5", VOICE, None)[0].eval()
    ending = model.speech_decoder_postnet.prob_out
    torch.nn.init.zeros_(ending.weight)
    torch.nn.init.constant_(ending.bias, -9.0)  # it never ends by itself
    ids = torch.randint(4, 9, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 12, [1] * 5 + [0] * 7])
    ids[mask == 0] = model.config.pad_token_id
    together = speak(model, ids, mask)
    alone = speak(model, ids[1:, :5], mask[1:, :5])[0]
    assert together[1].spectrogram.shape == alone.spectrogram.shape
    assert together[1].finished is alone.finished is False


def test_what_is_heard_does_not_grow_beside_a_longer_sound():
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=99, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=37, decoder_ffn_dim=37, max_source_positions=100,
        max_target_positions=60, num_mel_bins=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=3, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = spread(WhisperForConditionalGeneration(config))
    generation = model.generation_config
    generation.is_multilingual, generation.no_timestamps_token_id, generation.suppress_tokens = False, 4, [2]

    class Processor:
        """Writes tokens as numbers."""

        feature_extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=2)
        tokenizer = None

        def batch_decode(self, written, skip_special_tokens):
            return [" ".join(str(int(number)) for number in row) for row in written]

    sounds = [
        np.random.default_rng(n).normal(size=size).astype("float32") for n, size in enumerate((3200, 25600, 9600))
    ]
    alone = [recognizers.transcribe(model, Processor(), [sound])[0] for sound in sounds]
    assert len({len(text.split()) for text in alone}) == 3  # none of them ends by itself
    assert recognizers.transcribe(model, Processor(), sounds) == alone
    assert recognizers.transcribe(model, Processor(), sounds[::-1]) == alone[::-1]


def test_what_is_found_in_a_picture_does_not_depend_on_larger_ones(tmp_path):
    from transformers import DetrImageProcessor

    sizes = {"layers": 1, "width": 16, "heads": 2, "image": 32, "patch": 8, "queries": 5}
    spec = object_detection.Known(boxes="xywh", units="pixels", from_scratch=sizes, labels=["a", "b"])
    model = spread(object_detection.load_model("detr", spec)[0])
    processor = DetrImageProcessor(size={"shortest_edge": 32, "longest_edge": 96})
    random, files = np.random.default_rng(0), []
    for number, shape in enumerate([(32, 48), (64, 32), (32, 96), (32, 48)]):
        files.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(random.integers(0, 255, (*shape, 3), dtype=np.uint8)).save(files[-1])

    def found(files):
        return [each["objects"] for each in object_detection.respond(model, processor, files, Display(quiet=True))]

    def close(one, other):
        assert [each["label"] for each in one] == [each["label"] for each in other]
        for mine, theirs in zip(one, other, strict=True):
            assert mine["score"] == pytest.approx(theirs["score"], abs=1e-5)
            assert mine["box"] == pytest.approx(theirs["box"], abs=0.02)

    alone = [found([file])[0] for file in files]
    assert all(alone)
    for together, wanted in ((found(files), alone), (found(files[::-1]), alone[::-1])):
        for one, other in zip(together, wanted, strict=True):
            close(one, other)
