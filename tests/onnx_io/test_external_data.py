"""Weights in files of their own: read late, and from the model's folder only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper

from ramiel_ir import onnx_writer
from ramiel_ir.errors import ModelError
from ramiel_ir.ir import Graph, Tensor
from ramiel_ir.laws import difference
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.onnx_writer import write_onnx
from tests.onnx_io.models import F32, model, node, value


def external(folder: Path, location: str, *, length: int | None = 8, offset: int = 0) -> Path:
    """A model in `folder` whose weight of two floats is at `location`."""
    folder.mkdir(parents=True, exist_ok=True)
    weight = onnx.TensorProto(name="w", data_type=F32, dims=[2])
    weight.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(offset)}
    if length is not None:
        entries["length"] = str(length)
    for key, text in entries.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, text
    path = folder / "m.onnx"
    path.write_bytes(model([node("Add", "x w", "y")], weights=[weight]).SerializeToString())
    return path


def data_of(graph: Graph) -> list[float]:
    assert graph.weights[0].weight is not None
    return list(graph.weights[0].weight.array.tolist())


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    """A file beside the model's folder that holds two floats."""
    path = tmp_path / "secret.bin"
    path.write_bytes(np.array([1, 2], np.float32).tobytes())
    return path


@pytest.mark.parametrize("location", ["w.bin", "deep/w.bin", "./w.bin"])
def test_external_data_in_the_models_folder_is_read(tmp_path: Path, location: str) -> None:
    path = external(tmp_path / "m", location)
    data = tmp_path / "m" / location
    data.parent.mkdir(exist_ok=True)
    data.write_bytes(np.array([3, 4], np.float32).tobytes())
    assert data_of(read_onnx(path)) == [3, 4]


def test_external_data_is_not_read_before_it_is_asked_for(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin")
    data = tmp_path / "w.bin"
    data.write_bytes(np.zeros(2, np.float32).tobytes())
    graph = read_onnx(path)
    data.write_bytes(np.array([5, 6], np.float32).tobytes())
    assert data_of(graph) == [5, 6]


def test_an_offset_is_obeyed(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin", offset=4, length=None)
    (tmp_path / "w.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    assert data_of(read_onnx(path)) == [2, 3]


def test_external_data_elsewhere_is_refused_unless_allowed(tmp_path: Path, floats: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "link.bin").symlink_to(floats)
    (folder / "up").symlink_to(tmp_path)
    for location in (
        "../secret.bin",
        str(floats),
        "link.bin",
        "up/secret.bin",
        "a/../../secret.bin",
    ):
        path = external(folder, location)
        with pytest.raises(ModelError, match="lies outside the model's folder") as caught:
            read_onnx(path)
        assert "--allow-external" in str(caught.value.hint)
        with pytest.raises(ModelError, match="outside"):
            read_onnx(path, allow_external=[tmp_path / "other"])
        assert data_of(read_onnx(path, allow_external=[tmp_path])) == [1, 2]


def test_a_folder_whose_name_begins_alike_is_another(tmp_path: Path, floats: Path) -> None:
    other = tmp_path / "m-other"
    other.mkdir()
    floats.rename(other / "w.bin")
    with pytest.raises(ModelError, match="outside"):
        read_onnx(external(tmp_path / "m", "../m-other/w.bin"))


def test_a_symlink_inside_the_folder_is_fine(tmp_path: Path) -> None:
    path = external(tmp_path, "link.bin")
    (tmp_path / "w.bin").write_bytes(np.array([7, 8], np.float32).tobytes())
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.bin")
    assert data_of(read_onnx(path)) == [7, 8]


def test_external_data_that_is_missing_or_short_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin")
    with pytest.raises(ModelError, match=r"the data of 'w' is missing: no file 'w.bin'"):
        read_onnx(path)
    (tmp_path / "w.bin").write_bytes(b"\0" * 7)
    with pytest.raises(ModelError, match=r"the data of 'w' is cut short: 'w.bin' ends too early"):
        read_onnx(path)


@pytest.mark.parametrize("location", ["a\0b", "a" * 5000, "loop"])
def test_a_location_that_no_file_can_have_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ModelError, match="the data of 'w' is missing"):
        read_onnx(external(tmp_path, location))


def test_strings_in_another_file_are_refused(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin")
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].data_type = TensorProto.STRING
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="the data of 'w' is in another file: strings may not"):
        read_onnx(path)


@pytest.mark.parametrize(("offset", "length"), [(0, 4), (0, -8), (-4, 8), (2**70, 8)])
def test_a_place_that_does_not_fit_is_refused(tmp_path: Path, offset: int, length: int) -> None:
    path = external(tmp_path, "w.bin", offset=offset, length=length)
    (tmp_path / "w.bin").write_bytes(b"\0" * 8)
    with pytest.raises(ModelError, match=r"'w'|non-negative"):
        data_of(read_onnx(path))


def test_a_model_without_a_folder_has_no_external_data_unless_allowed(floats: Path) -> None:
    path = external(floats.parent / "m", "secret.bin")
    proto = onnx.load(path, load_external_data=False)
    with pytest.raises(ModelError, match="the model has no folder"):
        read_onnx(proto)
    assert data_of(read_onnx(proto, allow_external=[floats.parent])) == [1, 2]


def test_external_data_of_attributes_is_contained_too(tmp_path: Path, floats: Path) -> None:
    proto = onnx.load(external(tmp_path / "m", "../secret.bin"), load_external_data=False)
    weight = proto.graph.initializer[0]
    constant = node("Constant", "", "w", value=weight)
    body = helper.make_graph([constant, node("Neg", "w", "n")], "b", [], [value("n")])
    for nodes in (
        [constant, node("Add", "x w", "y")],
        [node("ConstantOfShape", "x", "y", value=weight)],
        [node("If", "x", "y", then_branch=body, else_branch=body)],
    ):
        path = tmp_path / "m" / "n.onnx"
        path.write_bytes(model(nodes).SerializeToString())
        with pytest.raises(ModelError, match="outside"):
            read_onnx(path)


def test_a_small_model_takes_its_weights_into_its_file(
    tmp_path: Path,
) -> None:
    graph = read_onnx(external_with_data(tmp_path))
    write_onnx(graph, tmp_path / "out.onnx")
    assert difference(graph, read_onnx(tmp_path / "out.onnx")) is None
    assert not (tmp_path / "out.onnx.data").exists()


def large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with its weights beside it, written as if they were of more than 1 GiB."""
    monkeypatch.setattr(onnx_writer, "_EMBEDDED_BYTES", 0)
    weights = [
        onnx.numpy_helper.from_array(np.full(100, number, np.float32), name)
        for number, name in ((1, "v"), (2, "w"))
    ]
    nodes = [node("Add", "x v", "s"), node("Add", "s w", "y")]
    path = folder / "m.onnx"
    onnx_writer.save_model(model(nodes, weights=weights), path)
    return path


def test_a_model_may_replace_the_file_that_its_weights_are_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large(tmp_path, monkeypatch)
    graph = read_onnx(path)
    write_onnx(graph, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    again = read_onnx(path)
    assert difference(graph, again) is None
    assert [value.weight.array[0] for value in again.weights if value.weight] == [1, 2]


@pytest.mark.parametrize("embedded", [0, 1 << 30])
def test_a_model_that_cannot_be_written_leaves_the_files_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: int
) -> None:
    path = large(tmp_path, monkeypatch)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(proto: onnx.ModelProto, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    graph = read_onnx(path)
    graph.weights[0].weight = Tensor.of(np.zeros(100, np.float32))
    monkeypatch.setattr(onnx_writer, "_EMBEDDED_BYTES", embedded)
    monkeypatch.setattr(onnx, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        write_onnx(graph, path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def external_with_data(folder: Path) -> Path:
    path = external(folder, "w.bin")
    (folder / "w.bin").write_bytes(np.array([1, 2], np.float32).tobytes())
    return path
