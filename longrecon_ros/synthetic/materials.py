"""Materials shared by the worlds: each paints one `Canvas` whole."""

import colorsys

import cv2
import numpy as np

from .texture import Canvas, Color, Paint


def random_color(rng: np.random.Generator, saturation=(0.1, 0.6), value=(0.4, 0.85),
                 hue=(0.0, 1.0)) -> Color:
    """Return an RGB colour (0..255) whose hue, saturation and value (0..1) lie in ranges."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
    return tuple(255 * channel for channel in rgb)


def wood_color(rng: np.random.Generator, value=(0.35, 0.75)) -> Color:
    """Return a brown."""
    return random_color(rng, (0.3, 0.6), value, hue=(0.045, 0.11))


def scaled(color: Color, factor: float) -> Color:
    """Return a darker or lighter colour."""
    return tuple(factor * channel for channel in color)


def jitter(rng: np.random.Generator, color: Color, relative: float) -> Color:
    """Return a colour whose brightness differs by a random share."""
    return scaled(color, float(np.exp(relative * rng.standard_normal())))


def plain(color: Color, contrast: float = 0.12, coarsest_m: float = 0.6) -> Paint:
    """A stained, speckled coat of one colour."""
    def paint(canvas: Canvas) -> None:
        canvas.fill(color)
        canvas.grain(contrast, coarsest_m)
        speckle(canvas)
    return paint


def blank(color: Color) -> Paint:
    """One colour and nothing else: no texture to track."""
    return lambda canvas: canvas.fill(color)


def speckle(canvas: Canvas, size_m: float = 0.03, share: float = 0.04) -> None:
    """Scatter dark and light chips, so that there are corners at every place.

    ``share`` of the face is covered by chips of about ``size_m``.
    """
    size_px = max(2.0, size_m / canvas.width_m * canvas.w)
    rows, cols = (max(2, round(side / size_px)) for side in (canvas.h, canvas.w))
    field = cv2.resize(canvas.rng.standard_normal((rows, cols), dtype=np.float32),
                       (canvas.w, canvas.h), interpolation=cv2.INTER_CUBIC)
    low, high = np.quantile(field[::7, ::5], (share / 2, 1 - share / 2))
    canvas.image[field < low] *= np.float32(0.6)
    canvas.image[field > high] *= np.float32(1.3)


def courses(color: Color, mortar: Color, length_m: float, height_m: float,
            spread: float = 0.16, joint_m: float = 0.012, coarsest_m: float = 0.8) -> Paint:
    """Bricks, slabs, planks or tiles in courses, each piece of its own shade."""
    def paint(canvas: Canvas) -> None:
        rng = canvas.rng
        canvas.fill(mortar)
        for row in range(int(np.ceil(canvas.height_m / height_m))):
            x = -length_m * rng.uniform(0.2, 0.8)
            while x < canvas.width_m:
                canvas.rect(x + joint_m, row * height_m + joint_m, length_m - joint_m,
                            height_m - joint_m, jitter(rng, color, spread))
                x += length_m
        canvas.grain(0.09, coarsest_m)
    return paint


def planks(color: Color) -> Paint:
    """A floor of boards."""
    return courses(color, scaled(color, 0.45), 1.3, 0.14, spread=0.13, joint_m=0.006,
                   coarsest_m=0.3)


def bricks(color: Color) -> Paint:
    """Brickwork, its courses coarser than real ones so that they show from afar."""
    return courses(color, (178, 172, 160), 0.42, 0.16, spread=0.2, joint_m=0.025)


def wallpaper(color: Color, motif: Color) -> Paint:
    """A wall with a scattered motif, stains, and a skirting board."""
    def paint(canvas: Canvas) -> None:
        rng = canvas.rng
        canvas.fill(color)
        for _ in range(int(14 * canvas.width_m * canvas.height_m)):
            x, y = rng.uniform(0, canvas.width_m), rng.uniform(0, canvas.height_m)
            size, tint = rng.uniform(0.02, 0.09), jitter(rng, motif, 0.25)
            if rng.uniform() < 0.5:
                canvas.disc(x, y, size / 2, tint)
            else:
                angle = rng.uniform(0, np.pi)
                canvas.line((x, y), (x + size * np.cos(angle) * 2, y + size * np.sin(angle) * 2),
                            0.02, tint)
        canvas.grain(0.07, 1.5)
        canvas.rect(0, canvas.height_m - 0.1, canvas.width_m, 0.1, scaled(color, 0.5))
        canvas.shade_down(0.25, 0.3)
    return paint


def picture(canvas: Canvas) -> None:
    """A framed abstract painting."""
    rng, w, h = canvas.rng, canvas.width_m, canvas.height_m
    canvas.fill(random_color(rng, (0.1, 0.5), (0.6, 0.95)))
    for _ in range(22):
        color = random_color(rng, (0.3, 0.9), (0.2, 0.95))
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        kind = rng.integers(3)
        if kind == 0:
            canvas.disc(x, y, rng.uniform(0.03, 0.18) * w, color)
        elif kind == 1:
            canvas.rect(x, y, rng.uniform(0.05, 0.3) * w, rng.uniform(0.05, 0.3) * h, color)
        else:
            canvas.line((x, y), (rng.uniform(0, w), rng.uniform(0, h)), 0.02, color)
    canvas.grain(0.05, 0.2)
    frame, border = random_color(rng, (0.3, 0.6), (0.2, 0.5)), 0.05 * min(w, h)
    for x, y, width, height in ((0, 0, w, border), (0, h - border, w, border),
                                (0, 0, border, h), (w - border, 0, border, h)):
        canvas.rect(x, y, width, height, frame)


def shelf(wood: Color) -> Paint:
    """A bookshelf full of books."""
    def paint(canvas: Canvas) -> None:
        rng, board = canvas.rng, 0.03
        canvas.fill(scaled(wood, 0.35))
        n_rows = max(1, round(canvas.height_m / 0.36))
        pitch = canvas.height_m / n_rows
        for row in range(n_rows):
            x = board
            while x < canvas.width_m - 2 * board:
                width, height = rng.uniform(0.02, 0.07), pitch * rng.uniform(0.6, 0.88)
                if rng.uniform() < 0.9:
                    bottom, color = (row + 1) * pitch - board, random_color(rng, value=(0.3, 0.9))
                    canvas.rect(x, bottom - height, width - 0.004, height, color)
                    canvas.rect(x, bottom - height * rng.uniform(0.3, 0.9), width - 0.004,
                                0.03, scaled(color, rng.choice([0.5, 1.6])))
                x += width
            canvas.rect(0, (row + 1) * pitch - board, canvas.width_m, board, wood)
        for x in (0, canvas.width_m - board):
            canvas.rect(x, 0, board, canvas.height_m, wood)
        canvas.grain(0.06, 0.3)
    return paint


def panels(color: Color, n_columns: int = 2) -> Paint:
    """A cupboard or a crate front: framed panels of grained wood with handles."""
    def paint(canvas: Canvas) -> None:
        rng = canvas.rng
        canvas.fill(scaled(color, 0.5))
        n_rows = max(1, round(canvas.height_m / 0.6))
        width, height = canvas.width_m / n_columns, canvas.height_m / n_rows
        for row in range(n_rows):
            for column in range(n_columns):
                x, y = column * width, row * height
                canvas.rect(x + 0.015, y + 0.015, width - 0.03, height - 0.03,
                            jitter(rng, color, 0.08))
                canvas.rect(x + 0.07, y + 0.07, width - 0.14, height - 0.14,
                            jitter(rng, color, 0.15))
                canvas.rect(x + width - 0.06, y + height / 2 - 0.05, 0.025, 0.1, (40, 40, 45))
        canvas.grain(0.1, 0.4)
        speckle(canvas, share=0.02)
    return paint


def crate(color: Color) -> Paint:
    """A slatted crate with a printed label."""
    def paint(canvas: Canvas) -> None:
        rng, w, h = canvas.rng, canvas.width_m, canvas.height_m
        canvas.fill(scaled(color, 0.3))
        n = max(2, round(h / 0.16))
        for row in range(n):
            canvas.rect(0, row * h / n + 0.01, w, h / n - 0.02, jitter(rng, color, 0.15))
        for x in (0, w - 0.1):
            canvas.rect(x, 0, 0.1, h, jitter(rng, color, 0.12))
        left, top = rng.uniform(0.12, 0.4) * w, rng.uniform(0.1, 0.4) * h
        canvas.rect(left, top, 0.45 * w, 0.35 * h, (225, 220, 205))
        for _ in range(6):
            canvas.rect(left + rng.uniform(0.02, 0.3) * w, top + rng.uniform(0.02, 0.3) * h,
                        rng.uniform(0.03, 0.12) * w, 0.03, random_color(rng, (0.5, 1), (0.1, 0.6)))
        canvas.grain(0.12, 0.4)
    return paint


def foliage(color: Color) -> Paint:
    """Leaves: dense blobs of many shades."""
    def paint(canvas: Canvas) -> None:
        rng = canvas.rng
        canvas.fill(scaled(color, 0.45))
        n = min(6000, int(160 * canvas.width_m * canvas.height_m))
        shade = np.exp(0.35 * rng.standard_normal(n))
        canvas.scatter(rng.uniform(0, canvas.width_m, n), rng.uniform(0, canvas.height_m, n),
                       rng.uniform(0.02, 0.09, n), shade[:, None] * color)
        canvas.grain(0.15, 0.5)
    return paint
