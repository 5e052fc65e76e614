"""Every wrong input is its own error, says what is wrong, and leaves the communicator usable."""

from __future__ import annotations

import pickle
import socket
import threading

import hawser
import numpy as np
import pytest
from hawser import _errors, _hawser


def read_only(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False
    return values


class OnDevice:
    """A tensor on the first CUDA device, as far as its protocol says."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError("must not be asked for")


class CudaArray:
    __cuda_array_interface__ = {"shape": (1,), "typestr": "<f4", "data": (0, False), "version": 3}


class BadCapsule:
    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: object) -> object:
        return object()


NO_TENSORS = [None, 1, 2.5, "text", [1.0, 2.0], {}, object()]
BAD_DTYPES = [
    np.zeros(3, bool), np.zeros(3, complex), np.zeros(3, object), np.array(["a"]), np.zeros(3, "M8[s]"),
    np.zeros(3, ">f4"), np.zeros(3, [("a", "f4")]), np.zeros(3, np.longdouble), memoryview(bytearray(2)).cast("?"),
]  # fmt: skip
BAD_LAYOUTS = [
    np.zeros((3, 4)).T, np.zeros(10)[::2], np.zeros((4, 4))[:, 1], np.zeros(4)[::-1], np.zeros((2, 3), order="F"),
]  # fmt: skip


@pytest.mark.parametrize("x", NO_TENSORS, ids=repr)
def test_no_tensor(solo, x):
    with pytest.raises(hawser.ArgumentTypeError, match="is no tensor") as caught:
        solo.all_reduce(x)
    assert isinstance(caught.value, (TypeError, hawser.UsageError)) and caught.value.name == "INVALID_ARGUMENT"


@pytest.mark.parametrize("x", BAD_DTYPES, ids=lambda x: str(getattr(x, "dtype", "memoryview")))
def test_dtype_that_cannot_be_reduced(solo, x):
    with pytest.raises(hawser.ArgumentTypeError, match="cannot be reduced"):
        solo.all_reduce(x)


@pytest.mark.parametrize("x", BAD_LAYOUTS, ids=lambda x: f"strides {x.strides}")
def test_not_contiguous(solo, x):
    with pytest.raises(hawser.ArgumentValueError, match="not C-contiguous"):
        solo.all_reduce(x)
    with pytest.raises(ValueError, match="out: not C-contiguous"):
        solo.all_reduce(np.zeros(x.shape), "sum", x)


@pytest.mark.parametrize("x", [b"abc", read_only(np.zeros(3)), np.float32(1)], ids=lambda x: type(x).__name__)
def test_read_only(solo, x):
    for call in (solo.all_reduce, solo.broadcast):
        with pytest.raises(hawser.ArgumentValueError, match="x: read-only"):
            call(x)


@pytest.mark.parametrize("x", [OnDevice(), CudaArray()], ids=lambda x: type(x).__name__)
def test_on_another_device(solo, x):
    with pytest.raises(hawser.ArgumentValueError, match="x: on .*CUDA"):
        solo.all_reduce(x)


def test_dlpack_that_is_none(solo):
    with pytest.raises(BufferError, match="capsule"):
        solo.all_reduce(BadCapsule())


def test_dlpack_read_only(solo):
    class ReadOnly:
        values = read_only(np.zeros(3))

        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self, **options):
            return self.values.__dlpack__(**options)

    try:
        ReadOnly().__dlpack__(max_version=(1, 0))
    except (BufferError, TypeError):
        pytest.skip("this NumPy does not export read-only arrays by DLPack")
    with pytest.raises(hawser.ArgumentValueError, match="read-only"):
        solo.all_reduce(ReadOnly())


def test_out_of_another_layout(solo):
    with pytest.raises(hawser.ArgumentTypeError, match="f64 .*f32"):
        solo.all_reduce(np.zeros(3, "f4"), "sum", np.zeros(3, "f8"))
    with pytest.raises(hawser.ArgumentValueError, match=r"\(4,\).*\(3,\)"):
        solo.all_reduce(np.zeros(3), "sum", np.zeros(4))
    with pytest.raises(hawser.ArgumentValueError, match=r"\(2, 2\).*\(4,\)"):
        solo.broadcast(np.zeros(4), 0, np.zeros((2, 2)))


def test_memory_that_overlaps_partly(solo):
    memory = np.arange(10.0)
    with pytest.raises(hawser.UsageError):
        solo.all_reduce(memory[:8], "sum", memory[2:])
    assert memory.tolist() == list(range(10))


def test_misaligned_memory(solo):
    memory = np.zeros(17, np.uint8)[1:].view(np.float64)
    with pytest.raises(hawser.UsageError):
        solo.all_reduce(memory)


def torch_cases():
    torch = pytest.importorskip("torch")
    real = torch.zeros(2, 3)
    return {
        "bool": (torch.zeros(2, dtype=torch.bool), "torch.bool cannot be reduced"),
        "complex": (torch.zeros(2, dtype=torch.complex64), "torch.complex64 cannot be reduced"),
        "transposed": (real.T, "not C-contiguous"),
        "expanded": (torch.zeros(1).expand(4), "not C-contiguous"),
        "meta": (torch.zeros(2, device="meta"), "on device meta"),
        "sparse": (torch.eye(2).to_sparse(), "dense"),
        "requires_grad": (torch.zeros(2, requires_grad=True), "detach"),
        "parameter": (torch.nn.Parameter(torch.zeros(2)), "detach"),
    }


@pytest.mark.parametrize(
    "case", ["bool", "complex", "transposed", "expanded", "meta", "sparse", "requires_grad", "parameter"]
)
def test_torch_tensor(solo, case):
    x, message = torch_cases()[case]
    with pytest.raises((hawser.ArgumentTypeError, hawser.ArgumentValueError), match=message):
        solo.all_reduce(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op": "median"}, "op: 'median' is none of sum"),
        ({"op": 0}, "op: 0 is none of"),
        ({"tag": 0}, "tag: 0 is not within"),
        ({"tag": 2**64}, "tag: "),
        ({"tag": 1.5}, "tag: 1.5 is not an integer"),
        ({"timeout": 0}, "timeout: must be more than 0"),
        ({"timeout": -1}, "timeout: -1"),
        ({"timeout": float("nan")}, "timeout: nan"),
        ({"timeout": "1s"}, "timeout: '1s'"),
        ({"policy": "maybe"}, "policy: 'maybe' is none of retry, strict"),
        ({"priority": 8}, "priority: 8 is not within -8..7"),
        ({"min_participants": -1}, "min_participants: -1"),
    ],
)
def test_options(solo, options, message):
    with pytest.raises(hawser.UsageError) as caught:
        solo.all_reduce(np.zeros(3), **options)
    assert message in str(caught.value)
    assert solo.all_reduce(np.ones(3), "sum").tolist() == [1, 1, 1]


def test_root_that_is_no_rank(solo):
    with pytest.raises(hawser.UsageError):
        solo.broadcast(np.zeros(3), root=1)
    with pytest.raises(hawser.UsageError):
        solo.broadcast(np.zeros(3), root=-1)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "127.0.0.1:", "", "a\0b:1"])
def test_address_that_does_not_parse(address, monkeypatch):
    monkeypatch.delenv("HAWSER_COORDINATORS", raising=False)
    with pytest.raises((hawser.ArgumentValueError, hawser.UsageError)):
        hawser.connect(address, timeout=5)


def test_no_address_at_all(monkeypatch):
    monkeypatch.delenv("HAWSER_COORDINATORS", raising=False)
    with pytest.raises(hawser.UsageError):
        hawser.connect(timeout=5)


@pytest.mark.parametrize("address", [5, [5], object()])
def test_address_of_another_type(address):
    with pytest.raises(hawser.ArgumentTypeError, match="address"):
        hawser.connect(address)


def test_address_from_the_environment(coordinator, monkeypatch):
    monkeypatch.setenv("HAWSER_COORDINATORS", coordinator.address)
    with hawser.connect() as comm:
        assert comm.size == 1


def test_nobody_answers_at_the_address():
    with socket.socket() as unused:  # bound, so that nobody else takes the port; not listening, so that it refuses
        unused.bind(("127.0.0.1", 0))
        with pytest.raises((hawser.CoordinatorError, hawser.DeadlineError)):
            hawser.connect(f"127.0.0.1:{unused.getsockname()[1]}", timeout=1)


def test_the_first_address_that_answers_is_used(coordinator):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with hawser.connect([f"127.0.0.1:{unused.getsockname()[1]}", coordinator.address], timeout=20) as comm:
            assert comm.size == 1


def test_another_service_at_the_address():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + b"x" * 200)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(hawser.CoordinatorError) as caught:
            hawser.connect(f"127.0.0.1:{server.getsockname()[1]}", timeout=10)
        thread.join(10)
    assert caught.value.name == "NOT_A_COORDINATOR"


def test_too_few_peers_to_start(coordinator):
    with pytest.raises(hawser.DeadlineError) as caught:
        hawser.connect(coordinator, min_size=2, timeout=0.3)
    assert caught.value.name == "TIMEOUT" and isinstance(caught.value, TimeoutError)


def test_coordinator_address_in_use(coordinator):
    with pytest.raises(hawser.ResourceError) as caught:
        hawser.Coordinator(coordinator.address)
    assert caught.value.name == "ADDRESS_IN_USE"


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:99999"])
def test_coordinator_address_that_does_not_parse(listen):
    with pytest.raises(hawser.ArgumentValueError):
        hawser.Coordinator(listen)


def test_calls_after_abort_and_close(coordinator):
    comm = hawser.connect(coordinator)
    comm.abort()
    for call in (comm.admit, comm.barrier, comm.leave, lambda: comm.all_reduce(np.ones(2)), lambda: comm.view):
        with pytest.raises(hawser.MembershipError) as caught:
            call()
        assert caught.value.name == "ABORTED"
    comm.close()
    comm.close()
    assert comm.closed
    for call in (
        comm.admit,
        comm.barrier,
        comm.leave,
        comm.abort,
        comm.metrics,
        lambda: comm.view,
        lambda: comm.members,
    ):
        with pytest.raises(hawser.UsageError) as caught:
            call()
        assert caught.value.name == "INVALID_HANDLE"
    assert "INVALID_HANDLE" in repr(comm)


def test_calls_after_the_coordinator_was_closed():
    service = hawser.Coordinator()
    service.stop()
    assert service.wait(10)
    service.close()
    service.close()
    with pytest.raises(hawser.UsageError):
        service.address  # noqa: B018


def test_coordinator_wait_gives_up_in_time(coordinator):
    assert coordinator.wait(0) is False
    assert coordinator.wait(0.12) is False


def test_every_status_has_an_exception():
    categories = {category for _, _, category, _ in _hawser.STATUSES}
    assert set(_errors._CLASS_OF_CATEGORY) == categories
    for name, value, _, sentence in _hawser.STATUSES:
        error = _errors.error_of_status(value, "")
        assert (error.name, error.code, str(error)) == (name, value, sentence)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.name, copy.code, str(copy)) == (type(error), name, value, sentence)
    assert isinstance(_errors.error_of_status(_errors.STATUS_CODES["TIMEOUT"], ""), TimeoutError)
    assert type(_errors.error_of_status(12345, "x")) is hawser.InternalError
