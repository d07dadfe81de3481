"""Small configurations of the families of models in transformers, and inputs for them."""

import torch
import transformers

TOKENS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT = {
    **TOKENS,
    "hidden_size": 24,
    "intermediate_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
}
GROUPED = {**TEXT, "num_key_value_heads": 2}
PAIR = {
    **TOKENS,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 30,
    "decoder_ffn_dim": 30,
}
IMAGE = {
    "hidden_size": 24,
    "intermediate_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}
SOUND = {"hidden_size": 24, "intermediate_size": 30, "num_hidden_layers": 2, "num_attention_heads": 4}
ENCODERS = {
    "Bert": TEXT,
    "Roberta": {**TEXT, "max_position_embeddings": 60},
    "Electra": TEXT,
    "Albert": {**TEXT, "embedding_size": 12},
    "DistilBert": {**TOKENS, "dim": 24, "hidden_dim": 30, "n_layers": 2, "n_heads": 4},
    "ModernBert": {**TEXT, "num_hidden_layers": 4, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
    "EuroBert": GROUPED,
    "GPT2": {**TOKENS, "n_positions": 40, "n_embd": 24, "n_layer": 2, "n_head": 3},
    "Llama": GROUPED,
    "Qwen2": GROUPED,
    "Gemma2": {**GROUPED, "head_dim": 8, "sliding_window": 5},
}
PAIRS = {
    "Bart": PAIR,
    "Marian": {**PAIR, "decoder_start_token_id": 0},
    "T5": {
        **TOKENS, "d_model": 24, "d_kv": 6, "d_ff": 30, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
    },
}  # fmt: skip
IMAGES = {
    "ViT": IMAGE,
    "DeiT": IMAGE,
    "Dinov2": IMAGE,
    "SiglipVision": IMAGE,
    "CLIPVision": {**IMAGE, "projection_dim": 24},
    "DINOv3ViT": {**IMAGE, "hidden_size": 32, "num_register_tokens": 2},  # rotary: widths of heads by four
}

WHISPER = {**PAIR, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 16}
WAV2VEC2 = {
    **SOUND, "vocab_size": 20, "conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 2),
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def make(name, options, suffix="Model"):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**options)
    return getattr(transformers, f"{name}{suffix}")(config).eval()


def spread(model):
    """Scores of unit size: at their initial size, weights are all alike and hide every fault."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model


def difference(ours, theirs, rows=None):
    dense = ours.dense()
    if rows is not None:  # what padding itself attends to differs, and means nothing
        dense, theirs = dense.transpose(1, 2)[rows], theirs.transpose(1, 2)[rows]
    return float((dense - theirs).abs().max())


def text():
    ids = torch.randint(3, 50, (2, 23), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 15:] = 0
    return ids, mask
