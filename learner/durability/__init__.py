"""What survives a crash: checkpoints, the journal and their replay. Knows files; no session, no socket.

In reading order: disk, checkpoint, journal_format, journal, journal_replay, checkpoint_schedule, recovery, storage.
"""
