"""The dashboards as data: which question each panel answers, and what it asks of Prometheus. Pure.

``learning.py`` has the first and the last; ``generate.py`` makes Grafana's JSON of all.
"""

from __future__ import annotations

from deploy.grafana.learning import RUNS, TRAINING
from deploy.grafana.panels import (
    BAD,
    GOOD,
    QUARTER,
    THIRD,
    WARN,
    Board,
    Panel,
    Query,
    learner,
    process,
    quantiles_of,
    rate,
    recorded,
    spread_of,
    stat,
    unsaved_age,
)

# Of the actors of the chosen run alone. Which run an actor works for is known once it has been welcomed.
ACTOR_STEPS = (
    'rate(farflung_actor_env_steps_total{job="farflung-actor"}[$__rate_interval])'
    ' and on (job, instance) farflung_actor_run_info{run=~"$run"}'
)

FLEET = Board(
    "Fleet",
    "Who is here, and who is slow?",
    (
        stat("Actors", "With a session to train.", "none", f"sum({learner('actors')})", ((None, BAD), (1, GOOD))),
        stat(
            "Sessions lost",
            "Within the last hour, by silence: crashes, machines that are gone, links that are cut. Goodbyes are not"
            " in it.",
            "none",
            f"sum(increase({learner('sessions_lost_total')}[1h]))",
            ((None, GOOD), (1, WARN)),
            0,
        ),
        stat(
            "In quarantine",
            "Senders whose gradients are refused unread, for what no sound actor does.",
            "none",
            f"sum({learner('quarantined_actors')})",
            ((None, GOOD), (1, BAD)),
        ),
        stat(
            "Median actor",
            "Environment steps a second of the actor in the middle, as it tells the learner.",
            "short",
            f"max({learner('actor_env_steps_per_second', quantile='0.5')})",
            decimals=0,
        ),
        stat(
            "Slowest actor",
            "The same of the slowest. Far below the median: a machine that is busy with something else, or a"
            " simulator that hangs.",
            "short",
            f"min({learner('actor_env_steps_per_second', quantile='0')})",
            decimals=0,
        ),
        stat(
            "Longest silence",
            "Since the actor that has been quiet for longest was heard. At learner.silence_s (10 s) it is given up.",
            "s",
            f"max({learner('actor_silent_seconds', quantile='1')})",
            ((None, GOOD), (3, WARN), (8, BAD)),
        ),
        Panel(
            "Actors",
            "With a session to train. A step down together with lost sessions is a failure; without, they were let go.",
            "none",
            (
                Query(f"sum({learner('actors')})", "here"),
                Query(f"sum(increase({learner('sessions_lost_total')}[$__rate_interval]))", "lost"),
                Query(f"sum(increase({learner('sessions_granted_total')}[$__rate_interval]))", "joined"),
            ),
        ),
        Panel(
            "What the actors do",
            "Share of the whole fleet's time: stepping simulators, gradients, compressing, waiting for permits and"
            " weights."
            " Much waiting: the learner or the links are too slow for so many.",
            "percentunit",
            (Query(f"avg by (part) ({recorded('actor_time:share5m')})", "{{part}}"),),
            "stack",
            most=1.0,
        ),
        Panel(
            "Steps a second of one actor",
            "As the actors tell the learner. Lines far apart: the machines differ, or some are disturbed.",
            "short",
            spread_of("actor_env_steps_per_second"),
        ),
        Panel(
            "Spread over the actors",
            "How many of the scraped actors take how many steps a second. A second band below the first is a slow"
            " rack.",
            "short",
            (Query(ACTOR_STEPS, "{{instance}}"),),
            "spread",
        ),
        Panel(
            "The ten slowest",
            "Of the scraped actors, in environment steps a second. Their address is where to look.",
            "short",
            (Query(f"sort(bottomk(10, {ACTOR_STEPS}))", "{{instance}}"),),
            "bars",
            QUARTER,
            decimals=0,
        ),
        Panel(
            "How late each actor is",
            "Updates between the newest weights and those that an actor held at its last heartbeat; what was made since"
            " comes on top. One far above the median has a slow link.",
            "short",
            spread_of("actor_lag_updates"),
            size=QUARTER,
        ),
        Panel(
            "Round trip",
            "From a gradient to its verdict, as actors measure it. All of them high: the learner; one: its link.",
            "s",
            spread_of("actor_round_trip_seconds"),
            size=QUARTER,
        ),
        Panel(
            "What goes wrong in actors",
            "A second, as they tell: simulators that raise, hang or die, numbers that are none; and reports of which"
            " the learner believed a part only.",
            "cps",
            (
                Query(f"{rate('actor_faults_total', by='kind')} > 0", "{{kind}}"),
                Query(rate("reports_doubted_total"), "doubted reports"),
            ),
            "stack",
            QUARTER,
            reach=1.0,
        ),
    ),
)

LEARNER = Board(
    "Learner",
    "What is the bottleneck?",
    (
        stat(
            "Math thread",
            "Share of its time that it works. Near 100 % the learner is the bottleneck, and more actors make nothing"
            " faster.",
            "percentunit",
            f"max({recorded('math_utilization:ratio1m')})",
            ((None, GOOD), (0.7, WARN), (0.9, BAD)),
        ),
        stat(
            "Wait for a verdict",
            "What nine of ten gradients stay below, from arrival to verdict.",
            "s",
            f"max({recorded('gradient_wait_seconds:p90_5m')})",
            ((None, GOOD), (0.25, WARN), (1, BAD)),
        ),
        stat(
            "Loop lateness",
            "What 99 of 100 ticks of the event loop stay below. Late heartbeats and verdicts make actors wait.",
            "s",
            f"max({recorded('loop_lag_seconds:p99_5m')})",
            ((None, GOOD), (0.05, WARN), (0.25, BAD)),
        ),
        stat(
            "Refused",
            "Share of the gradients that were not applied, whatever the reason, within five minutes.",
            "percentunit",
            f"1 - min({recorded('gradients:share5m', outcome='applied')})",
            ((None, GOOD), (0.02, WARN), (0.1, BAD)),
            1,
        ),
        stat(
            "Newest checkpoint",
            "How old it is: what a crash would lose, where there is no journal. 0 while the newest version is on disk"
            " and the run does not stand still.",
            "s",
            f"max({unsaved_age()})",
            ((None, GOOD), (120, WARN), (600, BAD)),
        ),
        stat(
            "Journal",
            "Whether verdicts keep what they promise. Off: the run promises what its checkpoints hold.",
            "bool_on_off",
            f"min(1 - {learner('journal_broken')}) or vector(0)",
            ((None, WARN), (1, GOOD)),
        ),
        Panel(
            "Who is busy",
            "Share of each second: the math thread, the event loop, the disk while the math thread waits for it, and"
            " all threads'"
            " processor time together. What is near 100 % is the bottleneck; if nothing is, it is not the learner.",
            "percentunit",
            (
                Query(rate("math_seconds_total"), "math thread"),
                Query(rate("loop_busy_seconds_total"), "event loop"),
                Query(f"{rate('journal_sync_seconds_total')} or vector(0)", "journal's disk"),
                Query(f"sum(rate({process('cpu_seconds_total')}[$__rate_interval]))", "CPU"),
            ),
        ),
        Panel(
            "Where gradients wait",
            "How many gradients waited how long from arrival to verdict. A band that climbs: more arrives than the"
            " learner takes.",
            "s",
            (Query(rate("gradient_wait_seconds_bucket", by="le"), "{{le}}"),),
            "heat",
        ),
        Panel(
            "Verdicts",
            "Gradients a second by outcome. All but `applied` is work thrown away, or sent once more later.",
            "cps",
            (Query(f"{rate('gradients_total', by='outcome')} > 0", "{{outcome}}"),),
            "stack",
            reach=1.0,
        ),
        Panel(
            "Queue",
            "Gradients that wait for the math thread, those that actors have unanswered, and how many they may have."
            " The first near the"
            " last: the learner is full.",
            "none",
            (
                Query(f"sum({learner('pending_gradients')})", "wait here"),
                Query(f"sum({learner('unanswered_gradients')})", "unanswered"),
                Query(f"sum({learner('credit')})", "credit"),
            ),
        ),
        Panel(
            "Actors and how many are useful",
            "Those that train, and the largest fleet whose last actor still adds half of what it adds in proportion."
            " No line: it is not known, of one actor or of a policy that hardly changes any more.",
            "none",
            (
                Query(f"sum({learner('actors')})", "here"),
                Query(f"max({learner('useful_actors')})", "useful"),
            ),
            log=True,
        ),
        Panel(
            "Batch and noise scale",
            "Environment steps that the fleet collects between two policies of one actor, and of how many noise weighs"
            " as much as signal. The first above the second: more actors add little to learning.",
            "short",
            (
                Query(f"max({learner('batch_env_steps')})", "batch"),
                Query(f"max({learner('noise_scale_env_steps')})", "noise scale"),
            ),
            log=True,
        ),
        Panel(
            "Event loop's lateness",
            "How much later than asked for a tick of 50 ms came.",
            "s",
            quantiles_of("loop_lag_seconds"),
            size=THIRD,
            log=True,
        ),
        Panel(
            "Memory",
            "Resident, of the process. It should level off soon after the last actor joined.",
            "bytes",
            (Query(f"sum({process('resident_memory_bytes')})", "resident"),),
            size=THIRD,
        ),
        Panel(
            "Messages and files refused",
            "A second, the five most frequent reasons, before any verdict; and connections refused for their key."
            " Unauthenticated peers and broken disks show here.",
            "cps",
            (
                Query(f"topk(5, {rate('faults_total', by='reason')} > 0)", "{{reason}}"),
                Query(rate("unauthenticated_total"), "unknown key"),
            ),
            "stack",
            THIRD,
            reach=1.0,
        ),
    ),
)

LINK = Board(
    "Link",
    "What do bytes and staleness cost?",
    (
        stat(
            "Compression",
            "How many times fewer bytes were received than the same gradients take as float32, headers included.",
            "short",
            f"avg({recorded('compression:ratio5m')})",
            decimals=1,
        ),
        stat(
            "One gradient",
            "Bytes of a message that carries one, headers included.",
            "bytes",
            f"{rate('gradient_received_bytes_total')} / ({rate('codec_gradients_total')} > 0)",
        ),
        stat("Received", "From all actors, headers included.", "Bps", rate("received_bytes_total")),
        stat(
            "Sent",
            "A message of the weight stream counts once, whatever the number of actors.",
            "Bps",
            rate("sent_bytes_total"),
        ),
        stat(
            "Lag",
            "Updates that nine of ten gradients stay below when they are judged. 16 costs steps, at 64 no rule helps.",
            "short",
            f"max({recorded('lag_updates:p90_5m')})",
            ((None, GOOD), (16, WARN), (64, BAD)),
            0,
        ),
        stat(
            "Too late",
            "Share of the gradients refused for their age.",
            "percentunit",
            f"sum({recorded('gradients:share5m', outcome='~stale_.*')})",
            ((None, GOOD), (0.02, WARN), (0.1, BAD)),
            1,
        ),
        Panel(
            "Bytes",
            "A second, headers included: all that the learner received, of it gradients, and all that it sent."
            " The weight stream counts once.",
            "Bps",
            (
                Query(rate("received_bytes_total"), "received"),
                Query(rate("gradient_received_bytes_total"), "received, gradients"),
                Query(rate("sent_bytes_total"), "sent"),
            ),
        ),
        Panel(
            "Lag",
            "Updates between the weights of a gradient and its verdict, gradients a second in each bucket. A fleet"
            " that grows moves it up.",
            "none",
            (Query(rate("lag_updates_bucket", by="le"), "{{le}}"),),
            "heat",
        ),
        Panel(
            "Gradients' bytes by codec",
            "A second. With actor.codec = auto each actor sends what its link bears: dense ones here, thin ones there.",
            "Bps",
            (Query(f"{rate('codec_bytes_total', by='codec')} > 0", "{{codec}}"),),
            "stack",
        ),
        Panel(
            "Age of the weights",
            "For how many seconds a gradient's weights had not been the newest any more. What is above"
            " learner.max_lag_s is refused.",
            "s",
            quantiles_of("lag_seconds"),
        ),
        Panel(
            "Weight stream by record",
            "A second. Keys are whole vectors: many of them mean that actors join often, or miss records.",
            "Bps",
            (Query(rate("weight_bytes_total", by="record"), "{{record}}"),),
            "stack",
            THIRD,
        ),
        Panel(
            "Compression",
            "The same gradients as float32, divided by what came; and a message's bytes would be that many times"
            " larger.",
            "short",
            (Query(f"avg({recorded('compression:ratio5m')})", "times fewer bytes"),),
            size=THIRD,
        ),
        Panel(
            "What is held back",
            "For how many gradients a coordinate waits in an actor's residual. Long: the link bears less than"
            " there is to say.",
            "short",
            spread_of("residual_age_gradients"),
            size=THIRD,
        ),
    ),
)

BOARDS = (TRAINING, FLEET, LEARNER, LINK, RUNS)
