"""Makes emoji.npz: every one-character emoji of Noto Color Emoji as a 32x32 colour image on white, with its name.

On Debian or Ubuntu `apt install fonts-noto-color-emoji` brings the font. Which emoji have a name depends on the
Unicode version of this Python (unicodedata.unidata_version), which is why it is printed.

    python make_emoji.py [/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf]
"""

import sys
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
STRIKE = 109  # the one size of the font's bitmaps; any other is refused
SIDE = 32
CANDIDATES = [0xA9, 0xAE, *range(0x2000, 0x3300), *range(0x1F000, 0x1FC00)]  # (c), (r) and the blocks of pictographs


def render(font, character):
    """(32, 32, 3) uint8: the bitmap centred on a white square and averaged down, or None if nothing is drawn."""
    left, top, right, bottom = font.getbbox(character)
    side = max(right - left, bottom - top)
    if side == 0:
        return None
    square = Image.new("RGB", (side, side), "white")
    corner = ((side - left - right) // 2, (side - top - bottom) // 2)
    ImageDraw.Draw(square).text(corner, character, font=font, fill="white", embedded_color=True)
    pixels = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return None if pixels.min() == 255 else pixels


def main(font_path=FONT):
    font = ImageFont.truetype(font_path, STRIKE, layout_engine=ImageFont.Layout.BASIC)
    pixels, names = [], []
    for code in CANDIDATES:
        character, name = chr(code), unicodedata.name(chr(code), "")
        # Skin tones, hair, key caps and regional letters are parts of other emoji, no pictures by themselves.
        if not name or name.startswith(("EMOJI MODIFIER", "EMOJI COMPONENT", "REGIONAL INDICATOR", "COMBINING")):
            continue
        glyph = render(font, character)
        if glyph is None:
            continue
        pixels.append(glyph)
        names.append(name.lower())
    target = Path(__file__).with_name("emoji.npz")
    # A fixed-width array of characters, as an array of Python strings would need pickle.
    np.savez_compressed(target, pixels=np.stack(pixels), names=np.array(names, dtype=np.str_))
    print(f"{target}: {len(names)} emoji, Unicode {unicodedata.unidata_version}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:2])
