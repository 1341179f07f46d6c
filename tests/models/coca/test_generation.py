"""Captions are open_clip's where both can be compared, and the best where all can be looked at."""

import itertools

import pytest
import torch

from fastclip.models.coca.beam_search import beam_search
from fastclip.models.coca.next_token import Rules
from fastclip.models.open_clip_config import to_json
from tests.support.beam_scorer import BeamSearchScorer
from tests.support.peers import open_clip, transformers
from tests.support.small_models import COCA, build, inputs

START, END, PAD = 62, 63, 0
IDS = dict(sot_token_id=START, eos_token_id=END, pad_token_id=PAD)


@pytest.fixture(scope="module")
def pair():
    model = build(COCA).double()
    with torch.no_grad():
        model.text_decoder.text_projection[:, END] *= 1.5  # so that captions end
    values = to_json(COCA)
    values.pop("custom_text")
    theirs = open_clip.CoCa(**values).double().eval()
    theirs.load_state_dict(model.state_dict())
    return model, theirs, inputs(COCA, 4)[0].double()


@pytest.fixture
def with_parts(monkeypatch):
    """open_clip with what it takes from transformers, of which version 5 lacks the beam search."""
    module = open_clip.coca_model
    names = ("LogitsProcessorList", "TopPLogitsWarper", "TopKLogitsWarper",
             "RepetitionPenaltyLogitsProcessor", "MinLengthLogitsProcessor", "MaxLengthCriteria",
             "StoppingCriteriaList")  # fmt: skip
    for name in names:
        monkeypatch.setattr(module, name, getattr(transformers, name), raising=False)
    kinds = {"top_k": transformers.TopKLogitsWarper, "top_p": transformers.TopPLogitsWarper}
    monkeypatch.setattr(module, "GENERATION_TYPES", kinds)
    monkeypatch.setattr(module, "_has_transformers", True)
    monkeypatch.setattr(module, "BeamSearchScorer", BeamSearchScorer, raising=False)


@pytest.mark.parametrize(
    "settings",
    [
        dict(generation_type="top_k", top_k=1),
        dict(generation_type="top_k", top_k=7, temperature=0.7, min_seq_len=6),
        dict(generation_type="top_p", top_p=0.1, repetition_penalty=1.7),
        dict(generation_type="top_p", top_p=0.8, temperature=2.0, fixed_output_length=True),
    ],
)
def test_drawn_captions_are_open_clips(pair, with_parts, settings):
    model, theirs, images = pair
    found = []
    for each in (model, theirs):
        torch.manual_seed(5)
        found.append(each.generate(images, seq_len=9, **IDS, **{"min_seq_len": 3, **settings}))
    assert found[0].tolist() == found[1].tolist()
    assert found[0].dtype == torch.int64 and found[0].shape[1] <= 9
    ends = (found[0] == END).int()
    assert (ends.sum(1) == 1).all()
    if settings.get("fixed_output_length"):
        assert found[0].shape == (4, 9)


def test_a_caption_goes_on_from_a_text(pair, with_parts):
    model, theirs, images = pair
    begun = torch.tensor([START, 7, 8])
    settings = dict(seq_len=8, generation_type="top_k", **IDS)
    ours = model.generate(images[:1], begun, **settings)
    assert ours.tolist() == theirs.generate(images[:1], begun, **settings).tolist()
    assert ours[:3].tolist() == begun.tolist() and ours.ndim == 1


def test_greedy_is_the_most_probable_token(pair):
    model, _, images = pair
    settings = dict(seq_len=9, **IDS)
    greedy = model.generate(images, generation_type="greedy", **settings)
    assert torch.equal(greedy, model.generate(images, generation_type="top_k", **settings))
    for width in (dict(num_beams=1, num_beam_groups=1), dict(num_beams=3, num_beam_groups=3)):
        by_beam = model.generate(images, **width, **settings)
        assert by_beam.shape[0] == 4 and (by_beam[:, 0] == START).all()


def test_a_generator_draws_the_same_again(pair):
    model, _, images = pair
    drawn = [
        model.generate(images, generation_type="top_p", top_p=0.99, temperature=3.0, seq_len=9,
                       generator=torch.Generator().manual_seed(seed), **IDS)
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def logits_by_path(V, seed):
    """Logits that depend on all tokens so far, of two images."""
    generator = torch.Generator().manual_seed(seed)
    tables = torch.randn(2, V**4, V, generator=generator, dtype=torch.float64)

    def logits_of(rows, tokens):
        place = torch.zeros_like(rows)
        for t in range(tokens.shape[1]):
            place = place * V + tokens[:, t]
        return tables[rows, place]

    return logits_of


@pytest.mark.parametrize("seed", range(4))
def test_a_search_that_is_wide_enough_finds_the_best_of_all_texts(seed):
    V, seq_len, start, end = 4, 4, 1, 3
    logits_of = logits_by_path(V, seed)
    rules = Rules(0, torch.tensor([end]), 1.0)
    text = torch.full((2, 1), start)
    found = beam_search(logits_of, text, rules, 3**3 + 1, seq_len, 0, lambda tokens: False)
    for image in range(2):
        best = (-1e9, None)
        for length in range(1, seq_len):
            for path in itertools.product(range(V), repeat=length):
                ends = path[-1] == end
                if end in path[:-1] or (length < seq_len - 1 and not ends):
                    continue
                tokens, total = [start], 0.0
                for token in path:
                    row = torch.tensor([image])
                    total += logits_of(row, torch.tensor([tokens]))[0, token].item()
                    tokens.append(token)
                best = max(best, (total / len(tokens), tokens))
        told = found[image, : len(best[1])].tolist()
        assert told == best[1]
        assert set(found[image, len(best[1]) :].tolist()) <= {0, end}


@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(num_beams=4, num_beam_groups=1, min_seq_len=2),
        dict(num_beams=4, num_beam_groups=2, repetition_penalty=1.4, fixed_output_length=True),
        dict(num_beams=2, num_beam_groups=2),
    ],
)
def test_beams_are_open_clips(pair, with_parts, settings):
    model, theirs, images = pair
    settings = dict(seq_len=8, min_seq_len=3) | settings
    found, expected = (each.generate(images, **settings, **IDS) for each in (model, theirs))
    assert found.tolist() == expected.tolist()
    alone = [model.generate(image[None], **settings, **IDS)[0].tolist() for image in images]
    for row, one in zip(found.tolist(), alone, strict=True):
        assert [token for token in row if token] == [token for token in one if token]


def test_a_stop_of_ones_own_is_obeyed(pair):
    model, _, images = pair
    never_ends = dict(min_seq_len=8, seq_len=9, **IDS)
    for kind in ("greedy", "beam_search"):
        stops = [lambda tokens, scores: tokens.shape[1] >= 4]
        found = model.generate(images, generation_type=kind, stopping_criteria=stops, **never_ends)
        assert found.shape[1] in (4, 5)
        assert model.generate(images, generation_type=kind, **never_ends).shape[1] == 9


def test_the_model_is_left_as_it_was(pair):
    model, _, images = pair
    model.train()
    model.visual.eval()
    try:
        model.generate(images[:1], seq_len=6, **IDS)
        assert model.training and model.text.training and not model.visual.training
    finally:
        model.eval()


@pytest.mark.parametrize(
    "ids, missing",
    [
        ({}, "eos_token_id and sot_token_id"),
        (dict(eos_token_id=END), "sot_token_id"),
        (dict(text=torch.full((4, 1), START)), "eos_token_id"),
    ],
)
def test_a_vocabulary_without_openais_start_and_end_asks_for_its_own(pair, ids, missing):
    model, _, images = pair
    with pytest.raises(ValueError, match=f"^{missing} must be given: .* OpenAI's"):
        model.generate(images, seq_len=6, **ids)
    if "text" in ids:
        model.generate(images, seq_len=6, eos_token_id=END, **ids)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(generation_type="best"), "generation_type must be one of"),
        (dict(seq_len=5), "seq_len must be larger than min_seq_len 5, got 5"),
        (dict(num_beams=5), "num_beams must be a multiple of num_beam_groups"),
        (dict(generation_type="top_p", top_p=1.5), r"top_p must be in \[0, 1\]"),
        (dict(generation_type="top_k", top_k=0), "top_k must be at least 1"),
        (dict(generation_type="top_k", temperature=0), "temperature must be above 0"),
        (dict(max_seq_len=0), "max_seq_len must be at least 1"),
        (dict(text=torch.ones(3, 2, dtype=torch.int64)), r"text must be \(4, S\) tokens"),
    ],
)
def test_what_makes_no_sense_is_named(pair, settings, message):
    model, _, images = pair
    with pytest.raises(ValueError, match=message):
        model.generate(images, **(IDS | settings))
