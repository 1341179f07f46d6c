"""The names that public arguments accept, for type checkers; functions check them when called."""

from typing import Literal

Backend = Literal["auto", "cpu", "triton", "cuda", "chunked", "reference"]
Reduction = Literal["mean", "none"]
Schedule = Literal["gather", "ring"]
Direction = Literal["image_to_text", "text_to_image"]
Positives = Literal["pairs", "ids"]
