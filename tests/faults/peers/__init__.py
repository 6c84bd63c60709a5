"""Programs that stand in for actors in a drill: without simulators, late, poisoned or hostile."""
