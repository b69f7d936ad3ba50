"""The packets of a file's video stream: read by a demuxer, never decoded.

A file is read by the one demuxer that its first bytes name, through an open file and never by its
name: what lists other files or addresses has no such bytes, and no name can be taken for one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import av
from av.stream import Disposition

from pipeline.bitstream import TELLS_KEYS, Traits, packet_reader
from pipeline.containers import ProbeError, container_format, is_cut_matroska

# Fewer bytes of packets than this are held in memory. Those of a larger file are read twice.
IN_MEMORY_BYTES = 64 << 20

# FFmpeg's number for "unspecified".
_NO_COLORSPACE = 2


class PacketInfo(NamedTuple):
    """What is remembered of a packet: what the container says of it, and what it says itself.

    Attributes:
        pts: when its picture is shown, in the stream's unit of time, or None.
        dts: when it is to be decoded, or None.
        pos: where it lies in the file, or None.
        size: in bytes.
        key: the container marks it as a key.
        discard: the container wants its picture not to be shown.
        duration: how long its picture is shown; 0 is unknown.
        traits: what its own bytes say.
    """

    pts: int | None
    dts: int | None
    pos: int | None
    size: int
    key: bool
    discard: bool
    duration: int
    traits: Traits

    @property
    def identity(self) -> tuple[int | None, int | None, int | None, int]:
        """What it is known by when the file is read again."""
        return self[:4]


@dataclass(frozen=True, slots=True)
class VideoFile:
    """An open file, and how it is to be demuxed.

    Attributes:
        file: open for as long as this is used.
        format: FFmpeg's name of the demuxer.
        max_pixels: of a picture; a file with larger ones is refused.
    """

    file: BinaryIO
    format: str
    max_pixels: int

    @contextmanager
    def open(self, edited: bool = True) -> Iterator[Any]:
        """Its video stream, freshly opened.

        Args:
            edited: without the packets that the file's list of edits cuts away.

        Raises:
            ProbeError: it has none, or one that can't be decoded, or its pictures are too large.
        """
        self.file.seek(0)
        # No protocol is allowed: a reference to another file or address leads nowhere.
        options = {
            "max_pixels": str(self.max_pixels),
            "threads": "1",
            "protocol_whitelist": "none",
        }
        if not edited:
            options["ignore_editlist"] = "1"
        try:
            container = av.open(self.file, "r", format=self.format, options=options)
        except av.FFmpegError as error:
            raise ProbeError("unreadable", error.strerror or str(error)) from error
        with container:
            yield self._choose(container)

    def _choose(self, container: Any) -> Any:
        still = Disposition.attached_pic | Disposition.timed_thumbnails
        streams = [s for s in container.streams.video if not s.disposition & still]
        if not streams:
            raise ProbeError("no_video", "has no video stream")
        best = container.streams.best("video")
        stream = best if best in streams else streams[0]
        context = stream.codec_context
        if context is None:
            raise ProbeError("unreadable", "no decoder for its video")
        if not context.width * context.height:
            raise ProbeError("unreadable", "the size of its pictures is not known")
        if context.width * context.height > self.max_pixels:
            size = f"{context.width} x {context.height} pixels"
            raise ProbeError("too_large", f"{size}, allowed: {self.max_pixels} in all")
        return stream


@dataclass(frozen=True, slots=True)
class VideoStream:
    """A video stream whose packets have all been read once.

    Attributes:
        source: the file.
        codec: FFmpeg's name of it.
        coloured: the container tells how its numbers become colours, and the packets don't.
        reorders: the decoder may show pictures in another order than it decodes them.
        time_base: the unit of the packets' times, in seconds.
        rate: pictures per second, or a guess.
        packets: at least one, in the order of decoding.
        kept: the packets themselves by place, if they are few; else empty.
        degraded: why not all of them could be read, or None.
    """

    source: VideoFile
    codec: str
    coloured: bool
    reorders: bool
    time_base: float
    rate: float
    packets: list[PacketInfo]
    kept: dict[int, Any]
    degraded: str | None

    def read(
        self, stream: Any, places: Iterable[int], starts: Container[int] = ()
    ) -> Iterator[Any]:
        """The packets themselves, out of memory or out of the file.

        Args:
            stream: of the file, opened.
            places: which, ascending.
            starts: which of them are worth a seek; to the first one it always seeks.
        """
        if self.kept:
            yield from (self.kept[place] for place in places)
            return
        remaining = list(places)
        known = {packet.identity: place for place, packet in enumerate(self.packets)}
        reading: Iterator[Any] = iter(())
        at = -1
        for done, place in enumerate(remaining):
            if done == 0 or (place in starts and place > at + 1):
                reading, at = self._seek(stream, place), -1
            packet: Any = None
            while at < place and (packet := next(reading, None)) is not None:
                at = known.get(_identity(packet), len(known)) if at < 0 else at + 1
            if packet is None or _identity(packet) != self.packets[place].identity:
                # The seek led astray: from the beginning, then.
                yield from self._from_the_beginning(remaining[done:])
                return
            yield packet

    def _seek(self, stream: Any, place: int) -> Iterator[Any]:
        """Packets from a key on, or from one before it."""
        pts, dts = self.packets[place].pts, self.packets[place].dts
        with suppress(av.FFmpegError):
            stream.container.seek((pts if dts is None else dts) or 0, stream=stream)
        return _demux(stream)

    def _from_the_beginning(self, places: list[int]) -> Iterator[Any]:
        with self.source.open() as stream:
            ahead = iter(places)
            place = next(ahead)
            for index, packet in enumerate(_demux(stream)):
                if index == place:
                    yield packet
                    if (place := next(ahead, -1)) < 0:
                        return


def video_file(file: BinaryIO, max_pixels: int) -> VideoFile:
    """A file whose first bytes are those of a video.

    Raises:
        ProbeError: they are not.
    """
    return VideoFile(file, container_format(file.read(400)), max_pixels)


def scan(source: VideoFile, stream: Any) -> VideoStream:
    """Read all packets of a stream once.

    Args:
        source: the file.
        stream: of that file, freshly opened.

    Raises:
        ProbeError: there are no packets.
    """
    context = stream.codec_context
    codec = context.codec.canonical_name
    coloured = bool(context.color_range) or context.colorspace != _NO_COLORSPACE
    packets, kept, degraded = _scan_packets(stream, codec)
    tells_keys = codec in TELLS_KEYS or context.codec.intra_only
    if not tells_keys and all(packet.key for packet in packets):
        # Some demuxers mark every packet: the mark means nothing.
        packets[1:] = [packet._replace(key=False) for packet in packets[1:]]
    if source.format == "matroska" and is_cut_matroska(source.file):
        degraded = "cut short: the file is smaller than it says"
    if not packets:
        raise ProbeError("no_video", "has no frames")
    if stream.frames > len(packets) and not _is_edited(source, stream.frames):
        degraded = f"cut short: {len(packets)} of {stream.frames} frames are there"
    return VideoStream(
        source,
        codec,
        coloured and codec not in ("vp8", "vp9", "av1"),
        bool(context.has_b_frames),
        float(stream.time_base),
        float(stream.average_rate or 25),
        packets,
        kept,
        degraded,
    )


def _scan_packets(stream: Any, codec: str) -> tuple[list[PacketInfo], dict[int, Any], str | None]:
    """What is remembered of all packets, those that are kept, and why reading ended early."""
    read_traits = packet_reader(codec, bytes(stream.codec_context.extradata or b""))
    packets: list[PacketInfo] = []
    kept: dict[int, Any] = {}
    degraded = None
    num_bytes = 0
    try:
        for packet in _demux(stream):
            traits = read_traits(bytes(packet))
            if packet.is_corrupt:
                traits = traits._replace(whole=False)
            num_bytes += packet.size
            if num_bytes <= IN_MEMORY_BYTES:
                kept[len(packets)] = packet
            packets.append(
                PacketInfo(
                    packet.pts,
                    packet.dts,
                    packet.pos,
                    packet.size,
                    packet.is_keyframe,
                    packet.is_discard,
                    packet.duration or 0,
                    traits,
                )
            )
    except av.FFmpegError as error:
        degraded = f"cut short: {error.strerror}"
    for index in range(1, len(packets)):
        if not packets[index].traits.whole:
            # What spoilt its beginning may have begun in the packet before.
            before = packets[index - 1]
            packets[index - 1] = before._replace(traits=before.traits._replace(whole=False))
    return packets, kept if num_bytes <= IN_MEMORY_BYTES else {}, degraded


def _is_edited(source: VideoFile, num_frames: int) -> bool:
    """Whether all frames that a file claims are there, and a list of edits cuts some away."""
    if source.format != "mov":
        return False
    with source.open(edited=False) as stream, suppress(av.FFmpegError):
        return sum(1 for _ in _demux(stream)) >= num_frames
    return False


def _demux(stream: Any) -> Iterator[Any]:
    return (packet for packet in stream.container.demux(stream) if packet.size)


def _identity(packet: Any) -> tuple[int | None, int | None, int | None, int]:
    return packet.pts, packet.dts, packet.pos, packet.size
