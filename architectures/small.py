"""Small configurations of transformers' architectures: every width 32, four heads of 8, two layers of a kind.

Whatever a configuration calls its sizes, the same size fits the same part everywhere, so that the parts of a model of
several fit one another. What a family cannot bear is in `EXCEPTIONS`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

from transformers import ResNetConfig

WIDTH, HEADS, HEAD, KEYS, LAYERS, VOCABULARY, IMAGE, PATCH = 32, 4, 8, 2, 2, 128, 32, 8

# The first pattern that fits a field's whole name says what it becomes: a number, or a function of its default.
RULES: list[tuple[str, Any]] = [
    (r"(.*_)?(vocab_size|vocabulary_size|vocab)", VOCABULARY),
    (r"pad_token_id", 0),
    (r"bos_token_id|decoder_start_token_id|cls_token_id", 1),
    (r"eos_token_id|sep_token_id", 2),
    (r"(.*_)?(num_.*heads|n_heads?|n_.*heads|attention_heads|.*_heads|num_attention_head)", HEADS),
    (r"(.*_)?(head_dim|d_kv|dim_head|head_size|head_width|rotary_dim)", HEAD),
    (r"(.*_)?(num_.*layers|n_layers?|encoder_layers|decoder_layers|.*_layers|layers|depth|num_blocks|n_block)", LAYERS),
    (r"(.*_)?(num_experts|n_routed_experts|num_local_experts|moe_num_experts|.*num_experts)", 4),
    (r"(.*_)?(num_experts_per_tok.*|moe_topk|moe_k|top_k_experts|experts_per_token|top_k)", 2),
    (r"(.*_)?(n_group|topk_group)", 1),
    (r"index_topk|index_top_k|.*topk_blocks", 4),
    (r"(.*_)?(intermediate_size|ffn_dim|mlp_dim|d_ff|dim_ff|d_inner|ffn_hidden_size|feedforward_dim|intermediate_dim|"
     r"dim_feedforward|hidden_dim|n_inner|inner_dim|ffn_intermediate_size|mlp_hidden_size)", 2 * WIDTH),
    (r"(.*_)?(hidden_size|d_model|n_embd|embed_dim|embedding_size|projection_dim|embed_size|lora_rank|out_dim|proj_dim|"
     r"embedding_dim|project_dim|emb_dim|hidden_size_.*|proj_size|output_dim|width|channels?_last|num_filters)", WIDTH),
    (r"sliding_window|local_attention|window_size|.*chunk_size|attention_window", 4),
    (r"(.*_)?image_size|crop_size|resolution|img_size|pretrain_image_size", IMAGE),
    (r"(.*_)?patch_size", PATCH),
    (r"max_window_layers", 0),
    (r"(.*_)?(max_position_embeddings|n_positions|max_seq_len|n_ctx|max_source_positions|max_target_positions)", 64),
    (r"upsample_groups", WIDTH),
    (r"num_queries|.*num_proposals", 8),
    (r"mamba_d_state|state_size|mamba_n_heads|mamba_head_dim|mamba_d_head|linear_.*_head_dim", HEAD),
]  # fmt: skip
FILLED = {
    "head_dim": HEAD, "vocab_size": VOCABULARY, "num_key_value_heads": HEADS, "n_routed_experts": 4,
    "layer_types": ["full_attention"] * LAYERS, "sliding_window": 4, "shared_expert_intermediate_size": WIDTH,
    "deepstack_layer_map": [], "spatial_layer_map": [], "vocabulary_map": {"<image>": VOCABULARY - 9},
}  # fmt: skip
KINDS = ("layer_types", "layers_block_type", "mlp_layer_types", "indexer_types")
TOKENS = re.compile(r".*(token_id|token_index|token_idx)$")


def small(kind: type, keys: int = KEYS, fill: bool = False) -> Any:
    """A small configuration of this class, and of all that it holds, with so many heads of keys.

    With `fill` what has no default gets a size, too.
    """
    old = kind()
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value = _value(field.name, _default(field, old), keys)
        if fill and value is None and _default(field, old) is None:
            value = FILLED.get(field.name)
        if value is not None:
            values[field.name] = value
    for name in kind.sub_configs:
        held = getattr(old, name, None)
        if held is not None and hasattr(held, "sub_configs") and "Timm" not in type(held).__name__:
            values[name] = small(type(held), keys, fill)
    _layers(old, values)
    _tokens(kind, old, values)
    _rotary(kind, old, values)
    if "backbone_config" in {field.name for field in dataclasses.fields(kind)} and "backbone_config" not in values:
        values["backbone_config"] = _backbone(one="Timm" in type(getattr(old, "backbone_config", None)).__name__)
    values |= EXCEPTIONS.get(kind.model_type, {})
    return kind(**values)


def _backbone(one: bool) -> ResNetConfig:
    """Where a timm model would be, which needs timm: its last features, or those of the last three stages."""
    stages = ["stage4"] if one else ["stage2", "stage3", "stage4"]
    return ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=stages)


def _default(field: Any, old: Any) -> Any:
    try:
        value = getattr(old, field.name, None)
    except Exception:  # of one that differs by layer
        value = None
    if value is None and field.default is not dataclasses.MISSING:
        value = field.default
    return value


def _value(name: str, old: Any, keys: int) -> Any:
    if isinstance(old, bool) or old is None:
        return None
    if TOKENS.fullmatch(name) and isinstance(old, list):
        return [2]
    if re.fullmatch(r"(.*_)?(num_key_value_heads|kv_heads|n_head_kv|num_kv_heads)", name):
        return min(keys, old) if isinstance(old, int) else None
    for pattern, value in RULES:
        if re.fullmatch(pattern, name):
            if isinstance(old, int) and old > 0:
                return min(value, old) if "heads" in name else value
            if isinstance(old, (list, tuple)) and old and isinstance(old[0], int):
                return type(old)(value for _ in old)
    return None


def _layers(old: Any, values: dict[str, Any]) -> None:
    """As many layers as there are kinds of them, and each kind once."""
    if "num_hidden_layers" not in values:
        return
    fields = {field.name for field in dataclasses.fields(old)}
    lists = {name: getattr(old, name, None) for name in KINDS if name in fields}
    kinds = {name: list(dict.fromkeys(each)) for name, each in lists.items() if each and not isinstance(each, str)}
    count = max([LAYERS, *map(len, kinds.values())])
    values |= {name: (each * count)[:count] for name, each in kinds.items()} | {"num_hidden_layers": count}


def _rotary(kind: type, old: Any, values: dict[str, Any]) -> None:
    """Sections of the rotary positions that fit small heads, where a model divides them."""
    source = _source(inspect.getfile(kind).replace("configuration_", "modeling_"))
    given = getattr(old, "rope_parameters", None) or {}
    if "mrope_section" not in source or any(isinstance(each, dict) for each in given.values()):
        return
    if "rope_parameters" in {field.name for field in dataclasses.fields(kind)}:
        half = int(values.get("head_dim", HEAD) * given.get("partial_rotary_factor", 1.0)) // 2
        sections = [half - 2 * (half // 3), half // 3, half // 3] if half > 2 else [1, 1, 0]
        defaults = {"rope_type": "default", "rope_theta": 10000.0}
        values["rope_parameters"] = defaults | given | {"mrope_section": sections}


def _source(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _tokens(kind: type, old: Any, values: dict[str, Any]) -> None:
    """Special tokens get places at the end of the vocabulary."""
    place = VOCABULARY - 1
    for field in dataclasses.fields(kind):
        number = _default(field, old)
        if TOKENS.fullmatch(field.name) and isinstance(number, int) and field.name not in values and number > 2:
            values[field.name] = place
            place -= 1


PREDICTED = {"prediction_length": 4, "context_length": 12, "lags_sequence": [1, 2]}
STAGES = {"out_features": ["stage2", "stage3", "stage4"], "hidden_sizes": [WIDTH] * 4, "depths": [1] * 4}
OF_STAGES = {"encoder_in_channels": [WIDTH] * 3, "decoder_in_channels": [WIDTH] * 3, "encoder_hidden_dim": WIDTH}
WINDOWS = {"image_size": 64, "patch_size": 2, "window_size": 4}  # whose last stage is a window still
EXCEPTIONS: dict[str, dict[str, Any]] = {
    "autoformer": PREDICTED,
    "informer": PREDICTED,
    "time_series_transformer": PREDICTED,
    "rt_detr_resnet": STAGES,
    "rt_detr": OF_STAGES,
    "rt_detr_v2": OF_STAGES,
    "swin": WINDOWS,
    "swinv2": WINDOWS,
    "donut-swin": WINDOWS,
    "maskformer-swin": WINDOWS,
    "swin2sr": WINDOWS,
    "clap_audio_model": {"window_size": 8},
    "cvt": {"depth": [1, 2, 3]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [4, 4], "max_position_embeddings": 16},
    "zaya": {"num_experts_per_tok": 1},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "granite_speech5_encoder": {"context_size": 8},
    "granite_speech_encoder": {"context_size": 8},
    "lw_detr_vit": {"image_size": 64, "num_windows": 4, "num_windows_side": 2},
    "vitpose_backbone": {"image_size": [32, 32], "patch_size": [8, 8]},
    "gemma3n_text": {
        "intermediate_size": 64,
        "layer_types": ["sliding_attention", "full_attention"],
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": None,
        "hidden_size_per_layer_input": 16,
        "laurel_rank": 8,
    },
    "gemma4_text": {"hidden_size_per_layer_input": 16, "num_kv_shared_layers": 0},
    "glm4v_moe_text": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [1, 1, 0],
        }
    },
    "cohere_compass": {"rope_parameters": None},
    "cohere_compass_text": {"rope_parameters": None},
    "qwen2_5_vl_vision": {"window_size": 32},
    "qwen2_5_omni_vision_encoder": {"window_size": 32},
    "exaone4_5_vision": {"window_size": 32},
    "conditional_detr": {"use_timm_backbone": False, "backbone": None},
    "bros": {"dim_bbox_sinusoid_emb_2d": 8, "dim_bbox_sinusoid_emb_1d": 2, "dim_bbox_projection": 8},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "input_size": 32},
    "lilt": {"channel_shrink_ratio": 4, "hidden_size": 48},
    "blip_2_qformer": {"encoder_hidden_size": 32},
    "instructblip_qformer": {"encoder_hidden_size": 32},
    "instructblipvideo_qformer": {"encoder_hidden_size": 32},
    "depth_anything": {"neck_hidden_sizes": [8, 8], "reassemble_factors": [1, 1]},
    "step3p5": {"sliding_window": 4},
    "mistral_large4_text": {"kv_source_layers": [0, 0]},
    "timesformer": {"num_frames": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "recurrent_gemma": {
        "num_hidden_layers": 3,
        "block_types": ["recurrent", "recurrent", "attention"],
        "lru_width": 32,
    },
    "nemotron_h": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
    },
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1},
    "blip-2": {"image_token_index": 100},
    "instructblip": {"image_token_index": 100},
    "instructblipvideo": {"video_token_index": 100},
    "esm": {"vocab_size": VOCABULARY, "pad_token_id": 0},
    "audio-spectrogram-transformer": {"max_length": 64, "num_mel_bins": 32, "frequency_stride": 8, "time_stride": 8},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64, "mamba_n_groups": 1},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1},
    "longcat_flash": {"qk_head_dim": None, "head_dim": 8, "kv_lora_rank": 16},
    "muse_spark_audio": {"num_hidden_layers": 4},
    "fun_asr_nano_adaptor": {"intermediate_size": 8},
    "lxmert": {"visual_feat_dim": 32},
    "mimi": {"hidden_size": 32, "upsample_groups": 32, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8},
}
