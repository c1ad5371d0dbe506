"""The workspace as a whole: overview, room on the disk, the registry's upkeep."""
