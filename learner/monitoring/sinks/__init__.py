"""Other programs that watch a run while it goes on, and a callable of a user's own. Reads lines; changes nothing.

In reading order: charts, sink, feed, reach, tensorboard, wandb, mlflow.
"""
