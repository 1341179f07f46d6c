"""`fastclip export`: both towers as ONNX, with what prepares their inputs."""

import argparse
from pathlib import Path

from fastclip.commands.model_arguments import add_weights_arguments, refusing
from fastclip.data.quoting import some_of
from fastclip.data.tokenizers.tokenizer_check import TokenizerCheck
from fastclip.installation import install_command
from fastclip.models.inference import open_model
from fastclip.models.onnx_export.export import TOLERANCE, OnnxExport, TowerExport, export_onnx
from fastclip.models.onnx_export.layouts import LAYOUTS
from fastclip.models.onnx_export.packages import require_packages
from fastclip.models.onnx_export.runtime import BATCH_SIZES
from fastclip.models.onnx_export.tower_graph import OPSET, OPSETS
from fastclip.new_directory import require_nothing_at
from fastclip.printable import printable

DESCRIPTION = f"""\
Writes both towers of a model as ONNX for batches of any size, with the tokenizer and how images are
prepared beside them. Where onnxruntime is installed, its features are compared with torch's: if
they differ by more than {TOLERANCE} of the largest number, nothing is written.
"""
EPILOG = """\
for example
    fastclip export ViT-B-32 --pretrained laion2b_s34b_b79k --onnx ViT-B-32__laion2b-s34b-b79k
    fastclip export logs/my-run --onnx my-run-onnx --int8
    fastclip export ViT-B-32-256 --pretrained weights.pt --onnx rclip-model --layout rclip

docs/onnx.md describes the files. `fastclip doctor` says what installs the packages that the export
needs.
"""
NOISE = {"image": "images of noise", "text": "texts"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_weights_arguments(parser)
    group = parser.add_argument_group("the files")
    group.add_argument("--onnx", type=Path, metavar="FOLDER", required=True,
        help="The folder that is made; nothing may be there.")  # fmt: skip
    group.add_argument("--layout", choices=tuple(LAYOUTS), default="immich",
        help="Which program is to read the folder: immich, whose layout is of use for others too, "
        "or rclip, which takes one kind of model. The default is %(default)s.")  # fmt: skip
    group.add_argument("--normalize", action=argparse.BooleanOptionalAction, default=True,
        help="Give features the length 1, which immich expects and rclip takes. This is the "
        "default.")  # fmt: skip
    group.add_argument("--int8", action="store_true",
        help="Write 8-bit weights of matrix products and of the table of tokens, instead of "
        "float32, and print the cosines between the features of both.")  # fmt: skip
    group.add_argument("--opset", type=int, default=OPSET, choices=OPSETS,
        help="The version of ONNX's operators. The default is %(default)s.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("export", _export, args)


def _export(args: argparse.Namespace) -> int:
    # Before weights are read, or fetched.
    require_packages(args.int8)
    require_nothing_at(args.onnx)
    ready = open_model(
        args.model, args.pretrained, device="cpu", precision="fp32", cache_dir=args.cache_dir
    )
    written = export_onnx(
        ready, args.onnx, layout=args.layout, normalize=args.normalize, int8=args.int8,
        opset=args.opset,
    )  # fmt: skip
    length = "of length 1" if args.normalize else "of any length"
    print(printable(f"wrote {args.onnx}"))
    for tower, export in written.towers.items():
        print(_of_tower(tower, export, length))
    print(_of_runtime(written))
    if LAYOUTS[args.layout].brings_settings:
        print(printable(_of_tokenizer(written.tokenizer)))
    for objection in written.objections:
        print(f"{args.layout} does not read this model: {objection}")
    return 0


def _of_tower(tower: str, export: TowerExport, length: str) -> str:
    sizes = ", ".join(map(str, export.sizes))
    line = f"  {export.file}: {export.num_bytes / 1e6:,.1f} MB, (batch, {sizes}) to "
    line += f"(batch, {export.embed_dim}) {length}"
    if export.cosines is not None:
        cosines = export.cosines
        line += (
            f"\n    8-bit weights: cosine to float32 {cosines.mean():.5f} in the mean, "
            f"{cosines.min():.5f} at least, of {len(cosines)} {NOISE[tower]}"
        )
    return line


def _of_runtime(written: OnnxExport) -> str:
    differences = {tower: export.difference for tower, export in written.towers.items()}
    if None in differences.values():
        return _not_checked("the result", "onnxruntime")
    sizes = ", ".join(map(str, BATCH_SIZES))
    said = ", ".join(f"{tower} {value:.1e}" for tower, value in differences.items())
    of = "float32 in onnxruntime" if written.towers["image"].cosines is not None else "onnxruntime"
    return f"{of} and torch at batches of {sizes}: largest difference {said} of the largest number"


def _not_checked(what: str, package: str) -> str:
    how = install_command("onnx", package)
    return f"{what} was not checked, because {package} is not installed ({how})"


def _of_tokenizer(check: TokenizerCheck | None) -> str:
    if check is None:
        return _not_checked("tokenizer.json", "tokenizers")
    line = f"tokenizer.json: {check.num_same} of {check.num_texts} texts have fastclip's ids"
    if check.repaired:
        examples = some_of(check.repaired, 8)
        line += f"; {len(check.repaired)} need a repair that the file cannot say: {examples}"
    return line
