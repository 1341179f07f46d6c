from fastclip.data.loading.bad_samples import MAX_EXAMPLES, BadSamples
from fastclip.data.sources.samples import BadSample


def account(seen: int, *bad: BadSample) -> BadSamples:
    result = BadSamples(seen)
    for sample in bad:
        result.add(sample)
    return result


def test_counts_weigh_what_is_lost_and_examples_are_the_first():
    bad = [BadSample(f"k{i}", "no image") for i in range(9)] + [BadSample("s", "gone", "why", 20)]
    found = account(100, *bad)
    assert found.counts == {"no image": 9, "gone": 20} and found.num_bad == 29
    assert found.rate == 0.29
    assert found.examples["no image"] == [f"k{i}" for i in range(MAX_EXAMPLES)]
    assert found.examples["gone"] == ["s: why"]


def test_summary_names_the_most_frequent_reason_first_and_report_the_examples():
    found = account(50, BadSample("a", "x"), BadSample("b", "y", "why"), BadSample("c", "y"))
    assert found.summary() == "3 of 50 samples are bad: 2 y, 1 x"
    assert found.report().splitlines()[1:] == ["  x: a", "  y: b: why", "  y: c"]
    assert BadSamples().summary() == "0 of 0 samples are bad" and BadSamples().rate == 0


def test_files_of_no_sample_are_counted_apart_and_said():
    found = account(50, BadSample("a", "x"), *[BadSample(f"{i}.npy", ".npy", lost=0) for i in "ab"])
    found = found.merge(account(1, BadSample("c", ".md", lost=0)))
    assert (found.num_bad, found.num_seen, found.skipped) == (1, 51, {".npy": 2, ".md": 1})
    said = "1 of 51 samples are bad: 1 x; 3 files belong to no sample: 2 .npy, 1 .md"
    assert found.summary() == said and BadSamples.from_dict(found.to_dict()) == found
    before = {name: value for name, value in found.to_dict().items() if name != "skipped"}
    assert BadSamples.from_dict(before).skipped == {}  # as older checkpoints have it


def test_captions_that_were_cut_are_counted_and_said():
    found = BadSamples(9, num_cut=1)
    assert found.summary() == "0 of 9 samples are bad; 1 caption was cut to the tokenizer's context"
    both = found.merge(BadSamples(1, num_cut=2))
    assert both.num_cut == 3 and "; 3 captions were cut" in both.summary()
    assert BadSamples.from_dict(both.to_dict()) == both
    assert BadSamples.from_dict({"num_seen": 9}).num_cut == 0  # as older checkpoints have it


def test_merge_adds_up_and_changes_neither():
    left = account(10, BadSample("a", "x"))
    right = account(5, *[BadSample(str(i), "x") for i in range(7)], BadSample("b", "y"))
    both = left.merge(right)
    assert both.num_seen == 15 and both.counts == {"x": 8, "y": 1}
    assert both.examples == {"x": ["a", "0", "1", "2", "3"], "y": ["b"]}
    assert left == account(10, BadSample("a", "x")) and len(right.examples["x"]) == 5


def test_dictionary_is_a_copy_that_gives_the_same_account():
    found = account(10, BadSample("a", "x"))
    values = found.to_dict()
    assert BadSamples.from_dict(values) == found
    found.add(BadSample("b", "x"))
    assert values["counts"] == {"x": 1} and values["examples"] == {"x": ["a"]}
