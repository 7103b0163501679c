"""`python -m jempp` prints the versions and the devices."""
from . import __version__, devices

print(f"jempp {__version__}")
for device in devices():
    gib = f", {device.memory_total / 2**30:.1f} GiB" if device.memory_total else ""
    print(f"{device.id}: {device.name}{gib}")
