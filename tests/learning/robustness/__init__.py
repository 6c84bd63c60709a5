"""How much learning hangs on settings. Two studies, each of fifty draws.

In reading order: rates, of the learning rate alone and a target; draws, of eight settings and what they mean to either
system; report, what the eight came to; __main__, which runs them.
"""
