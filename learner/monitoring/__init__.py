"""What people and machines see of a run. Reads the state; changes nothing.

In reading order: history, scaling, bottleneck, progress_interval, advice, stages, summary, status, result, metrics,
web, scene, live_view, live_terminal, console.
"""
