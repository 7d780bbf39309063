"""Targets: readers, archives, and the whole ingest of a folder with good and hostile files."""

from __future__ import annotations

import io
import os
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from glt.data.archives import is_archive
from glt.data.chunk_reader import read_chunk
from glt.data.clips import ClipStore
from glt.data.formats import FORMATS, ntu_text
from glt.data.ingest import ingest
from glt.data.listing import Names, list_recordings
from glt.recipe import DataConfig
from glt.reporter import Silent
from tests.data import recorded
from tests.fuzz import promises, recordings, texts
from tests.fuzz.guards import snapshot
from tests.fuzz.mutations import apply, mutated, plans
from tests.fuzz.outcome import Broken


class Reader:
    """One file with its sidecars, through the reader of its format and the checks."""

    seconds, mib, programs = 10.0, 700.0, False
    weight = 1.0

    def __init__(self, kind: str) -> None:
        self.kind, self.name = kind, f"read {kind}"
        format, (_, protocol) = recordings.format_of(kind), recordings.NAMES[kind]
        self.data = DataConfig(dataset="fuzz", format=format, protocol=protocol, persons=2)  # type: ignore[arg-type]

    def prepare(self) -> None:
        """Compile NTU's parser."""
        ntu_text.parse(b"0\n")

    def cases(self) -> Any:
        """Name, content, skeleton.yaml, labels.csv."""
        good = recordings.NAMES[self.kind][0]
        ending = good.rpartition(".")[2].encode()
        name = st.one_of(st.just(good.encode()), texts.file_names.map(lambda n: n + b"." + ending))
        if self.kind not in ("npz", "parquet"):
            return st.tuples(name, recordings.contents(self.kind), st.just(b""), st.just(b""))
        sidecars = st.one_of(
            st.tuples(st.just(recordings.SKELETON), st.just(recordings.LABELS)),
            st.tuples(recordings.skeletons, st.just(recordings.LABELS)),
            st.tuples(st.just(recordings.SKELETON), recordings.labels),
        )
        return st.builds(lambda n, c, s: (n, c, *s), name, recordings.contents(self.kind), sidecars)

    def check(self, case: tuple[bytes, bytes, bytes, bytes], sandbox: Path) -> None:
        """Every file gives a clip or a rejection; nothing is raised."""
        raw, content, skeleton, labels = case
        name = os.fsdecode(raw)
        files = {name: content, "skeleton.yaml": skeleton, "labels.csv": labels}
        sidecars = tuple(name for name, content in list(files.items())[1:] if content)
        recorded.write_folder(sandbox, {name: files[name] for name in (name, *sidecars)})
        reader = FORMATS[self.data.format]
        listing, _ = promises.refusal(lambda: list_recordings(sandbox, Names(reader.suffixes, reader.sidecars)))
        for batch in listing.batches if listing else []:
            for chunk in batch.chunks(8):
                for file, results in read_chunk(chunk, self.data):
                    promises.stored(file, "file")
                    if not results:
                        raise Broken("account: neither clip nor rejection", file)
                    for one in results:
                        promises.result(one)


class _RawName(zipfile.ZipInfo):
    """A zip's member whose name is written byte by byte, without the flag for UTF-8."""

    def __init__(self, raw: bytes) -> None:
        super().__init__("x")
        self.raw = raw

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.raw, self.flag_bits


def make_zip(members: list[tuple[bytes, bytes]], raw: bool) -> bytes:
    """A zip of these members; their names raw, or as UTF-8."""
    stream = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = _RawName(name) if raw else zipfile.ZipInfo(name.decode("utf-8", "replace") or "x")
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return stream.getvalue()


_TYPES = (*(tarfile.REGTYPE,) * 4, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S", b"9")


def make_tar(members: list[tuple[bytes, bytes]], mode: str, odd: int, headers: dict[str, str]) -> bytes:
    """A tar of these members; the first has the type `odd` and these PAX headers."""
    stream = io.BytesIO()
    form = tarfile.PAX_FORMAT if headers else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=stream, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for number, (name, content) in enumerate(members):
            info = tarfile.TarInfo(os.fsdecode(name))
            info.size = len(content)
            if number == 0:
                info.type, info.linkname, info.pax_headers = _TYPES[odd], "../../x", headers
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


_GOOD = b"day/S001C001P003R001A001.skeleton"
_member_names = st.one_of(
    st.just(_GOOD),
    texts.file_names.map(lambda name: name + b".skeleton"),
    st.sampled_from(
        [b"../S001C001P009R001A001.skeleton", b"a\\S001C001P004R001A001.skeleton", b"/S001C001P005R001A001.skeleton"]
    ),
    st.sampled_from(
        [b"C:\\S001C001P006R001A001.skeleton", b"x/../S001C001P007R001A001.skeleton", b"inner.zip", b"x.gz"]
    ),
    st.builds(lambda folder: folder + b"/S001C001P008R001A001.skeleton", texts.file_names),
)
_members = st.lists(
    st.tuples(_member_names, st.one_of(st.just(recorded.one_person(3)), mutated([recorded.one_person(4)]))), max_size=4
)
_headers = st.one_of(
    st.just({}),
    st.dictionaries(
        st.sampled_from(
            ["size", "path", "mtime", "GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.major", "hdrcharset"]
        ),
        st.sampled_from(["-1", "0", "9" * 30, "x", "1.5", "nan", "BINARY", "0,1,2", "../x"]),
        max_size=2,
    ),
)
_zips = st.builds(make_zip, _members, st.booleans())
_tars = st.builds(
    make_tar, _members, st.sampled_from(["w", "w:gz", "w:xz", "w:bz2"]), st.integers(0, len(_TYPES) - 1), _headers
)
archives = st.one_of(
    st.tuples(st.sampled_from(["a.zip", "A.ZIP"]), _zips),
    st.tuples(st.sampled_from(["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz"]), _tars),
    st.tuples(
        st.sampled_from(["a.zip", "a.tar", "a.tar.bz2"]), texts.texts.map(lambda t: t.encode("utf-8", "replace"))
    ),
).flatmap(lambda pair: st.tuples(st.just(pair[0]), st.one_of(st.just(pair[1]), plans.map(lambda p: apply(pair[1], p)))))


class Archive:
    """An archive alone: its members are read, or it is refused by one line."""

    name, seconds, mib, programs, weight = "archives", 10.0, 700.0, False, 1.5

    def prepare(self) -> None:
        """Nothing to import."""

    def cases(self) -> Any:
        """Name and content."""
        return archives

    def check(self, case: tuple[str, bytes], sandbox: Path) -> None:
        """Each member that is chosen is given exactly once, with bytes or a rejection."""
        name, content = case
        (sandbox / name).write_bytes(content)
        listing, _ = promises.refusal(lambda: list_recordings(sandbox / name, Names(FORMATS["ntu"].suffixes)))
        for batch in listing.batches if listing else []:
            given = [member for chunk in batch.chunks(2) for member, _ in chunk.files()]
            if sorted(given) != sorted(batch.names):
                raise Broken("account: members given are not those found", f"{given} {batch.names}"[:300])
            for member in given:
                promises.stored(member, "member")
        for unread in [*listing.rejected, *listing.left_out] if listing else []:
            promises.stored(unread.name, "member that is not read")
            promises.message(unread.reason)


def entries(kind: str) -> Any:
    """The format, and up to three entries of a folder: loose recordings, archives, links, other files."""
    ending = recordings.NAMES[kind][0].rpartition(".")[2].encode()
    content, name = recordings.contents(kind), texts.file_names.map(lambda name: name + b"." + ending)
    entry = st.one_of(
        st.tuples(st.just("file"), name, content),
        st.tuples(st.just("file"), st.just(b"S001C001P007R001A001." + ending), content),
        archives.map(lambda archive: ("file", archive[0].encode(), archive[1])),
        st.tuples(st.sampled_from(["folder", "link", "pipe"]), name, st.just(b"x")),
        st.tuples(st.just("file"), texts.file_names, st.binary(max_size=9)),
    )
    return st.tuples(st.just(kind), st.lists(entry, max_size=3))


class Ingest:
    """A folder of two good recordings and up to three hostile entries: the good ones are taken, whatever is beside."""

    name, seconds, mib, programs, weight = "ingest", 90.0, 1500.0, True, 3.0

    def prepare(self) -> None:
        """Compile NTU's parser, and import what an ingest needs."""
        ntu_text.parse(b"0\n")
        import pandera.pandas  # noqa: F401

    def cases(self) -> Any:
        """Format, and entries: kind, name, content."""
        return st.sampled_from(["ntu", "nw-ucla", "pyskl", "npz"]).flatmap(entries)

    def check(self, case: tuple[str, list[tuple[str, bytes, bytes]]], sandbox: Path) -> None:
        """The good recordings are taken, the account adds up, and nothing but the output changes."""
        kind, entries = case
        given = sandbox / "given"
        name, protocol = recordings.NAMES[kind]
        ending = name.rpartition(".")[2]
        good = {"ntu": "S001C001P001R001A001", "nw-ucla": "a01_s01_e01_v01"}.get(kind, "good")
        recorded.write_folder(given, {f"good/{good}.{ending}": recordings.good(kind)})
        if kind == "npz":
            (given / "skeleton.yaml").write_bytes(recordings.SKELETON)
        for what, raw, content in entries:
            place(given / os.fsdecode(raw), what, content)
        before = snapshot(given)
        recipe = recorded.recipe(format=recordings.format_of(kind), protocol=protocol, persons=2)
        out = sandbox / "clips"
        _, refused = promises.refusal(
            lambda: ingest(given, recipe, out, {}, Silent(), sandbox / "segments", processes=1)
        )
        promises.unchanged(before, snapshot(given))
        if {path.name for path in sandbox.iterdir()} - {"given", "clips", "segments", "clips.rejected.csv"}:
            raise Broken("outside: files beside the output", str(list(sandbox.iterdir())))
        if refused:
            raise Broken("the good recording is not taken", refused)
        clips = ClipStore(out)
        same = clips.rejected["check"].isin(["repeat", "duplicate"])  # a hostile one of the same name came first
        taken = {*clips.index["source"], *clips.rejected[same]["source"]}
        if f"good/{good}.{ending}" not in taken:
            raise Broken("the good recording is not taken", f"only {taken}"[:300])
        for column in ("name", "source", "label"):
            for value in clips.index[column].dropna():
                promises.stored(value, column)
        for row in clips.rejected.itertuples():
            promises.stored(row.source, "source of a rejected file")
            promises.message(row.reason)
        check_account(clips, given)


def check_account(clips: ClipStore, given: Path) -> None:
    """The manifest's account, and where no archive and no link is, the number of files."""
    paths = [path for path in given.rglob("*") if not path.is_dir() or path.is_symlink()]
    plain = not any(path.is_symlink() or is_archive(path.name) for path in paths)
    promises.account(clips.info, len(paths) if plain else None)


def place(path: Path, what: str, content: bytes) -> None:
    """Put an entry into the folder; one that the file system does not take is left out."""
    try:
        if what == "folder":
            path.mkdir()
        elif what == "link":
            path.symlink_to("nowhere" if len(path.name) % 2 else path.parent)
        elif what == "pipe":
            os.mkfifo(path)
        elif not path.exists():
            path.write_bytes(content)
    except OSError:
        pass
