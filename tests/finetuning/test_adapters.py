"""Adapters on every family of the table: what is trained, that nothing else changes, and that what is saved is all."""

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, RTDetrResNetConfig

from models.families import ENCODERS, IMAGE, IMAGES, PAIR, PAIRS, TEXT, TOKENS, WAV2VEC2, WHISPER, make
from regard.errors import ConfigError
from regard.finetuning.check import check
from regard.finetuning.conduct import finetune
from regard.finetuning.config import Adapter
from regard.finetuning.configure import load_config
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks import Spec
from regard.finetuning.training import adapters
from regard.finetuning.training.interrupts import Interrupted
from regard.finetuning.training.watcher import Watcher

ATTENDING = {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
BACKBONE = ResNetConfig(
    embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
)
DETR = {
    **{key: value for key, value in PAIR.items() if "token" not in key and key != "vocab_size"},
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone_config": BACKBONE, "num_queries": 5,
}  # fmt: skip
RT_DETR = {
    "use_timm_backbone": False, "use_pretrained_backbone": False, "num_queries": 5, "d_model": 16,
    "backbone_config": RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage1", "stage2"]
    ),
    "encoder_in_channels": [8, 16], "feat_strides": [4, 8], "encode_proj_layers": [1], "encoder_hidden_dim": 16,
    "encoder_ffn_dim": 30, "encoder_attention_heads": 4, "decoder_in_channels": [16, 16], "decoder_ffn_dim": 30,
    "num_feature_levels": 2, "decoder_layers": 2, "decoder_attention_heads": 4, "num_denoising": 0, "num_labels": 3,
}  # fmt: skip
MOONSHINE = {
    **TOKENS, "hidden_size": 24, "intermediate_size": 30, "encoder_num_hidden_layers": 2,
    "decoder_num_hidden_layers": 2, "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4,
    "decoder_start_token_id": 1,
}  # fmt: skip
SPEECH = {
    **PAIR, "hidden_size": 24, "num_mel_bins": 8, "speech_decoder_prenet_units": 16, "speech_decoder_postnet_units": 16,
    "speaker_embedding_dim": 8, "max_speech_positions": 40, "max_text_positions": 40, "reduction_factor": 1,
    **{key: value for key, value in WAV2VEC2.items() if key.startswith(("conv", "num_feat"))},
}  # fmt: skip
SPEECH.pop("d_model")

LABELLED, OUTPUTS = "ForSequenceClassification", ["classifier.dense", "classifier.out_proj"]
GENERATING = "ForConditionalGeneration"
DETECTING = {**IMAGE, "image_size": [16, 16], "num_detection_tokens": 5}
# The family, its options, its head, what of it starts at random, and how many layers are adapted.
CASES = {
    "bert": ("Bert", TEXT, LABELLED, ["classifier"], 4),
    "roberta": ("Roberta", ENCODERS["Roberta"], LABELLED, OUTPUTS, 4),
    "xlm-roberta": ("XLMRoberta", ENCODERS["Roberta"], "ForTokenClassification", ["classifier"], 4),
    "electra": ("Electra", TEXT, LABELLED, OUTPUTS, 4),
    "distilbert": ("DistilBert", ENCODERS["DistilBert"], LABELLED, ["pre_classifier", "classifier"], 4),
    "modernbert": ("ModernBert", ENCODERS["ModernBert"], LABELLED, ["head.dense", "head.norm", "classifier"], 4),
    "eurobert": ("EuroBert", {**ENCODERS["EuroBert"], "mask_token_id": 3}, LABELLED, ["classifier", "dense"], 4),
    "deberta": ("Deberta", ATTENDING, LABELLED, ["pooler.dense", "classifier"], 2),
    "deberta-v2": ("DebertaV2", ATTENDING, LABELLED, ["pooler.dense", "classifier"], 4),
    "vit": ("ViT", IMAGE, "ForImageClassification", ["classifier"], 4),
    "dinov2": ("Dinov2", IMAGES["Dinov2"], "ForImageClassification", ["classifier"], 4),
    "whisper": ("Whisper", {**WHISPER, "decoder_start_token_id": 1}, GENERATING, [], 12),
    "wav2vec2": ("Wav2Vec2", WAV2VEC2, "ForCTC", ["lm_head"], 4),
    "hubert": ("Hubert", WAV2VEC2, "ForCTC", ["lm_head"], 4),
    "moonshine": ("Moonshine", MOONSHINE, GENERATING, [], 12),
    "t5": ("T5", PAIRS["T5"], GENERATING, [], 12),
    "bart": ("Bart", PAIR, GENERATING, [], 12),
    "marian": ("Marian", PAIRS["Marian"], "MTModel", [], 12),
    "detr": ("Detr", DETR, "ForObjectDetection", ["class_labels_classifier"], 12),
    "conditional_detr": ("ConditionalDetr", DETR, "ForObjectDetection", ["class_labels_classifier"], 12),
    "rt_detr": ("RTDetr", RT_DETR, "ForObjectDetection", ["model.enc_score_head", "model.decoder.class_embed"], 6),
    "yolos": ("Yolos", DETECTING, "ForObjectDetection", ["class_labels_classifier"], 4),
    "speecht5": ("SpeechT5", SPEECH, "ForTextToSpeech", [], 12),
}  # fmt: skip
KINDS = [
    *((family, "lora") for family in CASES),
    *((family, "dora") for family in ("bert", "modernbert", "t5", "detr")),
]
# DETR's queries start at zero, and a new model's biases too: what its first decoder layer makes of them is nothing.
IDLE = {
    f"base_model.model.model.decoder.layers.0.{attention}.lora_{part}.default.weight"
    for attention in (*(f"self_attn.{name}_proj" for name in ("q", "v", "q_content")), "encoder_attn.q_content_proj")
    for part in "AB"
}
IDS = torch.randint(3, 20, (2, 11), generator=torch.Generator().manual_seed(1))
NOISE = torch.Generator().manual_seed(2)
PIXELS = torch.randn(2, 3, 16, 16, generator=NOISE)
SCENES = torch.randn(2, 3, 32, 32, generator=NOISE)
SOUND = torch.randn(2, 400, generator=NOISE)
INPUTS = {
    **{key: {"pixel_values": PIXELS} for key in ("vit", "dinov2", "yolos")},
    **{key: {"pixel_values": SCENES} for key in ("detr", "conditional_detr", "rt_detr")},
    "whisper": {"input_features": torch.randn(2, 8, 40, generator=NOISE), "decoder_input_ids": IDS[:, :5]},
    **{key: {"input_values": SOUND} for key in ("wav2vec2", "hubert")},
    "moonshine": {"input_values": torch.cat([SOUND] * 8, 1), "decoder_input_ids": IDS[:, :5]},
    **{key: {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]} for key in ("t5", "bart", "marian")},
    "speecht5": {"input_ids": IDS, "decoder_input_values": torch.randn(2, 7, 8, generator=NOISE),
                 "speaker_embeddings": torch.randn(2, 8, generator=NOISE)},
}  # fmt: skip


def example(family):
    """The model, the names of the parameters that are new in it, and what it is called with."""
    name, options, head, layers, _ = CASES[family]
    model = make(name, options, head)
    assert model.config.model_type == family
    fresh = [key for key, _ in model.named_parameters() if any(key.startswith(f"{layer}.") for layer in layers)]
    assert bool(fresh) == bool(layers)
    return model, fresh, INPUTS.get(family, {"input_ids": IDS})


def answer(model, inputs):
    torch.manual_seed(0)  # SpeechT5 drops out at all times
    with torch.no_grad():
        return next(value for value in model.eval()(**inputs).values() if torch.is_tensor(value))


def plain_name(name):
    """A parameter's name without what peft puts around it."""
    for part in ("base_model.model.", "modules_to_save.default.", "base_layer."):
        name = name.replace(part, "")
    return name


def train(model, inputs, steps=3):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.05)
    model.train()
    for _ in range(steps):
        outputs = [value for value in model(**inputs).values() if torch.is_tensor(value) and value.requires_grad]
        sum(value.square().mean() for value in outputs).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_the_table_is_tested_whole():
    assert set(CASES) == set(adapters.TARGETS)


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_adapters_and_what_is_new_are_trained_and_nothing_else(family, kind):
    model, fresh, inputs = example(family)
    running = {name for name, _ in model.named_buffers() if "running" in name or "num_batches" in name}
    statistics = {name.rpartition(".")[0] for name in running}
    torch.manual_seed(3)
    adapted = adapters.adapt(model, fresh, Adapter(kind=kind, rank=3, alpha=6))
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    narrow = {name for name in trainable if "lora_" in name}
    assert len(narrow) == (2 if kind == "lora" else 3) * CASES[family][4]
    affine = {name for name, _ in model.named_parameters() if plain_name(name).rpartition(".")[0] in statistics}
    expected = {*fresh, *(plain_name(name) for name in affine if "modules_to_save" in name)}
    assert {plain_name(name) for name in trainable if name not in narrow} == expected
    before = copy.deepcopy(adapted.state_dict())
    after = train(adapted, inputs).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in narrow if name not in changed} <= IDLE
    assert {plain_name(name) for name in changed} <= {plain_name(name) for name in trainable} | running


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_adapters_alone_and_merged_answer_as_trained(family, kind, tmp_path):
    model, fresh, inputs = example(family)
    untouched, pretrained = answer(model, inputs), copy.deepcopy(model)
    torch.manual_seed(3)
    adapted = train(adapters.adapt(model, fresh, Adapter(kind=kind, rank=3, alpha=6)), inputs)
    trained = answer(adapted, inputs)
    assert (trained - untouched).abs().max() > 1e-2 * untouched.abs().max()
    merged = adapters.merge(adapted)
    assert type(merged) is type(pretrained)
    merged.save_pretrained(tmp_path / "model")
    whole = type(merged).from_pretrained(tmp_path / "model")
    torch.testing.assert_close(answer(whole, inputs), trained, rtol=1e-4, atol=1e-5)
    adapters.save_adapter(adapted, tmp_path / "adapter", {"model": "m", "fingerprint": "f"}, "t", Spec())
    alone = adapters.read_adapter(pretrained, tmp_path / "adapter").merge_and_unload()
    torch.testing.assert_close(answer(alone, inputs), trained, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answer(adapted, inputs), trained, rtol=0, atol=0)


def test_targets_can_be_named():
    model, fresh, _ = example("roberta")
    adapted = adapters.adapt(model, fresh, Adapter(kind="lora", targets=["key", "attention.output.dense"]))
    names = {name.partition(".lora_A")[0] for name, _ in adapted.named_parameters() if ".lora_A" in name}
    ends = ("attention.self.key", "attention.output.dense")
    assert names == {f"base_model.model.roberta.encoder.layer.{n}.{end}" for n in (0, 1) for end in ends}


def test_what_is_new_is_trained_whole_also_where_its_name_is_a_target():
    model, fresh, _ = example("roberta")
    adapted = adapters.adapt(model, fresh, Adapter(kind="lora", targets=["dense"]))
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert "base_model.model.classifier.modules_to_save.default.dense.weight" not in names
    assert not [name for name in names if "classifier" in name and "lora" in name]
    assert {plain_name(name) for name in names if "lora" not in name} == set(fresh)


def refusal(*args):
    with pytest.raises(ConfigError) as caught:
        adapters.adapt(*args)
    return str(caught.value)


def test_names_that_the_model_lacks():
    model, fresh, _ = example("bert")
    assert refusal(model, fresh, Adapter(kind="lora", targets=["query", "v_proj"])) == (
        "adapter.targets: need names of this model's linear layers; got 'v_proj'; choose of classifier, dense, key, "
        "query, value."
    )


class Reading(torch.nn.Module):
    """A model of transformers with PyTorch's own layers, which read the weights of linear layers that they hold."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.config = inner, make("Bert", TEXT).config

    def forward(self, states):
        return self.inner(states)


@pytest.mark.parametrize(
    ("inner", "target", "named"),
    [
        (torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), "linear2", "inner.linear2"),
        (torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), "out_proj", "inner.self_attn.out_proj"),
        (torch.nn.MultiheadAttention(8, 2), "out_proj", "inner.out_proj"),
    ],
)
def test_layers_that_nobody_calls(inner, target, named):
    assert refusal(Reading(inner), [], Adapter(kind="lora", targets=[target])) == (
        f"adapter.targets: need layers that are called; got '{named}', of which PyTorch's attention reads the weights, "
        "so that an adapter does nothing; name others, or more of their path."
    )


def test_adapters_that_had_no_part_in_a_step():
    """WavLM's attention reads the weights of its projections."""
    model = make("WavLM", WAV2VEC2).train()
    for targets, idle in ((["q_proj", "v_proj"], True), (["intermediate_dense"], False)):
        adapted = adapters.adapt(copy.deepcopy(model), [], Adapter(kind="lora", targets=targets))
        adapted(torch.randn(2, 400, generator=torch.Generator().manual_seed(0))).last_hidden_state.sum().backward()
        watcher = Watcher(Display(quiet=True), "loss")
        step = {"args": None, "state": SimpleNamespace(global_step=0), "control": None, "model": adapted}
        if not idle:
            watcher.on_pre_optimizer_step(**step)
            continue
        with pytest.raises(ConfigError) as caught:
            watcher.on_pre_optimizer_step(**step)
        assert str(caught.value) == (
            "adapter.targets: need layers that are called; got 'encoder.layers.0.attention.v_proj' and others, of "
            "which the model reads the weights, so that adapters had no part in the first step; name others."
        )


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_what_is_in_half_precision_is_merged_in_float32(half):
    """Small products beside large weights: in half precision most of them would leave what they are added to."""
    model, fresh, _inputs = example("bert")
    torch.manual_seed(3)
    adapted = adapters.adapt(model, fresh, Adapter(kind="lora", rank=3, alpha=6)).to(half)
    layer = adapted.base_model.model.bert.encoder.layer[0].attention.self.query
    torch.nn.init.normal_(layer.lora_B.default.weight, std=2e-5)
    plain = layer.base_layer.weight.double()
    product = layer.lora_B.default.weight.double() @ layer.lora_A.default.weight.double() * layer.scaling["default"]
    assert float(((plain + product).to(half) == plain.to(half)).double().mean()) > 0.3
    merged = adapters.merge(adapted)
    found = merged.bert.encoder.layer[0].attention.self.query.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), plain + product, rtol=0, atol=1e-8)
    assert layer.base_layer.weight.dtype == half


def test_families_that_nobody_knows():
    model = make("FNet", {**TEXT, "tpu_short_seq_length": 8})
    told = refusal(model, [], Adapter(kind="lora"))
    assert told == ("adapter.targets: need layers to adapt in models of type 'fnet'; name some of dense, projection.")


def test_models_that_start_at_random():
    model, _, _ = example("bert")
    assert refusal(model, [name for name, _ in model.named_parameters()], Adapter(kind="lora")) == (
        "adapter: need a pretrained model to adapt; got one whose attention starts at random; set adapter.kind to "
        "none, or name another model."
    )


def test_new_parameters_that_are_in_no_layer():
    model, _, _ = example("wav2vec2")
    assert refusal(model, ["wav2vec2.masked_spec_embed"], Adapter(kind="lora")) == (
        "adapter: need new parameters in layers of their own; got some in 'wav2vec2', which holds the adapted "
        "'wav2vec2.encoder.layers.0.attention.v_proj'; set adapter.kind to none."
    )


@pytest.fixture
def small(values):
    """A run of a few steps with an adapter."""
    values["train"] |= {"max_steps": 6, "evaluate_every": 2, "keep_checkpoints": True}
    values["report"] |= {"baselines": False}
    return values | {"adapter": {"kind": "lora", "rank": 2}}


def probabilities(answers):
    return [answer["probabilities"]["positive"] for answer in answers]


def test_a_run_with_an_adapter(small, tiny, tmp_path):
    from transformers import AutoModelForSequenceClassification

    run = finetune(small, quiet=True)
    before = AutoModelForSequenceClassification.from_pretrained(tiny).state_dict()
    after = run.model.state_dict()
    assert set(after) == set(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    adapted = {f"bert.encoder.layer.{n}.attention.self.{end}.weight" for n in (0, 1) for end in ("query", "value")}
    assert changed == {*adapted, "classifier.weight", "classifier.bias"}
    assert run.state["trained"] == 4 * 2 * (32 + 32) + 2 * 32 + 2
    assert "578 of them or beside them trained (lora, rank 2)" in (run.path / "report.html").read_text()
    files = {path.name: path.stat().st_size for path in (run.path / "adapter").iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "base.json"}
    assert files["adapter_model.safetensors"] < 578 * 4 + 2000
    texts = ["a superb film", "dull", "the plot and the actors of a film with music"]
    assert probabilities(Run.load(run.path).predict(texts)) == probabilities(run.predict(texts))
    alone = adapters.load_adapter(run.path / "adapter")
    inputs = run.processor("a superb film", return_tensors="pt")
    np.testing.assert_allclose(answer(alone, inputs), answer(run.model, inputs), atol=1e-6)


def test_an_adapter_on_another_base(small, tiny, tmp_path):
    run = finetune(small, quiet=True)
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    assert adapters.load_adapter(run.path / "adapter", str(other)) is not None
    disturb(other)
    fingerprint = json.loads((run.path / "adapter" / "base.json").read_text())["fingerprint"]
    with pytest.raises(ConfigError) as caught:
        adapters.load_adapter(run.path / "adapter", str(other))
    told = str(caught.value)
    assert told.startswith(
        f"{run.path / 'adapter'}: need the model that the adapter was trained on, '{tiny}' with fingerprint "
        f"{fingerprint}; got '{other}' with "
    )
    assert told.endswith("; name that one.")
    with pytest.raises(ConfigError, match="need the adapter of a run; got a folder without base"):
        adapters.load_adapter(run.path)


def disturb(folder):
    """Change one number of a model."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    model.encoder.layer[1].output.dense.weight.data[3, 5] += 1e-3
    model.save_pretrained(folder)


def interrupt(monkeypatch, step):
    """Send what Ctrl-C sends after a step."""
    import os
    import signal

    from regard.finetuning.training import watcher

    ordinary = watcher.Watcher.on_step_end

    def pressed(self, args, state, control, **events):
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return ordinary(self, args, state, control, **events)

    monkeypatch.setattr(watcher.Watcher, "on_step_end", pressed)


@pytest.mark.slow
def test_an_interrupted_run_ends_as_one_that_was_not(small, tiny, tmp_path, monkeypatch):
    whole = finetune(small | {"output": str(tmp_path / "whole")}, quiet=True)
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    small["model"] = str(base)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(Interrupted):
            finetune(small, quiet=True)
    saved = sum(path.stat().st_size for path in (tmp_path / "run").glob("checkpoints/*/*.safetensors"))
    assert saved < 3 * (578 * 4 + 2000)
    kept = (base / "model.safetensors").read_bytes()
    disturb(base)
    with pytest.raises(ConfigError, match="need model as it was when the run began"):
        finetune(small, resume=True, quiet=True)
    (base / "model.safetensors").write_bytes(kept)
    resumed = finetune(small, resume=True, quiet=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_configuration_names_the_targets(small):
    config = load_config(small, {"adapter.targets": ["key"]})
    assert config.adapter.targets == ["key"]
    with pytest.raises(ConfigError, match="need names of this model's linear layers; got 'k_proj'"):
        check(load_config(small, {"adapter.targets": ["k_proj"]}))
    assert not Path(config.output).exists()


def test_a_base_that_is_stored_in_half_precision_is_told(small, tiny, tmp_path):
    """And what is merged is in float32, as the adapter with its base answers."""
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(tiny).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "half")
    small["model"], small["adapter"] = str(tmp_path / "half"), {"kind": "lora", "rank": 2}
    run = finetune(small, quiet=True)
    assert json.loads((run.path / "run.json").read_text())["base"]["stored"] == "bfloat16"
    told = "(lora, rank 2, merged in float32 with a base that is stored in bfloat16)"
    assert told in (run.path / "report.html").read_text(encoding="utf-8")
    assert {each.dtype for each in run.model.parameters()} == {torch.float32}
