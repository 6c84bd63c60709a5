"""Who may connect: key files, the list of public keys, and the commands that keep them.

In reading order: keyring, access, cli.
"""
