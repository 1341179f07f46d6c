import pytest

from fastclip.data.built_in import LABELED, PAIRS, is_built_in, open_built_in
from tests.support.pair_files import captions, read_all


@pytest.mark.parametrize("name", PAIRS)
def test_names_open_pairs_in_one_draw_or_in_several(name):
    whole = captions(read_all(open_built_in(name, num_samples=100)))
    parts = captions(read_all(open_built_in(f"{name}:50", num_samples=100)))
    assert len(whole) == len(parts) == 100
    assert len(set(whole)) == 100 and len(set(parts[:50])) == len(set(parts[50:])) == 50
    assert whole != parts


def test_seed_and_number_of_samples_are_passed_on():
    first, again, other = (
        captions(read_all(open_built_in("digits", 10, seed))) for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("spec", ["letters", "digits:", "digits:many", "digits:-1", "digits/64"])
def test_other_names_are_refused(spec):
    assert not is_built_in(spec)
    with pytest.raises(ValueError, match=f"spec must be one of 'digits'.*got '{spec}'"):
        open_built_in(spec)


def test_draw_of_no_pair_is_refused():
    with pytest.raises(ValueError, match="num_pairs must be in"):
        open_built_in("digits:0")


@pytest.mark.parametrize("name", LABELED)
def test_labelled_images_are_of_classes_that_prompts_take(name):
    source = LABELED[name].open()
    assert {source.load(i).caption for i in range(len(source))} == set(source.classes)
    assert all("{}" in prompt for prompt in LABELED[name].prompts)
