"""Triton kernels of blurfft. This folder installs as ``blurfft.kernels`` and is imported only under that name."""

if __name__ != "blurfft.kernels":
    raise ImportError(
        f"this folder is the package blurfft.kernels and cannot be imported as {__name__!r}: under a second name its "
        "kernels would be registered twice. Install blurfft (pip install --no-build-isolation -e .) and "
        "`import blurfft.kernels`"
    )
