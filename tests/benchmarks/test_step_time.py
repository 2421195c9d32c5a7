"""Tests of the benchmark of training steps, and of the PyTorch twins that it compares with."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from benchmarks import step_time
from benchmarks.timing import agreement, rows
from benchmarks.timing.agreement import compare
from benchmarks.timing.contestants import noise_batch, twin_of, updates_of
from benchmarks.timing.rounds import Contestant, in_turns
from qsep_jax.runs.experiment import load_config
from qsep_jax.systems.lee2019 import Lee2019

SMALL = Lee2019(
    window_length=64, hop_length=32, frames=16, query_channels=(4, 8), query_hidden=8, channels=(4, 8, 8), latent_size=6
)
FIELDS = {"benchmark", "system", "implementation", "batch", "precision", "devices", "median_s", "p90_s"}


@pytest.mark.slow
def test_rows_of_a_step(tmp_path, monkeypatch, capsys):
    path = tmp_path / "new" / "step.json"
    arguments = ["--config", "configs/lee2019.py:debug", "--rounds", "2", "--devices", "2", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["step_time", *arguments])
    step_time.main()
    (row,) = json.loads(path.read_text())
    assert set(row) >= FIELDS | {"date", "processor", "versions", "command", "parameters"}
    assert (row["system"], row["implementation"], row["batch"], row["devices"]) == ("Lee2019", "jax", 2, 2)
    assert 0 < row["median_s"] <= row["p90_s"]
    assert min(row["mfu"], row["roofline"], row["peak_mib"], row["first_step_s"], row["audio_s_per_s"]) > 0
    assert sum(module["least_s"] for module in row["modules"]) <= row["roofline"] * row["median_s"] * (1 + 1e-6)
    assert "median_s" in capsys.readouterr().out


def test_rows_of_a_comparison():
    """The faster layout counts, and ratios are taken within a round, so that slow rounds do not change them."""
    times = {
        "jax": [1.0, 10.0, 2.0],
        "jax-native": [4.0, 40.0, 8.0],
        "torch contiguous": [2.0, 20.0, 4.0],
        "torch channels_last": [3.0, 30.0, 6.0],
    }
    facts = {"torch contiguous": {"peak_mib": 5.0}, "torch channels_last": {"peak_mib": 6.0}}
    twin_facts = {"max_relative_difference": 1e-6, "where": "loss"}
    jax, native, torch = step_time.comparison_rows(times, twin_facts, facts)
    assert (jax["implementation"], jax["ratio_to_torch"]) == ("jax", 0.5)
    assert (native["ratio_to_jax"], native["ratio_to_torch"]) == (4.0, 2.0)
    assert (torch["ratio_to_jax"], torch["layout"], torch["median_s"]) == (2.0, "contiguous", 4.0)
    assert torch["layouts_median_s"] == {"contiguous": 4.0, "channels_last": 6.0}
    assert torch["peak_mib"] == 5.0


def test_an_error_in_a_process_is_raised_here():
    with pytest.raises(ValueError, match="somebody: ValueError: invalid literal"):
        in_turns([Contestant("somebody", int, "no such thing")], rounds=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"rounds": 0}, "at least 1"), ({"compare": "torch", "devices": 2}, "has one device")],
)
def test_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        step_time.StepTime(**changes).check()


def test_without_torch(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'qsep-jax\[twins\]'"):
        step_time.measure(load_config("configs/lee2019.py:debug"), step_time.StepTime(compare="torch"))


def test_each_update_of_a_phase_that_repeats_has_a_slice_of_its_own():
    system = load_config("configs/stoller2018.py:va,debug").system
    batch = noise_batch(system, 2)
    critics, separator = (updates_of(phase, batch) for phase in system.phases())
    assert (len(critics), len(separator)) == (2, 1)
    assert separator[0]["mixtures"] is batch["mixtures"]
    for number, part in enumerate(critics):
        assert set(part) == {"critic_mixtures", "vocals", "accompaniment"}
        np.testing.assert_array_equal(part["vocals"]["target"], batch["vocals"]["target"][number])


def test_ratio_of_pairs():
    assert rows.paired_ratio([1.0, 10.0, 100.0], [2.0, 20.0, 50.0]) == 0.5


TWINS = {
    "defaults": {},
    "as in the quickstart": {"compression": "log1p", "latent_weight": 0.0, "initial_log_variance": -4.0},
    "every field that changes the graph": {"mask_adain": True, "freeze_query_net": False},
}


@pytest.mark.torch
@pytest.mark.parametrize("changes", TWINS.values(), ids=TWINS)
def test_the_twin_gives_the_same_loss_and_gradients(changes, tmp_path):
    _, facts = compare(dataclasses.replace(SMALL, **changes), 2, tmp_path / "weights.pt")
    assert facts["is_peer"]
    assert facts["max_relative_difference"] < 1e-4
    assert facts["max_element_difference"] < 1e-4
    assert facts["loss_relative_difference"] < 1e-5


@pytest.mark.torch
def test_another_network_is_no_twin(tmp_path, monkeypatch):
    twins = twin_of(SMALL)
    monkeypatch.setattr(twins.functional, "leaky_relu", lambda x, slope: twins.functional.relu(x))
    _, facts = compare(SMALL, 2, tmp_path / "weights.pt")
    assert not facts["is_peer"]
    assert facts["max_relative_difference"] > 0.01


@pytest.mark.torch
def test_the_twin_trains_without_the_second_bias():
    import torch

    twins = twin_of(SMALL)
    twin = twins.Twin(SMALL)
    (phase,) = SMALL.phases()
    optimizer = twins.make_optimizer(twin, phase)
    before = twin.query_net.gru.bias_hh_l0.detach().clone()
    audio = torch.from_numpy(np.random.default_rng(0).normal(size=(2, SMALL.chunk_samples, 1)).astype(np.float32))
    twin(audio, audio / 2).backward()
    optimizer.step()
    moved = (twin.query_net.gru.bias_hh_l0 != before).numpy()
    np.testing.assert_array_equal(moved, np.arange(24) >= 16)


@pytest.mark.torch
@pytest.mark.parametrize("variant", ["msi", "msi_dis"])
def test_the_twin_of_lin2021_gives_the_same_losses_and_gradients_in_both_phases(variant, tmp_path):
    _, facts = compare(load_config(f"configs/lin2021.py:{variant},debug").system, 2, tmp_path / "weights.pt")
    assert facts["is_peer"]
    assert facts["max_relative_difference"] < 1e-3
    assert facts["loss_relative_difference"] < 1e-5


@pytest.mark.torch
def test_a_flipped_kernel_is_detected_in_lin2021(tmp_path, monkeypatch):
    system = load_config("configs/lin2021.py:msi,debug").system
    twins = twin_of(system)
    load = twins.Twin.load

    def load_flipped(twin, params):
        load(twin, params)
        weight = twin.decoder.up[0].weight
        weight.data = weight.data.flip(2, 3)

    monkeypatch.setattr(twins.Twin, "load", load_flipped)
    _, facts = compare(system, 2, tmp_path / "weights.pt")
    assert not facts["is_peer"]
    assert facts["where"].startswith("tasks: ")
    assert facts["max_relative_difference"] > 0.01


@pytest.mark.torch
@pytest.mark.parametrize("config", ["lin2021.py:msi,debug", "stoller2018.py:va,debug", "cantisani2021.py:debug"])
def test_each_phase_of_a_twin_changes_the_networks_that_it_trains(config):
    import torch

    system = load_config(f"configs/{config}").system
    twins = twin_of(system)
    twin = twins.Twin(system)
    for weight in twin.parameters():
        weight.data.abs_()  # so that every ReLU has positive inputs
    batch = jax.tree.map(torch.from_numpy, noise_batch(system, 2))
    for phase in system.phases():
        before = {name: weight.detach().clone() for name, weight in twin.named_parameters()}
        optimizer = twins.make_optimizer(twin, phase)
        optimizer.zero_grad()
        twin.losses(phase.name, updates_of(phase, batch)[0]).backward()
        optimizer.step()
        changed = {name.split(".")[0] for name, weight in twin.named_parameters() if (weight != before[name]).any()}
        assert changed == set(phase.trainable)


@pytest.mark.torch
def test_forms_that_the_twin_of_lin2021_lacks_are_refused():
    system = load_config("configs/lin2021.py:msi,paper,debug").system
    with pytest.raises(NotImplementedError, match="authors' code only: query_layers = 1, pooling = average"):
        twin_of(system).Twin(system)


@pytest.mark.torch
@pytest.mark.parametrize("variant", ["exp9", "exp10", "exp11"])
def test_the_twin_of_slizovskaia2021_gives_the_same_loss_and_gradients(variant, tmp_path):
    _, facts = compare(load_config(f"configs/slizovskaia2021.py:{variant},debug").system, 4, tmp_path / "weights.pt")
    assert facts["is_peer"]
    assert facts["max_relative_difference"] < 1e-3
    assert facts["loss_relative_difference"] < 1e-5


@pytest.mark.torch
def test_another_dropout_is_detected_in_slizovskaia2021(tmp_path, monkeypatch):
    system = load_config("configs/slizovskaia2021.py:exp9,debug").system
    monkeypatch.setattr(twin_of(system), "jax_noise", lambda system, key, batch: ())
    _, facts = compare(system, 4, tmp_path / "weights.pt")
    assert not facts["is_peer"]


@pytest.mark.torch
@pytest.mark.parametrize("variant", ["va", "band,four,v", "supervised"])
def test_the_twin_of_stoller2018_gives_the_same_losses_and_gradients(variant, tmp_path):
    _, facts = compare(load_config(f"configs/stoller2018.py:{variant},debug").system, 2, tmp_path / "weights.pt")
    assert facts["is_peer"]
    assert facts["max_relative_difference"] < 1e-4
    assert facts["loss_relative_difference"] < 1e-5


@pytest.mark.torch
def test_other_points_of_the_penalty_are_detected_in_stoller2018(tmp_path, monkeypatch):
    system = load_config("configs/stoller2018.py:va,debug").system
    monkeypatch.setattr(twin_of(system), "jax_noise", lambda system, key, batch: ())
    _, facts = compare(system, 2, tmp_path / "weights.pt")
    assert not facts["is_peer"]
    assert facts["where"].startswith("critics: ")


@pytest.mark.torch
@pytest.mark.parametrize(("factor", "accepted"), [(1.05, True), (1.5, False)])
def test_an_error_of_float32_alone_is_decided_in_float64(factor, accepted, tmp_path, monkeypatch):
    """An error as of a unit so near its kink that float32 puts it on the other side; a larger one is not accepted."""
    of_system = agreement._of_system

    def beyond_a_kink(phase, *arguments):
        loss, gradients = of_system(phase, *arguments)
        if phase.name == "critics":
            layer = gradients["critics"]["down_1"]
            layer["bias"] = layer["bias"] * (factor if layer["bias"].dtype == np.float32 else 1.0)
        return loss, gradients

    monkeypatch.setattr(agreement, "_of_system", beyond_a_kink)
    _, facts = compare(load_config("configs/stoller2018.py:va,debug").system, 2, tmp_path / "weights.pt")
    assert facts["is_peer"] == accepted
    assert facts["where"].startswith("critics: critics.")
    assert facts["where"].endswith("down.1.bias")
    assert facts["max_relative_difference"] == pytest.approx(factor - 1, rel=1e-3)
    if accepted:
        assert facts["float64_relative_difference"] < 1e-6
    else:
        assert facts["float64_relative_difference"] is None


@pytest.mark.torch
def test_another_slope_is_not_taken_for_a_kink_in_stoller2018(tmp_path, monkeypatch):
    system = load_config("configs/stoller2018.py:va,debug").system
    functional = twin_of(system).functional
    leaky_relu = functional.leaky_relu
    monkeypatch.setattr(functional, "leaky_relu", lambda x, slope: leaky_relu(x, 1.02 * slope))
    _, facts = compare(system, 2, tmp_path / "weights.pt")
    assert not facts["is_peer"]
    assert 1e-3 < facts["max_relative_difference"] < agreement.KINKED
    assert facts["float64_relative_difference"] == pytest.approx(facts["max_relative_difference"], rel=0.1)


@pytest.mark.torch
@pytest.mark.parametrize("keep", ["hidden", "all"])
def test_the_twin_of_cantisani2021_gives_the_same_loss_and_gradients(keep, tmp_path):
    system = dataclasses.replace(load_config("configs/cantisani2021.py:debug").system, keep=keep)
    _, facts = compare(system, 2, tmp_path / "weights.pt")
    assert facts["is_peer"]
    assert facts["max_relative_difference"] < 1e-3
    assert facts["loss_relative_difference"] < 1e-5


@pytest.mark.torch
def test_dilations_in_another_order_are_detected_in_cantisani2021(tmp_path, monkeypatch):
    system = load_config("configs/cantisani2021.py:debug").system
    depthwise = twin_of(system).Depthwise
    monkeypatch.setattr(
        twin_of(system),
        "Depthwise",
        lambda *sizes: depthwise(*sizes[:-1], dilation=2 ** (system.blocks - 1) // sizes[-1]),
    )
    _, facts = compare(system, 2, tmp_path / "weights.pt")
    assert not facts["is_peer"]
    assert facts["max_relative_difference"] > 0.01
