"""How fast parts of the system go, and the loads that they are measured under."""
