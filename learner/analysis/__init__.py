"""Looking back at finished runs: curves, comparisons, pictures, exports, replays. Starts nothing.

In reading order: runs, curves, compare, plot, export, replay, cli.
"""
