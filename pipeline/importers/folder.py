"""Import a folder of videos and images as items without examples, to be captioned by a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from upath import UPath

from intertitle.pipeline.corpus import Item, Kind, write_corpus
from intertitle.pipeline.decoding.endings import ANIMATED_SUFFIXES, KNOWN_SUFFIXES, VIDEO_SUFFIXES
from intertitle.pipeline.decoding.images.formats import HEAD_BYTES, is_animated
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import FOLLOW_LINKS, Importer, Option, Sources
from intertitle.pipeline.importers.kinds import kind_of
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.importers.walk import Walk, has_suffix, is_hidden, walk
from intertitle.pipeline.storage.paths import AnyPath, as_path, is_local, normalized

# Number of objects whose first bytes are in memory at a time: 32 MB at most.
_PORTION = 500


def import_folder(
    source: AnyPath,
    out: AnyPath,
    *,
    follow_links: bool = False,
    animations_as_images: bool = False,
) -> ImportReport:
    """Write a corpus of every video and image below a folder.

    An item's key is the path of its file below the folder. Hidden files, links and files of other
    kinds are left out and counted. An animated GIF, WebP, PNG or AVIF is a video.

    Args:
        source: path or URL of the folder.
        out: path or URL of the corpus.
        follow_links: whether links that lead out of the folder, and those to folders, are followed.
        animations_as_images: whether an animation is an image, namely its first frame.

    Raises:
        UserError: the source is not a folder, or has neither videos nor images.
    """
    folder = as_path(source)
    if is_local(folder):
        folder = as_path(normalized(folder))
    if not folder.is_dir():
        raise UserError(f"{source}: not a folder")
    sizes: Mapping[str, int | None] = {}
    if is_local(folder):
        walked = walk(folder, follow_links)
        files = [(file.name, str(file.path)) for file in walked.files]
    else:
        sizes = _objects(folder)
        files = [(name, f"{folder}/{name}") for name in sizes if not is_hidden(name)]
        walked = Walk(hidden=len(sizes) - len(files))
    known = [(name, uri) for name, uri in files if has_suffix(name)]
    notes = walked.notes()
    if num_others := len(files) - len(known):
        notes.append(f"{num_others} files of other kinds left out")
    if not known:
        left_out = f" ({', '.join(notes)})" if notes else ""
        endings = " ".join(sorted(KNOWN_SUFFIXES))
        raise UserError(f"{source}: has no videos or images{left_out}; known endings: {endings}")
    kinds = _kinds(folder, known, sizes, animations_as_images)
    items = [Item(name, uri, kind) for (name, uri), kind in zip(known, kinds, strict=True)]
    missing = [name for name in walked.broken if has_suffix(name)]
    counts = {**walked.left_out(), "other_kinds": num_others}
    return count_import(write_corpus(out, items, []), missing, notes, counts)


def _objects(folder: UPath) -> dict[str, int | None]:
    """Return the sizes of all objects below a URL by their paths, sorted; None is unknown."""
    # One request lists a thousand objects; checking each path would take one request per path.
    infos = folder.fs.find(folder.path, detail=True)
    sizes = {
        name.removeprefix(folder.path).lstrip("/"): info.get("size") for name, info in infos.items()
    }
    return dict(sorted(sizes.items()))


def _kinds(
    folder: UPath,
    files: Sequence[tuple[str, str]],
    sizes: Mapping[str, int | None],
    animations_as_images: bool,
) -> list[Kind]:
    if is_local(folder):
        return [kind_of(Path(name), Path(uri), animations_as_images) for name, uri in files]
    kinds: list[Kind] = [
        "video" if has_suffix(name, VIDEO_SUFFIXES) else "image" for name, _ in files
    ]
    if animations_as_images:
        return kinds
    # Object stores refuse to read the first bytes of an empty object.
    candidates = [
        n
        for n, (name, _) in enumerate(files)
        if has_suffix(name, ANIMATED_SUFFIXES) and sizes[name] != 0
    ]
    for start in range(0, len(candidates), _PORTION):
        portion = candidates[start : start + _PORTION]
        paths = [f"{folder.path}/{files[n][0]}" for n in portion]
        # Reads the first bytes of files that may be animated, with many requests at a time.
        heads = folder.fs.cat_ranges(paths, 0, HEAD_BYTES, on_error="return")
        for n, head in zip(portion, heads, strict=True):
            if isinstance(head, FileNotFoundError):
                # It was removed after it was listed; the decoder reports it.
                continue
            if isinstance(head, BaseException):
                raise head
            if is_animated(head):
                kinds[n] = "video"
    return kinds


IMPORTER = Importer(
    "folder",
    import_folder,
    Sources.ONE,
    "FOLDER|URL",
    "any videos and images, without captions",
    options=(
        FOLLOW_LINKS,
        Option(
            "animations_as_images",
            "Use the first frame of an animated GIF, WebP, PNG or AVIF; default: read as a video",
            bool,
        ),
    ),
    urls=True,
)
