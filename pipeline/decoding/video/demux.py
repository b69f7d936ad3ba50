"""Demuxing of the packets of a file's video stream, without decoding.

The demuxer is chosen by the first bytes of the file, and gets an open file rather than a name. A
playlist of other files or addresses has no such first bytes, and a file name cannot be interpreted
as a URL.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import av
from av.stream import Disposition

from intertitle.pipeline.decoding.containers import ProbeError, container_format, is_cut_matroska
from intertitle.pipeline.decoding.video.bitstream import TELLS_KEYS, PacketTraits, packet_reader

# Packets are kept in memory up to this total size. Those of a larger file are read twice.
IN_MEMORY_BYTES = 64 << 20

# FFmpeg's value for an unspecified colour space.
_NO_COLORSPACE = 2


class PacketInfo(NamedTuple):
    """Properties of a packet, from the container and from the packet's bytes.

    Attributes:
        pts: presentation time in the stream's time base, or None.
        dts: decoding time in the stream's time base, or None.
        pos: offset in the file in bytes, or None.
        size: size in bytes.
        key: whether the container marks the packet as a keyframe.
        discard: whether the container requests that the frame is not shown.
        duration: duration of the frame in the stream's time base; 0 if it is unknown.
        traits: properties read from the packet's bytes.
    """

    pts: int | None
    dts: int | None
    pos: int | None
    size: int
    key: bool
    discard: bool
    duration: int
    traits: PacketTraits

    @property
    def identity(self) -> tuple[int | None, int | None, int | None, int]:
        """Fields that identify the packet when the file is read a second time."""
        return self[:4]


@dataclass(frozen=True, slots=True)
class VideoFile:
    """An open file and the parameters for demuxing it.

    Attributes:
        file: binary file, which stays open while the object is in use.
        format: FFmpeg's name of the demuxer.
        max_pixels: maximum number of pixels of a frame; a file with larger ones is refused.
    """

    file: BinaryIO
    format: str
    max_pixels: int

    @contextmanager
    def open(self, edited: bool = True) -> Iterator[Any]:
        """Open the video stream from its start, in a `with` block.

        Args:
            edited: whether to leave out the packets that the file's edit list removes.

        Raises:
            ProbeError: there is no video stream, it cannot be decoded, or its frames are too
                large.
        """
        self.file.seek(0)
        # No protocol is allowed, so references to other files or addresses cannot be followed.
        options = {
            "max_pixels": str(self.max_pixels),
            "threads": "1",
            "protocol_whitelist": "none",
        }
        if not edited:
            options["ignore_editlist"] = "1"
        try:
            # A title in another encoding than UTF-8 does not make a file unreadable.
            container = av.open(
                self.file, "r", format=self.format, options=options, metadata_errors="replace"
            )
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
        source: file of the video.
        codec: FFmpeg's name of the codec.
        coloured: whether the colour space is specified by the container and not by the packets.
        reorders: whether the decoder may output frames in another order than it decodes them.
        time_base: unit of the packets' times in seconds.
        rate: frames per second, or an estimate.
        packets: properties of the packets, at least one, in decoding order.
        cached_packets: packets by their index if they fit into memory; otherwise empty.
        degraded: reason why not all packets could be read, or None.
    """

    source: VideoFile
    codec: str
    coloured: bool
    reorders: bool
    time_base: float
    rate: float
    packets: list[PacketInfo]
    cached_packets: dict[int, Any]
    degraded: str | None

    def read(
        self, stream: Any, places: Iterable[int], starts: Container[int] = ()
    ) -> Iterator[Any]:
        """Yield packets from memory or from the file.

        Args:
            stream: open stream of the file.
            places: indices of the packets, ascending.
            starts: indices of the packets to seek to; the first packet is always sought.

        Raises:
            ProbeError: a packet that was read before is not there any more.
        """
        if self.cached_packets:
            yield from (self.cached_packets[place] for place in places)
            return
        remaining = list(places)
        place_of = {packet.identity: place for place, packet in enumerate(self.packets)}
        stream_packets: Iterator[Any] = iter(())
        position = -1
        for index, place in enumerate(remaining):
            if index == 0 or (place in starts and place > position + 1):
                stream_packets, position = self._seek(stream, place), -1
            packet: Any = None
            while position < place and (packet := next(stream_packets, None)) is not None:
                position = (
                    place_of.get(_identity(packet), len(place_of)) if position < 0 else position + 1
                )
            if packet is None or _identity(packet) != self.packets[place].identity:
                # The seek reached a wrong packet, so the file is read from the beginning.
                yield from self._from_the_beginning(remaining[index:])
                return
            yield packet

    def _seek(self, stream: Any, place: int) -> Iterator[Any]:
        """Return the packets from a keyframe on, or from an earlier packet."""
        pts, dts = self.packets[place].pts, self.packets[place].dts
        with suppress(av.FFmpegError):
            stream.container.seek((pts if dts is None else dts) or 0, stream=stream)
        return _demux(stream)

    def _from_the_beginning(self, places: list[int]) -> Iterator[Any]:
        with self.source.open() as stream:
            remaining = iter(places)
            place = next(remaining)
            for index, packet in enumerate(_demux(stream)):
                if index == place:
                    yield packet
                    if (place := next(remaining, -1)) < 0:
                        return
        raise ProbeError("unreadable", f"ends before packet {place} when it is read again")


def video_file(file: BinaryIO, max_pixels: int) -> VideoFile:
    """Return the video file for an open file, with the demuxer that its first bytes determine.

    Raises:
        ProbeError: the first bytes are not those of a known video format.
    """
    return VideoFile(file, container_format(file.read(400)), max_pixels)


def scan(source: VideoFile, stream: Any) -> VideoStream:
    """Read all packets of a stream once.

    Args:
        source: file of the video.
        stream: stream of that file, opened and not read yet.

    Raises:
        ProbeError: there are no packets.
    """
    context = stream.codec_context
    codec = context.codec.canonical_name
    coloured = bool(context.color_range) or context.colorspace != _NO_COLORSPACE
    packets, packets_in_memory, degraded = _scan_packets(stream, codec)
    tells_keys = codec in TELLS_KEYS or context.codec.intra_only
    if not tells_keys and all(packet.key for packet in packets):
        # Some demuxers mark every packet as a keyframe, so the mark is meaningless.
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
        packets_in_memory,
        degraded,
    )


def _scan_packets(stream: Any, codec: str) -> tuple[list[PacketInfo], dict[int, Any], str | None]:
    """Return the properties of all packets, the packets kept in memory, and any reading error."""
    read_traits = packet_reader(codec, bytes(stream.codec_context.extradata or b""))
    packets: list[PacketInfo] = []
    packets_in_memory: dict[int, Any] = {}
    degraded = None
    num_bytes = 0
    try:
        for packet in _demux(stream):
            traits = read_traits(bytes(packet))
            if packet.is_corrupt:
                traits = traits._replace(intact=False)
            num_bytes += packet.size
            if num_bytes <= IN_MEMORY_BYTES:
                packets_in_memory[len(packets)] = packet
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
        if not packets[index].traits.intact:
            # The damage at the start of this packet may extend to the end of the previous one.
            previous = packets[index - 1]
            packets[index - 1] = previous._replace(traits=previous.traits._replace(intact=False))
    return packets, packets_in_memory if num_bytes <= IN_MEMORY_BYTES else {}, degraded


def _is_edited(source: VideoFile, num_frames: int) -> bool:
    """Return whether a file contains all of `num_frames` frames but its edit list removes some."""
    if source.format != "mov":
        return False
    with source.open(edited=False) as stream, suppress(av.FFmpegError):
        return sum(1 for _ in _demux(stream)) >= num_frames
    return False


def _demux(stream: Any) -> Iterator[Any]:
    return (packet for packet in stream.container.demux(stream) if packet.size)


def _identity(packet: Any) -> tuple[int | None, int | None, int | None, int]:
    return packet.pts, packet.dts, packet.pos, packet.size
