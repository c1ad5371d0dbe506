"""The machine: devices, memory, processes that are ready to fork."""
