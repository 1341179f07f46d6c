"""Writing captions of images, with the arguments of open_clip's `CoCa.generate`.

    beam_search   several texts are continued in parallel, the best is kept (`beam_search.py`)
    greedy        each next token is the most probable one
    top_k, top_p  each next token is drawn from the most probable ones (`next_token.py`)

The image is encoded once. For each further token, the text tower and the decoder run over the text
so far. transformers is not needed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from fastclip.models.coca.beam_search import beam_search
from fastclip.models.coca.next_token import Choice, Rules, drawn, most_probable, nucleus
from fastclip.models.coca.sampling import sample
from fastclip.models.coca.vocabulary import require_written

GENERATION_TYPES = ("beam_search", "greedy", "top_k", "top_p")
CLIP_START, CLIP_END = 49406, 49407
# Called with the (B, T) tokens so far and None, like the criteria of transformers. It returns
# whether to stop, for all texts or for each.
Criterion = Callable[[Tensor, None], bool | Tensor]


class CaptionWriter(nn.Module):
    """Adds `generate` to a model with `_encode_image`, `_encode_text` and a `text_decoder`."""

    pad_id: int
    context_length: int
    num_read: int  # the size of the text tower's vocabulary
    has_clip_ids: bool  # the default start and end tokens are OpenAI's
    text_decoder: nn.Module

    @torch.no_grad()
    def generate(
        self,
        image: Tensor,
        text: Tensor | None = None,
        seq_len: int = 30,
        max_seq_len: int = 77,
        temperature: float = 1.0,
        generation_type: str = "beam_search",
        top_p: float = 0.1,
        top_k: int = 1,
        pad_token_id: int | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        sot_token_id: int | None = None,
        num_beams: int = 6,
        num_beam_groups: int = 3,
        min_seq_len: int = 5,
        stopping_criteria: Sequence[Criterion] | None = None,
        repetition_penalty: float = 1.0,
        fixed_output_length: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return (B, T) int64 tokens of captions, each with a start token and an end token.

        The model computes as in evaluation mode. Tokens behind an end token are padding.

        Args:
            image: (B, channels, height, width), floating-point.
            text: (B, S) tokens that the captions begin with, or (S,) for one image, whose caption
                is then (T,); by default the start token.
            seq_len: the largest number of tokens, including start and end; if tokens are chosen one
                by one, the last of these is always an end token.
            max_seq_len: the largest number of tokens that are read at a time (the last ones); at
                most `context_length` are read.
            temperature: divides the logits before a token is drawn.
            generation_type: one of `GENERATION_TYPES`; open_clip does not have "greedy".
            top_p: for "top_p", the total probability of the tokens that are drawn from.
            top_k: for "top_k", the number of tokens that are drawn from.
            pad_token_id: the token of padding; by default the model's.
            eos_token_id, sot_token_id: the end tokens and the start token; by default those in
                OpenAI's vocabulary. They have no default with a text tower of transformers, or with
                a smaller vocabulary.
            num_beams, num_beam_groups: for "beam_search"; all groups find the same, so
                num_beams / num_beam_groups texts are continued.
            min_seq_len: the number of tokens before which no caption ends.
            stopping_criteria: functions that are called with the tokens so far and None, after each
                token; generation stops before `seq_len` when for every text one of them is true.
            repetition_penalty: above 1 makes tokens less probable that are in the caption already.
            fixed_output_length: pad captions to `seq_len` tokens.
            generator: draws the tokens; by default torch's own generator.

        Raises:
            ValueError: an argument is out of its range, the numbers of texts and images differ, or
                the decoder writes tokens that the text tower cannot read, or cannot write a token
                that is given.

        Example:
            >>> tokens = model.generate(images, generation_type="top_p", top_p=0.2)
            >>> fastclip.decode(tokens[0])
        """
        _require_sizes(seq_len, min_seq_len, max_seq_len, num_beams, num_beam_groups)
        choose = _choice(generation_type, top_k, top_p, temperature, generator)
        pad_id = self.pad_id if pad_token_id is None else pad_token_id
        self._require_ids(text, eos_token_id, sot_token_id)
        ends = _ids(CLIP_END if eos_token_id is None else eos_token_id, image.device)
        rules = Rules(min_seq_len, ends, repetition_penalty)
        start = CLIP_START if sot_token_id is None else int(sot_token_id)
        text, is_one = _begun(text, image, start)
        for name, ids in (("eos_token_id", ends), ("text", text)):
            require_written(name, ids, self.text_decoder.vocab_size, self.num_read)
        longest = min(max_seq_len, self.context_length)
        is_done = partial(_all_stop, stopping_criteria or ())
        with evaluated(self):
            _, image_embs = self._encode_image(image, normalize=True)

            def logits_of(rows: Tensor, tokens: Tensor) -> Tensor:
                _, text_embs = self._encode_text(tokens[:, -longest:], normalize=False)
                return self.text_decoder.next_logits(image_embs[rows], text_embs)

            if choose is None:
                width = num_beams // num_beam_groups
                out = beam_search(logits_of, text, rules, width, seq_len, pad_id, is_done)
            else:
                out = sample(
                    logits_of, text, rules, choose, seq_len, pad_id, is_done, fixed_output_length
                )
        if fixed_output_length and out.shape[1] < seq_len:
            padding = out.new_full((len(out), seq_len - out.shape[1]), pad_id)
            out = torch.cat([out, padding], dim=1)
        return out[0] if is_one else out

    def _require_ids(
        self, text: Tensor | None, eos: int | Sequence[int] | None, start: int | None
    ) -> None:
        written = self.text_decoder.vocab_size
        if written > self.num_read:
            raise ValueError(
                f"the decoder writes {written:,} tokens, and the text tower reads {self.num_read:,}"
                " of them: it could not read all captions again"
            )
        missing = [] if eos is not None else ["eos_token_id"]
        missing += [] if start is not None or text is not None else ["sot_token_id"]
        if missing and not self.has_clip_ids:
            raise ValueError(
                f"{' and '.join(missing)} must be given: the vocabulary is not OpenAI's, whose "
                f"start and end are {CLIP_START:,} and {CLIP_END:,}"
            )


def _choice(
    generation_type: str,
    top_k: int,
    top_p: float,
    temperature: float,
    generator: torch.Generator | None,
) -> Choice | None:
    """Return the function that chooses a token from logits; None for beam search."""
    if generation_type not in GENERATION_TYPES:
        raise ValueError(f"generation_type must be one of {GENERATION_TYPES}, got "
                         f"{generation_type!r}")  # fmt: skip
    if generation_type == "beam_search":
        return None
    if generation_type == "greedy":
        return lambda logits: logits.argmax(1)
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if generation_type == "top_k":
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        return lambda logits: drawn(most_probable(logits, top_k), temperature, generator)
    if not 0 <= top_p <= 1:
        raise ValueError(f"top_p must be in [0, 1], got {top_p}")
    return lambda logits: drawn(nucleus(logits, top_p), temperature, generator)


def _require_sizes(
    seq_len: int, min_seq_len: int, max_seq_len: int, num_beams: int, num_beam_groups: int
) -> None:
    if seq_len <= min_seq_len:
        raise ValueError(f"seq_len must be larger than min_seq_len {min_seq_len}, got {seq_len}")
    if max_seq_len < 1:
        raise ValueError(f"max_seq_len must be at least 1, got {max_seq_len}")
    if num_beam_groups < 1 or num_beams < 1 or num_beams % num_beam_groups:
        raise ValueError(
            f"num_beams must be a multiple of num_beam_groups, both at least 1, got {num_beams} "
            f"and {num_beam_groups}"
        )


def _ids(ids: int | Sequence[int] | Tensor, device: torch.device) -> Tensor:
    return torch.as_tensor(ids, dtype=torch.int64, device=device).reshape(-1)


def _begun(text: Tensor | None, image: Tensor, start: int) -> tuple[Tensor, bool]:
    """Return the (B, S) tokens that captions begin with, and whether the caller gave (S,)."""
    if text is None:
        return torch.full((len(image), 1), start, device=image.device), False
    is_one = text.ndim == 1
    text = (text[None] if is_one else text).to(image.device, torch.int64)
    if text.ndim != 2 or len(text) != len(image) or text.shape[1] < 1:
        raise ValueError(
            f"text must be ({len(image)}, S) tokens, as many as images, got {tuple(text.shape)}"
        )
    return text, is_one


def _all_stop(criteria: Sequence[Criterion], tokens: Tensor) -> bool:
    """Whether one of the criteria is true for every text; False if there are no criteria."""
    stops = tokens.new_zeros(len(tokens), dtype=torch.bool)
    for criterion in criteria:
        stops = stops | torch.as_tensor(criterion(tokens, None), device=tokens.device)
    return bool(stops.all())


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode in this context, and restore the mode of each part."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
