"""Photographs of every format and kind become pixels, are marked, or are refused by name."""

from __future__ import annotations

import random
import struct
import time
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import DecodeError, Frames, decode
from intertitle.pipeline.decoding.endings import IMAGE_ENDINGS
from intertitle.pipeline.decoding.images import stills
from intertitle.pipeline.decoding.sampling import Every, Uniform
from intertitle.pipeline.importers.synthetic.draw import draw
from intertitle.pipeline.importers.synthetic.write import plan_clip

PICTURE = Image.fromarray(draw(plan_clip(1, 0).scene)[0])


def decode_file(path: Path, size: int = 160, **limits: int) -> Frames:
    return decode(path, Item("a", str(path), "image"), Uniform(8), size, **limits)


def decode_bytes(data: bytes, folder: Path, size: int = 160) -> np.ndarray:
    (folder / "picture").write_bytes(data)
    frames = decode_file(folder / "picture", size)
    assert frames.degraded is None
    return frames.pixels[0]


def written(format: str, picture: Image.Image = PICTURE, **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


# Formats


@pytest.mark.parametrize("format", IMAGE_ENDINGS)
def test_every_format_that_has_an_ending_is_decoded(format: str, tmp_path: Path) -> None:
    data = written(format)
    assert distance(decode_bytes(data, tmp_path), np.asarray(PICTURE)) < 4


def test_every_ending_is_one_that_pillow_knows() -> None:
    known = Image.registered_extensions()
    for format, endings in IMAGE_ENDINGS.items():
        assert {known[ending] for ending in endings} == {format}


def test_heic_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stills, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(written("HEIF"))
    message = r"a\.heic: .*pip install 'intertitle\[heic\]'"
    with pytest.raises(DecodeError, match=message) as refused:
        decode_file(tmp_path / "a.heic")
    assert refused.value.error == "unavailable"


@pytest.mark.parametrize("size", [(500, 375), (333, 1257), (1280, 720), (97, 61)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_both_decoders_of_jpeg_give_the_same_pixels(
    size: tuple[int, int], options: dict[str, object]
) -> None:
    for mode in ("RGB", "L"):
        data = written("JPEG", PICTURE.resize(size).convert(mode), **options)
        with Image.open(BytesIO(data)) as image:
            image.draft("RGB", (160, 160))
            expected = np.asarray(image.convert("RGB"))
        height, width = expected.shape[:2]
        found = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
        assert np.array_equal(found, expected)


# Damage


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_with_a_broken_huffman_table_is_marked(mode: str, tmp_path: Path) -> None:
    data = bytearray(written("JPEG", PICTURE.resize((500, 375)).convert(mode)))
    # A code of the brightness' table for another symbol: libjpeg decodes on, and only warns.
    table = data.index(b"\xff\xc4", data.index(b"\xff\xc4") + 2)
    data[table + 5 + 16 + 3] ^= 0x13
    (tmp_path / "a.jpg").write_bytes(data)
    frames = decode_file(tmp_path / "a.jpg")
    assert frames.degraded is not None and frames.degraded.startswith("damaged: Corrupt JPEG data")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_bytes_missing_from_the_middle_of_a_jpeg_are_marked(
    progressive: bool, mode: str, tmp_path: Path
) -> None:
    data = written("JPEG", PICTURE.resize((500, 375)).convert(mode), progressive=progressive)
    middle = len(data) // 2
    (tmp_path / "a.jpg").write_bytes(data[:middle] + data[middle + 200 :])
    assert (decode_file(tmp_path / "a.jpg").degraded or "").startswith("damaged: ")


# Limits


def test_the_limit_of_pixels_is_the_callers(tmp_path: Path) -> None:
    # More than Pillow allows by itself. The pixels are not there: decoding fails where it begins.
    data = bytearray(written("BMP", Image.new("1", (8, 8))))
    data[18:26] = struct.pack("<2i", 20_000, 10_000)
    (tmp_path / "a.bmp").write_bytes(data)
    for limit, error in ((199_999_999, "too_large"), (200_000_000, "unreadable")):
        with pytest.raises(DecodeError) as refused:
            decode_file(tmp_path / "a.bmp", max_pixels=limit)
        assert refused.value.error == error


# Kinds of pixels


def half_transparent(mode: str) -> Image.Image:
    """Black, with nothing to see in its right half."""
    alpha = np.full((40, 40), 255, np.uint8)
    alpha[:, 20:] = 0
    picture = Image.new("RGBA", (40, 40))
    picture.putalpha(Image.fromarray(alpha))
    if mode in ("RGB", "L"):
        # Another colour stands for what is transparent.
        grey = Image.fromarray(np.where(alpha, 0, 77).astype(np.uint8)).convert(mode)
        grey.info["transparency"] = (77, 77, 77) if mode == "RGB" else 77
        return grey
    if mode == "I;16":
        deep = Image.fromarray(np.where(alpha, 0, 7777).astype(np.uint16))
        deep.info["transparency"] = 7777
        return deep
    return picture.quantize(4) if mode == "P" else picture.convert(mode)


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        ("PNG", "RGBA"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("PNG", "RGB"),
        ("PNG", "L"),
        ("PNG", "I;16"),
        ("GIF", "RGBA"),
        ("WEBP", "RGBA"),
        ("TIFF", "RGBA"),
        ("TIFF", "LA"),
        ("AVIF", "RGBA"),
        ("HEIF", "RGBA"),
    ],
)
def test_what_is_transparent_is_laid_on_white(format: str, mode: str, tmp_path: Path) -> None:
    picture = half_transparent(mode)
    options = {"lossless": True} if format == "WEBP" else {}
    if "transparency" in picture.info:
        options["transparency"] = picture.info["transparency"]
    pixels = decode_bytes(written(format, picture, **options), tmp_path, 40)
    assert (pixels[:, :18] < 8).all() and (pixels[:, 22:] > 247).all()


def test_a_picture_of_half_the_colour_is_half_as_dark(tmp_path: Path) -> None:
    pixels = decode_bytes(written("PNG", Image.new("RGBA", (8, 8), (0, 0, 0, 128))), tmp_path, 8)
    assert (pixels == 127).all()


def test_many_bits_are_scaled(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint16), (64, 1))
    for format in ("PNG", "TIFF"):
        data = written(format, Image.fromarray(ramp * 1024))
        assert (decode_bytes(data, tmp_path, 64)[0, :, 0] == np.arange(64) * 4).all()
    data = written("TIFF", Image.fromarray((ramp / 63).astype(np.float32)))
    expected = np.rint(np.arange(64, dtype=np.float32) / 63 * 255)
    assert (decode_bytes(data, tmp_path, 64)[0, :, 0] == expected).all()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((8, 8), 255, np.float32), "floats from 255 to 255, allowed: 0 to 1"),
        (np.full((8, 8), np.nan, np.float32), "floats from nan to nan, allowed: 0 to 1"),
        (np.full((8, 8), 300, np.int32), "whole numbers of 32 bits, allowed: 8 or 16 bits"),
    ],
)
def test_pixels_of_no_known_range_are_refused_by_name(
    pixels: np.ndarray, message: str, tmp_path: Path
) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(DecodeError, match=f"a.tif: its pixels are {message}") as refused:
        decode_file(tmp_path / "a.tif")
    assert refused.value.error == "unreadable"


# Metadata

RATIONAL, TEXT, SHORT = 5, 2, 3
ORIENTATION, X_RESOLUTION, EXIF_TABLE, GPS_TABLE = 0x0112, 0x011A, 0x8769, 0x8825


def tiff_table(
    rows: list[tuple[int, int, int, bytes]], order: str = "<", values: bytes = b""
) -> bytes:
    """A TIFF header with one table, as EXIF is; a row is (tag, type, count, four bytes)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(rows))
    body = b"".join(struct.pack(f"{order}HHI", *row[:3]) + row[3] for row in sorted(rows))
    return head + body + bytes(4) + values


def with_exif(format: str, exif: bytes) -> bytes:
    """The picture lying on its side as a file with this EXIF."""
    data = written_lying(format)
    if format == "JPEG":
        segment = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    if format == "PNG":
        at = data.index(b"IDAT") - 4
        return data[:at] + png_chunk(b"eXIf", exif) + data[at:]
    assert format == "WEBP"
    lossless = data[12:]
    extended = b"VP8X" + struct.pack("<II", 10, 8) + (159).to_bytes(3, "little") * 2
    chunk = b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    body = b"WEBP" + extended + lossless + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


LOSSLESS: dict[str, dict[str, object]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}


@cache
def written_lying(format: str) -> bytes:
    return written(format, PICTURE.rotate(90, expand=True), **LOSSLESS.get(format, {}))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def upright_row(order: str) -> tuple[int, int, int, bytes]:
    return (ORIENTATION, SHORT, 1, struct.pack(f"{order}HH", 6, 0))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "row",
    [
        (X_RESOLUTION, TEXT, 3, b"72\0\0"),
        (X_RESOLUTION, RATIONAL, 1, b"\0\0\0\0"),
        (X_RESOLUTION, RATIONAL, 1, b"\xff\xff\xff\xff"),
        (X_RESOLUTION, 99, 1, b"\0\0\0\0"),
        (EXIF_TABLE, TEXT, 4, b"abc\0"),
        (GPS_TABLE, SHORT, 100, b"\0\0\0\1"),
    ],
    ids=["text", "elsewhere", "nowhere", "unknown type", "table as text", "table as numbers"],
)
def test_of_metadata_only_the_orientation_counts(
    format: str, order: str, row: tuple[int, int, int, bytes], tmp_path: Path
) -> None:
    exif = tiff_table([upright_row(order), row], order, struct.pack(f"{order}ii", -1, 0))
    seen = decode_bytes(with_exif(format, exif), tmp_path)
    assert distance(seen, np.asarray(PICTURE)) < 3


@pytest.mark.parametrize("exif", [b"", b"\0\0", b"II*\0", b"nothing", tiff_table([])[:9]])
def test_metadata_that_is_none_leaves_the_picture_as_it_is(exif: bytes, tmp_path: Path) -> None:
    lying = np.asarray(PICTURE.rotate(90, expand=True))
    for format in ("JPEG", "PNG", "WEBP"):
        assert distance(decode_bytes(with_exif(format, exif), tmp_path), lying) < 3
    wrong = tiff_table([(ORIENTATION, SHORT, 1, b"\x09\0\0\0")])
    assert distance(decode_bytes(with_exif("PNG", wrong), tmp_path), lying) == 0


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
def test_exif_of_a_phone_photograph_cannot_reject_it(format: str, tmp_path: Path) -> None:
    exif = tiff_table([(X_RESOLUTION, TEXT, 3, b"72\0\0"), (EXIF_TABLE, SHORT, 9, b"\xff" * 4)])
    data = written(format, exif=tiff_table([(X_RESOLUTION, SHORT, 1, b"\1\0\0\0")] * 2))
    at = data.index(tiff_table([])[:4])
    broken = data[:at] + exif + data[at + len(exif) :]
    assert distance(decode_bytes(broken, tmp_path), np.asarray(PICTURE)) < 4


def test_a_tiff_in_tiles(tmp_path: Path) -> None:
    tile = np.arange(256, dtype=np.uint8).reshape(16, 16)
    long = {256: 16, 257: 16, 259: 1, 262: 1, 322: 16, 323: 16, 325: 256}
    rows = [(tag, 4, 1, struct.pack("<I", value)) for tag, value in long.items()]
    rows += [(258, SHORT, 1, b"\x08\0\0\0"), (277, SHORT, 1, b"\1\0\0\0")]
    begin = len(tiff_table([*rows, rows[0]]))
    rows.append((324, 4, 1, struct.pack("<I", begin)))
    shown = decode_bytes(tiff_table(rows, "<", tile.tobytes()), tmp_path, 16)
    assert (shown == tile[:, :, None]).all()


def test_a_tiff_is_turned_and_its_other_tags_cannot_reject_it(tmp_path: Path) -> None:
    lying = PICTURE.rotate(90, expand=True)
    data = bytearray(written("TIFF", lying, tiffinfo={ORIENTATION: 6, 270: "x", 305: "program"}))
    assert distance(decode_bytes(bytes(data), tmp_path), np.asarray(PICTURE)) == 0
    table = int.from_bytes(data[4:8], "little")
    for row in range(
        table + 2, table + 2 + 12 * int.from_bytes(data[table : table + 2], "little"), 12
    ):
        if int.from_bytes(data[row : row + 2], "little") in (270, 305):
            data[row : row + 8] = struct.pack("<HHI", X_RESOLUTION, 99, 2**31)
    assert distance(decode_bytes(bytes(data), tmp_path), np.asarray(PICTURE)) == 0


def test_texts_and_profiles_in_a_png_cannot_reject_it(tmp_path: Path) -> None:
    data = written("PNG")
    at = data.index(b"IDAT") - 4
    # More than Pillow reads; a broken profile; a chunk with a wrong sum.
    bomb = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000), 1))
    profile, sized = png_chunk(b"iCCP", b"a\0\1broken"), png_chunk(b"pHYs", b"\0")
    for chunk in (bomb, profile, sized, sized[:-1] + b"!"):
        seen = decode_bytes(data[:at] + chunk + data[at:], tmp_path)
        assert np.array_equal(seen, np.asarray(PICTURE))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_motion_jpeg_with_exif_is_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = written("JPEG", quality=95, exif=exif)
    with av.open(tmp_path / "a.mov", "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = *PICTURE.size, "yuvj420p"
        for index in range(4):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, index, index, True
            container.mux(packet)
    video = decode(tmp_path / "a.mov", Item("a", "a", "video"), Every(1), 160)
    assert len(video.pixels) == 4 and video.degraded is None
    assert distance(video.pixels[0], decode_bytes(data, tmp_path)) < 4


# Fuzzing of fields

TAGS = [*range(254, 344), *range(512, 533), *range(700, 702), 33432, EXIF_TABLE, GPS_TABLE]
SEEDS = {
    "JPEG": written("JPEG", PICTURE.resize((48, 32))),
    "PNG": written("PNG", PICTURE.resize((48, 32)).quantize(16), transparency=3),
    "GIF": written("GIF", PICTURE.resize((48, 32))),
    "WEBP": written("WEBP", PICTURE.resize((48, 32))),
    "TIFF": written("TIFF", PICTURE.resize((48, 32)), compression="tiff_lzw"),
    "AVIF": written("AVIF", PICTURE.resize((48, 32))),
    "HEIF": written("HEIF", PICTURE.resize((48, 32))),
    "BMP": written("BMP", PICTURE.resize((48, 32))),
}


def wrong_number(chance: random.Random, num_bytes: int, order: str) -> bytes:
    value = chance.choice([0, 1, 2, 3, 8, 32, 255, 256, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1])
    return (value % 256**num_bytes).to_bytes(num_bytes, "little" if order == "<" else "big")


def wrong_tiff(chance: random.Random) -> bytes:
    """EXIF with tags of wrong types, counts and values."""
    order = chance.choice("<>")
    rows = [upright_row(order)]
    for _ in range(chance.randrange(1, 5)):
        kind, count = chance.randrange(18), chance.choice([0, 1, 2, 4, 8, 100, 2**31])
        rows.append((chance.choice(TAGS), kind, count, wrong_number(chance, 4, order)))
    return tiff_table(rows, order, chance.randbytes(64))


def with_wrong_fields(format: str, chance: random.Random) -> bytes:
    """A picture in which some fields have wrong values, with their sums mended."""
    data = bytearray(SEEDS[format])
    if format in ("JPEG", "PNG") and chance.random() < 0.5:
        return with_exif(format, wrong_tiff(chance))
    if format == "TIFF":
        table = int.from_bytes(data[4:8], "little")
        num_rows = int.from_bytes(data[table : table + 2], "little")
        for _ in range(chance.randrange(1, 4)):
            row = table + 2 + 12 * chance.randrange(num_rows)
            at, size = chance.choice([(0, 2), (2, 2), (4, 4), (8, 4)])
            field = wrong_number(chance, size, "<")
            if at == 0:
                field = struct.pack("<H", chance.choice(TAGS))
            data[row + at : row + at + size] = field
        return bytes(data)
    if format == "PNG":
        kind = chance.choice([b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"iCCP", b"gAMA"])
        content = b"".join(wrong_number(chance, chance.choice([1, 2, 4]), ">") for _ in range(4))
        at = chance.choice([8, 33, data.index(b"IDAT") - 4, len(data) - 12])
        data[at:at] = png_chunk(kind, content[: chance.randrange(14)])
        return bytes(data)
    # Numbers of their headers, boxes and blocks.
    order = "<" if format in ("GIF", "WEBP", "BMP") else ">"
    end = {"JPEG": 600, "GIF": 60, "WEBP": 60, "BMP": 54}.get(format, 500)
    for _ in range(chance.randrange(1, 4)):
        at, size = chance.randrange(2, min(end, len(data) - 4)), chance.choice([1, 2, 4])
        data[at : at + size] = wrong_number(chance, size, order)
    return bytes(data)


def fuzz(path: Path, chance: random.Random, kind: str = "image") -> str:
    """Decode a picture with wrong fields; what became of it. Nothing but DecodeError is raised."""
    path.write_bytes(with_wrong_fields(chance.choice(list(SEEDS)), chance))
    try:
        frames = decode(path, Item("a", str(path), kind), Uniform(2), 32, max_pixels=1_000_000)
    except DecodeError as error:
        assert "\n" not in error.message
        return error.error
    assert frames.pixels.shape == (1 if kind == "image" else 2, 32, 32, 3)
    return "degraded" if frames.degraded else "whole"


def test_pictures_with_wrong_fields_are_decoded_or_rejected(tmp_path: Path) -> None:
    chance = random.Random(7)
    ends = [fuzz(tmp_path / "a", chance) for _ in range(1200)]
    assert (
        {"whole", "unreadable", "too_large"}
        <= {*ends}
        <= {"whole", "degraded", "unreadable", "too_large"}
    )


def test_wrong_metadata_never_rejects_a_picture(tmp_path: Path) -> None:
    chance = random.Random(8)
    for _ in range(200):
        format = chance.choice(["JPEG", "PNG", "WEBP"])
        seen = decode_bytes(with_exif(format, wrong_tiff(chance)), tmp_path)
        assert distance(seen, np.asarray(PICTURE)) < 3


@pytest.mark.chaos
def test_pictures_with_wrong_fields_for_a_minute(tmp_path: Path) -> None:
    chance, end = random.Random(9), time.monotonic() + 60
    while time.monotonic() < end:
        fuzz(tmp_path / "a", chance, chance.choice(["image", "video"]))
