"""Mechanism below all rooms: downloads, batches, workers, memory, disk use, interrupts."""
