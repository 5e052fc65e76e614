"""hawser.torch: DiLoCo around optimizers of torch, and the hook for DistributedDataParallel."""

from __future__ import annotations

import copy
import io
import threading

import hawser
import numpy as np
import pytest
from conftest import PATIENCE

torch = pytest.importorskip("torch")

import hawser.torch  # noqa: E402


def model_of(seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def backward(model: torch.nn.Module, rank: int, step: int, share: float = 1.0) -> torch.Tensor:
    """The gradients of a batch of this peer and step."""
    generator = torch.Generator().manual_seed(1000 * rank + step)
    dtype = next(model.parameters()).dtype
    x = torch.randn(16, 6, generator=generator).to(dtype)
    loss = share * (model(x) - x.sum(dim=1, keepdim=True)).square().mean()
    loss.backward()
    return loss


def values_of(model: torch.nn.Module) -> list[bytes]:
    return [parameter.detach().float().numpy().tobytes() for parameter in model.parameters()]


@pytest.mark.parametrize("inner", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_any_optimizer(run_peers, inner):
    def peer(comm):
        model = model_of(comm.rank + 1)  # the first member's become everyone's
        optimizer = hawser.torch.DiLoCo(getattr(torch.optim, inner)(model.parameters(), lr=0.01), comm, h=3)
        assert values_of(model) == values_of(model_of(1))
        seen = []
        for step in range(9):
            optimizer.zero_grad()
            backward(model, comm.rank, step)
            optimizer.step()
            seen.append((optimizer.round, optimizer.steps_in_round))
            if optimizer.steps_in_round == 0:
                assert optimizer.info.participants == 2 and optimizer.info.total_weight == 6
        assert seen == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)]
        optimizer.close()
        return values_of(model)

    first, second = run_peers(2, peer)
    assert first == second != values_of(model_of(1))


def test_a_round_is_that_of_the_outer_optimizer(run_peers):
    """The same training by hand with hawser.DiLoCo."""

    def by_torch(comm):
        model = model_of()
        optimizer = hawser.torch.DiLoCo(
            torch.optim.AdamW(model.parameters(), lr=0.02), comm, h=2, lr=0.5, momentum=0.8, compression="int8",
            error_feedback=True, named_parameters=model.named_parameters(),
        )  # fmt: skip
        for step in range(6):
            optimizer.zero_grad()
            backward(model, comm.rank, step)
            optimizer.step()
        anchor = optimizer.anchor("0.weight")
        assert torch.equal(anchor, model[0].weight) and optimizer.momentum_of("2.bias").abs().sum() > 0
        return values_of(model)

    def by_hand(comm):
        model = model_of()
        inner = torch.optim.AdamW(model.parameters(), lr=0.02)
        parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
        with hawser.DiLoCo(comm, parameters, lr=0.5, momentum=0.8, compression="int8", error_feedback=True) as outer:
            outer.sync()
            for step in range(6):
                inner.zero_grad()
                backward(model, comm.rank, step)
                inner.step()
                if step % 2:
                    outer.step(weight=2)
        return values_of(model)

    assert run_peers(2, by_torch) == run_peers(2, by_hand, group=1)


def test_learning_rate_schedulers(run_peers):
    def peer(comm):
        model = model_of()
        inner = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer = hawser.torch.DiLoCo(inner, comm, h=2)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        rates = []
        for step in range(4):
            optimizer.zero_grad()
            backward(model, comm.rank, step)
            optimizer.step()
            scheduler.step()
            rates.append(inner.param_groups[0]["lr"])
        assert optimizer.round == 2
        for loss in (1.0, 2.0, 3.0):
            plateau.step(loss)
        return rates, inner.param_groups[0]["lr"] < rates[-1]

    assert run_peers(2, peer) == [([0.5, 0.25, 0.125, 0.0625], True)] * 2


def test_accumulated_gradients_count_as_one_step(run_peers):
    def peer(comm):
        model = model_of()
        optimizer = hawser.torch.DiLoCo(torch.optim.SGD(model.parameters(), lr=0.01), comm, h=2)
        for step in range(4):
            optimizer.zero_grad()
            for micro in range(3):
                backward(model, comm.rank, 3 * step + micro, share=1 / 3)
            optimizer.step()
        assert (optimizer.round, optimizer.info.total_weight) == (2, 4)

    run_peers(2, peer)


def test_a_closure_and_hooks(solo):
    model = model_of()
    optimizer = hawser.torch.DiLoCo(torch.optim.LBFGS(model.parameters(), max_iter=3), solo, h=1)
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure():
        optimizer.zero_grad()
        return backward(model, 0, 0)

    first, second = optimizer.step(closure), optimizer.step(closure)
    assert second.item() < first.item() and optimizer.round == 2 and calls == ["after"] * 2


def test_samples_are_weights(run_peers):
    def peer(comm):
        model = torch.nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            model.weight.zero_()
        optimizer = hawser.torch.DiLoCo(torch.optim.SGD(model.parameters(), lr=1.0), comm, h=2, lr=1.0, momentum=0.0)
        for _ in range(2):
            model.weight.grad = torch.full((1, 1), -float(comm.rank))
            optimizer.step(samples=10 * (comm.rank + 1))
        assert optimizer.info.total_weight == 60
        return model.weight.item()

    assert run_peers(2, peer) == pytest.approx([(20 * 0 + 40 * 2) / 60] * 2)


def test_rounds_without_a_fixed_h(run_peers):
    def peer(comm):
        model = torch.nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            model.weight.zero_()
        optimizer = hawser.torch.DiLoCo(torch.optim.SGD(model.parameters(), lr=1.0), comm, h=None, lr=1.0, momentum=0.0)
        for _ in range(comm.rank + 1):  # one is slower than the other
            model.weight.grad = torch.full((1, 1), -1.0)
            optimizer.step()
        info = optimizer.outer_step()
        assert (info.total_weight, optimizer.steps_in_round) == (3, 0)
        return model.weight.item()

    assert run_peers(2, peer) == pytest.approx([(1 * 1 + 2 * 2) / 3] * 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_of_half_the_width(run_peers, dtype):
    def peer(comm):
        model = model_of(dtype=dtype)
        optimizer = hawser.torch.DiLoCo(torch.optim.SGD(model.parameters(), lr=0.01), comm, h=2, compression="int8")
        for step in range(6):
            optimizer.zero_grad()
            backward(model, comm.rank, step)
            optimizer.step()
        names = [f"0.{index}" for index in range(4)]
        for name, parameter in zip(names, model.parameters(), strict=True):
            assert parameter.dtype == dtype and torch.equal(optimizer.anchor(name).to(dtype), parameter)
        return values_of(model)

    first, second = run_peers(2, peer)
    assert first == second


def test_delayed(run_peers):
    def peer(comm):
        model = model_of()
        optimizer = hawser.torch.DiLoCo(
            torch.optim.SGD(model.parameters(), lr=0.01), comm, h=2, momentum=0.0, delayed=True
        )
        seen = []
        for step in range(6):
            optimizer.zero_grad()
            backward(model, comm.rank, step)
            optimizer.step()
            if step % 2:
                seen.append(values_of(model))
        assert seen[0] == values_of(model_of()) and optimizer.round == 2
        optimizer.finish()
        assert optimizer.round == 3
        return seen, values_of(model)

    first, second = run_peers(2, peer)
    assert first == second and first[1] != first[0][-1]


@pytest.mark.parametrize("delayed", [False, True])
def test_checkpoints(run_peers, delayed):
    def peer(comm):
        def train(model, optimizer, steps):
            for step in steps:
                optimizer.zero_grad()
                backward(model, comm.rank, step)
                optimizer.step()

        def made(model):
            return hawser.torch.DiLoCo(
                torch.optim.AdamW(model.parameters(), lr=0.01), comm, h=4, momentum=0.5, delayed=delayed
            )

        model = model_of()
        optimizer = made(model)
        train(model, optimizer, range(10))  # in the middle of a round
        file = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        train(model, optimizer, range(10, 20))
        comm.barrier()  # close cancels what is in flight, and the other may not have come to it yet
        optimizer.close()

        again = model_of(7)
        second = made(again)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        again.load_state_dict(saved["model"])
        second.load_state_dict(saved["optimizer"])
        assert (second.round, second.steps_in_round) == (1 if delayed else 2, 2)
        train(again, second, range(10, 20))
        assert values_of(again) == values_of(model)

        with pytest.raises(ValueError, match="without an outer state"):
            second.load_state_dict(torch.optim.AdamW(model.parameters()).state_dict())
        comm.barrier()

    run_peers(2, peer)


def test_the_inner_state_stays_this_peers_own(run_peers):
    def peer(comm):
        model = model_of()
        inner = torch.optim.Adam(model.parameters(), lr=0.01)
        optimizer = hawser.torch.DiLoCo(inner, comm, h=1)
        for step in range(3):
            optimizer.zero_grad()
            backward(model, comm.rank, step)
            optimizer.step()
        assert optimizer.state is inner.state and optimizer.param_groups is inner.param_groups
        state = inner.state[model[0].weight]
        assert state["step"] == 3
        return state["exp_avg"].numpy().tobytes()

    first, second = run_peers(2, peer)
    assert first != second


def test_evaluation_at_the_anchor(solo):
    model = model_of()
    optimizer = hawser.torch.DiLoCo(torch.optim.SGD(model.parameters(), lr=0.01), solo, h=10)
    anchor = values_of(model)
    backward(model, 0, 0)
    optimizer.step()
    local = values_of(model)
    assert local != anchor
    with optimizer.at_anchor():
        assert values_of(model) == anchor
    assert values_of(model) == local


def test_a_parameter_that_moved(run_peers):
    def peer(comm):
        model = model_of()
        optimizer = hawser.torch.DiLoCo(torch.optim.SGD(model.parameters(), lr=0.01), comm, h=2)
        for step in range(6):
            if step % 2:
                for parameter in model.parameters():  # as .share_memory() and loaders do
                    parameter.data = parameter.data.clone()
            optimizer.zero_grad()
            backward(model, comm.rank, step)
            optimizer.step()
        return values_of(model)

    first, second = run_peers(2, peer)
    assert first == second


def test_a_parameter_that_changed(solo):
    model = model_of()
    optimizer = hawser.torch.DiLoCo(
        torch.optim.SGD(model.parameters(), lr=0.01), solo, h=1, named_parameters=model.named_parameters()
    )
    model.to(torch.bfloat16)
    backward(model, 0, 0)
    with pytest.raises(ValueError, match="0.weight: was f32 of shape .* and is bf16"):
        optimizer.step()
    model.to(torch.float32)
    optimizer.outer_step()  # as it was: the round can be made
    model[0].weight.data = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"0.weight: .*\(2, 2\)"):
        optimizer.outer_step()


def test_layers_that_were_added(solo):
    model = model_of()
    inner = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer = hawser.torch.DiLoCo(inner, solo, h=1)
    more = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="cannot be added"):
        optimizer.add_param_group({"params": list(more.parameters())})
    inner.add_param_group({"params": list(more.parameters())})
    with pytest.raises(ValueError, match="wrap it anew"):
        optimizer.outer_step()


def test_autograd_notices_a_round(solo):
    model = torch.nn.Linear(3, 3)
    optimizer = hawser.torch.DiLoCo(torch.optim.SGD(model.parameters(), lr=0.1), solo, h=None)
    loss = model(model(torch.ones(1, 3))).sum()
    optimizer.outer_step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_wrong_use(solo):
    model = model_of()
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="h: 0"):
        hawser.torch.DiLoCo(inner, solo, h=0)
    with pytest.raises(TypeError, match="no torch.optim.Optimizer"):
        hawser.torch.DiLoCo(model.parameters(), solo, h=1)
    with pytest.raises(ValueError, match="named_parameters: has no name"):
        hawser.torch.DiLoCo(inner, solo, h=1, named_parameters=model[0].named_parameters())
    with pytest.raises(TypeError, match="f64"):
        hawser.torch.DiLoCo(torch.optim.SGD(torch.nn.Linear(2, 2).double().parameters(), lr=0.1), solo, h=1)
    optimizer = hawser.torch.DiLoCo(inner, solo, h=1)
    assert optimizer.defaults is inner.defaults and "DiLoCo(h=1, round=0" in repr(optimizer)
    with pytest.raises(AttributeError):
        optimizer.no_such_thing  # noqa: B018
    with pytest.raises(TypeError, match="state_dict"):
        copy.deepcopy(optimizer)


def test_a_gradient_scaler_skips_steps_that_do_not_count(solo):
    model = model_of()
    optimizer = hawser.torch.DiLoCo(torch.optim.SGD(model.parameters(), lr=0.01), solo, h=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for poison in (False, True):
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(1, 6)).sum()).backward()
        if poison:
            model[0].weight.grad.fill_(float("inf"))
        scaler.step(optimizer)
        scaler.update()
    assert optimizer.round == 1


# ------------------------------------------------------------------------------------------------- data-parallel hook


@pytest.fixture(scope="module")
def process_group():
    """Of this process alone, as the hook wants it."""
    if torch.distributed.is_available():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        yield
        torch.distributed.destroy_process_group()
    else:
        pytest.skip("torch without torch.distributed")


def parallel(model: torch.nn.Module, hook: object) -> torch.nn.Module:
    wrapped = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.0001)  # several buckets
    wrapped.register_comm_hook(None, hook)
    return wrapped


@pytest.mark.parametrize(
    ("compression", "error_feedback"), [(None, False), ("bf16", False), ("int8", False), ("int8", True)]
)
def test_the_hook_averages_gradients(process_group, run_peers, compression, error_feedback):
    def peer(comm):
        model = model_of()
        wrapped = parallel(model, hawser.torch.ddp_hook(comm, compression, error_feedback=error_feedback))
        seen = []
        for step in range(4):  # the second step cuts the buckets anew
            wrapped.zero_grad()
            backward(wrapped, comm.rank, step)
            seen.append([parameter.grad.numpy().copy() for parameter in model.parameters()])
        return seen

    results = run_peers(2, peer)
    for step, (first, second) in enumerate(zip(*results, strict=True)):
        assert [x.tobytes() for x in first] == [x.tobytes() for x in second]
        want = []
        for rank in range(2):
            model = model_of()
            backward(model, rank, step)
            want.append([parameter.grad.numpy() for parameter in model.parameters()])
        for got, mine, theirs in zip(first, *want, strict=True):
            scale = max(np.abs(mine).max(), np.abs(theirs).max())
            tolerance = {None: 1e-6, "bf16": 0.02, "int8": 0.05}[compression]
            np.testing.assert_allclose(got, (mine + theirs) / 2, atol=tolerance * scale)


def test_the_hook_outlives_a_lost_peer(process_group, run_peers):
    ready = threading.Barrier(3)

    def peer(comm):
        model = model_of()
        wrapped = parallel(model, hawser.torch.ddp_hook(comm))
        ready.wait(PATIENCE)
        if comm.rank == 2:
            comm.abort()
            return None
        backward(wrapped, comm.rank, 0)
        return [parameter.grad.numpy().tobytes() for parameter in model.parameters()]

    results = run_peers(3, peer)
    assert results[0] == results[1]


def test_a_failure_of_the_hook_is_raised_by_backward(process_group, run_peers):
    def peer(comm):
        model = model_of()
        wrapped = parallel(model, hawser.torch.ddp_hook(comm, timeout=0.2))
        if comm.rank == 1:
            return None  # does not come
        with pytest.raises(RuntimeError, match="TIMEOUT|NOT_MEMBER|deadline"):
            backward(wrapped, comm.rank, 0)
        return None

    run_peers(2, peer)


def test_hooks_that_cannot_be(solo):
    with hawser.Residual(3) as residual, pytest.raises(ValueError, match="error_feedback=True"):
        hawser.torch.ddp_hook(solo, hawser.Compression("int8", residual=residual))
    with pytest.raises(ValueError, match="without a compression"):
        hawser.torch.ddp_hook(solo, error_feedback=True)
