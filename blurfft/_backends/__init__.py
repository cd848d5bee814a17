"""One module for each backend, with one function for each op of ``blurfft.ops``, of the same name and arguments.

Where the op has ``norm`` or ``count`` the backend is given ``scale: float``, the factor that these stand for. A loss's
kernel or weight may be of two dimensions, for one of (1, 1, ...), and of any strides. Gradients that are not asked for
are None. Only the reference is ever called with an empty batch. Besides the ops a module has

- ``DEVICES``, ``DTYPES``, ``SIZES``: what it serves, in words, for ``blurfft info``;
- ``unavailable() -> str | None``: why it cannot be used on this machine at all, and what to do about it;
- ``why_not(op, device, dtype, height, width) -> str | None``: why, available as it is, it does not serve this call.
  ``dtype`` is that of the op's first tensor; None means that it does serve it.
"""
