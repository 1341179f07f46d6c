"""Train a text tower for German, French and Spanish against a frozen English tower.

The image tower and the English text tower of the digits are frozen. A new text tower, with its own
vocabulary, learns from translated captions where the English tower puts the original captions; it
sees no image. Its loss has two parts: distillation (the cosine to the English feature) and contrast
(find the own English caption among all captions of the batch, with fastclip's loss). It then
classifies new digits zero-shot, in three languages.

    python examples/multilingual_tower.py

It takes about a minute with the model of `fastclip demo`, which is trained first if there is none
(two minutes). The figure is examples-output/multilingual_tower.png.

The small model learns as much as the English one, in captions such as "oben links drei". It cannot
learn more: not a word that means nothing to the English tower, and not a word that does not occur
in the translated captions.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import fastclip
from digits import WHERE, digits_model, features_of_texts, lone_digits
from fastclip.data.digits.grids import CELL_NAMES, PROMPTS, DigitGrids
from fastclip.data.digits.images import DIGIT_WORDS, load_digits, split_by_image
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.drawing import BLUE, GREEN, INK, LINE, MUTED, new_figure
from fastclip.evaluate import zero_shot
from fastclip.evaluate.classification import class_features
from fastclip.models.inference import InferenceModel
from fastclip.models.towers.text.module import TextTower
from fastclip.progress import is_watched, progress_bar
from small_clip import arguments

STEPS, PAIRS, RATE = 250, 256, 3e-3
ENGLISH = (*DIGIT_WORDS, "top", "bottom", "left", "middle", "right")
LANGUAGES = {
    "German": "null eins zwei drei vier fünf sechs sieben acht neun oben unten links mitte rechts",
    "French": "zéro un deux trois quatre cinq six sept huit neuf haut bas gauche milieu droite",
    "Spanish": "cero uno dos tres cuatro cinco seis siete ocho nueve arriba abajo izquierda centro "
    "derecha",
}


def translated(caption: str, language: str) -> str:
    """Translate a caption into another language, word by word."""
    words = dict(zip(ENGLISH, LANGUAGES[language].split(), strict=True))
    return " ".join(words.get(word, word) for word in caption.replace(",", "").split())


def unit_features(tower: TextTower, tokenizer: WordTokenizer, texts: Sequence[str]) -> Tensor:
    """Return (N, D) unit features of texts."""
    return torch.nn.functional.normalize(tower.text_features(tokenizer(texts)), dim=1)


def train(tower: TextTower, tokenizer: WordTokenizer, teacher: InferenceModel, steps: int) -> None:
    """Train on captions of the training digits; the teacher's features are the targets."""
    optimizer = torch.optim.AdamW(tower.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2), pct_start=0.1)
    loss_fn, grids = fastclip.ClipLoss(), DigitGrids(split_by_image(load_digits())[0])
    chance, generator = random.Random(0), torch.Generator().manual_seed(1)
    scale = torch.tensor(teacher.logit_scale)
    with progress_bar(steps, title="training", shown=is_watched()) as advance:
        for _ in range(steps):
            captions = grids.draw(PAIRS, generator).captions
            wanted = features_of_texts(teacher, captions)
            others = [translated(text, chance.choice(list(LANGUAGES))) for text in captions]
            found = unit_features(tower, tokenizer, others)
            distilled = 1 - (found * wanted).sum(1).mean()
            loss = distilled + 0.1 * loss_fn(wanted, found, scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(1, f"cosine {1 - distilled.item():.3f}")


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = arguments(__doc__, argv, steps=STEPS, checkpoint=WHERE)
    ready = digits_model(args)
    features, labels = lone_digits(ready, held_out=True)

    words = " ".join(LANGUAGES.values()).split()
    tokenizer = WordTokenizer(dict.fromkeys(words), ready.tokenizer.context_length)
    torch.manual_seed(0)
    config = ready.model.config.text_cfg
    tower = TextTower(
        replace(config, vocab_size=tokenizer.vocab_size), ready.model.config.embed_dim
    )

    def accuracy(prompts: list[str], names: list[str], encode) -> float:
        classes = class_features(encode, names, prompts)
        return zero_shot(features, classes.T, labels).metrics["acc1"]

    def of_tower() -> dict[str, float]:
        with torch.no_grad():
            return {
                language: accuracy(
                    [f"{translated(cell, language)} {{}}" for cell in CELL_NAMES],
                    [translated(word, language) for word in DIGIT_WORDS],
                    lambda texts: unit_features(tower, tokenizer, texts),
                )
                for language in LANGUAGES
            }

    before = of_tower()
    train(tower, tokenizer, ready, args.steps)
    after = of_tower()
    english = accuracy(PROMPTS, DIGIT_WORDS, lambda texts: features_of_texts(ready, texts))
    print(f"English, the teacher: {english:.1%} of {len(labels)} unseen digits are named right")
    for language in LANGUAGES:
        print(f"{language}: {before[language]:.1%} before, {after[language]:.1%} after")
    path = args.output / "multilingual_tower.png"
    _draw(path, {"English\n(teacher)": english, **after}, before)
    print(f"wrote {path}")
    return {"English": english, **after}


def _draw(path, accuracies: dict[str, float], before: dict[str, float]) -> None:
    figure = new_figure(7, 4)
    axes = figure.add_axes((0.1, 0.14, 0.86, 0.7))
    figure.text(0.05, 0.93, "Unseen digits named zero-shot, by language", fontsize=13, color=INK,
        weight="bold")  # fmt: skip
    bars = axes.bar(list(accuracies), list(accuracies.values()), 0.6, color=[GREEN, *[BLUE] * 3])
    axes.bar_label(bars, [f"{value:.1%}" for value in accuracies.values()], color=INK, padding=2)
    axes.scatter(
        list(before), list(before.values()), color=MUTED, zorder=3, label="before training"
    )
    axes.axhline(0.1, color=MUTED, linewidth=1, linestyle="--", label="chance")
    axes.set_ylim(0, 1.08)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[:].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False, loc="lower right", bbox_to_anchor=(1, 1.02), ncols=2)
    figure.savefig(path)


if __name__ == "__main__":
    main()
