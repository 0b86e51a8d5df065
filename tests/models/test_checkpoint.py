"""Files of tensors: there whole or not at all, never unpickled, and never taken for what they are not."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import bouncegrad
from bouncegrad.models import checkpoint
from bouncegrad.models.checkpoint import CheckpointError, load_model, load_tensors, read_about, save_model, save_tensors
from bouncegrad.models.model import Model
from bouncegrad.models.proposer import Proposer, ProposerConfig
from bouncegrad.scenes import DataError, Normalization
from small import springs, tiny

TENSORS = {"weights": torch.arange(12.0).view(3, 4), "counts": torch.tensor([3, 1]), "step": torch.tensor(7.0)}
META = {"passes": 3, "best": float("inf"), "heat": {"temperature": 0.1 + 0.2}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_tensors(tmp_path / "checkpoint.safetensors", TENSORS, META)
    return tmp_path / "checkpoint.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", some_model())
    return tmp_path / "model"


def some_model() -> Model:
    scenes = springs(2)
    generator = torch.Generator().manual_seed(3)
    return Model(tiny().model, Normalization.fit(scenes), scenes.feature_names, generator)


@pytest.mark.parametrize("encoder", ["mlp", "cnn"])
@pytest.mark.parametrize("num_kinds", [(2, 1), (3, 2)])
def test_a_proposal_network_comes_with_its_model(tmp_path: Path, encoder: Any, num_kinds: tuple[int, int]):
    """With its settings, its weights and the statistics that it gathered."""
    random, model = torch.Generator().manual_seed(1), some_model()
    config = ProposerConfig(sees="both", encoder=encoder, hidden=5, structure_hidden=3, clip_norm=float("inf"))
    model.proposer = Proposer(config, num_kinds, 20, 4, random)
    for statistics in model.proposer.buffers():
        statistics.add_(torch.rand(statistics.shape, generator=random).to(statistics.dtype))
    save_model(tmp_path / "model", model)
    found = load_model(tmp_path / "model").proposer
    assert found is not None
    assert (found.config, found.num_kinds, found.num_times, found.num_features) == (config, num_kinds, 20, 4)
    weights = found.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.proposer.state_dict().items())
    assert not found.training


def assert_good(path: Path) -> None:
    tensors, meta = load_tensors(path)
    assert meta == META
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_tensors_come_back(file):
    assert_good(file)


def test_a_file_of_tensors_has_the_usual_permissions(file):
    (file.parent / "usual").write_text("")
    assert file.stat().st_mode == (file.parent / "usual").stat().st_mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_half_a_file_never_replaces_a_good_one(file, monkeypatch, error):
    def half(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise error

    monkeypatch.setattr(Path, "write_bytes", half)
    expected = DataError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        save_tensors(file, {"weights": torch.zeros(3)}, {})
    monkeypatch.undo()
    assert_good(file)
    assert list(file.parent.iterdir()) == [file]


def test_a_cut_file_is_refused(file):
    content = file.read_bytes()
    for length in (0, 1, 7, 8, 50, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors .*damaged; fit again or restore"):
            load_tensors(file)


def test_any_changed_byte_is_noticed(file):
    content = file.read_bytes()
    for index in range(0, len(content), 3):
        file.write_bytes(content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :])
        try:
            assert_good(file)  # white space in the header carries no meaning
        except CheckpointError:
            continue


class Marker:
    """Pickled, it would make a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickles_are_refused_and_not_run(file, folder):
    marker = file.parent / "was run"
    for path in (file, folder / "model.safetensors"):
        path.write_bytes(pickle.dumps(Marker(marker)))
    with pytest.raises(CheckpointError):
        load_tensors(file)
    with pytest.raises(CheckpointError):
        load_model(folder)
    torch.save(TENSORS, file)
    with pytest.raises(CheckpointError):
        load_tensors(file)
    assert not marker.exists()


def test_no_line_of_the_package_unpickles():
    for path in Path(bouncegrad.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "torch.load" not in text, path
        assert "allow_pickle=True" not in text, path


def test_other_files_are_refused(file, tmp_path):
    save_file(TENSORS, file)
    with pytest.raises(CheckpointError):
        load_tensors(file)
    with pytest.raises(CheckpointError):
        load_tensors(tmp_path / "nothing")
    with pytest.raises(CheckpointError):
        load_tensors(tmp_path)


def test_a_model_comes_back(folder):
    model, again = some_model(), load_model(folder)
    assert again.config == model.config
    assert again.normalization == model.normalization
    assert again.feature_names == model.feature_names
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_model_is_found_in_the_folder_around_it(folder):
    assert load_model(folder.parent).config == load_model(folder).config
    save_model(folder.parent, load_model(folder), {"which": "outer"})
    assert read_about(folder.parent) == {"which": "outer"}  # a folder's own model goes before one inside it


def test_changed_weights_are_refused(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    for changed in (content[:-1], content + b" ", content[:-1] + bytes([content[-1] ^ 1]), b""):
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match="checksums differ.*restore both files or fit again"):
            load_model(folder)


def change(description: dict, words: tuple[str, ...], value: object) -> None:
    for word in words[:-1]:
        description = description[word]
    description[words[-1]] = value


CHANGES = [
    (("normalization", "minimum"), [0.0, 0.0, 0.0, 0.0]),
    (("model", "network", "hidden"), 9),
    (("model", "network", "skip"), False),
    (("model", "network", "update"), "general"),
    (("model", "network"), []),
    (("feature_names",), ["y", "x", "vx", "vy"]),
    (("feature_names",), None),
    (("bouncegrad",), "9.9"),
    (("sha256",), None),
]


@pytest.mark.parametrize(("words", "value"), CHANGES)
def test_a_changed_description_is_refused(folder, words, value):
    path = folder / "config.json"
    description = json.loads(path.read_text())
    change(description, words, value)
    path.write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="checksums differ"):
        load_model(folder)


@pytest.mark.parametrize(("words", "value"), [*CHANGES[1:2], *CHANGES[3:5], CHANGES[6]])
def test_a_description_of_another_network_is_refused(folder, words, value, monkeypatch):
    """Also where somebody made the checksum fit."""
    path = folder / "config.json"
    description = json.loads(path.read_text())
    change(description, words, value)
    path.write_text(json.dumps({**description, "sha256": "fits"}))
    monkeypatch.setattr(checkpoint, "_checksum", lambda *_: "fits")
    with pytest.raises(CheckpointError, match="does not describe its weights"):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"format": "x"}', "[" * 100_000, '{"format": 99}'])
def test_a_description_that_is_none_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(folder)


def test_a_missing_model_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match="holds no model.*bouncegrad fit"):
        load_model(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no model"):
        load_model(folder)
