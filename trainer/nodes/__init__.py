"""Machines and processes: ranks, launchers, what a machine has, and children that never outlive their parent."""
