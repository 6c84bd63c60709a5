"""Real faults: processes killed and stopped, links cut, fleets that come back at once. Run by `make faults`."""
