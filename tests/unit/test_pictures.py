"""Pictures as sellers upload them: every format and mode, broken, huge, tiny, rotated."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shelfwise.classification import pictures
from shelfwise.classification.pictures import PictureError, Pictures, pack, read_picture

RED, GREEN, WHITE = (200, 30, 40), (20, 180, 60), (255, 255, 255)


def picture(width: int = 40, height: int = 40, colour: Any = RED, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), colour)


def data_of(image: Image.Image, format: str = "PNG", **settings: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=format, **settings)
    return stream.getvalue()


def near(pixel: np.ndarray, colour: tuple[int, int, int], by: int = 6) -> bool:
    return bool((np.abs(pixel.astype(int) - colour) <= by).all())


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_common_format_is_read(format: str) -> None:
    pixels = read_picture(data_of(picture(), format), 16)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert near(pixels[8, 8], RED)


def test_a_picture_is_padded_with_white_and_not_stretched() -> None:
    wide = read_picture(data_of(picture(80, 40)), 16)
    assert near(wide[8, 1], RED)
    assert near(wide[8, 14], RED)
    assert (wide[:4] == 255).all()
    assert (wide[12:] == 255).all()
    tall = read_picture(data_of(picture(40, 80)), 16)
    assert (tall == wide.transpose(1, 0, 2)).all()


def test_a_line_of_a_picture_is_still_seen() -> None:
    pixels = read_picture(data_of(picture(2000, 8)), 16)
    assert (pixels != 255).any()


def test_a_small_picture_is_enlarged() -> None:
    assert near(read_picture(data_of(picture(9, 9)), 32)[1, 1], RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int) -> None:
    """A camera's note says how to turn what it has stored: the same picture comes out of every way to store it."""
    image = picture(48, 32)
    image.paste(GREEN, (0, 0, 16, 12))
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = image
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (read_picture(data_of(stored, exif=exif), 24) == read_picture(data_of(image), 24)).all()


def test_notes_that_cannot_be_read_do_not_matter() -> None:
    data = data_of(picture(), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\xff\xff")
    assert near(read_picture(data, 16)[8, 8], RED)


def test_what_is_transparent_is_white() -> None:
    image = picture(40, 40, (*RED, 255), "RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 40))
    for shown in (image, image.convert("LA"), image.quantize(8)):
        pixels = read_picture(data_of(shown), 16)
        assert near(pixels[8, 2], WHITE), shown.mode
        assert not near(pixels[8, 13], WHITE, 60), shown.mode


def test_a_colour_that_stands_for_nothing_is_white() -> None:
    image = picture()
    image.paste(GREEN, (0, 0, 20, 40))
    pixels = read_picture(data_of(image, transparency=GREEN), 16)
    assert near(pixels[8, 2], WHITE)
    assert near(pixels[8, 13], RED)


def test_print_colours_become_screen_colours() -> None:
    cyan = read_picture(data_of(picture(colour=(255, 0, 0, 0), mode="CMYK"), "JPEG"), 16)[8, 8].astype(int)
    assert cyan[0] < 90
    assert cyan[1] > 120
    assert cyan[2] > 150


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    values = np.linspace(0, 65535, 40 * 40, dtype=np.uint16).reshape(40, 40)
    pixels = read_picture(data_of(Image.fromarray(values)), 40)
    assert pixels[0].max() < 10
    assert pixels[-1].min() > 245
    assert 118 < pixels[20].mean() < 138


def test_floats_from_nought_to_one_are_scaled() -> None:
    values = np.full((20, 20), 0.5, np.float32)
    assert near(read_picture(data_of(Image.fromarray(values), "TIFF"), 16)[8, 8], (127, 127, 127))


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr"])
def test_other_modes_are_read(mode: str) -> None:
    format = "JPEG" if mode == "YCbCr" else "PNG"
    assert near(read_picture(data_of(picture(colour=WHITE).convert(mode), format), 16)[8, 8], WHITE)


def test_of_an_animation_the_first_frame_is_read() -> None:
    for format in ("GIF", "WEBP"):
        data = data_of(picture(), format, save_all=True, append_images=[picture(colour=GREEN)] * 3, duration=50)
        assert near(read_picture(data, 16)[8, 8], RED, 12)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_cut_short_is_refused(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = data_of(noise, format)
    assert read_picture(whole, 16).shape == (16, 16, 3)
    with pytest.raises(PictureError, match="cut short"):
        read_picture(whole[: len(whole) // 2], 16)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "text, not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text, not a picture"),
        (b"\x00\x01\x02\x03" * 100, "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "not a picture|cut short"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        read_picture(data, 16)


def test_a_counting_pixel_is_refused() -> None:
    with pytest.raises(PictureError, match="1 x 1 pixels"):
        read_picture(data_of(picture(1, 1)), 16)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\x00" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9_000, 9_000), (30_000, 30_000), (2**31 - 1, 10)])
def test_a_picture_that_claims_to_be_huge_is_not_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match=r"50,000,000"):
        read_picture(bomb(*size), 16)


def test_a_large_photo_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert near(read_picture(data_of(picture(3000, 2000), "JPEG"), 16)[8, 8], RED)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 100)
    with pytest.raises(PictureError, match="40 x 40"):
        read_picture(data_of(picture()), 16)


def test_random_damage_is_refused_or_read_and_nothing_else() -> None:
    """Whatever a disk or a network did to a file: an answer of the right shape, or a PictureError."""
    rng = np.random.default_rng(5)
    noise = Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8))
    refused: list[str] = []
    for format in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = np.frombuffer(data_of(noise, format), np.uint8)
        for _ in range(60):
            hurt = whole.copy()
            places = rng.integers(0, len(hurt), rng.integers(1, 40))
            hurt[places] = rng.integers(0, 255, len(places))
            try:
                assert read_picture(hurt.tobytes(), 16).shape == (16, 16, 3)
            except PictureError as error:
                refused.append(str(error))
    assert len(refused) > 30
    assert all(refused)


def test_packing_keeps_what_can_be_read_and_says_why_of_the_rest(tmp_path: Path) -> None:
    rows = [
        ("a", data_of(picture())),
        ("b", "there is no file"),
        ("c", b"GIF89a"),
        ("d", data_of(picture(colour=GREEN))),
    ]
    found = pack(rows, 16)
    assert found.listing_ids == ["a", "d"]
    assert found.pixels.shape == (2, 16, 16, 3)
    assert near(found.pixels[1, 8, 8], GREEN)
    problems = dict(zip(found.problems["listing_id"], found.problems["problem"], strict=True))
    assert problems["b"] == "there is no file"
    assert set(problems) == {"b", "c"}
    found.save(tmp_path / "pictures")
    again = Pictures.load(tmp_path / "pictures")
    assert isinstance(again.pixels, np.memmap)
    assert (again.pixels == found.pixels).all()
    assert again.listing_ids == found.listing_ids
    assert again.problems.to_dict() == found.problems.to_dict()
    assert again.side == 16
    assert again.rows_of(["d", "x", "a"]).tolist() == [1, -1, 0]


def test_pictures_packed_into_a_directory_are_never_in_memory_together(tmp_path: Path) -> None:
    data = [data_of(picture(colour=colour), "BMP") for colour in (RED, GREEN)]
    rows = [(str(number), data[number % 2] if number % 3 else "gone") for number in range(600)]
    read_picture(data[0])  # decoders are loaded once
    tracemalloc.start()
    found = Pictures.pack(rows, 64, tmp_path / "pictures")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < found.pixels.nbytes / 2 == 400 * 64 * 64 * 3 / 2
    assert isinstance(found.pixels, np.memmap)
    whole = pack(rows, 64)
    np.testing.assert_array_equal(found.pixels, whole.pixels)
    assert found.listing_ids == whole.listing_ids
    assert found.problems.to_dict() == whole.problems.to_dict()


def test_no_pictures_at_all_are_kept_too(tmp_path: Path) -> None:
    found = Pictures.pack([("a", b"")], 16, tmp_path / "pictures")
    assert found.pixels.shape == (0, 16, 16, 3)
    assert found.side == 16
    assert len(found) == 0
    assert found.problems["problem"].tolist() == ["an empty file"]
