"""Looking back at finished runs: curves, pictures, exports, replays. Starts nothing.

In reading order: runs, curves, plot, export, replay, cli.
"""
