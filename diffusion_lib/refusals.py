"""When a refusal may look at values, and not at shapes and types alone."""

import torch
from torch import Tensor


def may_look(*values: Tensor) -> bool:
    """Whether the numbers in these tensors can be looked at for nothing.

    Only on the CPU, since a look at a GPU waits for it; and not while torch.compile or torch.export traces, since a
    decision that hangs on a number would break the graph in two.
    """
    return not torch.compiler.is_compiling() and all(value.device.type == "cpu" for value in values)
