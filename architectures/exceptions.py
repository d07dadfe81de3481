"""What a family cannot bear of the small sizes, by the type of the model or of its part; a part of one by its name."""

from __future__ import annotations

from typing import Any

from sizes import VOCABULARY, WIDTH

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
        "n_groups": 1,
    },
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1},
    "blip-2": {"image_token_index": 100},
    "instructblip": {"image_token_index": 100},
    "instructblipvideo": {"video_token_index": 100},
    "esm": {"vocab_size": VOCABULARY, "pad_token_id": 0},
    "audio-spectrogram-transformer": {"max_length": 64, "num_mel_bins": 32, "frequency_stride": 8, "time_stride": 8},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64, "mamba_n_groups": 1},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
    },
    "longcat_flash": {"qk_head_dim": None, "head_dim": 8, "kv_lora_rank": 16},
    "muse_spark_audio": {"num_hidden_layers": 4},
    "fun_asr_nano_adaptor": {"intermediate_size": 8},
    "lxmert": {"visual_feat_dim": 32},
    "mimi": {"hidden_size": 32, "upsample_groups": 32, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8},
    "vitmatte": {"fusion_hidden_sizes": [8, 8, 8, 8]},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 8}},
    "gemma4_assistant": {
        "text_config": {"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0},
        "backbone_hidden_size": WIDTH,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "neomme": {"head_dim": 16},
    "dbrx": {"attn_config": {"clip_qkv": 8.0}},
    "depth_pro": {"patch_size": 32},
    "perceiver": {"d_latents": WIDTH, "num_latents": 8},
    "kosmos-2": {"latent_query_num": 4},
    "emu3_vqgan": {"base_channels": 32, "channel_multiplier": [1, 1]},
    "glm5_next": {"text_config": {"index_kpool": 2}},
    "glm5_next_text": {"index_kpool": 2},
    "dots3_note": {"audio_config": {"adapter_in_dim": WIDTH}},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
            for kind in ("sliding_attention", "full_attention")
        },
    },
    "sam3_lite_text_text_model": {"num_hidden_layers": 4},
}
