"""The names of `open_clip.pos_embed`."""

from fastclip.compat.absent import absent

globals().update(
    absent(
        {
            "no built-in tower has fixed position embeddings": (
                "get_1d_sincos_pos_embed_from_grid",
                "get_2d_sincos_pos_embed",
                "get_2d_sincos_pos_embed_from_grid",
            ),
            "load_checkpoint(..., resize=True) and force_image_size= resize position embeddings": (
                "interpolate_pos_embed",
            ),
        }
    )
)
