"""Hawser for PyTorch: DiLoCo around any optimizer, and a communication hook for DistributedDataParallel.

    optimizer = hawser.torch.DiLoCo(torch.optim.AdamW(model.parameters()), comm, h=100, compression="int8")
    for batch in batches:
        loss(model, batch).backward()
        optimizer.step()                 # every 100th also averages with the other members and lets newcomers in
        optimizer.zero_grad()

Not imported by ``import hawser``: write ``import hawser.torch``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from hawser import _outer
from hawser._communicator import Communicator
from hawser._compression import Codec, Compression, Residual
from hawser._errors import ArgumentTypeError, ArgumentValueError
from hawser._outer import NonFinite, OuterInfo
from hawser._state import SyncInfo
from hawser._units import integer, number
from hawser._work import Work

__all__ = ["DiLoCo", "ddp_hook"]

# Of the outer state among the keys of state_dict, beside those of the inner optimizer.
_OUTER_KEY = "hawser_outer"


class DiLoCo(torch.optim.Optimizer):
    """A torch optimizer whose every ``h``-th step is followed by a DiLoCo round over all members.

    ``inner``: the optimizer to wrap; its state is this peer's own and is kept over rounds. ``comm``: the communicator.
    ``h``: optimizer steps of a round, 1 and more; None: rounds are made by ``outer_step`` alone. Steps are counted, not
    backward passes: accumulate gradients as you like.
    ``named_parameters``: names for the parameters of ``inner``, as from ``model.named_parameters()``; None: names that
    ``inner`` knows, else "GROUP.INDEX".
    ``lr``, ``momentum``, ``nesterov``, ``delayed``, ``compression``, ``error_feedback``, ``on_non_finite``, ``tag``,
    ``timeout``, ``manual_admission``: as of hawser.DiLoCo.
    ``sync``: the constructor makes the parameters equal on all members, founders and newcomers alike, and blocks until
    they are there; False: call ``sync()`` before training.

    Parameters are dense, contiguous CPU tensors of float32, bfloat16 or float16. Learning rate schedulers and
    ``zero_grad``, ``param_groups``, hooks work as on ``inner``; what else ``inner`` has is found here too. A round
    counts this peer with its number of steps, or with the samples given to ``step``. A parameter whose memory moved is
    found again; one that changed dtype or shape raises ArgumentValueError at the next round.
    """

    # A gradient scaler shall unscale by itself, and call step() only when a step is made.
    _step_supports_amp_scaling = False

    def __init__(
        self,
        inner: torch.optim.Optimizer,
        comm: Communicator,
        h: int | None,
        *,
        lr: float = 0.7,
        momentum: float = 0.9,
        nesterov: bool = True,
        delayed: bool = False,
        compression: Compression | Codec | None = None,
        error_feedback: bool = False,
        on_non_finite: NonFinite = "leave_out",
        named_parameters: Iterable[tuple[str, torch.Tensor]] | None = None,
        tag: int | None = None,
        timeout: float | None = None,
        manual_admission: bool = False,
        sync: bool = True,
    ) -> None:
        # Not Optimizer.__init__: parameters, state and hooks are those of the inner optimizer.
        if not isinstance(inner, torch.optim.Optimizer):
            raise ArgumentTypeError(f"inner: {type(inner).__name__} is no torch.optim.Optimizer")
        self.inner = inner
        self.h = None if h is None else integer(h, "h", 1, 2**63 - 1)
        self.info: OuterInfo | None = None
        """Of the last round; None before the first."""
        self._steps = 0  # of the inner optimizer since the last round
        self._samples = 0.0  # the same
        self._parameters = _parameters_of(inner, named_parameters)
        self._addresses = {name: parameter.data_ptr() for name, parameter in self._parameters.items()}
        self._outer = _outer.DiLoCo(
            comm,
            {name: parameter.detach() for name, parameter in self._parameters.items()},
            lr,
            momentum,
            nesterov,
            delayed,
            compression,
            error_feedback,
            on_non_finite,
            tag=tag,
            timeout=timeout,
            manual_admission=manual_admission,
        )
        if sync:
            try:
                self.sync()
            except BaseException:
                self._outer.close()
                raise

    # ---------------------------------------------------------------------------------------------------- training

    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None, *, samples: float | None = None
    ) -> float | None:
        """A step of the inner optimizer and, when it is the ``h``-th since the last round, the round.

        ``closure``: as of the inner optimizer; returns what that returns. ``samples``: that this step has used; the
        round then counts this peer with their sum instead of its number of steps. When the round fails, the inner step
        was made, nothing of the round was, and the next ``step`` or ``outer_step`` tries it again.
        """
        loss = self.inner.step() if closure is None else self.inner.step(closure)
        self._steps += 1
        if samples is not None:
            self._samples += number(samples, "samples")
        if self.h is not None and self._steps >= self.h:
            self.outer_step()
        return loss

    def outer_step(self, weight: float | None = None) -> OuterInfo:
        """A round now. ``weight``: of this peer, None: samples or steps since the last round. Errors as of
        ``hawser.DiLoCo.step``.
        """
        self._rebind()
        if weight is None:
            weight = self._samples if self._samples > 0 else float(self._steps)
        self.info = self._outer.step(weight)
        self._steps, self._samples = 0, 0.0
        return self.info

    def sync(self) -> SyncInfo:
        """Makes anchor, momentum and round the same on all members and sets the parameters to the anchor. The first
        call of every member; the constructor makes it unless told otherwise.
        """
        self._rebind()
        return self._outer.sync()

    def finish(self) -> OuterInfo:
        """With ``delayed``, at the end of training: applies the average in flight and sets the parameters."""
        self._rebind()
        self.info = self._outer.finish()
        self._steps, self._samples = 0, 0.0
        return self.info

    @contextmanager
    def at_anchor(self) -> Iterator[None]:
        """Within the block the parameters are the anchor, what all members hold; afterwards they are again what this
        peer has trained them to. For evaluation and checkpoints between rounds.
        """
        with self._parameters_kept():
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(self.anchor(name))
            yield

    @property
    def round(self) -> int:
        """Rounds made."""
        return self._outer.round

    @property
    def steps_in_round(self) -> int:
        """Optimizer steps since the last round."""
        return self._steps

    def anchor(self, name: str) -> torch.Tensor:
        """A copy of what all members hold of a parameter, in float32."""
        return torch.from_numpy(self._outer.anchor(name))

    def momentum_of(self, name: str) -> torch.Tensor:
        """A copy of a parameter's outer momentum, in float32."""
        return torch.from_numpy(self._outer.momentum_of(name))

    def close(self) -> None:
        """Cancels what is in flight and lets go of the parameters, which stay as they are."""
        self._outer.close()

    # --------------------------------------------------------------------------------------- as the inner optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.inner.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.inner.param_groups = groups

    @property
    def state(self) -> Any:
        return self.inner.state

    @state.setter
    def state(self, state: Any) -> None:
        self.inner.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        return self.inner.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.inner.defaults = defaults

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not there yet
            raise AttributeError(name)
        return getattr(self.inner, name)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        raise ArgumentValueError(
            "param_group: parameters cannot be added once the outer optimizer has its layout; add them to the inner"
            " optimizer and wrap that anew, on all members"
        )

    def state_dict(self) -> dict[str, Any]:
        """That of the inner optimizer, and the outer state under "hawser_outer". Waits for what is in flight."""
        outer = self._outer.state_dict()
        for kind in ("anchor", "momentum", "pending"):
            if outer[kind] is not None:
                outer[kind] = {name: torch.from_numpy(values) for name, values in outer[kind].items()}
        outer["steps"], outer["samples"] = self._steps, self._samples
        return {**self.inner.state_dict(), _OUTER_KEY: outer}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave: outer state equal at all members, the inner one each member's own. The
        parameters are the model's and stay as they are: load them too, before or after.
        """
        inner = dict(state_dict)
        outer = inner.pop(_OUTER_KEY, None)
        if outer is None:
            raise ArgumentValueError(
                "state_dict: without an outer state, so of a plain optimizer; load it into the inner optimizer instead"
            )
        self._rebind()
        with self._parameters_kept():
            self._outer.load_state_dict(outer)
        self.inner.load_state_dict(inner)
        self._steps, self._samples = int(outer.get("steps", 0)), float(outer.get("samples", 0.0))

    def __repr__(self) -> str:
        return f"hawser.torch.DiLoCo(h={self.h}, round={self.round}, inner={self.inner!r})"

    def __reduce__(self) -> Any:
        raise ArgumentTypeError("a hawser.torch.DiLoCo cannot be copied or pickled; save its state_dict()")

    # --------------------------------------------------------------------------------------------------- internals

    @contextmanager
    def _parameters_kept(self) -> Iterator[None]:
        """Puts back at the end what the parameters are now."""
        kept = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(kept[name])

    def _rebind(self) -> None:
        """Finds parameters whose memory moved, as by ``model.share_memory()`` or ``parameter.data = ...``."""
        there = [parameter for group in self.inner.param_groups for parameter in group["params"]]
        ours = list(self._parameters.values())
        if len(there) != len(ours) or any(one is not other for one, other in zip(there, ours, strict=True)):
            raise ArgumentValueError(
                "the inner optimizer has other parameters than when it was wrapped; wrap it anew, on all members"
            )
        for name, parameter in self._parameters.items():
            if parameter.data_ptr() != self._addresses[name] or not self._same_layout(name, parameter):
                self._outer.move(name, parameter.detach())
                self._addresses[name] = parameter.data_ptr()

    def _same_layout(self, name: str, parameter: torch.Tensor) -> bool:
        bound = self._outer._tensors[name]
        return bool(bound.dtype == parameter.dtype and bound.shape == parameter.shape)


def _parameters_of(
    inner: torch.optim.Optimizer, named: Iterable[tuple[str, torch.Tensor]] | None
) -> dict[str, torch.Tensor]:
    """The optimizer's parameters in its order, by name."""
    names = {parameter: name for name, parameter in named or ()}
    parameters: dict[str, torch.Tensor] = {}
    for g, group in enumerate(inner.param_groups):
        known = group.get("param_names") or [f"{g}.{i}" for i in range(len(group["params"]))]
        for parameter, name in zip(group["params"], known, strict=True):
            if named is not None:
                if parameter not in names:
                    raise ArgumentValueError(
                        f"named_parameters: has no name for parameter {name} of the inner optimizer, of shape"
                        f" {tuple(parameter.shape)}"
                    )
                name = names[parameter]
            parameters[name] = parameter
    return parameters


class _Finisher:
    """A thread that waits for the averages of a hook in the order of their start, and completes their futures."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Work[torch.Tensor], torch.futures.Future[Any], list[Any]] | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._serve, args=(self._queue,), name="hawser-ddp", daemon=True).start()

    def __del__(self) -> None:
        self._queue.put(None)

    def submit(self, work: Work[torch.Tensor], ended: torch.futures.Future[Any], outcome: list[Any]) -> None:
        self._queue.put((work, ended, outcome))

    @staticmethod
    def _serve(waiting: queue.SimpleQueue[Any]) -> None:
        while True:
            item = waiting.get()
            if item is None:
                return
            work, ended, outcome = item
            try:
                outcome.append(work.wait())
            except BaseException as error:  # raised where the future is waited for
                outcome.append(error)
            ended.set_result(None)
            del item, work, ended, outcome


def ddp_hook(
    comm: Communicator,
    compression: Compression | Codec | None = None,
    *,
    error_feedback: bool = False,
    tag: int | None = None,
    timeout: float | None = None,
) -> Callable[[Any, Any], torch.futures.Future[torch.Tensor]]:
    """A communication hook that averages the gradient buckets of DistributedDataParallel through Hawser.

        model = DistributedDataParallel(model)      # of a process group with this process alone
        model.register_comm_hook(None, hawser.torch.ddp_hook(comm, "int8"))

    Each bucket is averaged over all members of ``comm`` while the backward pass goes on; members that are lost
    meanwhile are left out of the average. Who is in the group is decided by ``comm`` alone, so give
    DistributedDataParallel a process group of size 1. All members need the same model, and equal parameters to start
    with: ``hawser.SharedState(model.state_dict()).sync(comm)``.
    ``compression``, ``timeout`` (seconds), ``tag``: as of ``all_reduce``. ``error_feedback``: keeps what compression
    leaves out of each bucket for the next step.

    A failure is raised by ``backward()`` as RuntimeError with Hawser's text.
    """
    if isinstance(compression, str):
        compression = Compression(compression)
    if compression is not None and compression.residual is not None:
        raise ArgumentValueError("compression: a residual is of one bucket; pass error_feedback=True instead")
    if error_feedback and compression is None:
        raise ArgumentValueError("error_feedback: there is nothing to feed back without a compression")
    finisher = _Finisher()
    residuals: dict[int, Residual] = {}  # by bucket

    def settings_of(bucket: Any) -> Compression | None:
        if compression is None or not error_feedback:
            return compression
        index, count = bucket.index(), bucket.buffer().numel()
        if index not in residuals or residuals[index].count != count:  # buckets are cut anew after the first step
            residuals[index] = Residual(count)
        return Compression(
            compression.codec, compression.block, compression.rounding, compression.seed, residuals[index],
            compression.residual_decay,
        )  # fmt: skip

    def hook(state: Any, bucket: Any) -> torch.futures.Future[torch.Tensor]:
        work = comm.all_reduce(
            bucket.buffer(), "avg", compression=settings_of(bucket), tag=tag, timeout=timeout, async_op=True
        )
        ended: torch.futures.Future[Any] = torch.futures.Future()
        outcome: list[Any] = []

        def result(_: Any) -> torch.Tensor:
            (what,) = outcome
            if isinstance(what, BaseException):
                raise what
            reduced: torch.Tensor = what
            return reduced

        averaged: torch.futures.Future[torch.Tensor] = ended.then(result)
        finisher.submit(work, ended, outcome)
        return averaged

    hook.__annotations__.clear()  # DistributedDataParallel refuses annotations that are strings
    return hook
