"""Two dashboards of learning as data: one run in detail, and many side by side. Pure."""

from __future__ import annotations

from deploy.grafana.panels import (
    BAD,
    GOOD,
    RUN_INFO,
    THIRD,
    Board,
    Panel,
    Query,
    learner,
    of_runs,
    recorded,
    stat,
)

APPLIED = 'farflung:gradients:share5m{outcome="applied"}'

TRAINING = Board(
    "Training",
    "Is it learning?",
    (
        stat(
            "Mean return", "Of the last 100 episodes, exploration included.", "none", f"max({learner('return_mean')})"
        ),
        stat(
            "Best mean return",
            "The best that 100 episodes in a row came to, in this life of the learner.",
            "none",
            f"max({learner('return_best_mean')})",
            ((None, GOOD),),
        ),
        stat(
            "Environment steps",
            "Of all actors together, since the run began.",
            "short",
            f"max({learner('run_env_steps')})",
            decimals=2,
        ),
        stat(
            "Steps a second",
            "Environment steps of all actors together. Nothing: nobody trains.",
            "short",
            f"sum({recorded('env_steps:rate1m')})",
            ((None, BAD), (1, "blue")),
        ),
        stat(
            "Updates a second",
            "Gradients applied, each of which makes a version. Nothing: the run stands still.",
            "short",
            f"sum({recorded('updates:rate1m')})",
            ((None, BAD), (0.01, "blue")),
            1,
        ),
        stat(
            "Training for",
            "Since the first actor of this process had weights.",
            "s",
            f"max({learner('training_seconds')})",
        ),
        Panel(
            "Return",
            "The last 100 episodes: their mean, the best mean, the best and the worst of them, and the mean at which"
            " the run ends."
            " A mean that falls while the worst falls with it is a policy that breaks.",
            "none",
            (
                Query(f"max({learner('return_mean')})", "mean"),
                Query(f"max({learner('return_best_mean')})", "best mean"),
                Query(f"max({learner('return_max')})", "highest"),
                Query(f"min({learner('return_min')})", "lowest"),
                Query(f"max({learner('return_target')})", "target"),
            ),
            size=(16, 11),
        ),
        Panel(
            "Episode length",
            "Mean steps of the last 100 episodes. Where a step is a reward it follows the return; where it is a cost"
            " it falls.",
            "short",
            (Query(f"max({learner('episode_length_mean')})", "mean"),),
            size=(8, 11),
        ),
        Panel(
            "Losses",
            "Of the newest report. The value loss grows with returns that are new to the critic, and should fall"
            " again.",
            "none",
            (Query(f"max({learner('policy_loss')})", "policy"), Query(f"max({learner('value_loss')})", "value")),
            size=THIRD,
        ),
        Panel(
            "Entropy and KL",
            "In nats. Entropy of the policy: near zero it no longer explores. KL: how far a rollout moved it; what"
            " actor.kl_target steers.",
            "short",
            (Query(f"max({learner('entropy_nats')})", "entropy"), Query(f"max({learner('kl_nats')})", "KL")),
            size=THIRD,
        ),
        Panel(
            "Gradient norm",
            "L2 before clipping, and of what compression still holds back. Either rising by orders of magnitude"
            " comes before"
            " divergence.",
            "none",
            (
                Query(f"max({learner('gradient_norm')})", "gradient"),
                Query(f"max({learner('residual_norm')})", "held back"),
            ),
            size=THIRD,
            log=True,
        ),
        Panel(
            "Explained variance and clipping",
            "Of the newest report. How much of the returns' variance the critic explains: near 1 it knows them, at 0 or"
            " below it knows no more than their mean. And the share of samples whose ratio the loss clipped.",
            "none",
            (
                Query(f"max({learner('explained_variance')})", "explained variance"),
                Query(f"max({learner('clipped_ratio')})", "clipped"),
            ),
            size=THIRD,
        ),
        Panel(
            "Learning rate",
            "As annealed at the run's present environment steps, before what staleness takes off.",
            "none",
            (Query(f"max({learner('learning_rate')})", "rate"),),
            size=THIRD,
        ),
        Panel(
            "What environments measure",
            'Means of info["metrics"], by name, since the line of progress before. Empty: they measure nothing.',
            "none",
            (Query(f"avg by (metric) ({learner('environment_metric')})", "{{metric}}"),),
            size=THIRD,
        ),
    ),
)

RUNS = Board(
    "Runs",
    "Which run does best?",
    (
        stat("Runs", "With a learner that answers, of those chosen above.", "none", f"count({RUN_INFO}) or vector(0)"),
        stat(
            "Training",
            "Runs in which gradients were applied within the last minute.",
            "none",
            f"count({of_runs('farflung:updates:rate1m')} > 0) or vector(0)",
            ((None, BAD), (1, GOOD)),
        ),
        stat(
            "Solved",
            "Runs whose mean return has reached their target.",
            "none",
            f"sum({of_runs('farflung_learner_solved')}) or vector(0)",
            ((None, "blue"), (1, GOOD)),
        ),
        stat(
            "Stalled",
            "Runs whose actors train and that made no version for half a minute.",
            "none",
            f"sum({of_runs('farflung_learner_stalled')}) or vector(0)",
            ((None, GOOD), (1, BAD)),
        ),
        stat("Actors", "Of all these runs together.", "none", f"sum({of_runs('farflung_learner_actors')})"),
        stat(
            "Steps a second",
            "Environment steps of all these runs together.",
            "short",
            f"sum({of_runs('farflung:env_steps:rate1m')})",
            ((None, BAD), (1, "blue")),
            0,
        ),
        Panel(
            "Side by side",
            "One run a line, the best mean return first. Refused: the share of gradients that were not applied,"
            " whatever the reason, within five minutes. A run's name leads to its own dashboard.",
            "none",
            (
                Query(of_runs("farflung_learner_return_mean", "run, env, seed"), "Return"),
                Query(of_runs("farflung_learner_return_best_mean"), "Best return"),
                Query(of_runs("farflung_learner_return_target"), "Target"),
                Query(of_runs("farflung_learner_run_env_steps"), "Steps", "short"),
                Query(of_runs("farflung:env_steps:rate1m"), "Steps a second", "short"),
                Query(f"1 - {of_runs(APPLIED)}", "Refused", "percentunit"),
                Query(of_runs("farflung_learner_actors"), "Actors"),
                Query(of_runs("farflung_learner_training_seconds"), "Training for", "s"),
            ),
            "table",
            (24, 7),
        ),
        Panel(
            "Return of each run",
            "Mean of the last 100 episodes, exploration included. Only runs of one environment can be compared.",
            "none",
            (Query(of_runs("farflung_learner_return_mean"), "{{run}}"),),
        ),
        Panel(
            "Best mean return",
            "The best that 100 episodes in a row came to in this life of each learner, the best run first.",
            "none",
            (Query(f"sort_desc({of_runs('farflung_learner_return_best_mean')})", "{{run}}"),),
            "bars",
            decimals=1,
        ),
        Panel(
            "Steps a second of each run",
            "Environment steps of all its actors. One far below its like has fewer actors, or slower ones.",
            "short",
            (Query(of_runs("farflung:env_steps:rate1m"), "{{run}}"),),
        ),
        Panel(
            "Actors of each run",
            "With a session to train. A run that lost its actors stands still however good it was.",
            "none",
            (Query(of_runs("farflung_learner_actors"), "{{run}}"),),
        ),
        Panel(
            "Refused gradients of each run",
            "Share that was not applied, whatever the reason, within five minutes.",
            "percentunit",
            (Query(f"1 - {of_runs(APPLIED)}", "{{run}}"),),
            size=THIRD,
            reach=0.1,
        ),
        Panel(
            "Lag of each run",
            "Updates that nine of ten gradients stay below when they are judged. 16 costs steps, at 64 no rule helps.",
            "short",
            (Query(of_runs("farflung:lag_updates:p90_5m"), "{{run}}"),),
            size=THIRD,
            reach=4.0,
        ),
        Panel(
            "Math thread of each run",
            "Share of its time that it works. Near 100 % this run's learner is its bottleneck.",
            "percentunit",
            (Query(of_runs("farflung:math_utilization:ratio1m"), "{{run}}"),),
            size=THIRD,
            most=1.0,
        ),
    ),
    many=True,
)
