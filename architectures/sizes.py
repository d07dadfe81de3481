"""Which fields of a configuration become small, and to what."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

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
DEEP = [RULES[0], (r"(.*_)?image_size|crop_size|resolution|img_size|pretrain_image_size", 2 * IMAGE)]
SHALLOW = [*DEEP, next(rule for rule in RULES if "num_.*layers" in rule[0])]
FILLED = {
    "head_dim": HEAD, "vocab_size": VOCABULARY, "num_key_value_heads": HEADS, "n_routed_experts": 4,
    "layer_types": ["full_attention"] * LAYERS, "sliding_window": 4, "shared_expert_intermediate_size": WIDTH,
    "deepstack_layer_map": [], "spatial_layer_map": [], "vocabulary_map": {"<image>": VOCABULARY - 9},
    "num_experts": 4, "top_k_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH, "n_group": 1,
    "topk_group": 1, "n_shared_experts": 1, "token_budget": 4, "compress_ratio": 2,
    "mlp_layer_types": ["dense"] * LAYERS,
}  # fmt: skip
# What a model asks its configuration for that transformers' own class of it does not have.
LACKING = {"rope_theta": 10000.0, "dropout_rate": 0.0}
KINDS = ("layer_types", "layers_block_type", "mlp_layer_types", "indexer_types")
TOKENS = re.compile(r".*(token_id|token_index|token_idx)$")


class Sizes(NamedTuple):
    """What becomes small, how many heads of keys there are, and whether what has no default gets a size, too."""

    rules: list[tuple[str, Any]] = RULES
    keys: int = KEYS
    fill: bool = False

    @property
    def narrow(self) -> bool:
        """Whether widths become small, too."""
        return self.rules is RULES


# What to try, one after the other: widths that a family ties to one another in its own way stay as they are.
TRIED = [Sizes(), Sizes(keys=HEADS), Sizes(keys=HEADS, fill=True), Sizes(SHALLOW), Sizes(DEEP), Sizes([])]
