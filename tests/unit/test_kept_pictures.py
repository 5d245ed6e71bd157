"""The data loop: a note in the picture, the list, the exports that labelling tools read, and back into training."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import merge
import numpy as np
import picture_sets
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import StorageError
from myrvm_core.evidence import Evidence
from myrvm_core.kept_pictures import KeptPictures, Kind, Note, as_json, note_in, note_of_verdict, size_of, with_note
from myrvm_core.verdict import Box, ModelInfo, Outcome, Reason, Verdict
from myrvm_deposit.picture_export import Format, export
from myrvm_deposit.pictures_cli import CLASSES, app
from pycocotools.coco import COCO
from typer.testing import CliRunner

KEY = bytes(range(32))
HEIGHT, WIDTH = 48, 64
NOTE = Note(reason="not_empty", class_name="not_empty", score=0.75, box=(8.0, 6.0, 40.0, 30.0), model="rvm@2")


def jpeg(shade: int = 100) -> bytes:
    _, encoded = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), shade, np.uint8))
    return encoded.tobytes()


def pixels(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


TEXT = st.text(max_size=200)
NOTES = st.builds(
    Note, reason=TEXT, class_name=TEXT, model=TEXT, score=st.floats(0, 1),
    box=st.none() | st.tuples(*[st.floats(-1e6, 1e6)] * 4),
)  # fmt: skip


@given(NOTES)
def test_a_note_is_read_as_it_was_written_and_leaves_the_picture_as_it_is(note: Note) -> None:
    noted = with_note(jpeg(), note)
    assert note_in(noted) == note
    assert (pixels(noted) == pixels(jpeg())).all()
    assert size_of(noted) == (HEIGHT, WIDTH)


@given(st.binary(max_size=200))
def test_what_is_no_picture_is_left_as_it_is(data: bytes) -> None:
    for content in (data, b"\xff\xd8 a picture \xff\xd9", jpeg()[:30]):
        if with_note(content, NOTE) == content:
            assert note_in(content) == Note()
    assert with_note(b"\xff\xd8 a picture \xff\xd9", NOTE) == b"\xff\xd8 a picture \xff\xd9"
    with pytest.raises(StorageError, match="no JPEG"):
        size_of(b"\xff\xd8 a picture")


def test_the_note_of_a_verdict() -> None:
    box = Box(8.0, 6.0, 40.0, 30.0)
    verdict = Verdict(Outcome.REJECTED, Reason.NOT_EMPTY, "not_empty", 0.75, box, model=ModelInfo("rvm", "2", "ab"))
    assert note_of_verdict(verdict) == NOTE
    assert note_of_verdict(Verdict(Outcome.REJECTED, Reason.NOT_SURE)).box is None


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bytes | None]:
    """A machine's data folder: a refused item, one that it was not sure of, and a disputed one."""
    folder = tmp_path / "var"
    refused, disputed = (
        Evidence(folder / "refused", 10**6, request.param),
        Evidence(folder / "unresolved", 10**6, request.param),
    )
    refused.keep("1-not_empty", with_note(jpeg(90), NOTE))
    refused.keep("2-not_sure", with_note(jpeg(100), Note(reason="not_sure")))
    disputed.keep("deposit 3", jpeg(110))
    return folder, request.param


def test_the_list_names_kind_and_thought(data: tuple[Path, bytes | None]) -> None:
    kept = KeptPictures(*data)
    found = {one.name: one for one in kept.list()}
    assert {name: one.kind for name, one in found.items()} == {
        "1-not_empty": Kind.REFUSED, "2-not_sure": Kind.UNSURE, "deposit 3": Kind.DISPUTED,
    }  # fmt: skip
    assert found["1-not_empty"].note == NOTE
    assert [one.name for one in kept.list((Kind.UNSURE,))] == ["2-not_sure"]
    assert len(kept.list(limit=2)) == 2
    rows = json.loads(as_json(kept.list((Kind.REFUSED,))))
    assert rows[0]["class_name"] == "not_empty"
    assert rows[0]["kept_at"] > 1e9


def test_yolo_has_what_label_studio_and_cvat_look_for(data: tuple[Path, bytes | None], tmp_path: Path) -> None:
    kept, out = KeptPictures(*data), tmp_path / "out"
    assert export(kept.list(), kept.jpeg, out, Format.YOLO, CLASSES) == 3
    assert (out / "classes.txt").read_text().split() == list(CLASSES)
    described = yaml.safe_load((out / "data.yaml").read_text())
    assert [described["names"][number] for number in range(len(CLASSES))] == list(CLASSES)
    listed = (out / described["train"]).read_text().split()
    assert sorted(listed) == sorted(f"images/{file.name}" for file in (out / "images").iterdir())
    assert (out / "labels" / "1-not_empty.txt").read_text() == "1 0.375000 0.375000 0.500000 0.500000\n"
    assert (out / "labels" / "2-not_sure.txt").read_text() == ""
    assert pixels((out / "images" / "1-not_empty.jpg").read_bytes()).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(StorageError, match="is not empty"):
        export(kept.list(), kept.jpeg, out, Format.YOLO, CLASSES)


def test_coco_is_what_pycocotools_reads(data: tuple[Path, bytes | None], tmp_path: Path) -> None:
    kept, out = KeptPictures(*data), tmp_path / "out"
    export(kept.list(), kept.jpeg, out, Format.COCO, CLASSES)
    read = COCO(str(out / "annotations" / "instances_default.json"))
    assert [read.cats[number]["name"] for number in sorted(read.cats)] == list(CLASSES)
    (annotation,) = read.anns.values()
    assert annotation["bbox"] == [8.0, 6.0, 32.0, 24.0]
    assert read.imgs[annotation["image_id"]]["file_name"] == "1-not_empty.jpg"
    assert {image["file_name"] for image in read.imgs.values()} == {file.name for file in (out / "images").iterdir()}


@pytest.mark.parametrize("form", list(Format))
def test_an_export_goes_back_into_training_as_it_was(
    data: tuple[Path, bytes | None], tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, out = KeptPictures(*data), tmp_path / "out"
    export(kept.list(), kept.jpeg, out, form, CLASSES)
    packed = tmp_path / "corrected.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(out.rglob("*")):
            archive.write(file, file.relative_to(out))
    for source in (out, packed):
        monkeypatch.setattr("sys.argv", ["merge.py", str(source), "--into", str(tmp_path / "data"), "--name", "first"])
        merge.main()
        folder = tmp_path / "data" / "added" / "first"
        merged = [one for part in sorted(folder.iterdir()) for one in picture_sets.read(part)]
        found = {one.file.stem: [(item.model_class, item.box) for item in one.items] for one in merged}
        assert set(found) == {"1-not_empty", "2-not_sure", "deposit_3"}
        assert found["1-not_empty"] == [("not_empty", pytest.approx(NOTE.box, abs=0.01))]
        assert found["2-not_sure"] == []


def test_classes_go_by_name_and_strange_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / "train" / "a.jpg"), pixels(jpeg()))
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    with pytest.raises(ValueError, match=r"neither data\.yaml nor classes\.txt"):
        merge.read(tmp_path, None)
    (tmp_path / "classes.txt").write_text("soda\nmineral\n")
    (one,) = merge.read(tmp_path, None)
    assert one.labels == (("mineral", (16.0, 12.0, 48.0, 36.0)),)
    (tmp_path / "classes.txt").write_text("soda\nbottle\n")
    with pytest.raises(ValueError, match="class 'bottle' is not allowed: mineral, not_empty"):
        merge.read(tmp_path, None)
    (tmp_path / "classes.txt").write_text("soda\nmineral\n")
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 0.9 0.5 0.5 0.5\n")
    with pytest.raises(ValueError, match=r"a box of a\.jpg lies outside of its 64 x 48 px"):
        merge.read(tmp_path, None)


def test_the_commands(data: tuple[Path, bytes | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, key = data
    monkeypatch.setenv("MYRVM_DATA", str(folder))
    if key is not None:
        (tmp_path / "key").write_bytes(key)
        (tmp_path / "key").chmod(0o600)
        monkeypatch.setenv("RVM_EVIDENCE_KEY_FILE", str(tmp_path / "key"))
    else:
        monkeypatch.delenv("RVM_EVIDENCE_KEY_FILE", raising=False)
    runner = CliRunner()
    listed = runner.invoke(app, ["list", "--kind", "refused", "--json"])
    assert json.loads(listed.stdout)[0]["name"] == "1-not_empty"
    assert "not_empty" in runner.invoke(app, ["list"]).stdout
    done = runner.invoke(app, ["export", str(tmp_path / "out"), "--format", "coco", "--kind", "unsure"])
    assert done.exit_code == 0
    assert [file.name for file in (tmp_path / "out" / "images").iterdir()] == ["2-not_sure.jpg"]
