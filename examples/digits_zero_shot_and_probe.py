"""Classify handwritten digits without labelled images, and with a few.

Zero-shot classification uses no labelled image: a class is the mean of its six prompts ("top left
three", ...). A linear probe is a linear classifier on the features of the image tower, trained with
1, 2, 4, 8 or 16 labelled images of each digit, or with all 1,438. Both are tested on the same 359
digits, which neither the model nor a probe has seen.

    python examples/digits_zero_shot_and_probe.py

It takes about ten seconds with the model of `fastclip demo`, which is trained first if there is
none (two minutes). The figure is examples-output/digits_zero_shot_and_probe.png.

The small model names a digit of 8 x 8 pixels in one of six cells correctly in about 96 of 100
cases. It knows nothing but such grids of digits. Zero-shot classification needs no labels for its
classes, but the model was trained on captions that named the digits.
"""

from collections.abc import Sequence

from digits import WHERE, digits_model, features_of_texts, lone_digits
from fastclip.data.digits.grids import PROMPTS
from fastclip.data.digits.images import DIGIT_WORDS
from fastclip.evaluate import few_shot, linear_probe, zero_shot
from fastclip.evaluate.classification import class_features
from fastclip.evaluate.figures import probe_figure, worth_in_images
from small_clip import arguments

SHOTS, SEEDS = (1, 2, 4, 8, 16), 3  # labelled images of each digit; random draws
C_GRID = (1.0, 10.0, 100.0, 1000.0, 10_000.0)  # for the probe with all images


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = arguments(__doc__, argv, checkpoint=WHERE)
    ready = digits_model(args)
    train, test = lone_digits(ready, held_out=False), lone_digits(ready, held_out=True)

    # (D, C), a class per column: the unit mean of the unit features of its prompts.
    classes = class_features(lambda texts: features_of_texts(ready, texts), DIGIT_WORDS, PROMPTS)
    named = zero_shot(test[0], classes.T, test[1], class_names=DIGIT_WORDS)
    few = few_shot(train, test, shots=SHOTS, seeds=SEEDS, class_names=DIGIT_WORDS)
    full = linear_probe(train, test, c_grid=C_GRID, class_names=DIGIT_WORDS)

    low, high = named.intervals["acc1"]
    print(f"zero-shot        {named.metrics['acc1']:.1%}  (95 % interval {low:.1%} to {high:.1%})")
    for shots in few.shots:
        values = few.values(shots)
        print(f"{shots:>2} of each class {sum(values) / len(values):.1%}")
    print(f"all {len(train[1]):,}        {full.metrics['lp_acc1']:.1%}")
    print(worth_in_images(named.metrics["acc1"], few))

    path = args.output / "digits_zero_shot_and_probe.png"
    title = "Handwritten digits: zero-shot against linear probes"
    probe_figure(path, zero_shot=named, few_shot=few, full_probe=full, title=title)
    print(f"wrote {path}")
    return {"zero_shot": named.metrics["acc1"], "full_probe": full.metrics["lp_acc1"]}


if __name__ == "__main__":
    main()
