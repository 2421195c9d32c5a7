"""Files of PyTorch are read without PyTorch: all forms, and hostile ones, whose code never runs."""

import gzip
import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from qsep_jax.models import pickled, torch_files, torch_weights
from tests.models.torch_archives import Call, Named, archive, state_of, stream, tensor
from tests.models.torch_archives import pickled as pickle_of

RNG = np.random.default_rng(0)
ARRAYS = {
    "conv.weight": RNG.normal(size=(3, 2, 5)).astype(np.float32),
    "conv.bias": RNG.normal(size=3),
    "norm.scale": RNG.normal(size=(2, 2)).astype(np.float16),
    "norm.num_batches_tracked": np.array(7),
    "empty": np.zeros((0, 4), np.float32),
    "mask": np.array([True, False]),
}
BOMB = 10**12


def read(tmp_path, content: bytes, suffix: str = ".pth"):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    return torch_weights.read(path)


def refused(tmp_path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        read(tmp_path, content)
    assert str(refusal.value).startswith(str(tmp_path / "weights.pth"))
    assert "\n" not in str(refusal.value)


def assert_same(weights, arrays=ARRAYS):
    assert list(weights) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights[name], array.astype(np.float32))
        assert weights[name].dtype == np.float32


STATE = state_of(ARRAYS)
DEMUCS = (Named("demucs.model", "Demucs"), (), {"channels": 64}, STATE)


@pytest.mark.parametrize(
    "content",
    [STATE, {"state_dict": STATE, "epoch": 3}, {"state": STATE}, DEMUCS],
    ids=["bare", "state_dict", "state", "demucs"],
)
def test_all_forms_are_read(tmp_path, content):
    assert_same(read(tmp_path, archive(content, ARRAYS.values())))
    assert_same(read(tmp_path, stream(content, ARRAYS.values())))
    assert_same(read(tmp_path, gzip.compress(stream(content, ARRAYS.values())), ".th"))


def test_views_and_shared_storages(tmp_path):
    array = np.arange(12, dtype=np.float32)
    transposed = tensor(array, "0", size=(3, 4), strides=(1, 3))
    part = Call(transposed.function, (transposed.arguments[0], 2, (5,), (2,), False, {}))
    weights = read(tmp_path, archive({"a": transposed, "b": part}, [array]))
    np.testing.assert_array_equal(weights["a"], array.reshape(4, 3).T)
    np.testing.assert_array_equal(weights["b"], array[2::2])


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file was run')",)


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_not_run(tmp_path, protocol):
    content = pickle.dumps({"weight": Evil()}, protocol)
    refused(tmp_path, content, "contains .*exec, which is not a weight|instruction")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as members:
        members.writestr("weights/data.pkl", content)
    refused(tmp_path, zipped.getvalue(), "contains .*exec, which is not a weight|instruction")


def test_the_class_of_a_model_stays_a_name(tmp_path):
    """Calling it, with arguments and attributes, gives something unknown, which is no weight."""
    call = Call(Named("demucs.model", "Demucs"), ("rm",))
    assert_same(read(tmp_path, archive((call, STATE), ARRAYS.values())))
    refused(tmp_path, archive({"weight": call}, []), "its entry 'weight' is no tensor")


@pytest.mark.parametrize("name", ["constants.pkl", "code/__torch__.py", "code/__torch__/torch/nn.py.debug_pkl"])
def test_torchscript_is_refused(tmp_path, name):
    content = archive(STATE, ARRAYS.values(), {name: b"def __setstate__(self, state): ..."})
    refused(tmp_path, content, "it is a TorchScript archive, which holds a program: save the model's state_dict")


ONE, MANY = np.zeros(4, np.float32), np.zeros(10_000, np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive({"a": tensor(ONE, "0", size=(BOMB,), strides=(0,))}, [ONE]), "larger than its storage"),
        (archive({"a": tensor(ONE, "0", size=(4,), strides=(BOMB,))}, [ONE]), "larger than its storage"),
        (archive({"a": tensor(ONE, "0", size=(-4,))}, [ONE]), "no valid shape"),
        (archive({"a": tensor(ONE, "0", size=(1,) * 40, strides=(1,) * 40)}, [ONE]), "no valid shape"),
        (archive({"a": tensor(np.zeros(400, np.float32), "0")}, [ONE]), "cut short"),
        (archive({"a": tensor(ONE, "../0")}, [ONE]), "lacks the storage"),
        (archive({"a": tensor(ONE, "0")}, []), "lacks the storage"),
        (archive({f"a{n}": tensor(MANY, "0") for n in range(99)}, [MANY]), "larger than the file"),
        (archive([1, 2], []), "holds no dictionary of weights"),
        (archive({"a": 3}, []), "its entry 'a' is no tensor"),
        (archive({(1,): tensor(ONE, "0")}, [ONE]), "no intact pickle"),
        (stream({"a": tensor(ONE, "0")}, [ONE])[:-3], "cut short"),
        (stream({"a": tensor(ONE, "0")}, []), "lacks the storage of 'a'"),
        (pickle_of(3), "not one of torch.save"),
        (b"", "pickle exhausted"),
        (b"PK\3\4", "damaged"),
        (gzip.compress(bytes(10**8)), "more than the"),
        (archive({"a": tensor(np.array([np.nan]), "0")}, [np.array([np.nan])]), "not finite"),
    ],
)
def test_hostile_files(tmp_path, content, message):
    tracemalloc.start()
    try:
        refused(tmp_path, content, message)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6


@pytest.mark.parametrize("instruction", [b"r\xff\xff\xff\x7f", b"p9999999999\n"], ids=["LONG_BINPUT", "PUT"])
def test_a_large_memo_number_takes_no_memory(instruction):
    """The pickle module would make a table of that many places."""
    tracemalloc.start()
    try:
        assert pickled.load(io.BytesIO(b"\x80\x02N" + instruction + b"."), torch_files._WeightsReader()) is None
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_pickle_without_end(monkeypatch):
    monkeypatch.setattr(pickled, "MOST_OPERATIONS", 100)
    with pytest.raises(ValueError, match="more than 100 instructions"):
        pickled.load(io.BytesIO(b"\x80\x02" + b"N0" * 1000 + b"N."), torch_files._WeightsReader())


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_files_of_pytorch(tmp_path):
    import torch

    weights = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    weights["parameter"] = torch.nn.Parameter(torch.arange(3.0))
    weights["short"] = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    weights["view"] = torch.arange(12.0).reshape(3, 4)[1:, ::2].T
    arrays = {name: weight.detach().float().numpy() for name, weight in weights.items()}
    for is_zip in (True, False):
        torch.save({"state_dict": weights}, tmp_path / "new.pth", _use_new_zipfile_serialization=is_zip)
        assert_same(torch_weights.read(tmp_path / "new.pth"), arrays)
    model = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 5), torch.nn.BatchNorm1d(3))
    torch.save(model.state_dict(), tmp_path / "model.pth")
    assert_same(torch_weights.read(tmp_path / "model.pth"), {name: w.numpy() for name, w in model.state_dict().items()})
    torch.jit.script(model).save(tmp_path / "script.pt")
    with pytest.raises(ValueError, match="TorchScript"):
        torch_weights.read(tmp_path / "script.pt")
    torch.save(model, tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"it contains torch.nn.modules.container.Sequential, which is not a weight"):
        torch_weights.read(tmp_path / "whole.pt")
