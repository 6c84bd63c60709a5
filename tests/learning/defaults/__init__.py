"""What defaults alone make of environments that nobody tuned for, beside what a library's make of them.

In reading order: environments, what Gymnasium does not ship; tasks, which are learnt and for how long; ours and peer,
one run of each; report; __main__, all runs.
"""
