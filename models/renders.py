"""Lines of rendered text with known characters, clean or degraded like a bad photograph, and the error rate on them."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from models.sentences import prose
from models.zoo import Array

HEIGHT, WIDTH = 48, 320
FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf")
FONT_FOLDERS = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/dejavu", "/usr/share/fonts/TTF", "/Library/Fonts")


@cache
def _font(name: str, size: int) -> Any:
    """A DejaVu face from the system or from matplotlib's data; else the scalable face built into Pillow."""
    import sys

    from PIL import ImageFont

    bundled = (f"{entry}/matplotlib/mpl-data/fonts/ttf" for entry in sys.path)
    for folder in (*FONT_FOLDERS, *bundled):
        if (Path(folder) / name).is_file():
            return ImageFont.truetype(str(Path(folder) / name), size)
    return ImageFont.load_default(size)


def lines(split: str, count: int) -> list[str]:
    """`count` lines of two to five words that fit the width at any of the fonts."""
    rng = random.Random(split)
    words = " ".join(prose(split, 400)).split()
    words = [word for word in words if word.isascii() and word.isprintable()]
    found: list[str] = []
    position = 0
    while len(found) < count:
        taken = words[position : position + rng.randint(2, 4)]
        position = (position + len(taken)) % (len(words) - 5)
        text = " ".join(taken)
        if 6 <= len(text) <= 22:
            found.append(text)
    return found


def render(text: str, seed: int, *, degraded: bool) -> Array:
    """`text` as the input of a recognizer, float32 [1, 3, 48, 320] in -1..1, right side padded with 0.

    A degraded line is turned by up to 1.5 degrees, blurred, scaled down by 2 to 2.8 and up again, has low contrast and
    noise of standard deviation 18.
    """
    from PIL import Image, ImageDraw, ImageFilter

    rng = random.Random(seed)
    font = _font(FONTS[seed % len(FONTS)], 30)
    box = font.getbbox(text)
    image = Image.new("L", (int(box[2]) + 24, 52), 255)
    ImageDraw.Draw(image).text((12, 8), text, fill=0, font=font)
    ink = 1.0
    paper = 255.0
    if degraded:
        bilinear = Image.Resampling.BILINEAR
        image = image.rotate(rng.uniform(-1.5, 1.5), resample=bilinear, fillcolor=255)
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.3)))
        factor = rng.uniform(2.0, 2.8)
        small = image.resize((int(image.width / factor), int(image.height / factor)), bilinear)
        image = small.resize(image.size, bilinear)
        ink, paper = rng.uniform(0.25, 0.5), rng.uniform(170, 230)
    pixels = paper - (255.0 - np.asarray(image, np.float32)) / 255.0 * ink * paper
    if degraded:
        pixels = pixels + np.random.default_rng(seed).normal(0.0, 18.0, pixels.shape)
    flat = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    width = min(WIDTH, round(flat.width * HEIGHT / flat.height))
    scaled = np.asarray(flat.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32) / 127.5 - 1.0
    line = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    line[..., :width] = scaled
    return line


def greedy_text(probabilities: Array, characters: tuple[str, ...]) -> str:
    """The best path of CTC probabilities [T, classes], repeats merged, blank (class 0) dropped."""
    best = probabilities.argmax(axis=-1)
    kept = best[np.concatenate(([True], best[1:] != best[:-1]))]
    return "".join(characters[index - 1] for index in kept if index)
