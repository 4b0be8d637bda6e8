"""Draw my_images, 5 pictures of each of four fruits, and new_images, 3 others of each, for want of photographs."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

SKINS = {"cherry": (190, 40, 45), "lemon": (235, 205, 60), "pear": (165, 185, 70), "plum": (95, 50, 115)}


def picture(fruit: str, seed: int) -> Image.Image:
    """One fruit on a table, 400 x 300 pixels: another place, size, tilt, colour and light with every seed."""
    rng = np.random.default_rng((sorted(SKINS).index(fruit), seed))
    skin = tuple(np.clip(np.add(SKINS[fruit], rng.normal(0, 12, 3)), 0, 255).astype(int).tolist())
    layer = Image.new("RGBA", (400, 400))
    draw = ImageDraw.Draw(layer)
    if fruit == "lemon":
        draw.polygon([(75, 200), (130, 165), (270, 165), (325, 200), (270, 235), (130, 235)], fill=skin)
    if fruit == "pear":
        draw.ellipse((150, 80, 250, 230), fill=skin)
    wide, high = {"cherry": (85, 80), "lemon": (100, 70), "pear": (75, 80), "plum": (60, 75)}[fruit]
    low = 240 if fruit == "pear" else 200
    draw.ellipse((200 - wide, low - high, 200 + wide, low + high), fill=skin)
    draw.ellipse((160, low - 50, 190, low - 25), fill=(255, 255, 255, 90))
    if fruit in ("cherry", "pear"):
        draw.line((200, low - high - (50 if fruit == "pear" else -12), 212, low - high - 85), (90, 60, 35), 9)
    layer = layer.rotate(rng.uniform(-25, 25)).resize([int(rng.uniform(230, 330))] * 2)
    above, below = rng.uniform(90, 200, (2, 3))
    table = np.linspace(above, below, 300)[:, None] + rng.normal(0, 6, (300, 400, 3))
    photo = Image.fromarray(np.clip(table, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    left, top = (int(side / 2 + rng.uniform(-30, 30) - layer.width / 2) for side in photo.size)
    photo.paste(layer, (left, top), layer)
    return ImageEnhance.Brightness(photo).enhance(rng.uniform(0.7, 1.1))


for fruit in SKINS:
    for seed in range(8):
        path = Path("my_images" if seed < 5 else "new_images") / fruit / f"{seed + 1}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(fruit, seed).save(path, quality=90)
