"""A fleet in virtual time: how much sooner more actors are done, whatever this machine's cores are worth.

``agenda`` has virtual time and workers that run one at a time, ``actors`` and ``world`` the two shells, ``__main__``
the command for one run, ``series`` the one for all of them, ``report`` what is written of them.
"""
