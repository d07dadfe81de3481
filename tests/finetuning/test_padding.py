"""What is said of a text, and what a validation's loss is, whatever padding stands beside it, on either side."""

import contextlib

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import TrainingArguments

from models.families import IMAGE, PAIR, PAIRS, TEXT, TOKENS, WAV2VEC2, WHISPER, spread
from regard.finetuning.frameworks import torch as framework
from regard.finetuning.progress import Display
from regard.finetuning.tasks.pictures import image_classification, shared
from regard.finetuning.tasks.pictures.denoiser import Denoiser
from regard.finetuning.tasks.targets import classes
from regard.finetuning.tasks.texts import masked_language_modeling, masking, sequences, text_classification, tokenizing
from regard.finetuning.training.padding import as_configured, batches, rows_touch, without_padding
from regard.finetuning.training.trainer import StepTrainer
from regard.looking.transformers import texts as looking_at_texts

ONE = {**TEXT, "num_attention_heads": 4, "max_position_embeddings": 80}
FAMILIES = {
    "Bert": ONE,
    "Roberta": ONE,
    "DebertaV2": {**ONE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 20},
    "Funnel": {**TOKENS, "d_model": 24, "n_head": 4, "d_head": 6, "d_inner": 30, "block_sizes": [1, 1, 1]},
    "ConvBert": {**ONE, "embedding_size": 24, "conv_kernel_size": 3, "head_ratio": 1},
    "SqueezeBert": {
        **ONE, "embedding_size": 24,
        **{f"{part}_groups": 2 for part in ("q", "k", "v", "post_attention", "intermediate", "output")},
    },
    "Nystromformer": {**ONE, "num_landmarks": 4, "segment_means_seq_len": 4, "conv_kernel_size": 5},
    "BigBird": {**ONE, "block_size": 2, "num_random_blocks": 1},  # which are sparse from 15 tokens on
    "Longformer": {**ONE, "attention_window": [4, 4], "sep_token_id": 2},
    "MobileBert": {
        **ONE, "embedding_size": 24, "intra_bottleneck_size": 24, "true_hidden_size": 24,
        "normalization_type": "layer_norm",
    },
    "XLNet": {**TOKENS, "d_model": 24, "n_layer": 2, "n_head": 4, "d_inner": 30},
    "GPT2": {**TOKENS, "n_positions": 80, "n_embd": 24, "n_layer": 2, "n_head": 3},
}  # fmt: skip
READING = {"BigBird", "Funnel", "ConvBert", "Nystromformer", "MobileBert", "XLNet"}
"""What reads padding on the right, or is another model for longer inputs, as BigBird."""
WORDS = [f"w{number}" for number in range(4, 50)]
LENGTHS = (30, 21, 7, 30, 3, 14, 11, 9, 5, 8, 22, 12, 13, 26, 6)
RANDOM = np.random.default_rng(0)
TEXTS = [" ".join(RANDOM.choice(WORDS, length)) for length in LENGTHS]
QUIET = Display(quiet=True)


def tokenizer(side):
    numbers = {name: n for n, name in enumerate(("<pad>", "<s>", "</s>", "<mask>", *WORDS))}
    words = Tokenizer(models.WordLevel(numbers, "<mask>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    named = {f"{name}_token": f"<{name}>" for name in ("pad", "mask")} | {"bos_token": "<s>", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, padding_side=side, model_max_length=60, **named)


def make(name, options, suffix="ForSequenceClassification", **more):
    torch.manual_seed(0)
    if "Sequence" in suffix:
        more = {"num_labels": 2, "problem_type": "single_label_classification", **more}
    config = getattr(transformers, f"{name}Config")(**options, **more)
    return spread(getattr(transformers, f"{name}{suffix}")(config)).eval()


def alone(model, side="right"):
    """The model's own logits of each text by itself, and how far those in float64 are from them at most."""
    rows = [torch.tensor([tokenizer(side)(text)["input_ids"]]) for text in TEXTS]
    with torch.no_grad():
        single, double = (
            torch.cat([as_configured(model.to(dtype))(input_ids=ids).logits for ids in rows]).numpy()
            for dtype in (torch.float32, torch.float64)
        )
    model.float()
    return single, np.abs(single - double).max()


def grouped(respond, order, size):
    found = {}
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        found |= dict(zip(numbers, respond([TEXTS[n] for n in numbers]), strict=True))
    return [found[n] for n in range(len(order))]


ORDERS = [(range(len(TEXTS)), size) for size in (1, 2, 7, len(TEXTS))] + [(range(len(TEXTS))[::-1], len(TEXTS))]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_its_label_whatever_is_beside_it(family, side):
    model, words = make(family, FAMILIES[family], num_labels=3), tokenizer(side)
    logits, error = alone(model)
    expected = [classes.prediction(["a", "b", "c"], row) for row in logits]
    model.config.id2label = dict(enumerate("abc"))
    without_padding(model, "auto")
    for order, size in ORDERS:
        found = grouped(lambda texts: text_classification.respond(model, words, texts, QUIET), list(order), size)
        assert [each["label"] for each in found] == [each["label"] for each in expected]
        given, wanted = (np.array([list(each["probabilities"].values()) for each in x]) for x in (found, expected))
        np.testing.assert_allclose(given, wanted, atol=2 * error + 1e-6)  # they are told to six digits


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
@pytest.mark.parametrize(("family", "side"), [("Bert", "left"), ("ConvBert", "right")])
def test_so_have_sets_of_labels_and_numbers(family, side, problem):
    labels = 1 if problem == "regression" else 3
    model, words = make(family, FAMILIES[family], num_labels=labels, problem_type=problem), tokenizer(side)
    model.config.label_scale = {"mean": 2.0, "deviation": 3.0}
    by_itself = [text_classification.respond(model, words, [text], QUIET)[0] for text in TEXTS]
    logits, error = alone(model)
    for order, size in ORDERS[1:]:
        found = grouped(lambda texts: text_classification.respond(model, words, texts, QUIET), list(order), size)
        if problem == "regression":
            given = np.array([each["value"] for each in found])
            np.testing.assert_allclose(given, 2 + 3 * logits[:, 0], atol=6 * error + 1e-6)
        else:
            assert [each["labels"] for each in found] == [each["labels"] for each in by_itself]
            given = np.array([list(each["probabilities"].values()) for each in found])
            np.testing.assert_allclose(given, 1 / (1 + np.exp(-logits)), atol=2 * error + 1e-6)


def test_only_what_reads_padding_is_asked_in_batches_of_one_length():
    def sizes(family, side):
        model, found = make(family, FAMILIES[family]), []

        def answer(batch):
            found.append(len(batch["input_ids"]))
            return framework.logits(model, batch)

        words = tokenizer(side)
        encodings, _ = tokenizing.tokenize(words, TEXTS, 60)
        tokenizing.compute(answer, words, encodings, QUIET, "predict")
        return found

    for family in FAMILIES:
        several = {length: LENGTHS.count(length) for length in LENGTHS}
        each = [several[length] for length in sorted(several, reverse=True)]
        assert sizes(family, "right") == [1, 2, *(each if family in READING else [len(TEXTS)])], family
    assert sizes("XLNet", "left") == [1, 2, len(TEXTS)]
    assert sizes("Bert", "left") == [1, 2, *each]


def test_a_text_too_short_for_a_model_is_padded_to_what_it_reads():
    model, words = make("Funnel", FAMILIES["Funnel"]), tokenizer("right")
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.tensor([[1, 4, 2]]))
    model.config.id2label = {0: "a", 1: "b"}
    [one] = text_classification.respond(model, words, ["w4"], QUIET)
    assert text_classification.respond(model, words, [*TEXTS, "w4"], QUIET)[-1] == one


def test_what_hashes_at_random_says_the_same_again():
    sizes = {
        "attention_head_size": 8, "hidden_size": 32, "num_attention_heads": 4, "feed_forward_size": 64,
        "vocab_size": 50, "axial_pos_embds": False, "max_position_embeddings": 512, "lsh_attn_chunk_length": 4,
        "local_attn_chunk_length": 4, "attn_layers": ["lsh", "local"], "is_decoder": False,
    }  # fmt: skip
    model, words = make("Reformer", sizes, num_labels=2), tokenizer("right")
    model.config.id2label = {0: "a", 1: "b"}
    by_itself = [text_classification.respond(model, words, [text], QUIET)[0] for text in TEXTS]
    for mine, theirs in zip(text_classification.respond(model, words, TEXTS, QUIET), by_itself, strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=2e-6)


@pytest.mark.parametrize("family", ["Bert", "ConvBert", "DebertaV2", "BigBird"])
def test_a_word_is_guessed_whatever_text_comes_before(family):
    model, words = make(family, FAMILIES[family], "ForMaskedLM"), tokenizer("left")
    texts = [*TEXTS[:3], "w4 <mask> w7 w9", *TEXTS[3:6]]

    def respond(texts):
        return masked_language_modeling.respond(model, words, texts, QUIET)

    by_itself = [respond([text])[0] for text in texts]
    assert respond(texts) == by_itself
    assert respond(texts[::-1]) == by_itself[::-1]
    ids = words(texts[2])["input_ids"]
    surprise = []
    for place in range(1, len(ids) - 1):
        hidden = torch.tensor([ids])
        hidden[0, place] = words.mask_token_id
        with torch.no_grad():
            surprise.append(-model(input_ids=hidden).logits[0, place].log_softmax(-1)[ids[place]])
    assert by_itself[2]["surprise"] == pytest.approx(float(torch.stack(surprise).mean()), abs=1e-5)


WRITERS = {
    **PAIRS,
    "Bart": {**PAIR, "decoder_start_token_id": 1, "forced_eos_token_id": None},
    "LED": {**PAIR, "decoder_start_token_id": 1, "attention_window": 4},
    "ProphetNet": {
        **TOKENS, "hidden_size": 24, "num_encoder_layers": 1, "num_decoder_layers": 1, "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4, "encoder_ffn_dim": 30, "decoder_ffn_dim": 30, "decoder_start_token_id": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", WRITERS)
def test_what_is_written_does_not_depend_on_other_texts(family, side):
    model, words = make(family, WRITERS[family], "ForConditionalGeneration" if family != "Marian" else "MTModel"), None
    words = tokenizer(side)
    for beams in (1, 3):
        model.generation_config.update(
            num_beams=beams, max_new_tokens=8, max_length=None, early_stopping=beams > 1, decoder_start_token_id=1
        )

        def respond(texts):
            return [each["output"] for each in sequences.respond(model, words, texts, QUIET)]

        with torch.no_grad():
            rows = [model.generate(torch.tensor([words(text)["input_ids"]])) for text in TEXTS]
        expected = [words.decode(row[0], skip_special_tokens=True) for row in rows]
        assert len(set(expected)) > 2
        for order, size in ORDERS:
            assert grouped(respond, list(order), size) == expected
        if family in PAIRS:  # whose attention is seen: what is shown is what is predicted
            assert [looking_at_texts.read(model, words, text).answer for text in TEXTS[:5]] == expected[:5]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("ViT", IMAGE),
        ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}),
        ("ConvNext", {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "image_size": 16}),
        ("MobileNetV2", {"image_size": 32, "depth_multiplier": 0.35}),
        ("Bit", {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 4}),
    ],
)
def test_a_picture_has_its_label_whatever_is_beside_it(family, options, tmp_path):
    model = make(family, options, "ForImageClassification", num_labels=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()  # as after training: of other pictures than these
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    model.config.id2label = dict(enumerate("abc"))
    side = 16 if family == "ViT" else 32
    processor, files, random = transformers.ViTImageProcessor(size={"height": side, "width": side}), [], RANDOM
    for number, shape in enumerate([(40, 60), (16, 16), (64, 20), (33, 33), (40, 60)]):
        files.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(random.integers(0, 255, (*shape, 3), dtype=np.uint8)).save(files[-1])
    with torch.no_grad():
        logits = torch.cat([model(pixel_values=shared.pixels(processor, [file])).logits for file in files])
    model.train()  # as a prediction in the middle of training finds it

    def found(files):
        answers = image_classification.respond(model, processor, files, QUIET)
        return np.array([list(each["probabilities"].values()) for each in answers])

    wanted = logits.softmax(-1).numpy()
    for given, order in ((found(files), slice(None)), (found(files[::-1]), slice(None, None, -1))):
        np.testing.assert_allclose(given[order], wanted, atol=5e-6)


def trainer(model, collate, rows, size, folder):
    """What validates, so many rows at once; all that it takes from `finetune`."""
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_eval_batch_size=1 if rows_touch(model, collate, rows) else size,
        use_cpu=True, report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
        train_sampling_strategy="group_by_length",
    )  # fmt: skip
    return StepTrainer(
        max_tokens=10_000, unpadded=False, model=model, args=arguments, eval_dataset=rows, data_collator=collate
    )


def validated(model, collate, rows, folder):
    found = []
    for size, order in ((1, rows), (4, rows), (7, rows), (4, rows.select(range(len(rows))[::-1]))):
        torch.manual_seed(size)
        found.append(trainer(model, collate, order, size, folder).evaluate()["eval_loss"])
    return found


@pytest.mark.parametrize(("family", "side"), [("Bert", "left"), ("ConvBert", "right"), ("DebertaV2", "right")])
def test_the_loss_of_a_validation_of_guesses_is_the_mean_over_all_of_them(family, side, tmp_path):
    words = tokenizer(side)
    words.masked_share = 0.3
    model = make(family, FAMILIES[family], "ForMaskedLM")
    masked = [masking.mask(words(text)["input_ids"], words, 0, masking.HELD_OUT) for text in TEXTS]
    rows = Dataset.from_dict(
        {"input_ids": [ids for ids, _ in masked], "labels": [labels for _, labels in masked],
         "length": [len(ids) for ids, _ in masked]}
    )  # fmt: skip
    with torch.no_grad():
        each = [model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss for ids, labels in masked]
    counts = [sum(label != -100 for label in labels) for _, labels in masked]
    expected = float((torch.stack(each) * torch.tensor(counts)).sum() / sum(counts))
    collate = masking.MaskingCollator(words) if side == "right" else _padded_left(words)
    assert validated(model, collate, rows, tmp_path) == pytest.approx([expected] * 4, rel=1e-5)


def _padded_left(words):
    """As `MaskingCollator`, with the labels where the tokens are."""
    return transformers.DataCollatorForTokenClassification(words)


@pytest.mark.parametrize(("family", "side"), [("Bart", "left"), ("T5", "right")])
def test_the_loss_of_a_validation_of_texts_is_the_mean_over_all_tokens(family, side, tmp_path):
    words = tokenizer(side)
    model = make(family, WRITERS[family], "ForConditionalGeneration")
    sources, targets = ([words(text)["input_ids"] for text in texts] for texts in (TEXTS, TEXTS[::-1]))
    total = [len(one) + len(other) for one, other in zip(sources, targets, strict=True)]
    rows = Dataset.from_dict({"input_ids": sources, "labels": targets, "length": total})
    with torch.no_grad():
        pairs = [(torch.tensor([one]), torch.tensor([other])) for one, other in zip(sources, targets, strict=True)]
        each = torch.stack([model(input_ids=one, labels=other).loss for one, other in pairs])
    counts = torch.tensor([len(ids) for ids in targets])
    expected = float((each * counts).sum() / counts.sum())
    found = validated(model, sequences.collator(words), rows, tmp_path)
    assert found == pytest.approx([expected] * 4, rel=1e-5)


@pytest.mark.parametrize("kind", ["ctc", "decoder"])
def test_the_loss_of_a_validation_of_speech_is_the_mean_over_all_of_it(kind, tmp_path):
    """Of recordings where letters are spelled (CTC), each the mean of its own; of tokens where a decoder writes."""
    random, lengths = np.random.default_rng(1), (9, 2, 5, 1, 7, 3, 4, 6)
    words = [random.integers(3, 20, length).tolist() for length in lengths]
    if kind == "ctc":
        options = {**WAV2VEC2, "ctc_loss_reduction": "mean", "apply_spec_augment": False, "feat_extract_norm": "layer"}
        model = make("Wav2Vec2", options, "ForCTC", mask_time_prob=0.0)
        sounds = [random.normal(size=400 * length).astype(np.float32) for length in (9, 4, 6, 8, 5, 7, 3, 5)]
    else:
        model = make("Whisper", {**WHISPER, "decoder_start_token_id": 1}, "ForConditionalGeneration")
        sounds = [random.normal(size=(8, 40)).astype(np.float32) for _ in lengths]
    rows = Dataset.from_dict({"number": range(8), "length": [len(sound) for sound in sounds]})

    def collate(batch):
        numbers = [row["number"] for row in batch]
        pad = torch.nn.utils.rnn.pad_sequence
        labels = pad([torch.tensor(words[n]) for n in numbers], True, -100)
        heard = pad([torch.tensor(sounds[n]) for n in numbers], True)
        if kind == "decoder":
            return {"input_features": heard, "labels": labels}
        mask = pad([torch.ones(len(sounds[n]), dtype=torch.long) for n in numbers], True)
        return {"input_values": heard, "attention_mask": mask, "labels": labels}

    with torch.no_grad():
        each = torch.stack([model(**collate([{"number": number}])).loss for number in range(8)])
    shares = torch.ones(8) if kind == "ctc" else torch.tensor(lengths)
    found = []
    for size in (1, 3, 7):
        validating = trainer(model, collate, rows, size, tmp_path)
        validating.args.remove_unused_columns = False
        found.append(validating.evaluate()["eval_loss"])
    assert found == pytest.approx([float((each * shares).sum() / shares.sum())] * 3, rel=1e-5)
    assert each.std() > 0.01 * each.mean()  # what a mean over batches would weigh otherwise


def test_the_loss_of_a_validation_of_made_pictures_does_not_depend_on_their_order(tmp_path):
    sizes = {"layers": 1, "width": 16, "heads": 2, "image": 8, "patch": 2, "channels": 1}
    model = spread(Denoiser.from_scratch(sizes, ["0", "1"], 0.0)).eval()
    pictures = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def loss(numbers):
        with torch.no_grad():
            return float(model(pictures[numbers], torch.tensor(numbers) % 2)["loss"])

    each = [loss([number]) for number in range(9)]
    assert len({round(one, 4) for one in each}) == 9
    assert loss(list(range(9))) == pytest.approx(np.mean(each), rel=1e-5)
    assert loss([8, 3]) == pytest.approx((each[8] + each[3]) / 2, rel=1e-5)


@pytest.mark.parametrize("labels", [[{"boxes": []}], torch.zeros(1, 5, 3)])
def test_rows_touch_where_a_loss_is_divided_by_all(labels):
    """As a detector's, of lists of boxes, and SpeechT5's, of spectrograms."""
    assert rows_touch(None, lambda rows: {"labels": labels}, [{}])


def test_rows_of_one_size_do_not_touch():
    with contextlib.suppress(ZeroDivisionError):
        assert batches(lambda numbers: 1 / 0, [3, 3, 3], 9) == [[0, 1, 2]]  # nothing is asked


def test_a_training_step_runs_a_model_as_configured(tmp_path):
    """A short text before makes BigBird another model for good, and no difference to a step."""
    model = make("BigBird", FAMILIES["BigBird"])
    arguments = transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = StepTrainer(max_tokens=100, unpadded=False, model=model, args=arguments)
    kinds = []
    for text in (TEXTS[2], TEXTS[0], TEXTS[2]):
        ids = torch.tensor([tokenizer("right")(text)["input_ids"]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0])}
        trainer.training_step(model, inputs, num_items_in_batch=torch.tensor(1))
        kinds.append(model.bert.attention_type)
    assert kinds == ["original_full", "block_sparse", "original_full"]
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "pooler" not in name)
