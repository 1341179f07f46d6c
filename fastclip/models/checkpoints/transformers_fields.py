"""How each field of transformers' `config.json` and `preprocessor_config.json` is treated.

Source: PretrainedConfig, CLIPConfig, SiglipConfig and Siglip2Config of transformers 4 and 5, and
the files that were published with each; ImagesKwargs of transformers 5.
"""

from fastclip.models.json_fields import JsonFields

# Why a field cannot change a result.
GENERATION = "It is for models that generate text."
LABEL = "It is for classifiers."
NOTE = "It is a note about the file or about who wrote it."
RETURNED = "It says what else transformers returns; the features are the same."
MEMORY = "It trades time for memory; the result is the same."
START = "It is about random weights; without weights, fastclip draws its own."
TOKENIZER = "The tokenizer's own files say it; the model does not read it."
PRECISION = "It is the dtype of the tensors in the file; precision= sets the model's dtype."
UNTIED = "There is no output layer to tie to the embeddings."
WHOLE = "CLIPModel projects both towers to the projection_dim of the whole model."
NAMED = "The weights are compared with the model tensor by tensor."

EVERY_CONFIG = (
    dict.fromkeys(
        "max_length min_length do_sample early_stopping num_beams num_beam_groups "
        "diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty "
        "no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences "
        "output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id "
        "remove_invalid_values exponential_decay_length_penalty suppress_tokens "
        "begin_suppress_tokens decoder_start_token_id prefix use_cache".split(),
        GENERATION,
    )
    | dict.fromkeys(
        "id2label label2id num_labels finetuning_task problem_type task_specific_params "
        "tf_legacy_loss".split(),
        LABEL,
    )
    | dict.fromkeys(
        "_name_or_path name_or_path transformers_version _commit_hash transformers_weights".split(),
        NOTE,
    )
    | dict.fromkeys(
        "return_dict use_return_dict output_attentions output_hidden_states torchscript".split(),
        RETURNED,
    )
    | dict.fromkeys(
        "gradient_checkpointing chunk_size_feed_forward _attn_implementation "
        "attn_implementation _attn_implementation_autoset _attn_implementation_internal".split(),
        MEMORY,
    )
    | dict.fromkeys("initializer_range initializer_factor".split(), START)
    | dict.fromkeys("bos_token_id pad_token_id sep_token_id tokenizer_class".split(), TOKENIZER)
    | dict.fromkeys("torch_dtype dtype use_bfloat16".split(), PRECISION)
    | dict.fromkeys("tie_word_embeddings tie_encoder_decoder".split(), UNTIED)
    | {"architectures": NAMED}
)
# Parts that only other models have.
ABSENT = {
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "pruned_heads": ({}, None),
}
TOWER_ONLY = ABSENT | {"attention_dropout": (0.0,), "dropout": (0.0,)}
BLOCKS = {
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
    "layer_norm_eps",
}  # fmt: skip
TEXT = BLOCKS | {"vocab_size", "max_position_embeddings"}
VISION = BLOCKS | {"image_size", "patch_size"}
KIND = {"model_type": "transformers also reads a tower by its place in the whole model."}
IMAGES_HAVE_NO_END = {"eos_token_id": "Images have no tokens."}

CLIP = JsonFields(
    {"text_config", "vision_config", "text_config_dict", "vision_config_dict", "model_type"}
    | {"projection_dim", "logit_scale_init_value"},
    ABSENT,
    EVERY_CONFIG | {"eos_token_id": "Only the text tower's is used."},
)
CLIP_TEXT = JsonFields(
    TEXT | {"eos_token_id"}, TOWER_ONLY, EVERY_CONFIG | KIND | {"projection_dim": WHOLE}
)
CLIP_VISION = JsonFields(
    VISION | {"num_channels"},
    TOWER_ONLY,
    EVERY_CONFIG | KIND | IMAGES_HAVE_NO_END | {"projection_dim": WHOLE},
)
SIGLIP = JsonFields(
    {"text_config", "vision_config", "model_type"},
    ABSENT | {"text_config_dict": (None,), "vision_config_dict": (None,)},
    EVERY_CONFIG | {"eos_token_id": "SiglipModel reads the last token, whatever it is."},
)
SIGLIP_TEXT = JsonFields(
    TEXT | {"projection_size"},
    TOWER_ONLY,
    EVERY_CONFIG | KIND | {"eos_token_id": "SiglipModel reads the last token, whatever it is."},
)
SIGLIP_VISION = JsonFields(
    VISION,
    TOWER_ONLY | {"num_channels": (3,), "vision_use_head": (True,)},
    EVERY_CONFIG | KIND | IMAGES_HAVE_NO_END,
)

# Siglip2Model; its text tower and the fields of the whole model are as in SiglipModel.
SIGLIP2_VISION = JsonFields(
    BLOCKS | {"num_patches", "patch_size"},
    TOWER_ONLY | {"num_channels": (3,), "vision_use_head": (True,)},
    EVERY_CONFIG | KIND | IMAGES_HAVE_NO_END,
)

EVERY_PROCESSOR = {
    "do_resize", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std",
    "resample", "image_processor_type", "feature_extractor_type",
}  # fmt: skip
PREPROCESSOR = JsonFields(
    EVERY_PROCESSOR | {"size", "crop_size", "default_to_square", "do_center_crop"},
    {
        "do_pad": (False, None),
        "pad_size": (None,),
        "use_square_size": (False, None),
        "data_format": ("channels_first", None),
        "input_data_format": (None,),
    },
    {
        "do_convert_rgb": "Models take three channels; without it, transformers' processor fails.",
        "processor_class": NOTE,
        "model_input_names": "It names what transformers' processor returns.",
        "return_tensors": "It names the kind of array that transformers' processor returns.",
        "device": "It says where transformers' processor computes.",
        "use_fast": "Both backends of transformers' processors have the same settings.",
        "transformers_version": NOTE,
        "_name_or_path": NOTE,
        "disable_grouping": "It says how many images transformers' processor takes at once.",
        "image_seq_length": "It is for models that mix images into texts.",
        "_valid_processor_keys": "It lists the arguments of transformers' processor.",
        "_valid_kwargs_names": "It lists the arguments of transformers' processor.",
    },
)
# Siglip2ImageProcessor, which has no fixed image size: it keeps the aspect ratio.
NAFLEX_PREPROCESSOR = JsonFields(
    EVERY_PROCESSOR | {"patch_size", "max_num_patches"},
    PREPROCESSOR.only
    | {"size": (None,), "crop_size": (None,), "do_center_crop": (False, None)}
    | {"default_to_square": (False, True, None)},
    PREPROCESSOR.without_effect,
)
