"""A second device without hardware: tensors that say they live on "sim", calculate on the CPU, and refuse to meet CPU
tensors as those of CUDA do.

    from tools import simulated
    simulated.install()
    torch.randn(3, device="sim") + torch.ones(3)      # RuntimeError: Expected all tensors to be on the same device

A forgotten `.to(device)` works on a CPU and fails on a GPU, which few machines that run the tests have. On this device
it fails as well. What calculates is the CPU's own code, so that results are the CPU's, bit for bit.

How it works. PyTorch keeps one name free for a device of somebody else ("privateuse1") and lets it be written in
Python. Every operator comes here in one of two ways: with a tensor of ours among its arguments (`__torch_dispatch__`)
or, if it makes a tensor from nothing, by its argument device="sim" (the fallback). Both end in `run`: look at the
devices, take the CPU tensors out of their wrappers, call the operator on them, wrap what comes back.

Not simulated: a generator of the device, streams, half precision, operators that change a tensor's size in place. The
interface is marked as experimental: `available()` says whether this PyTorch has it.
"""

import copy
from functools import cache, partial

import numpy as np
import torch
from torch.utils import backend_registration

NAME = "sim"
DEVICE = f"{NAME}:0"
# CUDA takes CPU tensors as indices, and copies cross from one device to the other.
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
COPIES = {"copy_", "_to_copy"}
BY_NAME = [
    # Left alone, these ask for an empty tensor and let an `out=` form give it its size, which a wrapper cannot follow.
    *["arange", "eye", "linspace", "logspace", "randperm", "range", "tril_indices", "triu_indices"],
    # For devices other than the CPU and CUDA these are put together from other operators, which round differently.
    *["mish_backward", "silu_backward"],
    # torch.tensor([x, y]) reads numbers while `__torch_dispatch__` is switched off, and the fallback takes no tensors.
    "_local_scalar_dense",
]
INSTALLED = []  # the libraries of operators, which must live as long as the device


class SimTensor(torch.Tensor):
    """A tensor on the simulated device, around the CPU tensor that holds its numbers."""

    @staticmethod
    def __new__(cls, on_cpu):
        layout = dict(strides=on_cpu.stride(), storage_offset=on_cpu.storage_offset(), dtype=on_cpu.dtype)
        tensor = torch.Tensor._make_wrapper_subclass(cls, on_cpu.shape, device=DEVICE, **layout)
        tensor.on_cpu = on_cpu
        return tensor

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        """Sees every call before autograd does; only an index needs it (`__getitem__` would make numbers sequences)."""
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            args = (args[0], as_tensors(args[1]), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return run(operator, *args, **(kwargs or {}))

    @property
    def data(self):
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, other):
        """What `module.double()` does to its parameters: the wrapper gets another type and other numbers."""
        torch.Tensor.data.__set__(self, other)
        self.on_cpu = other.on_cpu

    def untyped_storage(self):
        return self.on_cpu.untyped_storage()

    def data_ptr(self):
        return self.on_cpu.data_ptr()

    def __deepcopy__(self, memo):
        """As PyTorch's own for leaves, without a look at the storage."""
        if id(self) not in memo:
            made = self.detach().clone()
            made = torch.nn.Parameter(made) if isinstance(self, torch.nn.Parameter) else made
            made.grad = copy.deepcopy(self.grad, memo)
            memo[id(self)] = made.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def numpy(self, *, force=False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {DEVICE} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, *arguments, **options):
        return self.numpy()

    def tolist(self):
        return self.detach().cpu().tolist()

    def __repr__(self, **options):
        return f"{repr(self.detach().cpu())[:-1]}, device='{DEVICE}')"

    def __format__(self, spec):
        return format(self.item(), spec) if self.ndim == 0 else object.__format__(self, spec)


def as_tensors(index):
    """An index with its lists and arrays as CPU tensors: PyTorch's own conversion wants a storage."""
    if isinstance(index, tuple):
        return tuple(map(as_tensors, index))
    if not isinstance(index, (list, range, np.ndarray)):
        return index
    index = torch.as_tensor(index)
    return index if index.numel() else index.long()


def run(operator, *args, **kwargs):
    """Call an operator of PyTorch on the simulated device; see the top of this file."""
    name, written = signature(operator)
    values = [*args, *kwargs.values()]
    if name not in COPIES:
        targets = tensors_of(args[k] if k < len(args) else kwargs.get(key) for k, key in written)
        require_one_device(name, args, tensors_of(values), targets)
    require_own_generator(values)

    wrappers = {id(x.on_cpu): x for x in tensors_of(values) if isinstance(x, SimTensor)}
    target = kwargs.get("device")
    stays = target is None or torch.device(target).type == NAME
    if target is not None and stays:
        kwargs = kwargs | {"device": "cpu"}
    result = operator(*map(unwrapped, args), **{key: unwrapped(value) for key, value in kwargs.items()})

    for wrapper in wrappers.values():
        if wrapper.shape != wrapper.on_cpu.shape:
            raise NotImplementedError(f"{name} changed a tensor's size in place; tools/simulated.py cannot follow.")
    if name == "copy_":
        return args[0]
    return wrapped(result, wrappers) if stays else result


def copy_from(source, target, non_blocking=False):
    unwrapped(target).copy_(unwrapped(source))
    return target


@cache
def signature(operator):
    """The operator's name, and place and name of each argument that it writes into."""
    arguments = enumerate(operator._schema.arguments)
    written = [(k, a.name) for k, a in arguments if a.alias_info is not None and a.alias_info.is_write]
    return operator._schema.name.removeprefix("aten::"), written


def tensors_of(values):
    """The tensors among the values, and in lists among them."""
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [x for x in value if isinstance(x, torch.Tensor)]
    return found


def unwrapped(value):
    """What an operator gets: CPU tensors, also in lists."""
    if isinstance(value, SimTensor):
        return value.on_cpu
    return [unwrapped(x) for x in value] if isinstance(value, (list, tuple)) else value


def wrapped(result, wrappers):
    """What an operator gives back, in wrappers: in the one that it came in, if it was changed in place."""
    if isinstance(result, torch.Tensor):
        return wrappers[id(result)] if id(result) in wrappers else SimTensor(result)
    return type(result)(wrapped(x, wrappers) for x in result) if isinstance(result, (list, tuple)) else result


def require_one_device(name, args, tensors, written):
    """Refuse CPU tensors beside ours, as CUDA does: a single number may be read from the CPU, but not written there."""
    if name in INDEXED and isinstance(args[0], SimTensor):  # (x, indices, values)
        tensors = tensors_of([args[0], *args[2:]])
    ours = [x for x in tensors if isinstance(x, SimTensor)]
    others = [x for x in tensors if x.device.type == "cpu" and (x.ndim > 0 or any(x is y for y in written))]
    if ours and others:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and cpu! "
            f"({name} got shapes {[tuple(x.shape) for x in ours]} there and {[tuple(x.shape) for x in others]} here)"
        )


def require_own_generator(values):
    """Refuse to draw with a generator of the CPU, as CUDA does."""
    for value in values:
        if isinstance(value, torch.Generator):
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{value.device.type}'")


def available():
    """Whether this PyTorch lets a device be written in Python."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


def install():
    """Make the device known to this process; doing it twice does no harm.

    Raises:
        RuntimeError: this PyTorch cannot do that, or has another device in its place.
    """
    if INSTALLED:
        return
    if not available():
        raise RuntimeError(f"PyTorch {torch.__version__} knows no devices written in Python; take 2.11 or later.")
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    everything, by_name = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    everything.fallback(run, "PrivateUse1")
    for name in BY_NAME:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            if "out" not in overload:
                operator = getattr(packet, overload)
                by_name.impl(operator, partial(run, operator), "PrivateUse1")
    by_name.impl("_copy_from", copy_from, "PrivateUse1")  # torch.tensor(..., device="sim"), likewise
    INSTALLED.extend([everything, by_name])
